"""The screen that a run ends with: its five captions, six scores, and what is missing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY
from typer.testing import CliRunner

from earwitness.cli import app
from earwitness.repository import Repository
from earwitness.summary import summarise
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import write_atomic, write_json
from tests.conftest import REPOSITORY

CLIPS = 12
EDTC = {"spider": 0.5, "cider_d": 0.8, "spice": 0.2, "sbert_sim_minilm": 0.6, "meteor": 0.3}
ENSEMBLE = {"spider": 0.45, "cider_d": 0.9, "spice": 0.2, "sbert_sim_minilm": 0.5, "meteor": 0.9}
HUMAN = {"spider": 1.1, "cider_d": 1.86, "spice": 0.38, "sbert_sim_minilm": 0.8, "meteor": 0.4}
CONSTANT = {name: value / 10 for name, value in HUMAN.items()}
TOWERS = {"t2a_map10": 0.4, "t2a_r10": 0.7, "t2a_r1": 0.3, "a2t_map10": 0.9}
BOTH = {"t2a_map10": 0.6, "t2a_r10": 0.6, "t2a_r1": 0.3, "a2t_map10": 0.9}
CHANCE = {"t2a_map10": 0.03, "t2a_r10": 0.1, "t2a_r1": 0.01}


@pytest.fixture
def run(tmp_path: Path) -> Repository:
    """A finished run: twelve evaluation clips behind two of development, two systems scored."""
    write_atomic(tmp_path / "params.yaml", json.dumps(TINY))  # JSON is YAML; in this order
    (tmp_path / "dvc.yaml").touch()
    clips = [Clip(f"d{n}", "development", f"d{n}.wav", 1.0, ("no",)) for n in range(2)]
    clips += [
        Clip(f"e{n}", "evaluation", f"e{n}.wav", 1.0, (f"sound {n}", "another"))
        for n in range(CLIPS)
    ]
    corpus = tmp_path / "data/corpora/soundscapes.json"
    Manifest("soundscapes", "data/raw/soundscapes", tuple(clips), synthetic=True).save(corpus)
    rows = [f"1,e{n},caption of {n}\n" for n in reversed(range(CLIPS))]
    predictions = tmp_path / "data/predictions/soundscapes/edtc.csv"
    write_atomic(predictions, "".join(["seed,clip_id,caption\n", *rows]))
    metrics = {"soundscapes/edtc": EDTC, "soundscapes/ensemble": ENSEMBLE}
    metrics |= {"soundscapes/yardstick_human": HUMAN, "soundscapes/yardstick_constant": CONSTANT}
    metrics |= {"retrieval/soundscapes/towers": TOWERS, "retrieval/soundscapes/both": BOTH}
    metrics |= {"retrieval/soundscapes/yardstick_chance": CHANCE}
    for name, values in metrics.items():
        write_json(tmp_path / f"metrics/{name}.json", values)
    write_atomic(tmp_path / "data/report.html", "<!doctype html>")
    return Repository(tmp_path)


def command(run: Repository, *arguments: str) -> list[str]:
    call = ["summary", "--repository", str(run.root), *arguments]
    done = CliRunner().invoke(app, call, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_five_clips_evenly_spread_whatever_they_are_like(run: Repository) -> None:
    found = summarise(run)
    assert [each.clip_id for each in found.examples] == ["e0", "e2", "e4", "e7", "e9"]
    assert [each.caption for each in found.examples] == [f"caption of {n}" for n in (0, 2, 4, 7, 9)]
    assert found.examples[3].references == ("sound 7", "another")
    assert (found.system, found.clips, found.missing) == ("edtc", CLIPS, [])


def test_six_scores_of_the_default_system_the_highest_and_the_yardsticks(run: Repository) -> None:
    scores = {each.name: each for each in summarise(run).scores}
    assert [*scores] == ["spider", "cider_d", "spice", "sbert_sim_minilm", "t2a_map10", "t2a_r10"]
    cider = scores["cider_d"]
    assert (cider.value, cider.highest, cider.highest_system) == (0.8, 0.9, "ensemble")
    assert cider.yardsticks == {"constant": 0.186, "human": 1.86}
    assert scores["sbert_sim_minilm"].label == "SBERT (minilm)"
    recall = scores["t2a_r10"]
    assert (recall.value, recall.highest, recall.highest_system) == (0.7, 0.7, "towers")
    assert recall.yardsticks == {"chance": 0.1}


def test_the_screen(run: Repository) -> None:
    lines = command(run)
    assert lines[1].split(",")[0] == "5 of 12 clips of soundscapes"
    assert any(" ".join(line.split()) == "caption of 7 sound 7 (and 1 more)" for line in lines)
    assert any(" ".join(line.split()) == "CIDEr-D 80.0 90.0 ensemble 18.6 186.0" for line in lines)
    assert any(" ".join(line.split()) == "mAP@10 40.0 60.0 both 3.0" for line in lines)
    assert any(line.split() == ["Report", str(run.data / "report.html")] for line in lines)
    steps = [line.partition("#")[0].strip() for line in lines[lines.index("What next") + 1 :]]
    assert steps[0] == "earwitness recipe listen && dvc repro"  # these know no real sound
    assert steps[1] == "dvc exp run -S fuser.layers=3" and len(steps) == 3
    assert "\x1b" not in "".join(lines)


def test_scores_have_their_intervals_beside_them(run: Repository) -> None:
    own = {"low": 0.7, "high": 0.96}, {"low": 0.85, "high": 0.95}
    for name, values in zip(("edtc", "ensemble"), own, strict=True):
        metrics = {"cider_d": values, "spider": {"low": None, "high": None}}
        write_json(run.root / f"intervals/soundscapes/{name}.json", {"metrics": metrics})
    scores = {each.name: each for each in summarise(run).scores}
    assert scores["cider_d"].around == pytest.approx(0.13)
    assert scores["cider_d"].highest_around == pytest.approx(0.05)
    assert scores["spider"].around is None and scores["t2a_r10"].around is None
    lines = [" ".join(line.split()) for line in command(run)]
    assert "CIDEr-D 80.0 ±13.0 90.0 ±5.0 ensemble 18.6 186.0" in lines
    assert "SPIDEr 50.0 50.0 edtc 11.0 110.0" in lines
    (heading,) = (line for line in lines if line.startswith("Captions, "))
    assert "± half of the 95 % interval" in heading
    (heading,) = (line for line in lines if line.startswith("Search by text, "))
    assert "±" not in heading


def test_a_part_of_a_run_is_shown_and_the_rest_is_named(run: Repository) -> None:
    for name in ("metrics/soundscapes", "data/predictions/soundscapes"):
        for path in (run.root / name).iterdir():
            path.unlink()
    (run.data / "report.html").unlink()
    found = summarise(run)
    assert (found.examples, found.report) == ([], None)
    assert [each.name for each in found.scores] == ["t2a_map10", "t2a_r10"]
    assert [line.rpartition(": ")[2] for line in found.missing] == [
        "dvc repro decode@soundscapes-edtc",
        "dvc repro evaluate@soundscapes",
        "dvc repro report",
    ]
    assert sum(line.startswith("not made: ") for line in command(run)) == 3


def test_the_first_system_without_scores_has_an_empty_cell(run: Repository) -> None:
    (run.root / "metrics/soundscapes/edtc.json").unlink()
    (score, *_) = summarise(run).scores
    assert (score.system, score.value, score.highest_system) == ("edtc", None, "ensemble")


def test_a_blind_test_set_has_captions_and_no_scores(run: Repository) -> None:
    """Its clips have no references, so that no scores are missing."""
    corpus = run.data / "corpora/soundscapes.json"
    manifest = Manifest.load(corpus)
    blind = tuple(replace(clip, captions=()) for clip in manifest.clips)
    replace(manifest, clips=blind).save(corpus)
    for path in (run.root / "metrics/soundscapes").iterdir():
        path.unlink()
    found = summarise(run)
    assert [each.caption for each in found.examples][:2] == ["caption of 0", "caption of 2"]
    assert [each.name for each in found.scores] == ["t2a_map10", "t2a_r10"]
    assert found.missing == []
    assert any(line.split() == ["caption", "of", "7", "none"] for line in command(run))


def test_json_is_the_same(run: Repository) -> None:
    found = json.loads("\n".join(command(run, "--json")))
    assert found["examples"][3]["references"] == ["sound 7", "another"]
    assert found["scores"][1]["yardsticks"]["human"] == 1.86
    assert found["report"] == str(run.data / "report.html")


def test_a_broken_file_of_scores_is_one_line(run: Repository) -> None:
    write_atomic(run.root / "metrics/soundscapes/edtc.json", '{"cider_d": 0.')
    with pytest.raises(EarwitnessError, match=r"edtc\.json"):
        summarise(run)


def test_colours_are_for_terminals_that_want_them(run: Repository) -> None:
    def on_a_terminal(**environment: str) -> bytes:
        ours, theirs = pty.openpty()
        call = [sys.executable, "-m", "earwitness", "summary", "--repository", str(run.root)]
        given = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        given |= {"TERM": "xterm", "COLUMNS": "100", **environment}
        with subprocess.Popen(call, cwd=REPOSITORY, env=given, stdout=theirs) as process:
            os.close(theirs)
            shown = b""
            while chunk := _read(ours):
                shown += chunk
        os.close(ours)
        assert process.returncode == 0
        return shown

    assert b"\x1b[36m" in on_a_terminal()  # cyan
    assert b"\x1b[36m" not in on_a_terminal(NO_COLOR="1")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""
