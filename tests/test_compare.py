"""`earwitness compare`: two systems, and one now and then, through git and DVC themselves."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pycocoevalcap.cider.cider import Cider
from test_evaluate import NO_JAVA
from tiny_repository import PARAMS
from typer.testing import CliRunner

from earwitness.cli import app
from earwitness.comparing import comparison
from earwitness.comparing.comparison import Comparison, compare_systems
from earwitness.comparing.sources import Revision
from earwitness.repository import Repository
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.metrics.retrieval import Ranks, scores
from pipeline.text.ptb import tokenize

CLIPS = 30
TESTED = f"{PARAMS}test_sets: [toy]\nretrieval_test_sets: [toy]\n"
WORDS = ("a", "dog", "barks", "rain", "falls", "loudly", "and", "then", "bird", "sings", "wind")
STAGES = {
    "prepare": {"cmd": "python make.py corpora/toy.json", "deps": ["made/corpora/toy.json"],
                "outs": ["data/corpora/toy.json"]},
    "evaluate": {"cmd": "python make.py scores/toy", "deps": ["made/scores/toy"],
                 "outs": ["data/scores/toy"]},
    "rank": {"cmd": "python make.py rankings/toy", "deps": ["made/rankings/toy"],
             "outs": ["data/rankings/toy"]},
}  # fmt: skip
MAKE = """
import shutil, sys
from pathlib import Path
made, there = Path("made", sys.argv[1]), Path("data", sys.argv[1])
there.parent.mkdir(parents=True, exist_ok=True)
(shutil.copytree if made.is_dir() else shutil.copy)(made, there)
"""
Captions = Mapping[int, Sequence[str]]  # by seed


def sentences(seed: int, number: int = CLIPS) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(number)]


REFERENCES = [*zip(sentences(1), sentences(2), sentences(3), strict=True)]
GOOD = [row[0] for row in REFERENCES[:20]] + sentences(4, 10)
POOR = sentences(5)


def clips(
    references: Sequence[Sequence[str]] = REFERENCES, split: str = "evaluation"
) -> list[Clip]:
    return [
        Clip(f"c{at}", split, f"{at}.wav", 1.0, tuple(row)) for at, row in enumerate(references)
    ]


class Toy:
    """A repository whose results are written by hand, and made by DVC."""

    def __init__(self, root: Path) -> None:
        self.root, self.repository = root, Repository(root)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(root.parent / "site"), "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.invalid",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.invalid",
        }  # fmt: skip
        root.mkdir()
        (root / "params.yaml").write_text(TESTED)
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
        (root / "make.py").write_text(MAKE)
        self.manifest(clips())
        self.scores("alone", {1: GOOD})
        self.scores("three", {1: POOR})
        self.ranking("towers", {1: 1})
        self.ranking("mixed", {1: 2})

    def manifest(self, own: Sequence[Clip], **more: Any) -> None:
        manifest = Manifest("toy", "toy", tuple(own), **more)
        for folder in ("made", "data"):
            manifest.save(self.root / folder / "corpora/toy.json")

    def scores(self, system: str, captions: Captions, seeds: bool = True, **more: Any) -> None:
        """As `evaluate` writes them; ``more``: columns of one value a clip."""
        head = [*(["seed"] if seeds else []), "clip_id", "caption", *more]
        rows = [
            [*([seed] if seeds else []), f"c{at}", text, *(more[name][at] for name in more)]
            for seed, own in captions.items()
            for at, text in enumerate(own)
        ]
        self._table(f"scores/toy/{system}.csv", head, rows)

    def ranking(self, system: str, draws: Mapping[int, int], back: bool = True) -> None:
        """As `rank` writes them; ``draws``: seed → what its ranks follow from."""
        rows = []
        for seed, draw in draws.items():
            ranks, captions = self.ranks(draw)
            texts = [(at, text) for at, row in enumerate(REFERENCES) for text in row]
            for (at, text), rank, place in zip(texts, ranks, captions, strict=True):
                rows.append([seed, text, rank, *([place, f"c{at}"] if back else [])])
        behind = ["caption_rank", "clip_id"] if back else []
        self._table(f"rankings/toy/{system}.csv", ["seed", "caption", "rank", *behind], rows)

    @staticmethod
    def ranks(draw: int) -> tuple[list[int], list[int]]:
        own = np.random.default_rng(draw)
        captions = [sorted(own.choice(90, 3, replace=False) + 1) for _ in range(CLIPS)]
        return own.integers(1, 12, 90).tolist(), np.concatenate(captions).tolist()

    def _table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        for folder in ("made", "data"):
            path = self.root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([head, *rows])

    def run(self, *call: str) -> str:
        done = subprocess.run(
            call, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def commit(self) -> None:
        """What is there now, with DVC's cache."""
        if not (self.root / ".git").is_dir():
            self.run("git", "init", "-q")
            self.run("dvc", "init", "-q")
            (self.root / ".gitignore").write_text("/data\n")
        self.run("dvc", "commit", "--force", "--quiet")
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "a run")

    def compare(self, *systems: str, **more: Any) -> Comparison:
        return compare_systems(self.repository, systems, **more)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setattr(comparison, "find_tools", lambda *_, **__: NO_JAVA)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    return Toy(tmp_path / "toy")


def cider(captions: Sequence[str]) -> float:
    """pycocoevalcap's, of the references."""
    said = {at: tokenize([text]) for at, text in enumerate(captions)}
    known = {at: tokenize([*row]) for at, row in enumerate(REFERENCES)}
    return float(Cider().compute_score(known, said)[0])


def test_two_systems(toy: Toy) -> None:
    found = toy.compare("alone", "three", top=3)
    own = found.pairs["alone", "three"]["cider_d"]
    assert own.a == pytest.approx(cider(GOOD)) and own.b == pytest.approx(cider(POOR))
    assert own.difference == pytest.approx(own.a - own.b)
    assert own.low is not None and 0 < own.low < own.difference < (own.high or 0)
    assert own.p == own.p_holm == 1 / 10_001
    assert found.judged == ["cider_d"] and found.verdict() == "better"
    assert (found.clips, found.seeds, found.dataset) == (CLIPS, [1], "toy")
    assert any("one seed" in each for each in found.warnings)
    assert toy.compare("three", "alone").verdict() == "worse"
    gaps = [each.difference for each in found.differing]
    assert len(gaps) == 3 and sorted(gaps, key=abs, reverse=True) == gaps
    first = found.differing[0]
    at = int(first.clip_id[1:])
    assert first.said == (GOOD[at], POOR[at]) and first.references == REFERENCES[at]
    same = toy.compare("alone", "three", metrics=["mean_length"])
    assert same.judged == ["mean_length"] == [*same.pairs["alone", "three"]]


def test_stored_values_are_compared_and_spider_is_made_of_both(toy: Toy) -> None:
    draw = np.random.default_rng(1)
    a, b = draw.random(CLIPS), draw.random(CLIPS)
    flagged = (a > 0.8) * 1.0
    a_cells = ["" if at == 4 else value for at, value in enumerate(a)]
    toy.scores("alone", {1: GOOD}, spice=a_cells, spider=a, sbert_sim=a, fluency_error=flagged)
    toy.scores("three", {1: POOR}, spice=b, spider=b, fluency_error=flagged)
    found = toy.compare("alone", "three")
    own = found.pairs["alone", "three"]
    assert own["spice"].a == pytest.approx(np.delete(a, 4).mean())
    assert own["spice"].b == pytest.approx(b.mean())
    assert own["spider"].b == pytest.approx((cider(POOR) + b.mean()) / 2)
    assert found.judged == ["spider"] and [*own][:2] == ["spider", "cider_d"]
    assert "sbert_sim is left out: only alone has it" in found.warnings
    assert own["fluency_error"].difference == 0


def test_seeds_are_paired_and_those_in_common(toy: Toy) -> None:
    toy.scores("alone", {1: GOOD, 2: GOOD[:10] + POOR[10:], 3: GOOD})
    toy.scores("three", {2: POOR, 1: sentences(9)})
    found = toy.compare("alone", "three")
    own = found.pairs["alone", "three"]["cider_d"]
    by_seed = [cider(GOOD) - cider(sentences(9)), cider(GOOD[:10] + POOR[10:]) - cider(POOR)]
    assert own.difference == pytest.approx(np.mean(by_seed))
    assert found.seeds == [1, 2]
    assert found.warnings[0] == "compared with the seeds that all have: 1, 2"
    assert own.p > 0.05, "two trainings say little"
    toy.scores("three", {7: POOR})
    with pytest.raises(EarwitnessError, match=r"no seed in common \(alone: 1, 2, 3; three: 7\)"):
        toy.compare("alone", "three")


def test_search_is_compared_both_ways(toy: Toy) -> None:
    found = toy.compare("towers", "mixed", top=2)
    import torch

    owner = torch.arange(90) // 3
    for side, draw in (("a", 1), ("b", 2)):
        clip, caption = (torch.tensor(each) for each in toy.ranks(draw))
        expected = scores(Ranks(clip, caption), owner)
        values = {name: getattr(own, side) for name, own in found.pairs["towers", "mixed"].items()}
        assert values == pytest.approx(expected)
    assert found.judged == ["t2a_map10"] and found.differing[0].said == ()
    toy.ranking("mixed", {1: 2}, back=False)
    found = toy.compare("towers", "mixed")
    assert set(found.pairs["towers", "mixed"]) == {
        "t2a_r1", "t2a_r5", "t2a_r10", "t2a_map10", "t2a_median_rank",
    }  # fmt: skip
    assert any("audio → text is left out" in each for each in found.warnings)


def test_what_cannot_be_compared_is_one_line(toy: Toy) -> None:
    for systems, more, said in (
        (["alone", "thre"], {}, "no system 'thre'; did you mean 'three'"),
        (["alone", "towers"], {}, "some caption and some search"),
        (["alone"], {}, "name another to compare it with, or give --rev"),
        (["alone", "alone"], {}, "alone is named twice"),
        (["alone", "three", "edtc"], {"rev": "HEAD"}, "--rev: name one system, or two"),
        (["alone", "three"], {"dataset": "to"}, "--dataset to: no test set of that name"),
        (["alone", "three"], {"metrics": ["cider"]}, "--metric cider: was not made"),
        (
            ["alone", "edtc"],
            {},
            r"toy/edtc.csv: not there yet; run `dvc repro evaluate@toy`",
        ),
        (["alone"], {"rev": "HEAD"}, "--rev needs git and DVC"),
    ):
        with pytest.raises(EarwitnessError, match=said) as caught:
            toy.compare(*systems, **more)
        assert "\n" not in str(caught.value)
    toy.manifest(clips(), blind=True)
    for systems in (["alone", "three"], ["towers", "mixed"]):
        with pytest.raises(EarwitnessError, match="toy: a blind set"):
            toy.compare(*systems)


def test_a_system_now_and_then(toy: Toy) -> None:
    """An experiment's name is a revision too; nothing in the working tree is touched."""
    toy.scores("alone", {1: POOR}, seeds=False)  # as it was before there were seeds
    toy.commit()
    head = toy.run("git", "rev-parse", "HEAD").strip()
    toy.run("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/poor-llama", head)
    toy.scores("alone", {1: GOOD})
    before = toy.run("git", "status", "--porcelain"), toy.run("dvc", "status")
    for rev in ("HEAD", "poor-llama", head[:10]):
        found = toy.compare("alone", rev=rev)
        assert found.systems == ["alone", f"alone @ {rev}"]
        own = found.pairs["alone", f"alone @ {rev}"]["cider_d"]
        assert (own.a, own.b) == pytest.approx((cider(GOOD), cider(POOR)))
    assert (toy.run("git", "status", "--porcelain"), toy.run("dvc", "status")) == before
    other = toy.compare("three", "alone", rev="HEAD").pairs["three", "alone @ HEAD"]["cider_d"]
    assert other.a == other.b == pytest.approx(cider(POOR))
    search = toy.compare("mixed", "towers", rev="HEAD").pairs["mixed", "towers @ HEAD"]
    back = toy.compare("mixed", "towers").pairs["mixed", "towers"]
    assert search == back


def test_revisions_that_lack_something(toy: Toy) -> None:
    toy.commit()
    with pytest.raises(EarwitnessError, match="--rev nothing: no commit, branch, tag or exper"):
        toy.compare("alone", rev="nothing")
    with pytest.raises(EarwitnessError, match=r"HEAD: data/scores/toy had no edtc.csv"):
        toy.compare("alone", "edtc", rev="HEAD")
    path = Revision(toy.repository, "HEAD").path("data/scores/toy/alone.csv", "evaluate")
    path.unlink()
    with pytest.raises(EarwitnessError, match=r"HEAD: data/scores/toy/alone.csv is not in DVC's"):
        toy.compare("alone", rev="HEAD")
    toy.run("git", "rm", "-q", "dvc.lock")
    toy.run("git", "commit", "-qm", "no results")
    with pytest.raises(EarwitnessError, match=r"HEAD: has no dvc.lock"):
        toy.compare("alone", rev="HEAD")


def test_without_git_there_are_no_revisions(toy: Toy) -> None:
    toy.run("dvc", "init", "-q", "--no-scm")
    with pytest.raises(EarwitnessError, match="no git repository; --rev needs one"):
        toy.compare("alone", rev="HEAD")


def test_a_lock_that_leads_elsewhere_is_refused(toy: Toy, tmp_path: Path) -> None:
    """What stands in dvc.lock is no path: it cannot lead out of the cache."""
    toy.commit()
    lock = yaml.safe_load((toy.root / "dvc.lock").read_text())
    (tmp_path / "secret").write_text("{}")
    for digest in ("../../../../../secret", "..", "/etc/passwd", ""):
        lock["stages"]["prepare"]["outs"][0]["md5"] = digest
        (toy.root / "dvc.lock").write_text(yaml.safe_dump(lock))
        toy.run("git", "commit", "-qam", "other")
        with pytest.raises(EarwitnessError, match="is not in DVC's cache"):
            toy.compare("alone", rev="HEAD")


def test_what_changed_between_is_said(toy: Toy) -> None:
    """Clips, references, settings, and a metric's own code."""
    draw = np.random.default_rng(2)
    values = {"fluency_error": draw.random(CLIPS), "fense": draw.random(CLIPS)}
    toy.scores("alone", {1: GOOD}, cider_d=draw.random(CLIPS), **values)
    toy.commit()
    found = toy.compare("alone", rev="HEAD")
    assert any("cider_d of alone @ HEAD is" in each for each in found.warnings)
    assert "fense" in found.pairs["alone", "alone @ HEAD"]
    params = TESTED.replace("sbert: null", "sbert: null, fluency: x, fluency_threshold: 0.5")
    (toy.root / "params.yaml").write_text(params)
    rows = [list(row) for row in REFERENCES]
    rows[3][0] = "another reference"
    toy.manifest(clips(rows))
    toy.scores("alone", {1: GOOD[:-2]}, **values)
    found = toy.compare("alone", rev="HEAD")
    assert found.clips == CLIPS - 3
    assert "3 clips are left out: not all have them, or their references changed" in found.warnings
    assert any("metrics of fluency are left out" in each for each in found.warnings)
    assert "fense" not in found.pairs["alone", "alone @ HEAD"]
    toy.manifest(clips(REFERENCES[:-1]))
    table = toy.root / "data/rankings/toy/towers.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-3]))
    with pytest.raises(EarwitnessError, match="ranked other clips or captions"):
        toy.compare("towers", rev="HEAD")
    toy.manifest(clips())
    toy.ranking("towers", {1: 1})
    params = TESTED.replace("sbert: null", "sbert: null, ties: listed")
    (toy.root / "params.yaml").write_text(params)
    with pytest.raises(EarwitnessError, match="with ties: listed and towers @ HEAD with last"):
        toy.compare("towers", rev="HEAD")


def test_the_command(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARWITNESS_REPOSITORY", str(toy.root))
    runner = CliRunner()
    for order, code in ((["alone", "three"], 3), (["three", "alone"], 4)):
        shown = runner.invoke(app, ["compare", *order, "--top", "1"])
        assert shown.exit_code == code, shown.output
        assert "95 % interval" in shown.stdout and "by cider_d" in shown.stdout
        assert "note: one seed" in shown.stderr
    same = runner.invoke(app, ["compare", "alone", "three", "--metric", "mean_length", "--quiet"])
    assert same.exit_code == 0 and "no significant difference" in same.stdout
    assert not same.stderr
    made = runner.invoke(app, ["compare", "alone", "three", "--json", "--top", "2"])
    found = json.loads(made.stdout)
    assert made.exit_code == 3 and found["verdict"] == "better"
    (pair,) = found["pairs"]
    assert (pair["a"], pair["b"]) == ("alone", "three")
    own = pair["metrics"]["cider_d"]
    assert own["difference"] == pytest.approx(cider(GOOD) - cider(POOR))
    assert {"low", "high", "p", "p_holm"} <= own.keys() and len(found["differing"]) == 2
    wrong = runner.invoke(app, ["compare", "alone", "nothing"])
    assert wrong.exit_code == 1 and wrong.stderr.startswith("error: ")
