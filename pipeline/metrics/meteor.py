"""METEOR 1.5 (Denkowski and Lavie 2014), by the Java program inside pycocoevalcap."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.metrics.java import JavaError, jars, started
from pipeline.metrics.types import ClipScores, ScoredSet


def meteor(
    java: Path | None, sets: Mapping[str, ScoredSet], folder: Path, *, seconds: float = 3600
) -> dict[str, ClipScores]:
    """METEOR of several systems in one run; equal pairs of candidate and references run once.

    Args:
        sets: a system's name → its N tokenized candidates and their references.
        folder: for temporary files.

    Raises:
        JavaError: see :func:`pipeline.metrics.java.started`.
    """
    lines = {
        name: [_line(*pair) for pair in zip(*chosen, strict=True)] for name, chosen in sets.items()
    }
    unique = [*dict.fromkeys(line for asked in lines.values() for line in asked)]
    jar = jars() / "meteor" / "meteor-1.5.jar"
    # the serial collector: half the memory of the default one, and no slower
    arguments = ["-XX:+UseSerialGC", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with started(java, arguments, memory="1G", seconds=seconds, folder=folder) as process:
        statistics = dict(zip(unique, _ask(process, unique, len(unique)), strict=True))
        scores = {}
        for name, asked in lines.items():
            question = " ||| ".join(["EVAL", *(statistics[line] for line in asked)])
            *clips, corpus = map(float, _ask(process, [question], len(asked) + 1))
            scores[name] = ClipScores(corpus, np.array(clips))
        assert process.stdin is not None
        process.stdin.close()
    return scores


def _line(candidate: str, references: Sequence[str]) -> str:
    texts = [text.replace("|||", " ") for text in (*references, candidate)]
    return " ||| ".join(["SCORE", *texts])


def _ask(process: subprocess.Popen[str], questions: Sequence[str], answers: int) -> list[str]:
    """Writes in a thread and reads at the same time, so that no pipe fills up."""
    assert process.stdin is not None and process.stdout is not None
    writer = threading.Thread(target=_write, args=(process, questions), daemon=True)
    writer.start()
    found = []
    for _ in tqdm(range(answers), "METEOR", leave=False, disable=None):
        line = process.stdout.readline()
        if not line:
            raise EOFError
        found.append(line.strip())
    writer.join()
    if any(line.startswith("Error") for line in found):
        raise JavaError(next(line for line in found if line.startswith("Error"))[:200])
    return found


def _write(process: subprocess.Popen[str], questions: Sequence[str]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError, ValueError):  # the reader notices that the program has ended
        process.stdin.writelines(f"{question}\n" for question in questions)
        process.stdin.flush()
