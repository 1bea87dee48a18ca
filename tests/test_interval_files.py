"""Files of ``intervals/`` that are right, not there, or of another form, for each reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from earwitness.half_intervals import half_intervals
from earwitness.interval_files import read_around
from earwitness.report.results import read_scores
from earwitness.report.scores import _tables
from earwitness.seed_scores import seed_scores
from pipeline.errors import EarwitnessError
from pipeline.files import write_atomic, write_json

AROUND = {
    "metrics": {
        "cider_d": {"mean": 0.5, "low": 0.25, "high": 1.0, "by_seed": {"1": 0.75, "2": 0.25}},
        "vocabulary": {"mean": 7.0, "low": None, "high": None, "by_seed": {"1": 7.0}},
    },
    "seeds": [1, 2], "clips": 6, "resamples": 2000,
}  # fmt: skip
BROKEN = ["[]", "{}", '{"metrics": 5}', '{"metrics": {"cider_d": 5}}', "{", "null"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_json(tmp_path / "metrics/toy/gru.json", {"cider_d": 0.5, "vocabulary": 7.0})
    write_json(tmp_path / "intervals/toy/gru.json", AROUND)
    return tmp_path


def reported(root: Path) -> list[dict[str, object]]:
    ((table),) = _tables("captioning", root / "metrics", root / "intervals", ["toy"], ["gru"])
    rows: list[dict[str, object]] = table["rows"]
    return rows


def test_each_reader_finds_its_own_values(root: Path) -> None:
    assert half_intervals(root, "toy/gru") == {"cider_d": 0.375}
    assert seed_scores(root, "toy/gru", 2) == {"cider_d": 0.25, "vocabulary": 7.0}
    (row,) = reported(root)
    assert (row["clips"], row["seeds"], row["intervals"]) == (6, [1, 2], AROUND["metrics"])


def test_where_there_is_none_the_means_are_all(root: Path) -> None:
    (root / "intervals/toy/gru.json").unlink()
    assert read_around(root / "intervals/toy/gru.json") is None
    assert half_intervals(root, "toy/gru") == {}
    assert seed_scores(root, "toy/gru", 1) == {"cider_d": 0.5, "vocabulary": 7.0}
    (row,) = reported(root)
    assert (row["clips"], row["seeds"], row["intervals"]) == (None, [], {})


@pytest.mark.parametrize("text", BROKEN)
def test_another_file_is_one_line(root: Path, text: str) -> None:
    write_atomic(root / "intervals/toy/gru.json", text)
    for read in (lambda: half_intervals(root, "toy/gru"), lambda: reported(root)):
        with pytest.raises(EarwitnessError, match=r"intervals/toy/gru\.json: .*; remove it, and"):
            read()
    # of a file of no use the means are taken, as an export has no other
    assert seed_scores(root, "toy/gru", 2) == {"cider_d": 0.5, "vocabulary": 7.0}


def test_scores_that_are_none_are_one_line(root: Path) -> None:
    write_atomic(root / "metrics/toy/gru.json", "[1]")
    with pytest.raises(EarwitnessError, match=r"gru\.json: has no scores; remove it, and run"):
        read_scores(root / "metrics")
