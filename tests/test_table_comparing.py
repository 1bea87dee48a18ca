"""Stars in tables: which rows differ from the base row, corrected for how many there are."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from test_evaluate import NO_JAVA

from earwitness.tables import comparing
from earwitness.tables.comparing import ComparedRow, against_base
from earwitness.tables.reading import read_table
from earwitness.tables.resolving import runs_of
from earwitness.tables.results import measured
from pipeline.config.evaluation import EvaluationConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError

CLIPS, SEEDS = 30, (1, 2, 3, 4)
SETTINGS = EvaluationConfig(spice=False, sbert=None, fluency=None, resamples=100)
WORDS = ("a", "dog", "barks", "rain", "falls", "loudly", "and", "then", "bird", "sings", "wind")


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=6))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A run's folder with a test set of two captions a clip."""
    draw = random.Random(1)
    clips = [
        Clip(f"c{n}", "evaluation", f"{n}.wav", 1.0, (sentence(draw), sentence(draw)))
        for n in range(CLIPS)
    ]
    Manifest("toy", "data/raw/toy", tuple(clips)).save(tmp_path / "data/corpora/toy.json")
    (tmp_path / "params.yaml").write_text("seeds: [1, 2]\n", encoding="utf-8")
    return tmp_path


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_ranking(tree: Path, system: str, near: float, seed: int) -> None:
    """The right clip is at rank 1 with a chance of ``near``, else anywhere."""
    draw = np.random.default_rng(seed)
    clips = Manifest.load(tree / "data/corpora/toy.json").clips
    rows = []
    for each in SEEDS:
        for clip in clips:
            for caption in clip.captions:
                rank = 1 if draw.random() < near else int(draw.integers(1, CLIPS + 1))
                rows.append((each, caption, rank))
    write(tree / f"data/rankings/toy/{system}.csv", ("seed", "caption", "rank"), rows)


def write_captions(tree: Path, system: str, right: float, seed: int) -> None:
    """A clip's own reference with a chance of ``right``, else any sentence."""
    draw = random.Random(seed)
    clips = Manifest.load(tree / "data/corpora/toy.json").clips
    rows = [
        (each, c.clip_id, c.captions[0] if draw.random() < right else sentence(draw))
        for each in SEEDS
        for c in clips
    ]
    write(tree / f"data/scores/toy/{system}.csv", ("seed", "clip_id", "caption"), rows)


def test_a_row_that_searches_better_is_clear_and_an_equal_one_is_not(tree: Path) -> None:
    for number, (system, near) in enumerate((("base", 0.3), ("equal", 0.3), ("better", 0.9))):
        write_ranking(tree, system, near, number)
    write_ranking(tree, "same", 0.3, 0)
    rows = {f"row-{name}": ComparedRow(tree, name, True)
            for name in ("base", "equal", "better", "same")}  # fmt: skip
    found = against_base(rows, "row-base", "toy", SETTINGS)
    assert {*found} == {"row-equal", "row-better", "row-same"}
    for metric in ("t2a_map10", "t2a_r1"):
        assert found["row-better"][metric].clear and found["row-better"][metric].difference > 0.3
        assert not found["row-equal"][metric].clear
        assert found["row-same"][metric].p == 1 and found["row-same"][metric].difference == 0
    ranks = [
        [int(row["rank"]) for row in csv.DictReader((tree / f"data/rankings/toy/{n}.csv").open())]
        for n in ("better", "base")
    ]
    better, base = (sum(rank == 1 for rank in each) / len(each) for each in ranks)
    assert found["row-better"]["t2a_r1"].difference == pytest.approx(better - base, abs=1e-6)


def test_p_is_corrected_for_the_number_of_rows(tree: Path) -> None:
    """Of rows that are all the same, Holm multiplies the least p by their number."""
    for number, (system, near) in enumerate((("base", 0.3), ("other", 0.5))):
        write_ranking(tree, system, near, 10 + number)
    base = {"base": ComparedRow(tree, "base", True)}
    alone = against_base(base | {"one": ComparedRow(tree, "other", True)}, "base", "toy", SETTINGS)
    many = base | {f"row{n}": ComparedRow(tree, "other", True) for n in range(5)}
    found = against_base(many, "base", "toy", SETTINGS)
    p = alone["one"]["t2a_map10"].p
    assert 0 < p < 0.2
    for row in found.values():
        assert row["t2a_map10"].p == pytest.approx(5 * p, abs=1e-5)


def test_captions_are_compared_with_the_base_of_another_run(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "find_tools", lambda *_, **__: NO_JAVA)
    other = tmp_path / "other"
    (other / "data/corpora").mkdir(parents=True)
    for name in ("data/corpora/toy.json", "params.yaml"):
        (other / name).write_bytes((tree / name).read_bytes())
    write_captions(tree, "system", 0.2, 1)
    write_captions(other, "system", 0.9, 2)  # of the same name, with other settings
    rows = {
        "base": ComparedRow(tree, "system", False),
        "set": ComparedRow(other, "system", False),
        "search": ComparedRow(tree, "none", True),  # of another kind: it has no such metric
    }
    found = against_base(rows, "base", "toy", SETTINGS)
    assert {*found} == {"set"}
    assert found["set"]["cider_d"].clear and found["set"]["cider_d"].difference > 0
    with pytest.raises(EarwitnessError, match="run `dvc repro evaluate@toy`"):
        against_base(rows | {"set": ComparedRow(other, "away", False)}, "base", "toy", SETTINGS)
    assert against_base({"base": rows["base"]}, "base", "toy", SETTINGS) == {}


def test_a_search_rows_numbers_are_those_of_its_own_folder(tmp_path: Path) -> None:
    named = read_table(REPOSITORY / "recipes", "cmu-3")
    (run,) = runs_of(named, named.table.rows, "soundscapes", [1], REPOSITORY / "recipes")
    path = tmp_path / "intervals" / "retrieval" / "soundscapes" / "official.json"
    with pytest.raises(EarwitnessError, match=r"official\.json: not there"):
        measured(tmp_path, run, "benchmark")
    path.parent.mkdir(parents=True)
    value = {"mean": 0.5, "low": 0.4, "high": 0.6, "sd": None, "by_seed": {"1": 0.5}}
    values = {"clips": 100, "seeds": [1], "resamples": 9, "metrics": {"t2a_r1": value}}
    path.write_text(json.dumps(values), encoding="utf-8")
    clips, metrics = measured(tmp_path, run, "benchmark")
    assert clips == 100 and metrics["t2a_r1"].model_dump() == value
    for broken in ({"clips": 1}, {**values, "clips": "x"}, [1],
                   {**values, "metrics": {"t2a_r1": {"mean": "x"}}}):  # fmt: skip
        path.write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(EarwitnessError, match=r"official\.json"):
            measured(tmp_path, run, "benchmark")
