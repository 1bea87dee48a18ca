"""Two experiments that need the same file at once: the second waits, and uses what the first made.

Real stages in two workspaces of one repository, as DVC's queue has them. The first is stopped by a
signal while it works, so that the second surely comes in between.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
from forked_stages import python_folder

from pipeline.lock import exclusive, is_awaited
from tests.conftest import REPOSITORY
from tests.in_process import make_project, run_stages
from tests.test_queue import PARAMS

FEATURES = Path("data/features/soundscapes/logmel.h5")
MODEL = Path("data/models/captioners/gru/1/model.safetensors")
DATA = "soundscapes-logmel"
EXTRACT = ("stages.extract", "soundscapes", "logmel")
TRAIN = ("stages.train_captioner", "gru", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after a run, up to its one captioner."""
    root = tmp_path_factory.mktemp("made") / "project"
    make_project(root, PARAMS)
    run_stages(root, last="train_captioner")
    return root


@pytest.fixture
def workspaces(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies without the files that the tests make, of a repository beside them."""
    (tmp_path / "repository").mkdir()
    shutil.copytree(made / "data/raw", tmp_path / "repository/data/raw")
    for name in ("one", "two"):
        shutil.copytree(made, tmp_path / name, symlinks=True)
        for left in ("data/partial", "data/checkpoints"):
            shutil.rmtree(tmp_path / name / left, ignore_errors=True)
    return tmp_path / "one", tmp_path / "two"


class Stage:
    """A stage that runs in a workspace."""

    def __init__(self, workspace: Path, command: tuple[str, ...]) -> None:
        environment = {
            **os.environ,
            "DVC_ROOT": str(workspace.parent / "repository"),
            "PATH": f"{python_folder()}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
        }
        self._process = subprocess.Popen(
            ["python", "-m", *command],
            cwd=workspace, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    @property
    def errors(self) -> IO[str]:
        assert self._process.stderr is not None
        return self._process.stderr

    def ended(self) -> tuple[int, str, str]:
        """Its code, and what it said."""
        out, errors = self._process.communicate(timeout=120)
        return self._process.returncode, out, errors


def stopped(folder: Path, name: str) -> int:
    """The process that holds the lock ``name`` in ``folder``, stopped as soon as it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.glob(name):
            said = path.read_text() if path.exists() else ""
            if said and "-to-" not in path.name:
                os.kill(int(said), signal.SIGSTOP)
                return int(said)
        time.sleep(0.001)
    raise AssertionError("no lock")


@pytest.fixture
def continued() -> Iterator[list[int]]:
    """Processes that go on after the test, whatever comes of it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("command", "made_file", "place", "kept", "what"),
    [
        (
            EXTRACT,
            FEATURES,
            "partial",
            "values.npy",
            "makes the same features (soundscapes-logmel)",
        ),
        (TRAIN, MODEL, "checkpoints", "state.safetensors", "trains the same (captioner-gru-1)"),
    ],
)
def test_a_second_experiment_waits_and_uses_what_the_first_makes(
    workspaces: tuple[Path, Path],
    made: Path,
    continued: list[int],
    command: tuple[str, ...],
    made_file: Path,
    place: str,
    kept: str,
    what: str,
) -> None:
    one, two = workspaces
    for workspace in workspaces:
        (workspace / made_file).unlink()
    shared = one.parent / "repository/data" / place
    first = Stage(one, command)
    continued.append(stopped(shared, "*.lock"))
    second = Stage(two, command)
    line = second.errors.readline()
    assert line == (
        f"waiting for process {continued[0]}, which {what}; what it makes will be used\n"
    )
    again = Stage(one, command)  # this one would write the first one's file: refused, at once
    code, _, errors = again.ended()
    assert code == 1 and f"running already (process {continued[0]})" in errors
    (waits,) = shared.glob("*.lock.*")
    continued.append(int(waits.suffix[1:]))
    os.kill(continued[1], signal.SIGSTOP)
    os.kill(continued[0], signal.SIGCONT)
    code, _, _ = first.ended()
    assert code == 0 and [*shared.glob(f"*/*{kept}")]  # left for the one that waits
    os.kill(continued[1], signal.SIGCONT)
    code, said, _ = second.ended()
    assert code == 0 and ("all clips were done before" in said) == (command == EXTRACT)
    expected = (made / made_file).read_bytes()
    assert (one / made_file).read_bytes() == expected
    assert (two / made_file).read_bytes() == expected
    assert [*shared.iterdir()] == []  # neither parts nor checkpoints, nor locks


def test_who_waits_is_known_and_one_that_was_killed_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    script = (
        "import sys; from pathlib import Path; from pipeline.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1]), wait=True, what='works'): print('has it')"
    )
    command = ["python", "-c", script, str(path)]
    with exclusive(path):
        assert not is_awaited(path)
        waiting = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        assert said.startswith(f"waiting for process {os.getpid()}, which works")
        deadline = time.monotonic() + 20
        while not is_awaited(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_awaited(path)
        waiting.kill()
        waiting.wait()
        assert not is_awaited(path)
    assert [*tmp_path.iterdir()] == []
