"""The curves that `dvc plots` draws are those that training wrote."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from earwitness.report import curves
from earwitness.report.run import Run
from stages.report import _plotted
from tests.report_run import make_run

WRITTEN = """step,epoch,total,validation_cider_d
5,0.5,4.25,0
10,1,3.1234567,0.041821705
"""


def test_every_digit_is_kept_and_half_an_epoch_is_one(tmp_path: Path) -> None:
    run: Run = make_run(tmp_path)
    for path in run.data.glob("models/captioners/heard/*/curves.csv"):
        path.write_text(WRITTEN, encoding="utf-8")
    (group,) = [group for group in curves.groups(run) if group["kind"] == "captioners"]
    for model in group["trained"]:
        shown = list(csv.DictReader(io.StringIO(_plotted(model))))
        wanted = list(csv.DictReader(io.StringIO(WRITTEN)))
        assert [(row["epoch"], row["loss"], row["score"]) for row in shown] == [
            (row["epoch"], row["total"], row["validation_cider_d"]) for row in wanted
        ]
