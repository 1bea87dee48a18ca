"""Whose time is kept: a stage's that is a process of its own, and nothing else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.times import read_times
from tests.conftest import REPOSITORY

PARAMS = "encoders: {}\ndatasets: {}\n"


def looked(folder: Path, *how: str) -> list[tuple[str, tuple[str, ...]]]:
    """Stage and job of the times that are kept after the stage `look` ran in a folder."""
    (folder / "params.yaml").write_text(PARAMS)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, *how], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "nothing outside the repository changed" in done.stdout
    return [(time.stage, time.job) for time in read_times(folder / "data/times")]


def test_a_stage_keeps_its_time_under_its_name(tmp_path: Path) -> None:
    assert looked(tmp_path, "-m", "stages.look") == [("look", ())]


@pytest.mark.parametrize("how", ["-c", "file"])
def test_a_program_that_runs_a_stage_leaves_no_time(tmp_path: Path, how: str) -> None:
    code = "from stages.look import main\nfrom stages.run import run\nrun(main)\n"
    (tmp_path / "own.py").write_text(code)
    assert looked(tmp_path, *(("-c", code) if how == "-c" else ("own.py",))) == []
    assert not (tmp_path / "data/times").exists()
