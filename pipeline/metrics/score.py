"""Scores of any captions in a CSV file: ``earwitness score FILE.csv``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.evaluation import EvaluationConfig
from pipeline.errors import EarwitnessError
from pipeline.metrics.evaluate import Tools, evaluate
from pipeline.metrics.tables import write_clips
from pipeline.metrics.types import Values
from pipeline.tables import read_rows

_REFERENCE = re.compile(r"caption_\d+")


@dataclass(frozen=True)
class FileScores:
    corpus: dict[str, float]  # by metric
    labels: dict[str, list[str]]  # column → N values: the file_name where there is one, candidate
    clips: dict[str, Values]  # (N,) each
    missing: dict[str, str]  # metric that was left out → why
    tokenizer: str  # the one that made the tokens


def score_file(path: Path, settings: EvaluationConfig, tools: Tools) -> FileScores:
    """Scores a CSV with columns ``candidate``, ``caption_1`` …, and optionally ``file_name``.

    Empty cells are not references, so rows may have different numbers of them; other columns are
    ignored.

    Raises:
        EarwitnessError: see :func:`pipeline.tables.read_rows`; or no reference column, a row
            without a reference, or a name that occurs twice.
    """
    rows = [row.values for row in read_rows(path, ["candidate", "caption_1"])]
    columns = [name for name in rows[0] if _REFERENCE.fullmatch(name)]
    references = [[row[name] for name in columns if row[name].strip()] for row in rows]
    for number, captions in enumerate(references, start=1):
        if not captions:
            raise EarwitnessError(
                f"{path}: row {number} has no reference; fill caption_1 or remove it"
            )
    candidates = [row["candidate"] for row in rows]
    labels = {"candidate": candidates}
    if "file_name" in rows[0]:
        names = [row["file_name"] for row in rows]
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise EarwitnessError(f"{path}: file_name {repeated!r} occurs twice; remove one row")
        labels = {"file_name": names, **labels}
    result = evaluate({"candidate": candidates}, references, settings, tools)
    scores = result.scores["candidate"]
    return FileScores(scores.corpus, labels, scores.clips, result.missing, result.tokenizer)


def write_per_clip(scores: FileScores, path: Path) -> None:
    """Writes the per-clip values as CSV, in the order of the file's rows."""
    write_clips(path, scores.labels, scores.clips)
