"""A run in MLflow's own database: ``mlflow ui --backend-store-uri sqlite:///…/mlflow.db``."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.entities import Run as MlflowEntity

from pipeline.lock import exclusive
from pipeline.tracking.run import Row, RunName, metrics

EXPERIMENT = "earwitness"
TAG = "earwitness.run"
BATCH = 100  # settings that one call may write
LONGEST = 6000  # characters of a setting's value


class MlflowRun:
    """A run of the experiment ``earwitness``; a training that continues continues its run."""

    def __init__(
        self, folder: Path, name: RunName, settings: Mapping[str, Any], rows: Sequence[Row]
    ) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with exclusive(folder / "mlflow.lock", wait=True):  # two jobs may both make the tables
            self.client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
            experiment = self._experiment(folder)
        found = self.client.search_runs([experiment], f"tags.`{TAG}` = '{name}'")
        if not rows:  # trained again from its start
            for old in found:
                self.client.delete_run(old.info.run_id)
        if rows and found:
            self.run = found[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
        else:
            self.run = self._begin(experiment, name, settings)
        self.logged = self._logged()
        for row in rows:
            self.log(row)

    def log(self, row: Row) -> None:
        step, now = int(row["step"]), int(1000 * time.time())
        new = {key: v for key, v in metrics(row).items() if (key, step) not in self.logged}
        self.client.log_batch(self.run, [Metric(key, v, now, step) for key, v in new.items()])

    def close(self, done: bool) -> None:
        self.client.set_terminated(self.run, "FINISHED" if done else "KILLED")

    def _experiment(self, folder: Path) -> str:
        if (found := self.client.get_experiment_by_name(EXPERIMENT)) is not None:
            return found.experiment_id
        return self.client.create_experiment(EXPERIMENT, (folder / "artifacts").as_uri())

    def _begin(self, experiment: str, name: RunName, settings: Mapping[str, Any]) -> str:
        tags = {TAG: str(name), "kind": name.kind, "model": name.model, "seed": str(name.seed)}
        run: MlflowEntity = self.client.create_run(experiment, tags=tags, run_name=str(name))
        params = [Param(key, text[:LONGEST]) for key, text in _flat(settings, "")]
        for start in range(0, len(params), BATCH):
            self.client.log_batch(run.info.run_id, params=params[start : start + BATCH])
        return run.info.run_id

    def _logged(self) -> set[tuple[str, int]]:
        """What an earlier process wrote, of steps that may be made again."""
        names = self.client.get_run(self.run).data.metrics
        return {
            (name, metric.step)
            for name in names
            for metric in self.client.get_metric_history(self.run, name)
        }


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Dotted settings, as ``-S`` names them."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else str(name))
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
