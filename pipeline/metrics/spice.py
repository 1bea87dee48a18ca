"""SPICE 1.0 (Anderson et al. 2016), by the Java program inside pycocoevalcap.

It parses captions with CoreNLP 3.6.0, which takes nearly all of its time, and parses each copy of a
caption again that was not in its cache at its start. So the distinct captions of all systems are
parsed into the cache first, and then scored together in one more run, which takes a second.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.metrics.java import JavaError, required, started
from pipeline.metrics.types import ClipScores, ScoredSet, averaged

MEMORY = "2G"  # with two threads 2.1 GB resident, and no slower than 8G
_CHUNK = 4000  # captions in one run: a killed evaluation loses no more than these
_ENGINE = Path(__file__).parent / "java_engine"  # see JsonEngine.java

Pair = tuple[str, tuple[str, ...]]


def spice(
    java: Path | None,
    tool: Path | None,
    sets: Mapping[str, ScoredSet],
    folder: Path,
    *,
    cache: Path | None = None,
    memory: str = MEMORY,
    seconds: float = 3600,
) -> dict[str, ClipScores]:
    """SPICE of several systems; equal pairs of candidate and references are scored once.

    Args:
        tool: the folder that :mod:`pipeline.metrics.spice_install` fills.
        sets: a system's name → its N tokenized candidates and their references.
        folder: for temporary files.
        cache: where parses are kept for later runs; a broken cache is not used.
        seconds: for one run of the program.

    Raises:
        JavaError: there is no Java or no SPICE, or it fails.
    """
    program = required(java)
    if tool is None or not (tool / "spice-1.0.jar").is_file():
        raise JavaError("SPICE is not installed; `make spice`")
    jar = tool / "spice-1.0.jar"
    rows = [
        (candidate, tuple(references))
        for chosen in sets.values()
        for candidate, references in zip(*chosen, strict=True)
    ]
    pairs = [*dict.fromkeys(rows)]

    def scored(parses: Path) -> list[float]:
        captions = [*dict.fromkeys(text for candidate, row in pairs for text in (*row, candidate))]
        for start in tqdm(range(0, len(captions), _CHUNK), "SPICE", disable=None):
            alone = [(caption, (caption,)) for caption in captions[start : start + _CHUNK]]
            _run(program, jar, alone, folder, parses, memory, seconds)
        return _run(program, jar, pairs, folder, parses, memory, seconds)

    try:
        values = scored(cache if cache is not None else folder / "parses")
    except JavaError:
        if cache is None:
            raise
        values = scored(folder / "parses")
    of_pair = dict(zip(pairs, values, strict=True))
    clips = iter([of_pair[row] for row in rows])
    return {
        name: averaged(np.array([next(clips) for _ in chosen.candidates]))
        for name, chosen in sets.items()
    }


def _run(
    java: Path,
    jar: Path,
    pairs: Sequence[Pair],
    folder: Path,
    parses: Path,
    memory: str,
    seconds: float,
) -> list[float]:
    """The F-scores of pairs of candidate and references, in order."""
    parses.mkdir(parents=True, exist_ok=True)
    source, out = folder / "spice.json", folder / "scores.json"
    items = [
        {"image_id": place, "test": candidate, "refs": list(references)}
        for place, (candidate, references) in enumerate(pairs)
    ]
    source.write_text(json.dumps(items), encoding="utf-8")
    out.unlink(missing_ok=True)
    arguments = ["-cp", os.pathsep.join([str(_ENGINE), str(jar.resolve())])]
    arguments += ["edu.anu.spice.SpiceScorer", str(source), "-out", str(out), "-silent"]
    arguments += ["-cache", str(parses.resolve())]
    with started(java, arguments, memory=memory, seconds=seconds, folder=folder) as process:
        process.communicate()
    try:
        found = {
            item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(out.read_text())
        }
        return [float(found[place]) for place in range(len(pairs))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JavaError(f"SPICE wrote no scores ({error})") from None
