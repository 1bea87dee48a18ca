"""SPICE 1.0 (Anderson et al. 2016), by the Java program inside pycocoevalcap.

It parses captions with CoreNLP 3.6.0, which takes nearly all of its time, and parses each copy of a
caption again that was not in its cache at its start. So the distinct captions of all systems are
parsed into the cache first, and then scored together in one more run, which takes a second.

SPICE merges the nodes of a scene graph in the order of a hash map whose keys have no hash of their
own, so that the score of a caption hung on what ran before it, and on what the cache had. In
the run that scores, all such objects get one hash, and the order is that of the words in a caption.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.metrics.java import JavaError, required, separated, started
from pipeline.metrics.types import Found, Pair, ScoredSet, averaged, pairs_of

MEMORY = "2G"  # with two threads 2.1 GB resident, and no slower than 8G
WORDS = 100  # of the longest caption: parsing takes time and memory by the cube of its words
KEY = 507  # bytes of the longest caption that the cache takes
_CHUNK = 4000  # captions in one run: a killed evaluation loses no more than these
_ENGINE = Path(__file__).parent / "java_engine"  # see JsonEngine.java
# not for the run that parses: CoreNLP's own maps need hashes that differ
_ONE_HASH = ("-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2")


def spice(
    java: Path | None,
    tool: Path | None,
    sets: Mapping[str, ScoredSet],
    folder: Path,
    *,
    cache: Path | None = None,
    memory: str = MEMORY,
    seconds: float = 3600,
) -> Found:
    """SPICE of several systems; equal pairs of candidate and references are scored once.

    The same pair has the same score, whatever else is scored and whatever the cache has. A pair
    with a caption that is too long, or breaks the parser, is unscored.

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
    runner = _Runner(program, tool / "spice-1.0.jar", folder, memory, seconds)
    pairs = [*dict.fromkeys(pair for chosen in sets.values() for pair in pairs_of(chosen))]
    try:
        values, unscored = runner.scored(pairs, cache if cache is not None else folder / "parses")
    except JavaError:
        if cache is None:
            raise
        values, unscored = runner.scored(pairs, folder / "parses")
    missing = float("nan")
    scores = {
        name: averaged(np.array([values.get(pair, missing) for pair in pairs_of(chosen)]))
        for name, chosen in sets.items()
    }
    return Found(scores, unscored)


def too_long(caption: str) -> str | None:
    """Why SPICE does not read a tokenized caption, or None where it does."""
    if (words := len(caption.split())) > WORDS:
        return f"{words} words in a caption; SPICE reads at most {WORDS}"
    # as its cache writes letters: one byte, or three for each half of UTF-16 beyond Latin
    units = np.frombuffer(caption.encode("utf-16-le"), dtype="<u2")
    if (size := int(np.where(units < 255, 1, 3).sum())) > KEY:
        return f"{size} bytes in a caption; SPICE reads at most {KEY}"
    return None


class _Runner(NamedTuple):
    """How the program is started."""

    java: Path
    jar: Path
    folder: Path
    memory: str
    seconds: float

    def scored(
        self, pairs: Sequence[Pair], parses: Path
    ) -> tuple[dict[Pair, float], dict[Pair, str]]:
        """The F-score of each pair; for those that cannot be scored, why."""
        captions = dict.fromkeys(text for candidate, row in pairs for text in (*row, candidate))
        reasons = {text: why for text in captions if (why := too_long(text)) is not None}
        short = [text for text in captions if text not in reasons]
        for start in tqdm(range(0, len(short), _CHUNK), "SPICE", disable=None):
            _, broken = separated(
                short[start : start + _CHUNK],
                lambda texts: self.run([(text, (text,)) for text in texts], parses),
            )
            reasons |= {text: f"SPICE {why}" for text, why in broken.items()}
        unscored = {
            (candidate, row): next(reasons[text] for text in (candidate, *row) if text in reasons)
            for candidate, row in pairs
            if candidate in reasons or not reasons.keys().isdisjoint(row)
        }
        good = [pair for pair in pairs if pair not in unscored]
        if not good:
            return {}, unscored
        return dict(zip(good, self.run(good, parses, _ONE_HASH), strict=True)), unscored

    def run(self, pairs: Sequence[Pair], parses: Path, options: Sequence[str] = ()) -> list[float]:
        """The F-scores of pairs, in order; ``options`` are of Java."""
        parses.mkdir(parents=True, exist_ok=True)
        source, out = self.folder / "spice.json", self.folder / "scores.json"
        items = [
            {"image_id": place, "test": candidate, "refs": list(references)}
            for place, (candidate, references) in enumerate(pairs)
        ]
        source.write_text(json.dumps(items), encoding="utf-8")
        out.unlink(missing_ok=True)
        arguments = [*options, "-cp", os.pathsep.join([str(_ENGINE), str(self.jar.resolve())])]
        arguments += ["edu.anu.spice.SpiceScorer", str(source), "-out", str(out), "-silent"]
        arguments += ["-cache", str(parses.resolve())]
        with started(
            self.java, arguments, memory=self.memory, seconds=self.seconds, folder=self.folder
        ) as process:
            process.communicate()
        said = (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")
        if options and "parsing pipeline" in said:
            raise JavaError(f"SPICE found no parses in its cache {parses}; delete it")
        try:
            found = {
                item["image_id"]: item["scores"]["All"]["f"]
                for item in json.loads(out.read_text(encoding="utf-8"))
            }
            return [float(found[place]) for place in range(len(pairs))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JavaError(f"SPICE wrote no scores ({error})") from None
