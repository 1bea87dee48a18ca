"""Runs many cases a process; one that crashes or hangs is replaced."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

import h5py
import huggingface_hub.constants
import numpy as np
import soundfile

from tests.fuzz.case import (
    BAD,
    KINDS,
    Loader,
    Outcome,
    Output,
    Watch,
    limit_memory,
    prepare_case,
    run_case,
)

BUSY = 20.0  # seconds of computing that no case may take
IDLE = 5.0  # seconds that a case may wait for something
FORK = multiprocessing.get_context("fork")  # the libraries are loaded once


class Result(NamedTuple):
    """One case; the seed and the number make it again."""

    loader: str
    number: int
    file: str
    outcome: Outcome


def run_loader(loader: Loader, numbers: Sequence[int], seed: int, folder: Path) -> Iterator[Result]:
    """The cases of one loader, below ``folder``, which is new."""
    good, outside = folder / "good", folder / "outside"
    good.mkdir(parents=True)
    outside.mkdir()
    process = FORK.Process(target=_make, args=(loader, good))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{loader.name}: its good inputs could not be made")
    make_canaries(outside)
    left = list(numbers)
    while left:
        before = len(left)
        receiver, sender = FORK.Pipe(duplex=False)
        worker = FORK.Process(target=_work, args=(loader, left, seed, folder, sender))
        worker.start()
        sender.close()
        for result in _results(loader, receiver, worker.pid or 0):
            left.remove(result.number)
            yield result
            if result.outcome.kind == "hang":
                break
        worker.kill()
        worker.join()
        if len(left) == before:
            raise RuntimeError(f"{loader.name}: case {left[0]} could not be made")
    shutil.rmtree(folder)


def _make(loader: Loader, good: Path) -> None:
    """Writes the good inputs, and checks that they pass."""
    Output(good.with_suffix(".said"))
    loader.make(good)
    for variant in sorted(good.iterdir()):
        shutil.copytree(variant, good.with_name("home"), symlinks=True)
        loader.load(good.with_name("home"))
        shutil.rmtree(good.with_name("home"))


def make_canaries(outside: Path) -> None:
    """Files that no loader may open."""
    with h5py.File(outside / "canary.h5", "w") as file:
        file["values"] = np.full((18, 6), 42, np.float16)
        file["offsets"], file["ids"] = np.arange(7), np.array(["canary"] * 3, "S6")
    (outside / "canary.raw").write_bytes(b"canary" * 1000)
    (outside / "canary.json").write_text('{"canary": 1}')
    soundfile.write(outside / "canary.wav", np.full(8000, 0.42), 8000)


def _work(
    loader: Loader, numbers: Sequence[int], seed: int, folder: Path, sender: Connection
) -> None:
    """In its own process: the cases one after another."""
    home, outside = folder / "home", folder / "outside"
    os.chdir(folder)
    huggingface_hub.constants.HF_HUB_OFFLINE = True  # what is not here is not asked for
    output = Output(folder.with_suffix(".said"))
    limit_memory()
    watches = (Watch(outside, Watch.OPEN | Watch.WRITE), Watch(folder, Watch.WRITE))
    for number in numbers:
        draw = Random(f"{seed}/{loader.name}/{number}")
        file = prepare_case(loader, folder / "good", home, outside, draw)
        sender.send((number, file))
        sender.send(run_case(loader, home, watches, output))
    sender.close()


def _results(loader: Loader, receiver: Connection, pid: int) -> Iterator[Result]:
    """What a worker sends, until it ends, crashes or hangs."""
    while True:
        try:
            number, file = receiver.recv()
        except EOFError:
            return
        outcome = _outcome(receiver, pid)
        yield Result(loader.name, number, file, outcome)


def _outcome(receiver: Connection, pid: int) -> Outcome:
    began, computed = time.monotonic(), _process(pid)[1]
    while not receiver.poll(0.25):
        state, seconds = _process(pid)
        took, waited = seconds - computed, time.monotonic() - began
        if took > BUSY or (waited > IDLE and took < 1 and state == "S"):
            return Outcome("hang", f"{waited:.0f} s, computing {took:.0f} s")
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:
        return Outcome("traceback", "the process crashed")
    return outcome


def _process(pid: int) -> tuple[str, float]:
    """Its state, ``S`` where it waits and ``R`` where it computes or would, and seconds of CPU."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return "X", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(results: Sequence[Result]) -> str:
    """One line a loader, in Markdown."""
    lines = [
        "| loader | inputs | " + " | ".join(KINDS) + " |",
        "|---|" + "---:|" * (len(KINDS) + 1),
    ]
    loaders = list(dict.fromkeys(result.loader for result in results))
    for name in [*loaders, ""]:
        own = [r.outcome.kind for r in results if name in ("", r.loader)]
        counts = " | ".join(str(own.count(kind)) for kind in KINDS)
        lines.append(f"| {name or '**all**'} | {len(own)} | {counts} |")
    return "\n".join(lines)


def bad(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.outcome.kind in BAD]
