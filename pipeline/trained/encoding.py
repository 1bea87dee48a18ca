"""A trained retriever as an encoder: its tower's frames (SJTU 2.3), and the embeddings of sound and
of text, as CLAP has them. Each is a feature file: ``frames.h5``, ``sound.h5`` and ``text.h5``.

Which clips share a batch depends on the stored features alone, so a killed run that continues
writes the same bytes of frames. The embeddings are made anew: no captioner's frames, they are few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pipeline.config.plans import EncodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.engine.local import LocalEngine
from pipeline.engine.steps import Engine
from pipeline.engine.throughput import Report
from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank
from pipeline.features.resumable import Parts, folder_name
from pipeline.features.store import FeatureStore, Header, Index, caption_ids, write_store
from pipeline.trained.encoding_steps import (
    EmbeddingSteps,
    Frames,
    FrameSteps,
    tower_frames,
    unpack,
)
from pipeline.trained.inputs import Embeddable, frame_batches
from pipeline.trained.retriever import TrainedRetriever

BLOCK = 1 << 16  # embeddings that are written together


def encode(
    plan: EncodingPlan,
    manifest: Manifest,
    stores: Sequence[FeatureStore],
    text: Sequence[FeatureStore],
    retriever: TrainedRetriever,
    weights: str,
    partial: Path,
    folder: Path,
    engine: Engine | None = None,
) -> tuple[dict[str, Index], Report]:
    """Writes a dataset's embeddings, and its frames where the plan asks for them.

    For a dataset that has captions alone, the files of sound have no entries.

    Args:
        stores: the features that the sound side reads, of all clips with sound.
        text: the features that the text side reads, of all captions.
        weights: digest of the retriever's weights.
        partial: folder of the frames that are done, until all are.
        folder: of the three files.
        engine: what does it; None: this process.

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
    engine = engine or LocalEngine(retriever.device)
    report = Report()
    if plan.frames:
        path = folder / "frames.h5"
        found["frames"], report = _write_frames(
            plan, stores[0], retriever, weights, partial, path, engine
        )
    sound = _embedded("sound", retriever.sound.stored(stores, clips), retriever, engine)
    read = retriever.text.captions([manifest.clips], [text])
    words = _embedded("text", read, retriever, engine)
    captions = caption_ids(manifest.clips)
    for side, ids, values in (("sound", clips, sound), ("text", captions, words)):
        path = folder / f"{side}.h5"
        found[side] = _write_embeddings(retriever, weights, ids, values, path)
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
        values, counts = unpack(
            tower_frames(inputs.batch(batch), retriever.tower, retriever.device)
        )
        found |= zip(batch.tolist(), np.split(values, np.cumsum(counts)[:-1]), strict=True)
    return [found[row] for row in range(len(features))]


def _write_frames(
    plan: EncodingPlan,
    store: FeatureStore,
    retriever: TrainedRetriever,
    weights: str,
    partial: Path,
    path: Path,
    engine: Engine,
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
    kind = engine.kind(retriever.device)
    bank = FeatureBank(store, retriever.device, device_bytes=0, ram_bytes=0)  # mapped: read once
    batches = frame_batches(bank.lengths, kind)
    content = [plan.model_dump(mode="json"), weights, kind, list(store.ids)]
    folder = partial / folder_name(f"{plan.dataset}-{plan.name}", content)
    entries = [batch.numpy() for batch in batches]
    with Parts(folder, entries, tower.width).held(path) as parts:
        report = _encode_missing(parts, batches, bank, FrameSteps(tower), engine)
        index = parts.assemble(path, header, store.ids)
        parts.remove()
    return index, report


def _encode_missing(
    parts: Parts, batches: Sequence[Tensor], bank: FeatureBank, steps: FrameSteps, engine: Engine
) -> Report:
    missing = parts.missing()
    sizes = [len(batches[part]) for part in missing]
    report = Report(count=sum(sizes))
    done = len(bank) - report.count

    def keep(number: int, frames: Frames) -> None:
        parts.save(missing[number], frames.values, frames.lengths)

    work = ((bank.batch(batches[part]),) for part in missing)
    with tqdm(total=len(bank), initial=done, unit="clip", disable=None) as bar:
        for number in engine.run(steps, work, keep, report, len(missing)):
            bar.update(sizes[number])
    return report


def _embedded(
    side: Literal["sound", "text"], inputs: Embeddable, retriever: TrainedRetriever, engine: Engine
) -> Tensor:
    """(N, D) float32 on the CPU, in the order of the entries."""
    batches = inputs.batches(engine.kind(retriever.device))
    found = torch.zeros(sum(map(len, batches)), retriever.width)

    def keep(number: int, values: NDArray[np.float32]) -> None:
        found[batches[number]] = torch.from_numpy(values.copy())

    steps = EmbeddingSteps(retriever.model, side, retriever.plan.hardware.precision)
    work = (inputs.batch(batch) for batch in batches)
    for _ in engine.run(steps, work, keep, Report(), len(batches)):
        pass
    return found


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
