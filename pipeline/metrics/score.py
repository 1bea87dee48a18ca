"""Scores of anyone's captions, from one CSV file: ``earwitness score FILE.csv``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.evaluation import EvaluationConfig
from pipeline.errors import EarwitnessError
from pipeline.metrics.evaluate import evaluate
from pipeline.metrics.scores import Values
from pipeline.metrics.tables import read_rows, write_clips
from pipeline.metrics.tools import Tools

_REFERENCE = re.compile(r"caption_\d+")


@dataclass(frozen=True)
class FileScores:
    """``missing`` says of each metric that was left out, why; ``tokenizer`` which one was used."""

    corpus: dict[str, float]
    labels: dict[str, list[str]]  # what tells the rows apart: file_name where there is one
    clips: dict[str, Values]  # (N,) each
    missing: dict[str, str]
    tokenizer: str


def score_file(path: Path, settings: EvaluationConfig, tools: Tools) -> FileScores:
    """Scores a CSV with columns ``candidate``, ``caption_1`` …, and ``file_name`` if it likes.

    Empty cells are no references, so rows may have different numbers of them; other columns are
    not read.

    Raises:
        EarwitnessError: see :func:`pipeline.metrics.tables.read_rows`; or no reference column, a
            row without a reference, or a name that stands twice.
    """
    rows = read_rows(path, ["candidate", "caption_1"])
    columns = [name for name in rows[0] if _REFERENCE.fullmatch(name)]
    references = [[row[name] for name in columns if row[name].strip()] for row in rows]
    for number, captions in enumerate(references, start=1):
        if not captions:
            raise EarwitnessError(
                f"{path}: row {number} has no reference; fill caption_1 or drop it"
            )
    candidates = [row["candidate"] for row in rows]
    labels = {"candidate": candidates}
    if "file_name" in rows[0]:
        names = [row["file_name"] for row in rows]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise EarwitnessError(f"{path}: file_name {twice!r} stands twice; remove one row")
        labels = {"file_name": names, **labels}
    result = evaluate({"candidate": candidates}, references, settings, tools)
    scores = result.scores["candidate"]
    return FileScores(scores.corpus, labels, scores.clips, result.missing, result.tokenizer)


def write_per_clip(scores: FileScores, path: Path) -> None:
    """The per-clip values as CSV, in the order of the file's rows."""
    write_clips(path, scores.labels, scores.clips)
