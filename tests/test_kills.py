"""A handful of what ``make kills`` does, and what becomes of the stage of a killed DVC."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import REPOSITORY
from kills import chain, kill_dvc

from earwitness.repair import repaired

AT_WORK = "import stages, time; print('at work', flush=True); time.sleep(60)"


def test_dvc_killed_three_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    said: list[str] = []
    assert kill_dvc(chain(tmp_path), 3, random.Random(4), said.append, "chain") >= 1
    assert said[1].startswith("chain: 3 kills, ")


def ended(process: int) -> bool:
    """Nothing of it is left, but maybe its number."""
    for _ in range(100):
        if not psutil.pid_exists(process):
            return True
        if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_ends_with_the_dvc_that_started_it(by_dvc: bool) -> None:
    """And one that a person started does not end with its shell."""
    parent = (
        "import subprocess, sys\n"
        f"stage = subprocess.Popen([sys.executable, '-c', {AT_WORK!r}], stdout=subprocess.PIPE)\n"
        "stage.stdout.readline()\nprint(stage.pid, flush=True)\nstage.wait()"
    )
    given = {**os.environ, "PYTHONPATH": str(REPOSITORY)} | ({"DVC_STAGE": "x"} if by_dvc else {})
    killed = subprocess.Popen(
        [sys.executable, "-c", parent], env=given, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    stage = int(killed.stdout.readline())
    killed.kill()
    killed.wait()
    if by_dvc:
        assert ended(stage)
    else:
        time.sleep(0.3)
        assert psutil.Process(stage).status() != psutil.STATUS_ZOMBIE
        psutil.Process(stage).kill()


def test_a_stage_that_has_lost_its_dvc_is_ended_by_the_repair(tmp_path: Path) -> None:
    """One that was killed before it could ask for its end, or whose shell stands between."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/long.py").write_text("import time\ntime.sleep(60)\n")
    given = {**os.environ, "DVC_STAGE": "train@long", "DVC_ROOT": str(tmp_path)}
    command = [sys.executable, "-m", "stages.long"]
    elsewhere = subprocess.Popen(command, cwd=tmp_path, env={**given, "DVC_ROOT": "/elsewhere"})
    by_hand = subprocess.Popen(command, cwd=tmp_path)
    stage = subprocess.Popen(command, cwd=tmp_path, env=given)
    try:
        assert [*repaired(tmp_path)] == [
            f"process {stage.pid}, stage train@long of a DVC that was killed: "
            "ended; it goes on from what it saved"
        ]
        assert stage.poll() is not None
        assert by_hand.poll() is None and elsewhere.poll() is None
    finally:
        for process in (elsewhere, by_hand, stage):
            process.kill()
            process.wait()
