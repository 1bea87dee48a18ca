"""Two trainings on one machine: at once, against one after the other with all cores each.

Both are the stage that DVC runs, in a process of its own: the default run's transformer captioner,
its features and a few of its epochs, with seeds 1 and 2. Ours: nobody says anything of threads, and
the two divide the cores (pipeline/beside.py). Before: each takes all cores, and its threads sleep
while they wait; and as OpenMP does it by itself, they spin.

Run it as ``python -m benchmarks.side_by_side`` where ``dvc repro`` has made the features;
``python -m benchmarks.side_by_side 1 1`` takes one epoch, once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.timing import Row, print_table
from earwitness.repository import find_repository
from pipeline.threads import cores

EPOCHS, REPEATS = 4, 2
TARGET = 1.1  # of two at once against one after the other: at most
PLAN = "data/plans/captioners/transformer/{}.json"
OWN = ("OMP_", "GOMP_", "EARWITNESS_JOBS", "DVC_")
WAYS = {
    "ours": {},
    "all cores each": {"OMP_NUM_THREADS": str(cores())},
    "all cores each, threads spin": {
        "OMP_NUM_THREADS": str(cores()), "OMP_WAIT_POLICY": "active",
    },
}  # fmt: skip


def make_place(root: Path, place: Path, epochs: int) -> None:
    """A folder with two plans, and the repository's features."""
    for name in ("corpora", "features"):
        (place / "data").mkdir(exist_ok=True)
        (place / "data" / name).symlink_to(root / "data" / name)
    plan = json.loads((root / PLAN.format(1)).read_bytes())
    plan["training"] |= {"epochs": epochs, "patience_epochs": epochs}
    for seed in (1, 2):
        path = place / PLAN.format(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plan | {"seed": seed}), encoding="utf-8")


def start(place: Path, seed: int, way: dict[str, str]) -> subprocess.Popen[bytes]:
    given = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    code = str(Path(__file__).resolve().parents[1])
    own = {"PYTHONPATH": code, "TMPDIR": str(place), "TQDM_DISABLE": "1"}  # other jobs do not count
    command = [sys.executable, "-m", "stages.train_captioner", "transformer", str(seed)]
    return subprocess.Popen(
        command, cwd=place, env=given | own | way, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def seconds(place: Path, way: dict[str, str], at_once: bool) -> float:
    """Of both trainings."""
    began = time.perf_counter()
    jobs = []
    for seed in (1, 2):
        jobs.append(start(place, seed, way))
        if not at_once:
            jobs[-1].wait()
    if any(job.wait() for job in jobs):
        raise SystemExit("a training failed")
    return time.perf_counter() - began


def measure(epochs: int, repeats: int) -> list[Row]:
    """Takes turns, so that a busy machine slows all of them."""
    root = find_repository(None).root
    after: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    with TemporaryDirectory() as folder:
        place = Path(folder)
        make_place(root, place, epochs)
        for _ in range(repeats):
            after.append(seconds(place, {}, at_once=False))
            for name, way in WAYS.items():
                times[name].append(seconds(place, way, at_once=True))
    one, found = median(after), {name: median(each) for name, each in times.items()}
    print(f"{cores()} cores; one after the other: {one:.1f} s\n")
    return [
        Row(f"two at once, {name}, to one after the other", each, one, TARGET, at_most=True)
        for name, each in found.items()
    ]


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    print_table(measure(*given, *(EPOCHS, REPEATS)[len(given) :]))
