"""Two processes that train together end with the numbers of one, and end together.

What is small is compared with one process (ranks_toy.py); the stage is run as its users run it, by
``hardware.processes`` and by torchrun.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from pipeline import launching
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.device import rank_device
from pipeline.errors import EarwitnessError
from pipeline.launching import LOST, run_ranks
from pipeline.times import read_times
from stages.ranks import started
from tests import finetuning_toy, ranks_toy
from tests.conftest import REPOSITORY

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
SHORT = '{"epochs": 1}'
# twenty steps where the promise is made, fewer where another loss or norm is looked at
LONG = ("accumulated", "scst", "infonce")
CHANGES = {name: {} if name in LONG else json.loads(SHORT) for name in ranks_toy.CASES}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case by one process and by two, in ``one`` and ``two``; ``mixed`` by both in turn."""
    root = tmp_path_factory.mktemp("ranks")
    ranks_toy.make_data(root)
    for folder in ("one", "two", "mixed"):
        (root / folder).mkdir()
    for name, changes in CHANGES.items():
        ranks_toy.run(name, root, root / "one", **changes)
    ranks_toy.run("accumulated", root, root / "mixed", stop=5)
    jobs = [f"two/{name}:{json.dumps(changes)}" for name, changes in CHANGES.items()]
    command = [sys.executable, "-m", "tests.ranks_toy", str(root), *jobs]
    run_ranks([*command, 'mixed/accumulated:{"stop": 14}'], 2, ENVIRONMENT)
    ranks_toy.run("accumulated", root, root / "mixed")
    return root


def same(root: Path, folder: str, name: str) -> None:
    """Weights, and every number of the curves, of one process and of ``folder``."""
    found, expected = (load_file(root / each / f"{name}.safetensors") for each in (folder, "one"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)
    rows, wanted = (
        json.loads((root / each / f"{name}.json").read_text(encoding="utf-8"))
        for each in (folder, "one")
    )
    assert len(rows) == len(wanted) and rows[0].keys() == wanted[0].keys()
    for row, other in zip(rows, wanted, strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ranks_toy.CASES)
def test_two_ranks_are_one_process(name: str, trained: Path) -> None:
    steps = json.loads((trained / "one" / f"{name}.json").read_text())[-1]["step"]
    assert steps >= 20 or name not in LONG
    same(trained, "two", name)


def test_a_training_goes_on_with_another_number_of_ranks(trained: Path) -> None:
    """One process, then two, then one, each stopped within an epoch; the last ones are averaged."""
    same(trained, "mixed", "accumulated")


# the stage


def make_project(root: Path) -> Path:
    """A captioner's data and its plan for two processes, with dropout; its output's folder."""
    finetuning_toy.make_data(root)
    entry, sections = finetuning_toy.ENTRIES["gru"], finetuning_toy.sections("gru")
    training = {**ranks_toy.COMMON, "epochs": 16}
    plan = ranks_toy.captioner_plan("gru", entry, sections, **training)
    hardware = HardwareConfig(device="cpu", threads=2, processes=2)
    plan.model_copy(update={"hardware": hardware}).save(root / "data/plans/captioners/gru/1.json")
    return root / "data/models/captioners/gru/1"


def stage(root: Path, *launcher: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *launcher, "stages.train_captioner", "gru", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=root, env=ENVIRONMENT, text=True, **pipes)


def rank_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("RANK")
    except psutil.Error:
        return None


def test_a_killed_rank_ends_all_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """To the same bytes as torchrun's whole run: each rank's dropout goes on where it was."""
    roots = [tmp_path / name for name in ("whole", "killed")]
    outputs = [make_project(root) for root in roots]
    torchrun = stage(roots[0], "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    said, errors = torchrun.communicate()
    assert torchrun.returncode == 0, errors
    assert said.count("validation CIDEr-D") == 1

    killed = stage(roots[1])
    state = "data/checkpoints/captioner-gru-*/state.safetensors"
    while not [*roots[1].glob(state)]:
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.01)
    ranks = {rank_of(each): each for each in psutil.Process(killed.pid).children()}
    ranks["1"].kill()
    said, errors = killed.communicate()
    assert killed.returncode == 1 and said == ""
    assert errors == (
        "error: process 2 of 2 was ended by SIGKILL, as the system does where memory runs out; "
        "run it again: it goes on from the last checkpoint\n"
    )
    assert not ranks["0"].is_running() and not outputs[1].exists()

    again = stage(roots[1])
    said, errors = again.communicate()
    assert again.returncode == 0, errors
    assert said.count("validation CIDEr-D") == 1 and "error" not in errors
    whole, found = ({f.name: f.read_bytes() for f in output.iterdir()} for output in outputs)
    assert found == whole
    for root in roots:
        assert not [*(root / "data/checkpoints").iterdir()]  # no lock, no checkpoint
        (time_taken,) = read_times(root / "data/times")
        assert time_taken.finished and time_taken.job == ("gru", "1")


def test_checkpoints_do_not_know_the_number_of_processes(tmp_path: Path) -> None:
    make_project(tmp_path)
    plan = CaptionerPlan.load(tmp_path / "data/plans/captioners/gru/1.json")
    assert plan.hardware.processes == 2
    digests = set()
    for hardware in ({}, {"processes": 3}, {"processes": "auto"}, {"precision": "bfloat16"}):
        other = plan.model_copy(update={"hardware": HardwareConfig(**hardware)})
        digests.add(other.model_dump_json(exclude={"hardware": {"processes"}}))
    assert len(digests) == 2


# processes that end


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launching, "GRACE", 0.5)
    yield


def ending(first: str, second: str) -> list[str]:
    """A command whose processes each do their own."""
    script = (
        f"import os, signal, sys, time\nif os.environ['RANK'] == '0':\n  {first}\nelse:\n  {second}"
    )
    return [sys.executable, "-c", script]


WAITS = "time.sleep(60)"
LOSES = f"sys.exit({LOST})"
SAYS = "print('shown'); print('error: no clip; add one', file=sys.stderr); sys.exit(1)"


@pytest.mark.parametrize("other", [WAITS, LOSES])
def test_what_ended_another_rank_is_the_one_line(
    other: str, soon: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where the first hangs, as it does in a collective of a GPU."""
    began = time.monotonic()
    with pytest.raises(EarwitnessError, match=r"^no clip; add one$"):
        run_ranks(ending(other, SAYS), 2, os.environ)
    assert time.monotonic() - began < 20
    assert capfd.readouterr() == ("", "")


def test_what_the_first_says_is_not_said_again(
    soon: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_ranks(ending(SAYS, "print('error: lost', file=sys.stderr); " + LOSES), 2, os.environ)
    assert ended.value.code == 1
    assert capfd.readouterr() == ("shown\n", "error: no clip; add one\n")


def test_a_bug_in_another_rank_keeps_its_traceback(
    soon: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_ranks(ending(LOSES, "1 / 0"), 2, os.environ)
    assert ended.value.code == 1
    assert capfd.readouterr().err.endswith("ZeroDivisionError: division by zero\n")


def test_all_lost_each_other(soon: None) -> None:
    with pytest.raises(EarwitnessError, match="lost each other; run it again"):
        run_ranks(ending(LOSES, LOSES), 2, os.environ)
    tells = "print('error: does not answer (timeout)', file=sys.stderr); " + LOSES
    with pytest.raises(EarwitnessError, match=r"^does not answer \(timeout\)$"):
        run_ranks(ending(LOSES, tells), 2, os.environ)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_all(number: int, tmp_path: Path) -> None:
    """Ctrl-C as a user's, kill, and kill -9 on Linux."""
    waits = f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').close(); {WAITS}"
    if number == signal.SIGKILL:  # as every stage does
        waits = f"from pipeline.parents import end_with_parent; end_with_parent(); {waits}"
    starts = (
        "import os, signal, pipeline.launching\n"
        # a job in a shell's background has Ctrl-C switched off
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"pipeline.launching.run_ranks({ending(waits, waits)!r}, 2, os.environ)"
    )
    parent = subprocess.Popen([sys.executable, "-c", starts], env=ENVIRONMENT, stderr=-1, text=True)
    while len([*tmp_path.iterdir()]) < 2:
        assert parent.poll() is None
        time.sleep(0.01)
    ranks = psutil.Process(parent.pid).children()
    assert len(ranks) == 2
    parent.send_signal(number)
    _, errors = parent.communicate(timeout=20)
    if number == signal.SIGINT:
        assert errors.endswith("KeyboardInterrupt\n")  # which a stage says in a line
    assert parent.returncode == (143 if number == signal.SIGTERM else -number)
    assert not psutil.wait_procs(ranks, timeout=10)[1]


# what is refused


def test_torchruns_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    for name in given:
        monkeypatch.delenv(name, raising=False)
    assert started() is None
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    own = started()
    assert own is not None
    assert (own.number, own.local, own.count, own.here) == (3, 1, 4, 2)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(EarwitnessError, match=r"RANK=first, .*: not as torchrun sets them"):
        started()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert started() is None


def test_a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank_device("cpu", 1, 2) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert rank_device("auto", 1, 2) == torch.device("cuda:1")
    with pytest.raises(EarwitnessError, match="3 processes on this machine, but 2 GPUs"):
        rank_device("cuda", 0, 3)
    with pytest.raises(EarwitnessError, match="share the CPU, or have a GPU each"):
        rank_device("cuda:1", 0, 2)


@pytest.mark.parametrize("processes", [0, -1, 1.5, True, "two", 5000])
def test_a_number_of_processes(processes: Any) -> None:
    with pytest.raises(ValueError, match="processes"):
        HardwareConfig(processes=processes)
