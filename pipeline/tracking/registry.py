"""Training metrics for a tracker that people have: TensorBoard, MLflow or Weights & Biases.

Only files are written, and nothing is sent over the network. A tracker never changes what is
trained: it reads no random numbers, it is no part of a plan, and one that fails is left, with a
warning. That one is missing is said before training starts.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import EarwitnessError, reason
from pipeline.tracking.run import Log, Row, RunName, TrackedRun

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
MODULES: dict[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
}
# none of them reports to its makers
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}


@dataclass(frozen=True)
class Tracking:
    """Where trainings are tracked: below ``folder``, in one of its own a tracker.

    Raises:
        EarwitnessError: the tracker is not installed.
    """

    tracker: TrackerName
    folder: Path

    def __post_init__(self) -> None:
        check_tracker(self.tracker)

    @contextmanager
    def run(self, name: RunName, settings: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[Log]:
        """A run, from its start, or continued.

        Args:
            settings: what is trained, as JSON.
            rows: of the checkpoint that training continues from; later ones that the run may have
                are forgotten, as they are made again.
        """
        guarded = _Guarded(self, name, settings, rows)
        try:
            yield guarded.log
        except BaseException:
            guarded.close(done=False)
            raise
        guarded.close(done=True)


class _Guarded:
    """A run whose first error is a warning, and whose rows are nowhere written after that."""

    run: TrackedRun | None

    def __init__(
        self, tracking: Tracking, name: RunName, settings: Mapping[str, Any], rows: Sequence[Row]
    ) -> None:
        self.tracking, self.run = tracking, None
        with self._warned():
            self.run = _open(tracking, name, settings, rows)

    def log(self, row: Row) -> None:
        with self._warned():
            if self.run is not None:
                self.run.log(row)

    def close(self, done: bool) -> None:
        with self._warned():
            if self.run is not None:
                self.run.close(done)

    @contextmanager
    def _warned(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.run = None
            print(
                f"warning: {self.tracking.folder / self.tracking.tracker}: {self.tracking.tracker} "
                f"failed ({reason(error)}); training goes on without it",
                file=sys.stderr,
            )


def check_tracker(tracker: str) -> None:
    """Refuses a tracker that is not installed; ``none`` needs nothing.

    Raises:
        EarwitnessError: so it is.
    """
    needed = MODULES.get(tracker, ())
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise EarwitnessError(
            f"tracking: {tracker} needs {', '.join(missing)}: pip install 'earwitness[{tracker}]', "
            "or set tracking to none"
        )


def _open(
    tracking: Tracking, name: RunName, settings: Mapping[str, Any], rows: Sequence[Row]
) -> TrackedRun:
    folder = tracking.folder.resolve() / tracking.tracker
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(QUIET)
    match tracking.tracker:
        case "tensorboard":
            from pipeline.tracking.tensorboard_run import TensorboardRun

            return TensorboardRun(folder, name, settings, rows)
        case "mlflow":
            from pipeline.tracking.mlflow_run import MlflowRun

            return MlflowRun(folder, name, settings, rows)
        case "wandb":
            from pipeline.tracking.wandb_run import WandbRun

            return WandbRun(folder, name, settings, rows)
