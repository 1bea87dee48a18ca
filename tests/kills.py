"""Kills stages and DVC at random moments, and compares what stands at the end byte for byte.

``make kills`` makes 300 of them; ``python -m kills 50 --seed 3`` another number, from another seed.
After each kill comes what ``make repro`` does, and nothing else: ``earwitness doctor --repair``,
then the run again. Three parts:

* stages: each kind of stage of a tiny pipeline, forked from a process that has imported everything,
  so that kills fall into its work and not into its imports;
* DVC alone, over a chain of stages that copy files: kills fall into DVC's own writes;
* both: DVC over the first stages of the real ``dvc.yaml``. Half of the kills take DVC alone, and
  leave its stage without a parent, as ``kill -9`` and the system's out-of-memory killer do.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import pkgutil
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from conftest import REPOSITORY
from project import Project
from tiny import TINY

from earwitness.repair import repaired
from stages.run import run

SMALL: dict[str, Any] = {
    **TINY,
    "datasets": {
        "soundscapes": {
            "layout": "soundscapes", "development": 6, "validation": 2, "evaluation": 2,
            "seconds": [1.0, 1.5],
        }
    },
    "encoders": {name: TINY["encoders"][name] for name in ("panns", "logmel")},
    "retrievers": {"cnn10-minilm": TINY["retrievers"]["cnn10-minilm"]},
    "spaces": {},
    "encoded": ["cnn10-minilm"],
    "adapted": {},
    "captioners": {"transformer": TINY["captioners"]["transformer"]},
    "systems": {"one": {"captioners": ["transformer-scst"]}},
    "retrieval_systems": {"towers": {"retrievers": ["cnn10-minilm"]}},
}  # fmt: skip
FIRST: dict[str, Any] = {  # the first stages alone: DVC's own work is then most of a run
    **SMALL,
    **{name: {} for name in ("retrievers", "captioners", "finetuned", "systems")},
    **{name: {} for name in ("text_encoders", "retrieval_systems")},
    **{name: [] for name in ("encoded", "test_sets", "retrieval_test_sets")},
    "tagging": {**TINY["tagging"], "encoders": []},
    "encoders": {"logmel": TINY["encoders"]["logmel"]},
}
LENGTH = 6  # stages of the chain
CHAIN = "stages:\n" + "".join(
    f"  s{n}: {{cmd: cp f{n} f{n + 1}, deps: [f{n}], outs: [f{n + 1}]}}\n" for n in range(LENGTH)
)
PLAN = "plan"
LOG = "kills.log"  # what a run said


class Job(NamedTuple):
    """One run of a stage, and what DVC removes before it."""

    stage: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.stage, *self.arguments))


def plan(phase: str) -> Job:
    return Job(PLAN, (phase,), (f"data/plans/{phase}",))


def features(stage: str, encoder: str) -> Job:
    name = f"soundscapes/{encoder}"
    outputs = f"data/features/{name}.h5", f"data/index/frozen/{name}.json"
    return Job(stage, ("soundscapes", encoder), outputs)


CAPTIONERS, RETRIEVERS = "data/models/captioners", "data/models/retrievers"
FINETUNED = "data/plans/finetuned/transformer-scst"
JOBS = (
    Job("look", (), ("data/inputs",)),
    Job("prepare", ("soundscapes",), ("data/corpora/soundscapes.json",)),
    plan("tagging"),
    Job("tagging", ("panns",), ("data/models/encoders/panns",)),
    plan("extraction"),
    features("extract", "panns"),
    features("extract", "logmel"),
    features("embed", "minilm"),
    plan("retrievers"),
    Job("train_retriever", ("cnn10-minilm", "1"), (f"{RETRIEVERS}/cnn10-minilm/1",)),
    plan("encoding"),
    Job(
        "encode",
        ("soundscapes", "cnn10-minilm"),
        ("data/features/soundscapes/cnn10-minilm", "data/index/encoded/soundscapes/cnn10-minilm"),
    ),
    plan("captioners"),
    Job("train_captioner", ("transformer", "1"), (f"{CAPTIONERS}/transformer/1",)),
    Job(PLAN, ("finetuned", "--entry", "transformer-scst"), (FINETUNED,)),
    Job("finetune", ("transformer-scst", "1"), (f"{CAPTIONERS}/transformer-scst/1",)),
    plan("systems"),
    Job("decode", ("soundscapes", "one"), ("data/predictions/soundscapes/one.csv",)),
    Job(
        "evaluate", ("soundscapes",),
        ("data/scores/soundscapes", "metrics/soundscapes", "intervals/soundscapes"),
    ),
    Job(
        "rank", ("soundscapes",),
        (
            "data/rankings/soundscapes", "metrics/retrieval/soundscapes",
            "intervals/retrieval/soundscapes",
        ),
    ),
    Job("report", (), ("data/report.html", "data/curves", "data/histograms")),
)  # fmt: skip


def snapshot(root: Path, *names: str) -> dict[str, str]:
    """Digest by file; what DVC does not track (data/partial, data/times) counts as nothing."""
    files = (path for name in names for path in (root / name, *(root / name).rglob("*")))
    return {
        str(path.relative_to(root)): hashlib.sha256(_content(path)).hexdigest()
        for path in files
        if path.is_file() and path.name != ".gitkeep" and not {"partial", "times"} & {*path.parts}
    }


def _content(path: Path) -> bytes:
    """A file's bytes; the report's without the part that has times."""
    content = path.read_bytes()
    if path.name != "report.html":
        return content
    rest, found = re.subn(rb'<script[^>]* id="data-settings">[^<]*</script>', b"", content)
    assert found == 1
    return rest


def import_all() -> None:
    """What stages load, so that a fork has it."""
    import pipeline
    import stages

    for package in (pipeline, stages):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    import sentence_transformers  # noqa: F401


def fork(job: Job, root: Path, log: Path) -> int:
    """Starts the stage in ``root``, as its command does; its process id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        os.chdir(root)
        sys.stdout = sys.stderr = log.open("w", encoding="utf-8", buffering=1)
        sys.argv = [job.stage, *job.arguments]
        run(importlib.import_module(f"stages.{job.stage}").main)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def remove(root: Path, job: Job) -> None:
    for name in job.outputs:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def attempt(job: Job, root: Path, log: Path) -> tuple[int, str]:
    """Runs it to its end: exit code, and what it said."""
    code = os.waitstatus_to_exitcode(os.waitpid(fork(job, root, log), 0)[1])
    return code, log.read_text(encoding="utf-8")


def finish(job: Job, root: Path) -> float:
    """Runs it whole; seconds."""
    remove(root, job)
    began = time.monotonic()
    code, said = attempt(job, root, root / LOG)
    assert code == 0, f"{job} ended with {code}:\n{said[-3000:]}"
    return time.monotonic() - began


def kill_stages(root: Path, kills: int, dice: random.Random, say: Callable[[str], None]) -> int:
    """``kills`` of them, spread over all jobs; how many runs were compared."""
    project = Project(root, SMALL)
    import_all()
    seconds = {job: finish(job, project.root) for job in JOBS}
    expected = snapshot(project.root, "data", "metrics", "intervals")
    say(f"stages: {len(JOBS)} jobs, {len(expected)} files, {sum(seconds.values()):.0f} s unkilled")
    heavy = [job for job in JOBS if job.stage != PLAN]
    made = compared = 0
    while made < kills:
        job = heavy[compared % len(heavy)]
        more = min(dice.choice((1, 1, 2, 3)), kills - made)
        while more:
            remove(project.root, job)
            process = fork(job, project.root, project.root / LOG)
            time.sleep(dice.uniform(0, seconds[job]))
            os.kill(process, signal.SIGKILL)  # a zombie at worst: it is not waited for yet
            killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
            made, more = made + killed, more - killed
        list(repaired(project.root))
        finish(job, project.root)
        compared += 1
        same(
            snapshot(project.root, "data", "metrics", "intervals"),
            expected,
            f"{job} after {made} kills",
        )
    say(f"stages: {made} kills, {compared} runs compared, all the same")
    return compared


def same(found: dict[str, str], expected: dict[str, str], when: str) -> None:
    differ = sorted(name for name, _ in found.items() ^ expected.items())
    assert not differ, f"{when}: {differ} differ"


class Killable:
    """A project that ``make repro`` runs in, without its installation."""

    def __init__(
        self, root: Path, environment: dict[str, str], names: tuple[str, ...], *targets: str
    ) -> None:
        self.root, self.environment, self.names, self.targets = root, environment, names, targets
        self.said: list[str] = []  # by repairs

    def start(self) -> subprocess.Popen[str]:
        self.said += repaired(self.root)
        with (self.root / LOG).open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro", *self.targets],
                cwd=self.root, env=self.environment, stdout=log, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip

    def finish(self) -> float:
        began = time.monotonic()
        code = self.start().wait()
        said = (self.root / LOG).read_text(encoding="utf-8")
        assert code == 0, f"dvc repro ended with {code}:\n{said[-3000:]}"
        return time.monotonic() - began

    def reset(self) -> None:
        """As a fresh clone: nothing made, and no run remembered."""
        for name in self.names:
            path = self.root / name
            if path.is_dir():
                for made in [p for p in path.rglob("*") if p.is_file() and p.name[0] != "."]:
                    made.unlink()
            else:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.root / ".dvc/cache", ignore_errors=True)

    def snapshot(self) -> dict[str, str]:
        return snapshot(self.root, *self.names)


def kill_dvc(
    project: Killable, kills: int, dice: random.Random, say: Callable[[str], None], what: str
) -> int:
    """``kills`` of it; how many runs were compared."""
    seconds = project.finish()
    expected = project.snapshot()
    say(f"{what}: {len(expected)} files, {seconds:.1f} s unkilled")
    made = compared = 0
    while made < kills:
        if dice.random() < 0.7:
            project.reset()
        else:  # all is there, but DVC does not know it
            (project.root / "dvc.lock").unlink()
        for _ in range(min(dice.choice((1, 1, 2, 3)), kills - made)):
            process = project.start()
            time.sleep(dice.uniform(0.25, 1.05) * seconds)
            alone = dice.random() < 0.5  # its stage then has no parent
            if process.poll() is None:  # not waited for, so its number is still its own
                (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
            made += process.wait() == -signal.SIGKILL
        project.finish()
        compared += 1
        same(project.snapshot(), expected, f"{what} after {made} kills")
    say(f"{what}: {made} kills, {compared} runs compared, all the same")
    for line, count in Counter(re.sub(r"\d+", "N", line) for line in project.said).items():
        say(f"  {count} × {line}")
    return compared


def own_dvc(root: Path) -> dict[str, str]:
    """The environment of a DVC that keeps all that it has below ``root``."""
    own = {f"DVC_{name.upper()}_DIR": str(root / name) for name in ("site_cache", "global_config")}
    system = {"DVC_SYSTEM_CONFIG_DIR": str(root / "system"), "DVC_NO_ANALYTICS": "1"}
    return {**os.environ, **own, **system}


def chain(root: Path) -> Killable:
    """A repository whose stages copy a file, each the one before it."""
    environment = own_dvc(root)
    folder = root / "chain"
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text(CHAIN, encoding="utf-8")
    (folder / "f0").write_bytes(b"0" * 1000)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, env=environment, check=True)
    names = (*(f"f{n + 1}" for n in range(LENGTH)), "dvc.lock", ".gitignore")
    return Killable(folder, environment, names)


def both(root: Path) -> Killable:
    """The real ``dvc.yaml``, of which only the first stages have something to do."""
    project = Project(root, FIRST)
    return Killable(project.root, project.environment, ("data", "dvc.lock"), "extract")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=["stages", "chain", "both"])
    given = parser.parse_args()
    shares = {"stages": 0.5, "chain": 0.4, "both": 0.1}
    whole = sum(shares[part] for part in given.parts)
    for part in given.parts:
        kills = round(given.kills * shares[part] / whole)
        dice = random.Random(f"{part} {given.seed}")
        with folder() as root:
            if part == "stages":
                kill_stages(root, kills, dice, tell)
            else:
                kill_dvc({"chain": chain, "both": both}[part](root), kills, dice, tell, part)


@contextmanager
def folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="kills-") as path:
        yield Path(path)


def tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    assert Path.cwd() == REPOSITORY, "run it in the repository's root"
    main()
