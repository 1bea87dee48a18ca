"""A dataset's captions as features of one frozen text encoder, in the same file format as sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.config.plans import EmbeddingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.encoders.base import Packed, TextEncoder
from pipeline.engine.local import LocalEngine
from pipeline.engine.steps import Engine, Steps
from pipeline.engine.throughput import Report
from pipeline.errors import EarwitnessError
from pipeline.features.resumable import Parts, folder_name
from pipeline.features.store import Header, Index, caption_id

PART = 1024  # captions that are encoded and saved together


def embed(
    manifest: Manifest,
    encoder: TextEncoder,
    weights: str,
    plan: EmbeddingPlan,
    partial: Path,
    path: Path,
    engine: Engine | None = None,
) -> tuple[Index, Report]:
    """Encodes every caption of every clip into a feature file, in the manifest's order.

    Args:
        weights: digest of the encoder's weights.
        partial: folder for the parts that are done, until the file is complete.
        path: of the feature file.
        engine: what does it; None: this process.

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
    with Parts(folder, entries, encoder.width).held(path) as parts:
        steps = CaptionSteps(encoder)
        report = _encode_missing(parts, rows, entries, steps, engine or LocalEngine())
        index = parts.assemble(path, header, [name for name, _ in rows])
        parts.remove()
    return index, report


class Embedded(NamedTuple):
    """Captions' embeddings, concatenated."""

    values: NDArray[np.float16]  # (total, D)
    lengths: NDArray[np.int64]  # (n,)


Rows = Sequence[tuple[str, str]]  # id and caption
Outputs = tuple[Rows, Packed]


class CaptionSteps(Steps[Rows, Rows, Outputs, Embedded]):
    """Captions → their embeddings."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder, self.device = encoder, encoder.device

    def to(self, device: torch.device) -> None:
        self._encoder.to(device)
        self.device = device

    def read(self, item: Rows) -> Rows:
        return item

    def compute(self, read: Rows) -> Outputs:
        return read, self._encoder.encode([caption for _, caption in read], np.float32)

    def finish(self, output: Outputs) -> Embedded:
        rows, packed = output
        with np.errstate(over="ignore"):
            values = packed.values.astype(np.float16)
        if not (finite := np.isfinite(values).all(axis=1)).all():
            row = int(np.searchsorted(np.cumsum(packed.lengths), finite.argmin(), side="right"))
            raise EarwitnessError(
                f"caption {rows[row][0]}: the encoder's values are NaN or too large for"
                " float16; check the encoder's weights, or correct the caption"
            )
        return Embedded(values, packed.lengths)

    def label(self, item: Rows) -> str:
        return f"captions {item[0][0]} to {item[-1][0]}"


def _encode_missing(
    parts: Parts,
    rows: list[tuple[str, str]],
    entries: Sequence[NDArray[np.int64]],
    steps: CaptionSteps,
    engine: Engine,
) -> Report:
    missing = parts.missing()
    report = Report("captions", sum(len(entries[part]) for part in missing))

    def keep(number: int, embedded: Embedded) -> None:
        parts.save(missing[number], embedded.values, embedded.lengths)

    work = ([rows[row] for row in entries[part]] for part in missing)
    done = len(rows) - report.count
    with tqdm(total=len(rows), initial=done, unit="caption", disable=None) as bar:
        for number in engine.run(steps, work, keep, report, len(missing)):
            bar.update(len(entries[missing[number]]))
    return report
