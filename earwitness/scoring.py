"""Scores of anyone's captions: of lists from Python, and of one CSV file."""

from __future__ import annotations

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
from pipeline.metrics.intervals import SeedScores, intervals
from pipeline.metrics.resampling import Measured
from pipeline.tables import caption_columns, captioned_rows


@dataclass(frozen=True)
class CaptionScores:
    """What is in ``missing`` is in neither ``corpus`` nor ``clips``: never zero."""

    corpus: dict[str, float]  # of all clips; their number N and the vocabulary too
    clips: dict[str, NDArray[np.float64]]  # (N,) each, in the order given
    missing: dict[str, str]  # metric → why it was left out
    incomplete: dict[str, str]  # metric → which clips have NaN, and why; the corpus is the others
    tokenizer: str  # which one made the tokens
    measured: Measured  # the clips, as they are resampled
    resamples: int  # of the section ``evaluation``

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval over clips of every metric that has one; takes a moment."""
        each = {"candidates": {1: SeedScores(self.corpus, self.measured)}}
        found = intervals(each, self.resamples)["candidates"]
        return {
            metric: (own.low, own.high)
            for metric, own in found.items()
            if own.low is not None and own.high is not None
        }


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
        found.corpus, found.clips, result.missing, result.incomplete, result.tokenizer,
        found.measured(), settings.resamples,
    )  # fmt: skip


def _settings(root: str | Path | None) -> tuple[EvaluationConfig, Path | None]:
    """The repository's, their paths absolute, and where it may have SPICE."""
    try:
        repository = find_repository(root)
    except NoRepositoryError:
        return EvaluationConfig(), None
    return repository.located(repository.params().evaluation), repository.spice


class CaptionTable(NamedTuple):
    """The captions of a CSV with N rows."""

    candidates: list[str]
    references: list[list[str]]
    labels: dict[str, list[str]]  # what identifies a row: file_name where there is one


def read_captions(path: Path) -> CaptionTable:
    """A CSV with columns ``candidate``, ``caption_1`` … (or ``caption``) and, if you like,
    ``file_name``.

    Empty cells are no references, so rows may have different numbers of them; other columns are
    not read.

    Raises:
        EarwitnessError: see :func:`pipeline.tables.captioned_rows`; or a row without a reference,
            or a name that occurs twice.
    """
    rows = captioned_rows(path, ["candidate"])
    columns = caption_columns(rows[0].values)
    references = [[row.values[name] for name in columns if row.values[name]] for row in rows]
    for row, captions in zip(rows, references, strict=True):
        if not captions:
            raise EarwitnessError(
                f"{path}: line {row.line} has no reference; fill {columns[0]} or remove the row"
            )
    candidates = [row.values["candidate"] for row in rows]
    labels = {"candidate": candidates}
    if "file_name" in rows[0].values:
        names = [row.spaced.get("file_name", row.values["file_name"]) for row in rows]
        seen: dict[str, int] = {}
        for row, name in zip(rows, names, strict=True):
            if name in seen:
                raise EarwitnessError(
                    f"{path}: file_name {name!r} occurs twice, in lines {seen[name]} and "
                    f"{row.line}; remove one"
                )
            seen[name] = row.line
        labels = {"file_name": names, **labels}
    return CaptionTable(candidates, references, labels)
