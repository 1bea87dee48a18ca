"""Part 5 of the page: every query, and how each retrieval system ranks the clips for it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earwitness.report.run import Run
from pipeline.errors import EarwitnessError
from pipeline.tables import read_rows

NONE = 0xFFFFFFFF  # no clip, where there are fewer than a ranking has places
PLACE = "fname_"
# of the right clip, and of the query among all queries in the right clip's own ranking; a blind set
# has none
RANKS = ("rank", "caption_rank")


def data(run: Run) -> Any:
    """One entry a test set that is searched; None where there is no ranking."""
    names = [name for name in run.params.retrieval_test_sets if name in run.manifests]
    sets = [_dataset(run, name) for name in names]
    shown = [each for each in sets if each["systems"]]
    return {"datasets": shown} if shown else None


def _dataset(run: Run, name: str) -> dict[str, Any]:
    """Queries are [text, number of the right clip or null], in the order of the rankings' rows."""
    from pipeline.trained.ranking import file_names

    manifest, clips = run.manifests[name], run.clips(name)
    number = {clip.clip_id: at for at, clip in enumerate(clips)}
    queries = [
        (caption, number.get(clip.clip_id))
        for clip in manifest.asked(run.params.evaluation.split)
        for caption in clip.captions
    ]
    files = {file: at for at, file in enumerate(file_names(clips))}
    tables = run.tables("rankings", name, run.params.retrieval_systems)
    wanted = [system for system in run.params.retrieval_systems if system in tables]
    return {
        "name": name,
        "blind": manifest.blind,
        "clips": [clip.clip_id for clip in clips],
        "queries": queries,
        "systems": [
            {"name": system, "seeds": _seeds(tables[system], queries, files)} for system in wanted
        ],
    }


def _seeds(
    path: Path, queries: Sequence[tuple[str, int | None]], files: Mapping[str, int]
) -> dict[str, Any]:
    """Seed → its rankings: M × ``places`` numbers of clips, and M ranks, if they are known."""
    by_seed: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path, ("seed", "caption", f"{PLACE}1")):
        by_seed.setdefault(row.values["seed"], []).append(row.values)
    return {seed: _ranking(path, rows, queries, files) for seed, rows in by_seed.items()}


def _ranking(
    path: Path,
    rows: Sequence[Mapping[str, str]],
    queries: Sequence[tuple[str, int | None]],
    files: Mapping[str, int],
) -> dict[str, Any]:
    if [row["caption"] for row in rows] != [caption.strip() for caption, _ in queries]:
        raise EarwitnessError(f"{path}: of other queries than the test set has; run `dvc repro`")
    columns = [column for column in rows[0] if column.startswith(PLACE)]
    try:
        found = [[files[row[name]] if row[name] else NONE for name in columns] for row in rows]
        ranks = {name: [int(row[name]) for row in rows] for name in RANKS if name in rows[0]}
    except (KeyError, ValueError) as error:
        raise EarwitnessError(
            f"{path}: {error} is no clip of the test set, or no rank; run `dvc repro`"
        ) from None
    return {
        "places": len(columns),
        "clips": _packed(found),
        **{name: _packed(own) for name, own in ranks.items()},
    }


def _packed(numbers: Any) -> str:
    return base64.b64encode(np.asarray(numbers, "<u4").tobytes()).decode()
