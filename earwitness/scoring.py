"""Scores of anyone's captions: of lists from Python, and of one CSV file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from earwitness.repository import NoRepositoryError, find_repository
from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.section import parse_section
from pipeline.errors import EarwitnessError
from pipeline.metrics.evaluate import evaluate, find_tools
from pipeline.tables import read_rows

_REFERENCE = re.compile(r"caption_\d+")


@dataclass(frozen=True)
class CaptionScores:
    """What is in ``missing`` is in neither ``corpus`` nor ``clips``: never zero."""

    corpus: dict[str, float]  # of all clips; their number N and the vocabulary too
    clips: dict[str, NDArray[np.float64]]  # (N,) each, in the order given
    missing: dict[str, str]  # metric → why it was left out
    incomplete: dict[str, str]  # metric → which clips have NaN, and why; the corpus is the others
    tokenizer: str  # which one made the tokens


def score(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    root: str | Path | None = None,
    **evaluation: Any,
) -> CaptionScores:
    """The field's scores of N captions.

    Java runs METEOR, SPICE and the tokenizer where it is installed; without it the tokenizer is
    this package's own, and the other two are missing.

    Args:
        candidates: N captions. references: N rows of one or more captions each.
        root: the repository whose section ``evaluation`` says what to score with, and which may
            have SPICE; found as :func:`earwitness.load` does. Without any, defaults hold.
        evaluation: settings of that section for this call, such as ``spice=False``.

    Raises:
        EarwitnessError: no captions, not one a row, a row without references, or an unknown
            setting.
    """
    if isinstance(candidates, str) or any(isinstance(row, str) for row in references):
        raise EarwitnessError("score: give lists: N candidates, and N lists of references")
    own, spice = _settings(root)
    settings = parse_section(EvaluationConfig, {**own.model_dump(), **evaluation}, "evaluation")
    result = evaluate({"candidates": candidates}, references, settings, find_tools(spice))
    found = result.scores["candidates"]
    return CaptionScores(
        found.corpus, found.clips, result.missing, result.incomplete, result.tokenizer
    )


def _settings(root: str | Path | None) -> tuple[EvaluationConfig, Path | None]:
    """The repository's, their paths absolute, and where it may have SPICE."""
    try:
        repository = find_repository(root)
    except NoRepositoryError:
        return EvaluationConfig(), None
    own = repository.params().evaluation
    paths = {
        "sbert": own.sbert and repository.weights(own.sbert),
        "fluency": own.fluency and repository.model(own.fluency),
    }
    return own.model_copy(update=paths), repository.spice


class CaptionTable(NamedTuple):
    """The captions of a CSV with N rows."""

    candidates: list[str]
    references: list[list[str]]
    labels: dict[str, list[str]]  # what identifies a row: file_name where there is one


def read_captions(path: Path) -> CaptionTable:
    """A CSV with columns ``candidate``, ``caption_1`` …, and optionally ``file_name``.

    Empty cells are no references, so rows may have different numbers of them; other columns are
    not read.

    Raises:
        EarwitnessError: see :func:`pipeline.tables.read_rows`; or no reference column, a
            row without a reference, or a name that occurs twice.
    """
    rows = [row.values for row in read_rows(path, ["candidate", "caption_1"])]
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
            raise EarwitnessError(f"{path}: file_name {twice!r} occurs twice; remove one row")
        labels = {"file_name": names, **labels}
    return CaptionTable(candidates, references, labels)
