"""Some hostile inputs, and that the harness itself sees each kind of harm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import EarwitnessError
from tests.fuzz import runner
from tests.fuzz.case import Loader
from tests.fuzz.harm import BYTES
from tests.fuzz.loaders import LOADERS
from tests.fuzz.runner import bad, run_loader, table

CASES = 4  # of each loader


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)
def test_hostile_input_is_refused_in_one_line_or_read(loader: Loader, tmp_path: Path) -> None:
    """``make fuzz`` has more of them; a bad one is seen again by its number."""
    results = list(run_loader(loader, range(CASES), seed=1, folder=tmp_path / "cases"))
    assert len(results) == CASES
    assert not bad(results), "\n".join(map(str, bad(results)))


def read_outside(home: Path) -> None:
    (home.parent / "outside/canary.json").read_text()


def write_outside(home: Path) -> None:
    (home.parent / "outside/new").write_text("x")


def write_beside(home: Path) -> None:
    (home.parent / "new").write_text("x")


def leave_half(home: Path) -> None:
    (home / "half").write_text("x")
    raise EarwitnessError("refused")


def speak(home: Path) -> None:
    os.write(2, b"library: warning\n")
    raise EarwitnessError("refused")


def wait(home: Path) -> None:
    os.mkfifo(home / "pipe")
    os.open(home / "pipe", os.O_RDONLY)


def fill(home: Path) -> None:
    torch.zeros(5 << 30, dtype=torch.uint8)


def refuse(home: Path) -> None:
    raise EarwitnessError("x: broken; get it again")


HARMS: dict[str, list[Callable[[Path], object]]] = {
    "traceback": [lambda home: {}["x"], lambda home: os.kill(os.getpid(), signal.SIGKILL)],
    "hang": [lambda home: time.sleep(60), wait],
    "memory": [fill, lambda home: bytes(5 << 30)],
    "outside": [read_outside, write_outside, write_beside],
    "untidy": [leave_half, speak],
    "refused": [refuse],
    "accepted": [lambda home: None],
}


@pytest.mark.parametrize(
    ("kind", "harm"), [(kind, harm) for kind, harms in HARMS.items() for harm in harms]
)
def test_each_kind_of_harm_is_seen(
    kind: str, harm: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a loader that does it for any input but the good one."""
    monkeypatch.setattr(runner, "IDLE", 1.0)

    def make(good: Path) -> None:
        (good / "one").mkdir()
        (good / "one/x").write_bytes(b"good")

    def load(home: Path) -> None:
        if not (home / "x").is_file() or (home / "x").read_bytes() != b"good":
            harm(home)

    loader = Loader("harmful", make, load, {"x": BYTES})
    results = list(run_loader(loader, range(1), seed=2, folder=tmp_path / "cases"))
    assert [result.outcome.kind for result in results] == [kind], results
    assert f"| harmful | 1 | {'1' if kind == 'accepted' else '0'} |" in table(results)


def test_a_seed_gives_the_same_cases_again(tmp_path: Path) -> None:
    loader = next(loader for loader in LOADERS if loader.name == "tokenizers")
    runs = [list(run_loader(loader, range(3), 5, tmp_path / str(turn))) for turn in range(2)]
    kinds = [[(r.number, r.file, r.outcome.kind) for r in run] for run in runs]
    assert kinds[0] == kinds[1]
