"""Trains an encoder on a dataset's event labels; it is frozen afterwards.

Multi-label binary cross-entropy on the development split; the epoch with the best mean average
precision on the validation split is kept. The front end is not trained, so log-mels are computed
once and stay in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.audio import waveforms
from pipeline.config.plans import TaggingPlan
from pipeline.config.training import OptimisationConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import tagging_model
from pipeline.encoders.spectrogram import FLOOR_DB
from pipeline.encoders.tagging import TaggingModel, save_tagging
from pipeline.errors import EarwitnessError
from pipeline.features.bank import padded_rows
from pipeline.files import write_atomic, write_json
from pipeline.threads import share
from pipeline.tracking.registry import Tracking
from pipeline.training.checkpoints import Progress
from pipeline.training.jobs import Save, run_job
from pipeline.training.loop import Task, curves_csv, epoch_generator
from pipeline.training.schedules import Schedule, linear_warmup

SCORE = "validation_map"
WARM_UP = 0.15  # of all steps; then the rate falls to zero along a cosine
WEIGHT_DECAY = 0.01
BUCKET = 8  # batches whose clips are sorted by length, to save padding
THREADS = 4  # decode sound


class TaggedBatch(NamedTuple):
    """Log-mels of clips, and the events in them."""

    logmel: Tensor  # (B, T, M) float32
    lengths: Tensor  # (B,) int64
    events: Tensor  # (B, C) float32, 0 or 1


class TaggingLosses(NamedTuple):
    total: Tensor  # ()


class LogMels:
    """The log-mels of one split, float16, concatenated, with their events.

    Args:
        values: (frames, M), on the training device.
        frames: (N,) int64, rows that each clip has in ``values``.
        lengths: (N,) int64, how many of these are valid.
        events: (N, C) float32.
    """

    def __init__(self, values: Tensor, frames: Tensor, lengths: Tensor, events: Tensor) -> None:
        self.values, self.frames, self.lengths, self.events = values, frames, lengths, events
        self._starts = frames.cumsum(0) - frames

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, clips: Tensor) -> TaggedBatch:
        """The ``clips``, (B,) int64, by one gather, padded with silence."""
        device = self.values.device
        rows, valid = padded_rows(self._starts[clips], self.frames[clips])
        values = self.values[rows.to(device)].view(*valid.shape, -1).float()
        values.masked_fill_(~valid.to(device)[..., None], FLOOR_DB)
        return TaggedBatch(values, self.lengths[clips].to(device), self.events[clips].to(device))


class TaggedBatches:
    """Training batches of clips of similar length; the same for the same ``seed`` and epoch."""

    def __init__(self, clips: LogMels, batch: int, seed: int) -> None:
        self.clips, self.batch, self.seed = clips, batch, seed
        self.steps = -(-len(clips) // batch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[TaggedBatch]:
        """The batches of one epoch from the ``start``-th on."""
        generator = epoch_generator(self.seed, epoch)
        order = torch.randperm(len(self.clips), generator=generator)
        buckets = [
            bucket[self.clips.frames[bucket].argsort(stable=True)]
            for bucket in order.split(self.batch * BUCKET)
        ]
        batches = [batch for bucket in buckets for batch in bucket.split(self.batch)]
        for number in torch.randperm(len(batches), generator=generator)[start:].tolist():
            yield self.clips.batch(batches[number])


def train_tagging(
    plan: TaggingPlan,
    manifest: Manifest,
    root: Path,
    output: Path,
    checkpoints: Path,
    tracking: Tracking | None = None,
) -> float:
    """Trains one encoder; ``output`` gets model.safetensors, labels.json and curves.csv.

    Args:
        root: folder of the dataset's audio.
        output: a folder, written whole or not at all.
        checkpoints, tracking: see :func:`run_job`.

    Returns:
        Mean average precision on the validation split.

    Raises:
        EarwitnessError: the dataset has no events, a file is broken, or the encoder cannot be
            trained.
    """
    classes = event_names(manifest)

    def begin(device: torch.device) -> tuple[Task[TaggedBatch], Save]:
        model, task = prepare(plan, manifest, root, classes, device)

        def save(folder: Path, done: Progress) -> None:
            save_tagging(model, folder / "model.safetensors", plan.encoder, classes)
            write_json(folder / "labels.json", {"classes": classes, SCORE: done.best_score})
            write_atomic(folder / "curves.csv", curves_csv(done.curves))

        return task, save

    training = OptimisationConfig(
        epochs=plan.tagging.epochs,
        batch=plan.tagging.batch,
        learning_rate=plan.tagging.learning_rate,
        weight_decay=WEIGHT_DECAY,
        validations_per_epoch=1,
        patience_epochs=plan.tagging.epochs + 1,  # no early stop: the rate falls to the end
    )
    progress = run_job(
        "tagging", plan, training, begin, output=output, checkpoints=checkpoints, tracking=tracking
    )
    return progress.best_score


def prepare(
    plan: TaggingPlan,
    manifest: Manifest,
    root: Path,
    classes: Sequence[str],
    device: torch.device,
) -> tuple[TaggingModel, Task[TaggedBatch]]:
    """The untrained encoder, and the task of training it."""
    model = tagging_model(plan.encoder, len(classes))
    development, held_out = (
        make_logmels(model, plan, manifest, root, split, classes, device)
        for split in ("development", "validation")
    )
    torch.manual_seed(plan.seed)
    return model, Task(
        model=model.to(device),
        batches=TaggedBatches(development, plan.tagging.batch, plan.seed),
        loss=loss_of(model),
        validate=validation(model, held_out, plan.tagging.batch),
        score=SCORE,
        optimizer=adamw_of_all,
        schedule=lambda training, steps: one_cycle(training.epochs * steps),
        compiles=False,  # for so few steps it takes longer than it saves
    )


def event_names(manifest: Manifest) -> list[str]:
    """Every event of the development split, sorted: the classes, in the order of the logits."""
    names = {event for clip in manifest.split("development") for event in clip.events}
    if not names:
        raise EarwitnessError(
            f"dataset {manifest.dataset} has no event labels to train encoders on;"
            " give tagging another dataset, or the encoders other weights"
        )
    return sorted(names)


def make_logmels(
    model: TaggingModel,
    plan: TaggingPlan,
    manifest: Manifest,
    root: Path,
    split: str,
    classes: Sequence[str],
    device: torch.device,
) -> LogMels:
    """One split's log-mels; of a long clip each window is an entry.

    Each clip is decoded and transformed alone, in threads, so none depends on its batch.
    """
    clips = manifest.split(split)
    rate = model.encoder.sample_rate
    longest = int(plan.encoder.window_seconds * rate)

    def transform(clip: Clip) -> list[tuple[NDArray[np.float16], int]]:
        samples = waveforms.load(manifest.sound_file(root, clip), rate)
        with torch.inference_mode():
            windows = [
                model.frontend(torch.from_numpy(window)[None], torch.tensor([len(window)]))
                for window in waveforms.windows(samples, longest)
            ]
        return [(w.values[0].half().numpy(), int(w.lengths)) for w in windows]

    threads = torch.get_num_threads()
    # one thread of torch in each of these: more would wait for each other
    workers = share(THREADS)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        made = list(tqdm(pool.map(transform, clips), f"{split} log-mels", len(clips), disable=None))
    torch.set_num_threads(threads)
    number = {name: index for index, name in enumerate(classes)}
    events = np.zeros((len(clips), len(classes)), np.float32)
    for row, clip in zip(events, clips, strict=True):
        row[[number[event] for event in clip.events if event in number]] = 1
    windows = [window for of_clip in made for window in of_clip]
    return LogMels(
        torch.from_numpy(np.concatenate([values for values, _ in windows])).to(device),
        torch.tensor([len(values) for values, _ in windows]),
        torch.tensor([length for _, length in windows]),
        torch.from_numpy(np.repeat(events, [len(of_clip) for of_clip in made], axis=0)),
    )


def loss_of(model: TaggingModel) -> Callable[[TaggedBatch], TaggingLosses]:
    """Binary cross-entropy of every event in every clip."""

    def loss(batch: TaggedBatch) -> TaggingLosses:
        logits = model.classify(batch.logmel, batch.lengths)
        return TaggingLosses(F.binary_cross_entropy_with_logits(logits.float(), batch.events))

    return loss


def validation(model: TaggingModel, clips: LogMels, batch: int) -> Callable[[], dict[str, float]]:
    """A function that scores the model on ``clips``."""

    def validate() -> dict[str, float]:
        parts = torch.arange(len(clips)).split(batch)
        batches = [clips.batch(part) for part in parts]
        logits = torch.cat([model.classify(one.logmel, one.lengths) for one in batches])
        precision = mean_average_precision(logits.float().cpu().numpy(), clips.events.numpy())
        return {SCORE: precision}

    return validate


def mean_average_precision(scores: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """The mean of the average precisions of the events that occur.

    Average precision is the mean, over the clips with the event, of the precision among all clips
    that score at least as high: scikit-learn's definition, with ties.

    Args:
        scores: (N, C), any scale.
        truth: (N, C), 1 where the clip has the event.
    """
    precisions = []
    for score, present in zip(scores.T, truth.T > 0, strict=True):
        if present.any():
            above = rankdata(-score, "max")[present]  # clips that score at least as high
            found = rankdata(-score[present], "max")  # those of them with the event
            precisions.append((found / above).mean())
    return float(np.mean(precisions)) if precisions else 0.0


def one_cycle(steps: int) -> Schedule:
    """Linear warm-up, then half a cosine to zero, over all ``steps`` (Smith & Topin 2019)."""

    def factor(step: int, scores: Sequence[float]) -> float:
        fall = max(0.0, (step - WARM_UP * steps) / ((1 - WARM_UP) * steps))
        return linear_warmup(step + 1, WARM_UP * steps) * (1 + math.cos(math.pi * min(1, fall))) / 2

    return factor


def adamw_of_all(model: nn.Module, training: OptimisationConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on every parameter, fused on CUDA."""
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        parameters,
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=parameters[0].is_cuda,
    )
