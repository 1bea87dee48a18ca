"""The tables that `dvc plots` draws: against counts made by hand, and numpy's histogram."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from earwitness.histograms import RANKS, numbers, score_bins, write_histogram
from pipeline.errors import EarwitnessError
from tests.conftest import REPOSITORY


def read(path: Path) -> dict[str, dict[str, float]]:
    """System → where a bin begins → percent."""
    found: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["system"], {})[row["value"]] = float(row["percent"])
    return found


def test_percents_are_numpys(tmp_path: Path) -> None:
    values = np.random.default_rng(0).gamma(2, 0.5, 1000)
    begins = score_bins([["clip_id", "cider_d"]])["cider_d"]
    assert begins[0] == 0 and begins[-1] == 2.75
    write_histogram(tmp_path / "h.csv", {"a": values.tolist()}, begins)
    expected, _ = np.histogram(np.minimum(values, 2.9), bins=[*begins, 3.0])
    found = read(tmp_path / "h.csv")["a"]
    assert [float(name) for name in found] == begins
    assert [*found.values()] == pytest.approx((expected / 10).tolist())


def test_edges_belong_to_the_bin_that_they_begin_and_both_ends_are_open(tmp_path: Path) -> None:
    """0.3 is a little less than 3 × 0.1 in binary, and is in the bin from 0.3 on."""
    begins = score_bins([["sbert_sim_minilm"]])["sbert_sim_minilm"]
    write_histogram(tmp_path / "h.csv", {"a": [-0.4, 0.3, 0.1 + 0.2, 1.0]}, begins)
    found = read(tmp_path / "h.csv")["a"]
    assert {name: share for name, share in found.items() if share} == {
        "0": 25, "0.3": 50, "0.9": 25,
    }  # fmt: skip


def test_ranks_are_counted_from_one(tmp_path: Path) -> None:
    ranks = [1, 1, 2, 10, 11, 700, 501, 100]
    write_histogram(tmp_path / "h.csv", {"a": ranks, "none": []}, RANKS)
    (found,) = read(tmp_path / "h.csv").values()
    assert {name: share for name, share in found.items() if share} == {
        "1": 25, "2": 12.5, "6": 12.5, "11": 12.5, "51": 12.5, "501": 25,
    }  # fmt: skip


def test_only_scores_that_people_compare_have_one() -> None:
    header = ["clip_id", "bleu_4", "cider_d", "spider", "spider_fl", "fense_x"]
    assert list(score_bins([header, ["cider_d"]])) == ["cider_d", "spider", "fense_x"]


def test_what_is_no_number_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("clip_id,cider_d\na,0.5\nb,\nc,high\n", encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"a.csv: line 4: cider_d is 'high', and no number"):
        numbers(path, "cider_d")
    path.write_text("clip_id,cider_d\na,0.5\nb,\n", encoding="utf-8")
    assert numbers(path, "cider_d") == [0.5] and numbers(path, "rank") == []


def test_the_template_names_what_dvc_fills_in() -> None:
    text = (REPOSITORY / ".dvc/plots/histogram.json").read_text(encoding="utf-8")
    template = json.loads(text)
    assert template["encoding"]["row"]["field"] == "system"
    for anchor in ("DATA", "X", "Y", "X_LABEL", "Y_LABEL", "TITLE", "COLOR"):
        assert f"<DVC_METRIC_{anchor}>" in text
