"""``earwitness caption`` against a loop: ``python -m benchmarks.captioning [REPOSITORY [SYSTEM]]``.

The loop is what one writes first: ``system.caption([one])`` for each of a thousand files of five
seconds; and for an hour, read whole, for each ten seconds of it. It is measured on 50 of them,
before and after ours, and scaled. Ours is what the command calls. Each way runs in a process of its
own, with the models loaded before the clock starts; its memory is the growth to its peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.memory import Peak
from benchmarks.timing import Row, print_table, seconds

FILES, SECONDS, MINUTES, LOOP, WINDOW = 1000, 5.0, 60, 50, 10
RATE = 44100
ENDINGS = ("wav", "flac", "ogg", "mp3")
FASTER = 1.5


def sound(length: float, draw: np.random.Generator) -> NDArray[np.float32]:
    """(S,): a tone that glides, with noise and pauses."""
    time = np.arange(round(length * RATE)) / RATE
    low, high = draw.uniform(100, 4000, 2)
    tone = np.sin(2 * np.pi * (low + (high - low) * time / max(length, 1)) * time)
    loud = (np.sin(2 * np.pi * time / draw.uniform(2, 7)) > -0.7) * 0.3
    return (loud * (tone + 0.2 * draw.standard_normal(len(time)))).astype(np.float32)


def write(folder: Path, files: int, minutes: int) -> None:
    draw = np.random.default_rng(0)
    for number in range(files):
        path = folder / f"short/{number:04}.{ENDINGS[number % len(ENDINGS)]}"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, sound(SECONDS, draw), RATE)
    with soundfile.SoundFile(folder / "long.flac", "w", RATE, 1) as file:
        for _ in range(minutes):
            file.write(sound(60.0, draw))


def work(folder: Path, way: str, repository: str, system: str) -> tuple[float, float]:
    """Seconds, scaled where it is the loop, and MB at the peak."""
    import torch

    from earwitness.captioning import CaptioningSystem

    torch.set_num_threads(1)
    captioner = CaptioningSystem.load(system, root=repository, device="cpu")
    short = sorted((folder / "short").iterdir())
    captioner.caption(short[:1])  # loads the encoders

    def ours(files: list[Path], windows: str) -> None:
        found = [*captioner.caption_files(files, windows=windows)]  # type: ignore[arg-type]
        assert not any(isinstance(each, Exception) for each in found)

    def loop_files() -> None:
        for path in short[:LOOP]:
            captioner.caption([path])

    def loop_hour() -> None:
        samples, rate = soundfile.read(folder / "long.flac", dtype="float32")
        for at in range(min(LOOP, len(samples) // (WINDOW * rate))):
            piece = samples[at * WINDOW * rate : (at + 1) * WINDOW * rate]
            captioner.caption([piece], sample_rate=rate)

    windows = int(soundfile.info(folder / "long.flac").duration) // WINDOW
    ways: dict[str, tuple[Callable[[], None], float]] = {
        "loop_files": (loop_files, len(short) / min(LOOP, len(short))),
        "loop_hour": (loop_hour, windows / min(LOOP, windows)),
        "our_files": (partial(ours, short, "auto"), 1.0),
        "our_hour": (partial(ours, [folder / "long.flac"], "silence"), 1.0),
    }
    call, scale = ways[way]
    with Peak() as peak:
        taken = seconds(call)
    return taken * scale, peak.megabytes


def measured(folder: Path, way: str, *system: str) -> tuple[float, float]:
    """By a process of its own."""
    command = [sys.executable, "-m", "benchmarks.captioning", "--work", str(folder), way, *system]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    taken, peak = json.loads(done.stdout.splitlines()[-1])
    print(f"{way}: {taken:.0f} s, {peak:.0f} MB at the peak", flush=True)
    return taken, peak


def main(repository: str = ".", system: str = "edtc") -> None:
    rows, memory = [], []
    with TemporaryDirectory() as folder:
        write(Path(folder), FILES, MINUTES)
        for what, loop, ours in (
            (f"{FILES:,} files of {SECONDS:g} s", "loop_files", "our_files"),
            (f"{MINUTES} minutes", "loop_hour", "our_hour"),
        ):
            before, fast, after = (
                measured(Path(folder), way, repository, system) for way in (loop, ours, loop)
            )
            rows.append(Row(f"caption {what}", (before[0] + after[0]) / 2, fast[0], FASTER))
            slow = max(before[1], after[1])
            memory.append(f"| {what} | {slow:.0f} MB | {fast[1]:.0f} MB | {slow / fast[1]:.2f} × |")
    print()
    print_table(rows)
    print("\n| memory at the peak | obvious way | ours | ratio |\n|---|---:|---:|---:|")
    print("\n".join(memory))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        print(json.dumps(work(Path(sys.argv[2]), *sys.argv[3:])))
    else:
        main(*sys.argv[1:])
