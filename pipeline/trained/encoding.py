"""A trained retriever as an encoder: its tower's frames (SJTU 2.3), and the embeddings of sound and
of text, as CLAP has them. Each is a feature file: ``frames.h5``, ``sound.h5`` and ``text.h5``.

Which clips share a batch depends on the stored features alone, so a killed run that continues
writes the same bytes of frames. The embeddings take seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pipeline.config.plans import EncodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank
from pipeline.features.prefetch import prefetch
from pipeline.features.resumable import Parts, folder_name
from pipeline.features.store import FeatureStore, Header, Index, caption_ids, write_store
from pipeline.features.throughput import Clock, Report
from pipeline.tensors import Padded
from pipeline.trained.inputs import frame_batches
from pipeline.trained.retriever import TrainedRetriever

BLOCK = 1 << 16  # embeddings that are written together


class Frames(NamedTuple):
    """The tower's frames of a batch of entries, in their order; on the CPU."""

    values: NDArray[np.float16]  # (frames, D)
    lengths: NDArray[np.int64]  # (n,)


def encode(
    plan: EncodingPlan,
    manifest: Manifest,
    stores: Sequence[FeatureStore],
    text: Sequence[FeatureStore],
    retriever: TrainedRetriever,
    weights: str,
    partial: Path,
    folder: Path,
) -> tuple[dict[str, Index], Report]:
    """Writes a dataset's embeddings, and its frames where the plan asks for them.

    For a dataset that has captions alone, the files of sound have no entries.

    Args:
        stores: the features that the sound side reads, of all clips with sound.
        text: the features that the text side reads, of all captions.
        weights: digest of the retriever's weights.
        partial: folder of the frames that are done, until all are.
        folder: of the three files.

    Returns:
        The index of each file, by its name.

    Raises:
        EarwitnessError: features of another dataset or width, frames of a retriever that has none,
            values that do not fit float16, no GPU memory, or another process does the same work.
    """
    clips = [clip.clip_id for clip in manifest.sounding]
    for store in stores:
        store.check_ids(clips, f"dataset {manifest.dataset}")
    found: dict[str, Index] = {}
    report = Report()
    if plan.frames:
        path = folder / "frames.h5"
        found["frames"], report = _write_frames(plan, stores[0], retriever, weights, partial, path)
    sound = retriever.embed_sound(retriever.sound.stored(stores, clips))
    words = retriever.embed_text(retriever.text.captions([manifest.clips], [text]))
    captions = caption_ids(manifest.clips)
    for side, ids, values in (("sound", clips, sound), ("text", captions, words)):
        path = folder / f"{side}.h5"
        found[side] = _write_embeddings(retriever, weights, ids, values.cpu(), path)
    return found, report


def encode_frames(
    features: Sequence[NDArray[np.float16]], retriever: TrainedRetriever
) -> list[NDArray[np.float16]]:
    """Features of any sounds, (T, W) each → the tower's frames, (T', D) each.

    Raises:
        EarwitnessError: other widths than the retriever's, no tower, or no GPU memory.
    """
    inputs = retriever.sound.arrays([features])
    found: dict[int, NDArray[np.float16]] = {}
    for batch in inputs.batches():
        values, counts = unpack(tower_frames(inputs.batch(batch), retriever))
        found |= zip(batch.tolist(), np.split(values, np.cumsum(counts)[:-1]), strict=True)
    return [found[row] for row in range(len(features))]


@torch.no_grad()
def tower_frames(stored: tuple[Padded, ...], retriever: TrainedRetriever) -> Padded:
    """E × (B, T, W) → (B, T', D) on the device; bf16 on CUDA."""
    kind = retriever.device.type
    try:
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            frames: Padded = retriever.tower(stored).frames
            return frames
    except torch.cuda.OutOfMemoryError:
        raise EarwitnessError(
            "no GPU memory for {} × {} stored frames at once; free the GPU, or run on the CPU with "
            "an empty CUDA_VISIBLE_DEVICES".format(*stored[0].values.shape)
        ) from None


def unpack(frames: Padded) -> Frames:
    """(B, T', D) frames, concatenated as float16.

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


def _write_frames(
    plan: EncodingPlan,
    store: FeatureStore,
    retriever: TrainedRetriever,
    weights: str,
    partial: Path,
    path: Path,
) -> tuple[Index, Report]:
    """Every view of every clip."""
    tower = retriever.tower
    retriever.sound.check_stores([store])
    side = retriever.plan.sound.model_dump(mode="json")
    header = Header(
        encoder=plan.name,
        settings={"sound": side["tower"], "input": side["input"]},
        weights=weights,
        frame_seconds=store.header.frame_seconds * tower.reduction,
        views=store.views,
        store=plan.store,
    )
    device = retriever.device
    bank = FeatureBank(store, device, device_bytes=0, ram_bytes=0)  # mapped: read once
    batches = frame_batches(bank.lengths, device)
    content = [plan.model_dump(mode="json"), weights, device.type, list(store.ids)]
    folder = partial / folder_name(f"{plan.dataset}-{plan.name}", content)
    entries = [batch.numpy() for batch in batches]
    with Parts(folder, entries, tower.width).held() as parts:
        report = _encode_missing(parts, batches, bank, retriever)
        index = parts.assemble(path, header, store.ids)
        parts.remove()
    return index, report


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
            frames = tower_frames((stored,), retriever)
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


def _write_embeddings(
    retriever: TrainedRetriever, weights: str, ids: Sequence[str], values: Tensor, path: Path
) -> Index:
    """Writes (N, D) embeddings of one side: one frame an entry."""
    plan = retriever.plan
    settings = plan.model_dump(mode="json", include={"sound", "text"})
    header = Header(plan.name, settings, weights, frame_seconds=0.0)

    def blocks() -> Iterator[NDArray[np.float16]]:
        for rows in values.split(BLOCK):
            block = rows.half().numpy()
            if not np.isfinite(block).all():
                raise EarwitnessError(
                    f"{plan.name}: an embedding of {path.stem} is not a number; train the "
                    "retriever again with a lower learning_rate"
                )
            yield block

    return write_store(path, header, ids, np.ones(len(ids), np.int64), retriever.width, blocks())
