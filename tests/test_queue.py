"""DVC's queue with two experiments at once: each is what it is when it runs alone."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from project import Project
from tiny import TINY

from tests.in_process import make_project, run_stages

WIDTHS = (8, 24)
PARAMS: dict[str, Any] = {
    **{key: TINY[key] for key in ("seeds", "datasets", "seq2seq", "test_sets")},
    "encoders": {"logmel": TINY["encoders"]["logmel"]},
    "text_encoders": {},
    "spaces": {},
    "retrievers": {},
    "adapted": {},
    "encoded": [],
    "finetuned": {},
    "tagging": {"encoders": []},
    "retrieval_test_sets": [],
    "training": {"words": {**TINY["training"]["words"], "epochs": 8}},
    "captioners": {
        "gru": {
            "architecture": "seq2seq", "dataset": "soundscapes", "training": "words",
            "features": ["logmel"], "set": {"seq2seq.decoder": "gru"},
        }
    },
    "decoding": {"beams": 2, "max_length": 8},
    "systems": {"gru": {"captioners": ["gru"]}},
    "evaluation": TINY["evaluation"],
}  # fmt: skip


def alone(root: Path, width: int) -> dict[str, Any]:
    """The scores of an experiment that nothing runs beside, by the same stages in this process."""
    make_project(root, {**PARAMS, "seq2seq": {**PARAMS["seq2seq"], "width": width}})
    run_stages(root)
    found: dict[str, Any] = json.loads((root / "metrics/soundscapes/gru.json").read_bytes())
    return found


def test_two_experiments_at_once_are_both_right(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = Project(tmp_path, PARAMS, forked=True)
    project.dvc("repro", "extract")  # what both read
    project.commit("features")
    project.dvc("exp", "run", "--queue", "-S", f"seq2seq.width={','.join(map(str, WIDTHS))}")
    # its output is the workers', so that the command seems to last until they have ended
    queue = Thread(target=project.dvc, args=("queue", "start", "-j", "2"))
    queue.start()
    at_once, states = 0, [""]
    deadline = time.monotonic() + 600
    while {*states} != {"Success"} and time.monotonic() < deadline:
        time.sleep(0.5)
        states = re.findall(r"(Queued|Running|Success|Failed)", project.dvc("queue", "status"))
        at_once = max(at_once, states.count("Running"))
    queue.join()
    assert states == ["Success"] * 2
    assert at_once == 2
    (_, *shown) = json.loads(project.dvc("exp", "show", "--json"))
    found = {}
    for experiment in shown[0]["experiments"]:
        (own,) = experiment["revs"]
        values = own["data"]["metrics"]["metrics/soundscapes/gru.json"]["data"]
        found[own["data"]["params"]["params.yaml"]["data"]["seq2seq"]["width"]] = values
    expected = {
        width: alone(tmp_path_factory.mktemp("alone") / "project", width) for width in WIDTHS
    }
    assert found == expected and expected[WIDTHS[0]] != expected[WIDTHS[1]]
