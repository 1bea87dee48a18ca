"""A run of Weights & Biases, offline: ``wandb sync data/tracking/wandb/wandb/offline-run-*``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from pipeline.tracking.run import Row, RunName, metrics

PROJECT = "earwitness"


class WandbRun:
    """One folder, written anew when training continues: offline, W&B begins a second one, and of
    two with one id a sync keeps the last alone.
    """

    def __init__(
        self, folder: Path, name: RunName, settings: Mapping[str, Any], rows: Sequence[Row]
    ) -> None:
        for old in folder.glob(f"wandb/offline-run-*-{name}"):
            shutil.rmtree(old)
        self.run = wandb.init(
            project=PROJECT,
            id=str(name),
            name=str(name),
            group=f"{name.kind}-{name.model}",
            dir=str(folder),
            config=dict(settings),
            mode="offline",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        for row in rows:
            self.log(row)

    def log(self, row: Row) -> None:
        self.run.log(metrics(row), step=int(row["step"]))

    def close(self, done: bool) -> None:
        self.run.finish(exit_code=0 if done else 1)
