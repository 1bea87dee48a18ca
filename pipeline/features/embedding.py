"""A dataset's captions as features of one frozen text encoder, in the same file format as sound."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.config.plans import EmbeddingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.encoders.base import TextEncoder
from pipeline.errors import EarwitnessError
from pipeline.features.resumable import Parts, folder_name
from pipeline.features.store import Header, Index, caption_id
from pipeline.features.throughput import Report

PART = 1024  # captions that are encoded and saved together


def embed(
    manifest: Manifest,
    encoder: TextEncoder,
    weights: str,
    plan: EmbeddingPlan,
    partial: Path,
    path: Path,
) -> tuple[Index, Report]:
    """Encodes every caption of every clip into a feature file, in the manifest's order.

    Args:
        weights: digest of the encoder's weights.
        partial: folder for the parts that are done, until the file is complete.
        path: of the feature file.

    Raises:
        EarwitnessError: values do not fit float16, or another process runs the same job.
    """
    rows = [
        (caption_id(clip.clip_id, number), caption)
        for clip in manifest.clips
        for number, caption in enumerate(clip.captions)
    ]
    entries = [np.arange(at, min(at + PART, len(rows))) for at in range(0, len(rows), PART)]
    content = [plan.model_dump(mode="json"), weights, rows]
    folder = partial / folder_name(f"{plan.dataset}-{plan.name}", content)
    settings = plan.model_dump(mode="json", include={"encoder"})
    header = Header(plan.name, settings, weights, frame_seconds=0.0, store=plan.store)
    with Parts(folder, entries, encoder.width).held() as parts:
        report = _encode_missing(parts, rows, encoder)
        index = parts.assemble(path, header, [name for name, _ in rows])
        parts.remove()
    return index, report


def _encode_missing(parts: Parts, rows: list[tuple[str, str]], encoder: TextEncoder) -> Report:
    report = Report("captions")
    start = time.perf_counter()
    missing = parts.missing()
    with tqdm(total=len(rows), unit="caption", disable=None) as bar:
        for part in range(-(-len(rows) // PART)):
            batch = rows[part * PART : (part + 1) * PART]
            if part in missing:
                begin = time.perf_counter()
                packed = encoder.encode([caption for _, caption in batch], np.float32)
                report.encoder_seconds += time.perf_counter() - begin
                with np.errstate(over="ignore"):
                    values = packed.values.astype(np.float16)
                if not (finite := np.isfinite(values).all(axis=1)).all():
                    row = np.searchsorted(np.cumsum(packed.lengths), finite.argmin(), side="right")
                    raise EarwitnessError(
                        f"caption {batch[row][0]}: the encoder's values are NaN or too large for"
                        " float16; check the encoder's weights, or correct the caption"
                    )
                parts.save(part, values, packed.lengths)
                report.count += len(batch)
            bar.update(len(batch))
    report.seconds = time.perf_counter() - start
    return report
