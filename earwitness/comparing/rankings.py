"""Retrieval systems that are compared, by the ranks that `rank` left in data/rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from earwitness.comparing.captions import seed_of
from earwitness.comparing.loaded import ComparedSystem, Loaded
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.metrics.intervals import SeedScores
from pipeline.metrics.resampling import Measured
from pipeline.metrics.retrieval_clips import QueryRanks, clip_sums
from pipeline.tables import Row, read_rows


class RankingRun(NamedTuple):
    """What a system ranked of a test set at one time: M captions of N clips."""

    label: str
    captions: list[str]  # M
    clips: list[str]  # N
    clip_of: NDArray[np.int64]  # (M,)
    ranks: dict[int, QueryRanks]  # by seed
    ties: str


def load(sides: Sequence[ComparedSystem], dataset: str) -> Loaded:
    """All sides' ranks.

    Raises:
        EarwitnessError: results are not there, or runs cannot be compared.
    """
    warnings: list[str] = []
    runs = [read_ranking(side, dataset) for side in sides]
    found, seeds = ranked(runs, warnings)
    references: dict[str, tuple[str, ...]] = {}
    for caption, clip in zip(runs[0].captions, runs[0].clip_of.tolist(), strict=True):
        name = runs[0].clips[clip]
        references[name] = (*references.get(name, ()), caption)
    return Loaded(found, runs[0].clips, seeds, warnings, {}, references)


def read_ranking(side: ComparedSystem, dataset: str) -> RankingRun:
    """Ranks of the captions' clips and, where they were written, of the clips' captions.

    Raises:
        EarwitnessError: they are not there, or the test set is blind.
    """
    source = side.source
    manifest = side.manifest(dataset, "answers")
    path = source.path(f"data/rankings/{dataset}/{side.system}.csv", f"rank@{dataset}")
    by_seed: dict[int, list[Row]] = {}
    for row in read_rows(path, ["caption", "rank"]):
        by_seed.setdefault(seed_of(row, source), []).append(row)
    first = next(iter(by_seed.values()))
    captions = [row.values["caption"] for row in first]
    clips = _ranked_clips(manifest, captions, f"{side.label}: {path}")
    owner = np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips])
    ranks = {
        seed: QueryRanks(_numbers(rows, "rank"), _numbers(rows, "caption_rank") if back else None)
        for seed, rows in by_seed.items()
        for back in ["caption_rank" in rows[0].values]
    }
    settings = source.params.get("evaluation")
    ties = settings.get("ties", "last") if isinstance(settings, dict) else "last"
    ids = [clip.clip_id for clip in clips]
    return RankingRun(side.label, captions, ids, owner, ranks, str(ties))


def _ranked_clips(manifest: Manifest, captions: Sequence[str], source: str) -> Sequence[Clip]:
    """The split whose captions are ranked."""
    for split in dict.fromkeys(clip.split for clip in manifest.clips):
        clips = manifest.split(split)
        if [caption.strip() for clip in clips for caption in clip.captions] == captions:
            return clips
    raise EarwitnessError(f"{source}: its captions are of no split; run `dvc repro rank`")


def _numbers(rows: Sequence[Row], column: str) -> NDArray[np.int64]:
    values = [row.values[column] for row in rows]
    if not all(value.isascii() and value.isdecimal() and int(value) > 0 for value in values):
        raise EarwitnessError(
            f"data/rankings: column {column} has other than ranks; run `dvc repro`"
        )
    return np.array([int(value) for value in values], dtype=np.int64)


def ranked(
    runs: Sequence[RankingRun], warnings: list[str]
) -> tuple[dict[str, dict[int, SeedScores]], list[int]]:
    """The runs by label and seed, and the seeds that all have.

    Raises:
        EarwitnessError: they ranked other captions, or with other rules, or have no seed in common.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.captions != first.captions or run.clips != first.clips:
            raise EarwitnessError(
                f"{run.label} ranked other clips or captions than {first.label}: ranks among other "
                "clips cannot be compared"
            )
        if run.ties != first.ties:
            raise EarwitnessError(
                f"{first.label} was ranked with ties: {first.ties} and {run.label} with "
                f"{run.ties}; set evaluation.ties alike"
            )
    seeds = [seed for seed in first.ranks if all(seed in run.ranks for run in runs)]
    if not seeds:
        raise EarwitnessError(
            f"{first.label} and {runs[-1].label} have no seed in common; rank both with one"
        )
    if any(len(run.ranks) > len(seeds) for run in runs):
        warnings.append(f"compared with the seeds that all have: {', '.join(map(str, seeds))}")
    if any(own.caption is None for run in runs for own in run.ranks.values()):
        warnings.append("audio → text is left out: an older run did not write these ranks")
    each = [(run, seed) for run in runs for seed in seeds]
    sums = clip_sums([run.ranks[seed] for run, seed in each], first.clip_of, len(first.clips))
    found: dict[str, dict[int, SeedScores]] = {run.label: {} for run in runs}
    for (run, seed), own in zip(each, sums, strict=True):
        measured = Measured(own)
        found[run.label][seed] = SeedScores(measured.values(), measured)
    return found, seeds
