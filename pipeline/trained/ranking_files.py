"""Files and the table of rankings; M captions, N clips."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.files import replacing
from pipeline.metrics.intervals import Intervals
from pipeline.metrics.retrieval import (
    CUTOFF,
    Embeddings,
    Ranks,
    blocks,
    finite,
    mean_similarity,
)
from pipeline.metrics.tables import PLUS_MINUS, plus_minus

BLIND_CUTOFF = 16  # clips a query of a blind set: DCASE 2025 asks for so many, others for ten
COLUMNS = ("r1", "r5", "r10", f"map{CUTOFF}", "median_rank")


class Queries(NamedTuple):
    """The captions of a split's clips, in order: M of each, and each one's clip (M,) int64."""

    captions: list[str]
    ids: list[str]  # in a feature file of text
    clip_of: Tensor


class Ranked(NamedTuple):
    """The embeddings of a system's members, and the ranks by their mean similarity."""

    members: list[Embeddings]
    ranks: Ranks
    scores: dict[str, float]


def write_ranking(
    path: Path,
    ranked: Mapping[int, Ranked],
    queries: Queries,
    names: Sequence[str],
    ids: Sequence[str],
) -> None:
    """A DCASE 2022 task 6b submission, caption, fname_1 … fname_10, with more columns around it.

    Before it stands ``seed``. Behind it stand ``rank``, of the right clip, ``caption_rank``, of the
    caption among all in the right clip's own ranking, and ``clip_id``, which is the right clip.

    Args:
        ranked: by seed; a row a caption for each in turn.
        names: N, of the clips' files. ids: N.
    """
    with _written(path, CUTOFF, ["rank", "caption_rank", "clip_id"]) as writer:
        for seed, own in ranked.items():
            for part in blocks(len(queries.captions), len(names)):
                ranks, clip_of = own.ranks.clip[part], queries.clip_of[part]
                first = first_clips(mean_similarity(own.members, part), ranks, clip_of)
                behind = (ranks, own.ranks.caption[part], clip_of)
                rows = zip(
                    queries.captions[part],
                    first.tolist(),
                    *(each.tolist() for each in behind),
                    strict=True,
                )
                for caption, found, rank, back, clip in rows:
                    listed = _listed(names, found, CUTOFF)
                    writer.writerow([seed, caption, *listed, rank, back, ids[clip]])


def write_sound_ranking(
    path: Path, ranked: Mapping[int, Ranked], queries: Queries, ids: Sequence[str]
) -> None:
    """The other way: ``seed, clip_id, caption_1 … caption_10, rank``, a row a clip.

    ``rank`` is that of the best of the clip's own captions, which stand at their ranks; it is empty
    where a clip has none.

    Args:
        ranked: by seed; a row a clip for each in turn.
        ids: N, of the clips.
    """
    columns = [f"caption_{place}" for place in range(1, CUTOFF + 1)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["seed", "clip_id", *columns, "rank"])
        for seed, own in ranked.items():
            for clip, found, rank in _first_captions(own, queries.clip_of, len(ids)):
                listed = _listed(queries.captions, found, CUTOFF)
                writer.writerow([seed, ids[clip], *listed, rank])


def _first_captions(
    ranked: Ranked, clip_of: Tensor, clips: int
) -> Iterator[tuple[int, list[int], int | str]]:
    """Each clip, its first captions, and the rank of the best of its own."""
    owned: dict[int, list[int]] = {}
    owner = clip_of.tolist()
    for caption, clip in enumerate(owner):
        owned.setdefault(clip, []).append(caption)
    ranks = ranked.ranks.caption.tolist()
    turned = [member.turned() for member in ranked.members]
    for part in blocks(clips, len(clip_of)):
        similarity = mean_similarity(turned, part)
        others = torch.arange(part.start, part.stop)[:, None] != clip_of
        similarity = torch.where(others.to(similarity.device), similarity, -torch.inf)
        best = similarity.topk(min(CUTOFF, len(clip_of)), dim=1).indices.tolist()
        for clip, found in zip(range(clips)[part], best, strict=True):
            mine = sorted(owned.get(clip, ()), key=lambda caption: ranks[caption])
            listed = [caption for caption in found if owner[caption] != clip]
            for caption in mine:  # by rank, so that each pushes the later ones behind it
                if ranks[caption] <= CUTOFF:
                    listed.insert(ranks[caption] - 1, caption)
            yield clip, listed[:CUTOFF], ranks[mine[0]] if mine else ""


def write_blind_ranking(
    path: Path,
    members: Mapping[int, Sequence[Embeddings]],
    queries: Queries,
    names: Sequence[str],
) -> None:
    """As DCASE's retrieval tasks have it, for ten clips or sixteen: caption, fname_1 … fname_16.

    Of equally similar clips the one that is first in the set is first.

    Args:
        members: by seed; a row a caption for each in turn.
        names: N, of the clips' files.
    """
    with _written(path, BLIND_CUTOFF) as writer:
        for seed, own in members.items():
            for part in blocks(len(queries.captions), len(names)):
                similarity = finite(mean_similarity(own, part))
                order = similarity.argsort(dim=1, descending=True, stable=True)
                best = order[:, :BLIND_CUTOFF].tolist()
                for caption, found in zip(queries.captions[part], best, strict=True):
                    writer.writerow([seed, caption, *_listed(names, found, BLIND_CUTOFF)])


@contextmanager
def _written(path: Path, places: int, behind: Sequence[str] = ()) -> Iterator[Any]:
    """A writer of CSV rows, below a header."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        columns = [f"fname_{place}" for place in range(1, places + 1)]
        writer.writerow(["seed", "caption", *columns, *behind])
        yield writer


def _listed(names: Sequence[str], found: Sequence[int], places: int) -> list[str]:
    """Names of the clips that were found; empty cells where there are fewer."""
    return [*(names[clip] for clip in found), *[""] * (places - len(found))]


def first_clips(similarity: Tensor, ranks: Tensor, clip_of: Tensor) -> Tensor:
    """(m, 10), or fewer where there are fewer clips: the first clips of each caption.

    The right clip is put at its rank, after equally similar ones, so that the file agrees with the
    scores.

    Args:
        similarity: (m, N), overwritten.
        ranks: (m,) int64, of the right clip, from 1.
        clip_of: (m,) int64, the right clip.
    """
    places = min(CUTOFF, similarity.shape[1])
    similarity.scatter_(1, clip_of[:, None], -torch.inf)
    others = similarity.topk(places, dim=1).indices  # the right one is last, or not among them
    place, right = torch.arange(places), ranks[:, None] - 1
    shifted = torch.where(place < right, others, others.roll(1, dims=1))
    return torch.where(place == right, clip_of[:, None], shifted)


def table(found: Mapping[str, Mapping[str, float]], around: Mapping[str, Intervals]) -> str:
    """One row a system; shares × 100, as papers print them.

    Args:
        found: by system and metric, means over seeds. around: the intervals; of a blind set none.
    """
    if not any(found.values()):
        return f"ranked by {', '.join(found)}; no scores: of a blind set the answers are not known"
    width = max(map(len, found)) + 2
    lines = []
    for way, title in (("t2a", "text → audio"), ("a2t", "audio → text")):
        heads = ("R@1", "R@5", "R@10", "mAP@10", "median")
        rows = {system: _cells(way, found[system], around.get(system, {})) for system in found}
        columns = [
            max(len(head) + 4, *(len(cells[at]) + 2 for cells in rows.values()))
            for at, head in enumerate(heads)
        ]
        for name, cells in ((title, heads), *rows.items()):
            joined = "".join(f"{cell:>{w}}" for cell, w in zip(cells, columns, strict=True))
            lines.append(f"{name:<{width}}{joined}")
    return "\n".join([*lines, *([PLUS_MINUS] if any("±" in line for line in lines) else ())])


def _cells(way: str, values: Mapping[str, float], around: Intervals) -> list[str]:
    cells = []
    for name in COLUMNS:
        metric = f"{way}_{name}"
        shown = f"{values[metric]:g}" if "median" in name else f"{100 * values[metric]:.2f}"
        cells.append(shown + plus_minus(around.get(metric), 1 if "median" in name else 100))
    return cells
