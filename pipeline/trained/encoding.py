"""A trained retriever as a frozen encoder: its sound tower's frames, as a feature file (SJTU 2.3).

Which clips share a batch follows from the stored features alone, so that a killed run that goes on
gives a byte-identical file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank, length_batches
from pipeline.features.prefetch import prefetch
from pipeline.features.resumable import Parts, folder_name
from pipeline.features.store import FeatureStore, Header, Index
from pipeline.features.throughput import Clock, Report
from pipeline.tensors import Padded, pad_arrays
from pipeline.trained.retriever import BATCH_FRAMES, TrainedRetriever

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.config.plans import EncodingPlan
    from pipeline.corpora.manifest import Manifest


class Frames(NamedTuple):
    """What the tower made of a batch of entries, in their order; on the CPU."""

    values: NDArray[np.float16]  # (frames, D)
    lengths: NDArray[np.int64]  # (n,)


def recode(
    plan: EncodingPlan,
    manifest: Manifest,
    store: FeatureStore,
    retriever: TrainedRetriever,
    weights: str,
    partial: Path,
    path: Path,
) -> tuple[Index, Report]:
    """Every clip's stored feature through the retriever's tower, into a feature file.

    Args:
        store: what the tower reads, of all the manifest's clips.
        weights: digest of the retriever's.
        partial: folder for what is done, until all is.
        path: of the feature file.

    Raises:
        EarwitnessError: the store is of another dataset or encoder, the retriever has no tower,
            values do not fit float16, no GPU memory, or another process is at the same work.
    """
    tower = retriever.tower
    store.check_ids([clip.clip_id for clip in manifest.sounding], f"dataset {manifest.dataset}")
    retriever.check_widths([(store.width, str(store.path))])
    header = Header(
        encoder=plan.name,
        settings=retriever.plan.model_dump(mode="json", include={"sound", "input"}),
        weights=weights,
        frame_seconds=store.header.frame_seconds * tower.reduction,
        views=store.views,
    )
    device = retriever.device
    bank = FeatureBank(store, device, device_bytes=0, ram_bytes=0)  # mapped: each is read once
    batches = length_batches(bank.lengths, BATCH_FRAMES.get(device.type, BATCH_FRAMES["cpu"]))
    content = [plan.model_dump(mode="json"), weights, device.type, list(store.ids)]
    folder = partial / folder_name(f"{plan.dataset}-{plan.name}", content)
    entries = [batch.numpy() for batch in batches]
    with Parts(folder, entries, tower.width).held() as parts:
        report = _encode_missing(parts, batches, bank, retriever)
        index = parts.assemble(path, header, store.ids)
        parts.remove()
    return index, report


def recode_features(
    features: Sequence[NDArray[np.float16]], retriever: TrainedRetriever
) -> list[NDArray[np.float16]]:
    """Stored features of any sound files, (T, W) each → the tower's frames, (T', D) each.

    Raises:
        EarwitnessError: other widths than the retriever's, no tower, or no GPU memory.
    """
    if not features:
        return []
    retriever.check_widths([(features[0].shape[1], "these features")])
    device = retriever.device
    lengths = torch.tensor([len(own) for own in features])
    found: dict[int, NDArray[np.float16]] = {}
    for batch in length_batches(lengths, BATCH_FRAMES.get(device.type, BATCH_FRAMES["cpu"])):
        rows = batch.tolist()
        frames = tower_frames(pad_arrays([features[row] for row in rows], device), retriever)
        values, counts = unpack(frames)
        found |= zip(rows, np.split(values, np.cumsum(counts)[:-1]), strict=True)
    return [found[row] for row in range(len(features))]


@torch.no_grad()
def tower_frames(stored: Padded, retriever: TrainedRetriever) -> Padded:
    """(B, T, W) → (B, T', D) on the device; bf16 on CUDA."""
    kind = retriever.device.type
    try:
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            frames: Padded = retriever.tower([stored]).frames
            return frames
    except torch.cuda.OutOfMemoryError:
        raise EarwitnessError(
            f"no GPU memory for {stored.values.shape[0]} × {stored.values.shape[1]} stored frames "
            "at once; free the GPU, or run on the CPU with CUDA_VISIBLE_DEVICES set to nothing"
        ) from None


def unpack(frames: Padded) -> Frames:
    """(B, T', D) frames laid end to end as float16.

    Raises:
        EarwitnessError: a value is NaN or too large for float16.
    """
    values: Tensor = frames.values[frames.mask].half()
    if not bool(values.isfinite().all()):
        raise EarwitnessError(
            "the retriever's frames are NaN or too large for float16; train it again with a "
            "lower learning_rate"
        )
    return Frames(values.cpu().numpy(), frames.lengths.cpu().numpy())


def _encode_missing(
    parts: Parts, batches: Sequence[Tensor], bank: FeatureBank, retriever: TrainedRetriever
) -> Report:
    missing = parts.missing()
    clips = sum(len(batches[part]) for part in missing)
    report, clock, start = Report(count=clips), Clock(retriever.device), time.perf_counter()

    def outputs() -> Iterator[tuple[int, Frames]]:
        for part in missing:
            stored = bank.batch(batches[part])
            clock.begin()
            frames = tower_frames(stored, retriever)
            clock.end()
            yield part, unpack(frames)

    def save(output: tuple[int, Frames]) -> int:
        part, frames = output
        parts.save(part, frames.values, frames.lengths)
        return len(frames.lengths)

    with (
        ThreadPoolExecutor(1) as writer,
        tqdm(total=len(bank), initial=len(bank) - clips, unit="clip", disable=None) as bar,
    ):
        for done in prefetch(writer, save, outputs(), 1):
            bar.update(done)
    report.seconds, report.encoder_seconds = time.perf_counter() - start, clock.seconds()
    return report
