"""A run as TensorBoard's event file: ``tensorboard --logdir data/tracking/tensorboard``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from pipeline.tracking.run import Row, RunName, metrics


class TensorboardRun:
    """``<folder>/<run>/``, written anew when training continues: its end may be half a record."""

    def __init__(
        self, folder: Path, name: RunName, settings: Mapping[str, Any], rows: Sequence[Row]
    ) -> None:
        shutil.rmtree(folder / str(name), ignore_errors=True)
        self.writer = SummaryWriter(str(folder / str(name)))
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        self.writer.add_text("settings", "".join(f"    {line}\n" for line in text.splitlines()))
        for row in rows:
            self._add(row)
        self.writer.flush()

    def log(self, row: Row) -> None:
        self._add(row)
        self.writer.flush()

    def close(self, done: bool) -> None:
        self.writer.close()

    def _add(self, row: Row) -> None:
        for metric, value in metrics(row).items():
            self.writer.add_scalar(metric, value, int(row["step"]))
