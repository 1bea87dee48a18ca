"""The one training loop; a :class:`Task` says what it trains, on what, and how that is scored."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline import ranks
from pipeline.config.hardware import HardwareConfig
from pipeline.config.training import OptimisationConfig
from pipeline.device import autocast, compiled
from pipeline.errors import EarwitnessError
from pipeline.tracking.run import Log, Row
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.optimizers import build_optimizer
from pipeline.training.schedules import Schedule, build_schedule, optimizer_steps

B = TypeVar("B", covariant=True)
Track = Callable[[Sequence[Row]], AbstractContextManager[Log]]  # given the rows so far
READ_SECONDS = 1.0  # between two reads of the running loss, each of which waits for the device


class Batches(Protocol[B]):
    """The training batches of every epoch; the same epoch always has the same batches.

    Of each batch a rank gets its part (:func:`pipeline.ranks.part`).
    """

    steps: int  # batches in an epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[B]:
        """The batches of one epoch from the ``start``-th on."""


@dataclass(frozen=True, kw_only=True)
class Task(Generic[B]):
    """What one training run consists of. A step is a step of the optimizer.

    ``loss`` gives a named tuple of scalar tensors, None where a term does not exist; the first,
    ``total``, is minimised. ``validate`` gives scores by name, and ``score`` names the one that
    chooses the best model, the highest. It is called in evaluation mode and without gradients.
    """

    model: nn.Module
    batches: Batches[B]
    loss: Callable[[B], Any]
    validate: Callable[[], dict[str, float]]
    score: str
    before_step: Callable[[int, int], None] = lambda step, steps: None  # step of steps
    after_step: Callable[[], None] = lambda: None  # called after the optimizer
    optimizer: Callable[[nn.Module, OptimisationConfig], torch.optim.Optimizer] = build_optimizer
    schedule: Callable[[OptimisationConfig, int], Schedule] = build_schedule  # batches an epoch
    compiles: bool = True  # whether ``loss`` may be compiled


@contextmanager
def untracked(rows: Sequence[Row]) -> Iterator[Log]:
    """No tracker."""
    yield lambda row: None


def fit(
    task: Task[B],
    training: OptimisationConfig,
    hardware: HardwareConfig,
    checkpoints: Checkpoints,
    description: str,
    track: Track = untracked,
) -> Progress:
    """Trains from the last checkpoint, or from the start, to the end.

    At the end the model has the weights of the best validation or, with
    ``training.average_epochs``, the mean of those at the ends of the last epochs, if one was
    reached. A checkpoint is written at every validation. On a CPU a run that was killed and started
    again ends with the same bits as one that was not.

    A step takes ``training.accumulate`` batches, the last of an epoch maybe fewer, and minimises
    the mean of their losses. Where a loss is a mean over equally many items in each batch, that is
    the loss of one large batch. What depends on a whole batch (batch norms, contrastive losses)
    still sees each batch alone.

    Ranks (pipeline/ranks.py) divide each batch: the loss and its gradient are those of one process,
    but for dropout and other draws of a model, which differ. They divide the validation too. Only
    the first shows, logs and writes.

    Args:
        track: told the rows of the curves, and each as it is made.

    Raises:
        EarwitnessError: the loss is not a number, or memory ran out.
    """
    optimizer = task.optimizer(task.model, training)
    progress = checkpoints.restore(task.model, optimizer)
    ranks.copy_first(task.model)
    ranks.spread_draws(progress.step)
    run = _Run(task, optimizer, training, hardware)
    with track(progress.curves) as log:
        _train(run, progress, checkpoints, description, log)
        if checkpoints.load_chosen(task.model, progress, average=training.average_epochs > 0):
            scores = run.validate_again(progress)
            averaged = {f"averaged_{name}": value for name, value in scores.items()}
            log({"step": progress.step, **averaged})
    return progress


def _train(
    run: _Run, progress: Progress, checkpoints: Checkpoints, description: str, log: Log
) -> None:
    """Steps from where ``progress`` is to the end of training, or of patience.

    A row is logged before its checkpoint is written, so that no checkpoint knows a row that the
    log does not.
    """
    task, steps = run.task, run.epoch_steps
    accumulate, averaged = run.training.accumulate, run.training.average_epochs
    total = run.training.epochs * steps
    with tqdm(
        total=total, initial=progress.step, desc=description, unit="step",
        disable=None if ranks.is_first() else True,
    ) as bar:  # fmt: skip
        while progress.step < total and not run.out_of_patience(progress):
            epoch, start = divmod(progress.step, steps)
            batches = task.batches.epoch(epoch, start * accumulate)
            while parts := tuple(islice(batches, accumulate)):
                run.step(parts, progress, total)
                run.show(bar, progress)
                if (progress.step - 1) % steps + 1 in run.validation_steps:
                    improved = run.validate(progress)
                    log(progress.curves[-1])
                    if progress.step % steps == 0:
                        checkpoints.keep_epoch(task.model, progress, averaged)
                    checkpoints.save(task.model, run.optimizer, progress, improved=improved)
                    ranks.spread_draws(progress.step)
                    if run.out_of_patience(progress):
                        break


class _Run:
    """Steps and validations; the sums of losses stay on the device until they are read."""

    def __init__(
        self,
        task: Task[Any],
        optimizer: torch.optim.Optimizer,
        training: OptimisationConfig,
        hardware: HardwareConfig,
    ) -> None:
        self.task, self.optimizer, self.training = task, optimizer, training
        self.precision = hardware.precision
        self.schedule = task.schedule(training, task.batches.steps)
        self.trained = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.trained[0].device
        mode = hardware.compile if task.compiles else "off"
        self.loss = compiled(task.loss, mode)
        self.names: tuple[str, ...] = ()
        self.sums: Tensor | None = None  # (terms,) since the last validation
        self.steps = 0  # in the sums
        self.last_read = time.monotonic()
        parts = training.validations_per_epoch
        self.epoch_steps = steps = optimizer_steps(training, task.batches.steps)
        self.validation_steps = {math.ceil(steps * (i + 1) / parts) for i in range(parts)}
        task.model.train()

    def out_of_patience(self, progress: Progress) -> bool:
        """EDTC 4.3: training ends "when the metrics are not updated for 4 consecutive epochs"."""
        patience = self.training.patience_epochs * len(self.validation_steps)
        return progress.since_best >= patience

    def step(self, batches: Sequence[Any], progress: Progress, total: int) -> None:
        """``before_step``, each batch forward and backward, clip, optimizer, ``after_step``."""
        self.task.before_step(progress.step, total)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(progress)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            terms = self._backward(batches)
        except (torch.OutOfMemoryError, MemoryError):
            raise EarwitnessError(self._out_of_memory(progress)) from None
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            raise EarwitnessError(self._out_of_memory(progress)) from None
        norm = nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])
        if self.training.gradient_clip > 0:
            nn.utils.clip_grads_with_norm_(self.trained, self.training.gradient_clip, norm)
        self.optimizer.step()
        self.task.after_step()
        self.names = (*self.names, "gradient_norm")
        values = torch.cat([terms, norm.detach().float()[None]])
        self.sums = values if self.sums is None else self.sums + values
        self.steps += 1
        progress.step += 1

    def _backward(self, batches: Sequence[Any]) -> Tensor:
        """Adds the gradients of the batches' mean loss; gives (terms,), the mean of each term."""
        sums: list[Tensor] = []
        for batch in batches:
            with ranks.sharing(batch):
                with autocast(self.precision, self.device):
                    losses = self.loss(batch)
                (losses.total / len(batches)).backward()
            terms = {name: term for name, term in losses._asdict().items() if term is not None}
            self.names = tuple(terms)
            sums.append(torch.stack([term.detach().float() for term in terms.values()]))
        ranks.average_gradients(self.trained)
        return ranks.average(torch.stack(sums).mean(0))

    def _rate(self, progress: Progress) -> float:
        return self.training.learning_rate * self.schedule(progress.step, progress.scores)

    def _out_of_memory(self, progress: Progress) -> str:
        where = "GPU" if self.device.type == "cuda" else "main"
        return (
            f"out of {where} memory at step {progress.step + 1} with a batch of "
            f"{self.training.batch}; set a smaller one, or accumulate several, and run again"
        )

    def _means(self, progress: Progress) -> dict[str, float]:
        """The mean of every term since the last validation: only this waits for the device."""
        assert self.sums is not None
        means = dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True))
        if bad := [name for name, mean in means.items() if not math.isfinite(mean)]:
            raise EarwitnessError(
                f"{bad[0]} is not a number by step {progress.step}: set a smaller "
                f"learning_rate (now {self.training.learning_rate:g}) or gradient_clip, "
                "or precision: float32; the last checkpoint is kept"
            )
        return means

    def show(self, bar: tqdm[Any], progress: Progress) -> None:
        """Advances the bar; its numbers are read, and checked, at most once a second."""
        bar.update()
        if not ranks.is_first() or time.monotonic() - self.last_read < READ_SECONDS:
            return
        mean = self._means(progress)["total"]
        best = f"{progress.best_score:.3f}" if progress.scores else "–"
        bar.set_postfix_str(f"loss {mean:.3f}, lr {self._rate(progress):.1e}, best {best}")
        self.last_read = time.monotonic()

    def validate(self, progress: Progress) -> bool:
        """Scores the model, adds a row to the curves, and says whether it is the best so far."""
        means = self._means(progress)
        self.sums, self.steps = None, 0
        scores = self._scores()
        improved = scores[self.task.score] > progress.best_score
        progress.scores.append(scores[self.task.score])
        progress.curves.append(
            {
                "step": progress.step,
                "epoch": progress.step / self.epoch_steps,
                "learning_rate": self._rate(progress),
                **means,
                **scores,
            }
        )
        return improved

    def validate_again(self, progress: Progress) -> dict[str, float]:
        """The scores of the averaged weights, which are one more row of the curves."""
        scores = self._scores()
        progress.curves.append({**progress.curves[-1], **scores})
        progress.scores.append(scores[self.task.score])
        return scores

    def _scores(self) -> dict[str, float]:
        self.task.model.eval()
        with torch.no_grad(), autocast(self.precision, self.device):
            scores = self.task.validate()
        self.task.model.train()
        return dict(zip(scores, ranks.from_first([*scores.values()]), strict=True))


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The generator of one epoch's draws.

    torch's generator uses 32 bits of its seed: a digest mixes both numbers into them.
    """
    digest = hashlib.sha256(f"{seed}, {epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))


def curves_csv(rows: Sequence[dict[str, float]]) -> str:
    """The curves as CSV, one row a validation; no times, so that equal runs give equal bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in rows)
    return text.getvalue()
