"""METEOR 1.5 (Denkowski and Lavie 2014), by the Java program inside pycocoevalcap."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.metrics.java import JavaError, SlowJavaError, jars, separated, started
from pipeline.metrics.types import (
    ClipScores,
    Found,
    Pair,
    ScoredSet,
    Sums,
    Values,
    divided,
    pairs_of,
)

# of METEOR 1.5 for English (Denkowski and Lavie 2014, table 1)
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
STATISTICS = 23
CHUNKS = 20  # the place of their number


def meteor(
    java: Path | None, sets: Mapping[str, ScoredSet], folder: Path, *, seconds: float = 3600
) -> Found:
    """METEOR of several systems; equal pairs of candidate and references run once.

    A pair that breaks the program is unscored.

    Args:
        sets: a system's name → its N tokenized candidates and their references.
        folder: for temporary files.

    Raises:
        JavaError: see :func:`pipeline.metrics.java.started`.
    """
    try:
        return Found(_run(java, sets, folder, seconds, {}), {})
    except SlowJavaError:
        raise
    except JavaError:
        reasons = _breaking(java, sets, folder, seconds)
        return Found(_run(java, sets, folder, seconds, reasons), reasons)


def _breaking(
    java: Path | None, sets: Mapping[str, ScoredSet], folder: Path, seconds: float
) -> dict[Pair, str]:
    """The pairs that end the program, and its words."""

    def counted(pairs: Sequence[Pair]) -> list[str]:
        with _program(java, folder, seconds) as process:
            return _statistics(process, pairs)

    pairs = dict.fromkeys(pair for chosen in sets.values() for pair in pairs_of(chosen))
    _, broken = separated([*pairs], counted)
    return {pair: f"METEOR {why}" for pair, why in broken.items()}


def _run(
    java: Path | None,
    sets: Mapping[str, ScoredSet],
    folder: Path,
    seconds: float,
    left_out: Mapping[Pair, str],
) -> dict[str, ClipScores]:
    """All systems' scores without the pairs ``left_out``, by one process."""
    rows = {name: pairs_of(chosen) for name, chosen in sets.items()}
    unique = dict.fromkeys(pair for row in rows.values() for pair in row if pair not in left_out)
    with _program(java, folder, seconds) as process:
        statistics = dict(zip(unique, _statistics(process, [*unique]), strict=True))
        return {
            name: _scores(process, [statistics.get(pair) for pair in row])
            for name, row in rows.items()
        }


@contextmanager
def _program(java: Path | None, folder: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    jar = jars() / "meteor" / "meteor-1.5.jar"
    # the serial collector: half the memory of the default one, and no slower
    arguments = ["-XX:+UseSerialGC", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with started(java, arguments, memory="1G", seconds=seconds, folder=folder) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _statistics(process: subprocess.Popen[str], pairs: Sequence[Pair]) -> list[str]:
    return _ask(process, [_line(*pair) for pair in pairs], len(pairs))


def _scores(process: subprocess.Popen[str], statistics: Sequence[str | None]) -> ClipScores:
    """Of one system, by each clip's statistics; the corpus value is of their sums."""
    clips = np.full(len(statistics), np.nan)
    good = [line for line in statistics if line is not None]
    if not good:
        return ClipScores(float("nan"), clips)
    answers = _ask(process, [" ||| ".join(["EVAL", *good])], len(good) + 1)
    *values, corpus = map(float, answers)
    clips[[line is not None for line in statistics]] = values
    return ClipScores(corpus, clips, Sums(_numbers(statistics), meteor_of_sums))


def meteor_of_sums(sums: Values) -> Values:
    """(…) METEOR of (…, 23) sums, by the program's own formula; 0 where nothing matches.

    They are, of the candidate and of the reference: words, function words, then by matcher the
    matched content words of both and the matched function words of both; chunks; matched words.
    """
    words, functions = sums[..., 0:2], sums[..., 2:4]
    by_matcher = sums[..., 4:CHUNKS].reshape(*sums.shape[:-1], len(MATCHERS), 4)
    matched = np.einsum("m,...mk->...k", MATCHERS, by_matcher)
    weighted = DELTA * matched[..., 0:2] + (1 - DELTA) * matched[..., 2:4]
    length = DELTA * (words - functions) + (1 - DELTA) * functions
    precision, recall = np.moveaxis(divided(weighted, length), -1, 0)
    mean = divided(precision * recall, (1 - ALPHA) * recall + ALPHA * precision)
    fragmentation = divided(sums[..., CHUNKS], sums[..., CHUNKS + 1 :].mean(axis=-1))
    return np.asarray(mean * (1 - GAMMA * fragmentation**BETA))


def _numbers(statistics: Sequence[str | None]) -> Values:
    """(N, 23) of the program's lines; zeros where it has none.

    A candidate that is its reference, word for word, is one chunk that does not count: so the
    program has it when it scores a clip and when it sums several.
    """
    numbers = np.zeros((len(statistics), STATISTICS))
    for at, line in enumerate(statistics):
        if line is not None:
            numbers[at] = [float(value) for value in line.split()]
    whole = (numbers[:, 0:2] == numbers[:, CHUNKS + 1 :]).all(axis=1) & (numbers[:, CHUNKS] == 1)
    numbers[whole, CHUNKS] = 0
    return numbers


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
