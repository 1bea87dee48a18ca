"""Checkpoints from which a killed run continues, to the same bits: safetensors, never a pickle.

A job's folder contains ``state.safetensors`` (weights, optimizer, random number generators, and the
progress as JSON in its header) and the best weights so far, ``best-<step>.safetensors``. The state
names its best file and is moved into place after it, so that the folder always contains one
complete checkpoint.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipeline import ranks
from pipeline.errors import EarwitnessError, one_line
from pipeline.lock import exclusive, is_awaited
from pipeline.state_dicts import load_weights, read_weights, save_weights, weights

STATE = "state.safetensors"
BEST = re.compile(r"best-\d+\.safetensors")


@dataclass
class Progress:
    """How far a run is. ``scores`` has one score a validation, ``curves`` one row."""

    step: int = 0
    scores: list[float] = field(default_factory=list)
    curves: list[dict[str, float]] = field(default_factory=list)
    best: str | None = None  # file of the best weights

    @property
    def best_score(self) -> float:
        return max(self.scores, default=float("-inf"))

    @property
    def since_best(self) -> int:
        """Validations since the first with the best score."""
        if not self.scores:
            return 0
        return len(self.scores) - 1 - self.scores.index(self.best_score)


class Checkpoints:
    """The checkpoints of one job with one plan: ``<root>/<job>-<digest>/``.

    A context: it holds the job's lock, so that two runs cannot mix, and removes the checkpoints of
    earlier plans of the same job (unless they are running). Where another process trains by the
    same plan, such as of an experiment beside this one, it is waited for, and leaves its last
    checkpoint.

    Args:
        owner: false in a process that only reads, as another one of the job has the lock and writes
            for it.
    """

    def __init__(self, root: Path, job: str, digest: str, *, owner: bool = True) -> None:
        self.folder = root / f"{job}-{digest}"
        self._job, self._owner = job, owner
        self._hint = f"delete {self.folder} to train from the start"
        self._path = root / f"{job}-{digest}.lock"
        # where other ranks wait for this one, they would not wait long enough
        alone = ranks.count() == 1
        self._lock = exclusive(self._path, wait=alone, what=f"trains the same ({job})")

    def __enter__(self) -> Checkpoints:
        if not self._owner:
            return self
        self._lock.__enter__()
        self._remove_older()
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*"):  # a write that was killed
            leftover.unlink()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._owner:
            self._lock.__exit__(*error)

    def _remove_older(self) -> None:
        pattern = re.compile(re.escape(self._job) + r"-[0-9a-f]+")
        for folder in self.folder.parent.glob(f"{self._job}-*"):
            if folder != self.folder and folder.is_dir() and pattern.fullmatch(folder.name):
                with suppress(EarwitnessError), exclusive(folder.with_name(folder.name + ".lock")):
                    shutil.rmtree(folder)

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        *,
        improved: bool,
    ) -> None:
        """Writes the state; with ``improved`` the weights are also the best so far."""
        if improved:
            progress.best = f"best-{progress.step:08d}.safetensors"
        if not self._owner:
            return
        if improved and progress.best:
            save_weights(weights(model), self.folder / progress.best)
        tensors = {f"model.{name}": tensor for name, tensor in weights(model).items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        tensors |= {f"random.{name}": state for name, state in _random_states().items()}
        header = {"progress": json.dumps(asdict(progress))}
        save_weights(tensors, self.folder / STATE, header)
        for older in self.folder.glob("best-*.safetensors"):
            if older.name != progress.best:
                older.unlink()

    def keep_epoch(self, model: nn.Module, progress: Progress, last: int) -> None:
        """Keeps the weights of the ``last`` epochs, this one among them; 0 keeps none."""
        if last and self._owner:
            save_weights(weights(model), self.folder / f"epoch-{progress.step:08d}.safetensors")
            for older in sorted(self.folder.glob("epoch-*.safetensors"))[:-last]:
                older.unlink()

    def average(self) -> dict[str, Tensor] | None:
        """The mean of the kept epochs' weights, of integers the last; None where none is kept."""
        files = sorted(self.folder.glob("epoch-*.safetensors"))
        epochs = [read_weights(file, self._hint) for file in files]
        if not epochs:
            return None
        return {
            name: torch.stack([one[name].double() for one in epochs]).mean(0).to(last.dtype)
            if last.is_floating_point()
            else last
            for name, last in epochs[-1].items()
        }

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Restores the last saved state; gives a new :class:`Progress` where there is none.

        Raises:
            EarwitnessError: the file is broken, or of another model, or ranks see other files.
        """
        progress = self._restored(model, optimizer)
        (step,) = ranks.from_first([progress.step])
        if step != progress.step:
            raise EarwitnessError(
                f"{self.folder}: this process is at step {progress.step}, the first at step "
                f"{step:.0f}; let all machines work in the same folder, on a shared disk"
            )
        return progress

    def _restored(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        path = self.folder / STATE
        if not path.exists():
            return Progress()
        tensors = read_weights(path, self._hint)
        broken = one_line(path, self._hint, "not a checkpoint")
        with broken, safe_open(path, framework="pt") as file:
            progress = _progress((file.metadata() or {})["progress"])
        load_weights(model, _under("model", tensors), str(path))
        with one_line(path, self._hint, "not a checkpoint"):
            _load_optimizer(optimizer, _under("optimizer", tensors))
            _set_random_states(_under("random", tensors))
        return progress

    def load_chosen(self, model: nn.Module, progress: Progress, *, average: bool) -> bool:
        """Loads the weights that training ends with: the best, or with ``average`` the mean of the
        kept epochs' if there are any, which is said.

        The first rank reads them and gives them to the others.
        """
        averaged = False
        if self._owner:
            mean = self.average() if average else None
            averaged = mean is not None
            chosen = self.best(progress) if mean is None else mean
            load_weights(model, chosen, str(self.folder))
        ranks.copy_first(model)
        return bool(*ranks.from_first([averaged]))

    def best(self, progress: Progress) -> dict[str, Tensor]:
        """The weights of the best validation."""
        path = self.folder / (progress.best or "no best weights")
        return read_weights(path, self._hint)

    def remove(self) -> None:
        """Removes all of them, when the job is done; a process that waits for them has them."""
        if not is_awaited(self._path):
            shutil.rmtree(self.folder)


def _progress(text: str) -> Progress:
    """What :meth:`Checkpoints.save` wrote of it; anything else is a ValueError or a TypeError."""
    progress = Progress(**json.loads(text))
    numbers = [
        progress.step,
        *progress.scores,
        *(v for row in progress.curves for v in row.values()),
    ]
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("progress has other values than numbers")
    if progress.best is not None and not BEST.fullmatch(progress.best):
        raise ValueError(f"{progress.best!r} is no name of weights")
    return progress


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Each tensor is of its parameter's shape, or one number; anything else is a ValueError.

    It also gets its parameter's order in memory, which a file does not keep: the fused optimizers
    of CUDA refuse any other.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        if tensor.ndim:
            parameter = parameters[int(index)]
            if tensor.shape != parameter.shape:
                raise ValueError(f"optimizer.{name} is {tuple(tensor.shape)}")
            tensor = torch.empty_like(parameter, dtype=tensor.dtype, device="cpu").copy_(tensor)
        states.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix += "."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            if (state := states.get(f"cuda{index}")) is not None:
                torch.cuda.set_rng_state(state, index)
