"""A table under DVC itself, killed on the way and resumed, beside a workspace that it leaves be."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from project import Project
from ruamel.yaml import YAML
from tiny import TINY

PAPER = {
    "kind": "paper",
    "encoders": {
        "logmel": {"module": "logmel", "weights": "none", "sample_rate": 16000, "mels": 16,
                   "fmax": 8000.0},
    },
    "seq2seq": TINY["seq2seq"],
    "training": {"words": {**TINY["training"]["words"], "validation_share": None}},
    "captioners": {
        "one": {"architecture": "seq2seq", "dataset": "$dataset", "training": "words",
                "features": "logmel"},
        "two": {"architecture": "seq2seq", "dataset": "$dataset", "training": "words",
                "features": "logmel", "set": {"seq2seq.decoder": "gru"}},
    },
    "decoding": {"max_length": 8},
    "systems": {"one": {"captioners": "one"}, "two": {"captioners": "two"}},
    "test_sets": ["$dataset"],
    "evaluation": {"spice": False, "sbert": None, "fluency": None, "resamples": 50},
}  # fmt: skip
DATASET = {
    "kind": "dataset",
    "datasets": {
        "soundscapes": {"layout": "soundscapes", "development": 8, "validation": 3,
                        "evaluation": 4, "seconds": [1.0, 1.5]},
    },
}  # fmt: skip
TABLE = {
    "paper": "own",
    "recipe": "small-paper",
    "dataset": "small-sounds",
    "datasets": ["small-sounds"],
    "columns": {"CIDEr": "cider_d", "BLEU 1": "bleu_1"},
    "base": "one",
    "rows": {
        "one": {"label": "One", "system": "one", "paper": {"small-sounds": [40.0, None]}},
        "two": {"label": "Two", "system": "two"},
    },
}
WORK = Path("data/partial/tables/small-paper-small-sounds")
COMMAND = ("table", "own-1", "--seeds", "1", "2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With a table of two rows; nothing is made."""
    project = Project(tmp_path_factory.mktemp("table"), TINY)
    for name, values in (
        ("small-paper", PAPER), ("small-sounds", DATASET), ("tables/own-1", TABLE)
    ):  # fmt: skip
        with (project.root / "recipes" / f"{name}.yaml").open("w", encoding="utf-8") as stream:
            stream.write("# Own, Table 1.\n")
            YAML().dump(values, stream)
    project.commit("a table")
    return project


def start(project: Project) -> subprocess.Popen[str]:
    """The command, with what it says of its progress."""
    return subprocess.Popen(
        [sys.executable, "-c", "from earwitness.cli import main; main()", *COMMAND],
        cwd=project.root,
        env={**project.environment, "PYTHONPATH": str(project.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def still_there(project: Project) -> list[str]:
    """Processes that work in the project."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(project.root):
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


def trained(project: Project) -> list[str]:
    """The trainings of the latest run of the table, by DVC's own words."""
    log = (project.root / WORK / "log.txt").read_text(encoding="utf-8")
    return re.findall(r"Running stage 'train_captioner@(.+)'", log)


def state(project: Project) -> tuple[str, str, bytes, bool]:
    """What a table must not touch: git's view of the workspace, and what DVC has there."""
    root = project.root
    return (
        project.git("status", "--porcelain", "--untracked-files=all"),
        project.git("rev-parse", "HEAD"),
        (root / "params.yaml").read_bytes(),
        (root / "dvc.lock").exists() or (root / "data/models/captioners/one").exists(),
    )


def test_a_killed_table_goes_on_and_leaves_the_workspace_be(project: Project) -> None:
    before = state(project)
    process = start(project)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line.strip())
        if len([each for each in said if each.startswith("train_captioner@")]) == 3:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert re.fullmatch(r"train_captioner@(\w+)-([12]) \(\1, seed \2\); 1 more .*", said[-1])
    done = {re.split(r"[@ ]", each)[1] for each in said if each.startswith("train_captioner@")}
    done -= {re.split(r"[@ ]", said[-1])[1]}
    deadline = time.monotonic() + 30
    while still_there(project) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not still_there(project)  # neither DVC nor its stage outlives it
    dry = project.earwitness(*COMMAND, "--dry")
    assert "4 trainings, 2 of them ended here" in dry.stdout, dry.stdout + dry.stderr

    again = project.earwitness(*COMMAND, "--format", "json")
    assert again.returncode == 0, again.stderr
    assert {*trained(project)} == {"one-1", "one-2", "two-1", "two-2"} - done
    assert state(project) == before
    rows = json.loads(again.stdout)["rows"]
    check_against_an_uninterrupted_run(project, rows)


def check_against_an_uninterrupted_run(project: Project, rows: dict[str, Any]) -> None:
    """DVC's own, of the same parameters, with an empty cache: the same bytes."""
