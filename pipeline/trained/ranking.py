"""A split's clips ranked by its captions, by each retrieval system, and the other way round.

A system is one retriever or several, whose similarities are averaged (SJTU 3), or a captioning
system (CMU 3.2; pipeline/trained/caption_ranking.py). N clips, M captions.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.config.plans import RankingPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import caption_id, open_stores
from pipeline.files import replacing, write_json
from pipeline.metrics.retrieval import (
    CUTOFF,
    Embeddings,
    Ranks,
    blocks,
    chance_scores,
    ensemble_ranks,
    mean_similarity,
    scores,
)
from pipeline.metrics.yardsticks import PREFIX
from pipeline.trained.caption_ranking import embed_captioned
from pipeline.trained.retriever import load_retriever

CHANCE = PREFIX + "chance"
COLUMNS = ("r1", "r5", "r10", f"map{CUTOFF}", "median_rank")

Scores = dict[str, dict[str, float]]


class Queries(NamedTuple):
    """The captions of a split's clips, in order: M of each, and each one's clip (M,) int64."""

    captions: list[str]
    ids: list[str]  # in a file of stored text features
    clip_of: Tensor


class Ranked(NamedTuple):
    """A system's members' embeddings, and what their mean similarity gives."""

    members: list[Embeddings]
    ranks: Ranks
    scores: dict[str, float]


def rank(
    plan: RankingPlan,
    manifest: Manifest,
    *,
    retrievers: Path,
    features: Path,
    predictions: Path,
    rankings: Path,
    metrics: Path,
    device: str | torch.device = "auto",
) -> Scores:
    """Ranks with every system, writes what it found, and gives each system's scores and chance.

    Args:
        retrievers: folder of the trained ones, each in a folder of its name.
        features: folder of the dataset's feature files.
        predictions: folder of the dataset's captions, for systems that rank by them.
        rankings: gets ``<system>.csv``, a row a caption; see :func:`write_ranking`.
        metrics: gets ``<system>.json`` and ``yardstick_chance.json``.

    Raises:
        EarwitnessError: see :func:`rank_systems`.
    """
    ranked = rank_systems(
        plan,
        manifest,
        retrievers=retrievers,
        features=features,
        predictions=predictions,
        device=device,
    )
    clips = manifest.split(plan.split)
    queries = queries_of(clips)
    found = {system: own.scores for system, own in ranked.items()}
    found[CHANCE] = chance_scores(queries.clip_of, len(clips))
    names = file_names(clips)
    for system, own in ranked.items():
        write_ranking(rankings / f"{system}.csv", own, queries, names)
    counts = {"N": len(clips), "captions": len(queries.captions)}
    for system, values in found.items():
        rounded = {name: round(value, 6) for name, value in values.items()}
        write_json(metrics / f"{system}.json", counts | rounded)
    for path in (*metrics.glob("*.json"), *rankings.glob("*.csv")):
        if path.stem not in found:  # of a system that is no more
            path.unlink()
    return found


def rank_systems(
    plan: RankingPlan,
    manifest: Manifest,
    *,
    retrievers: Path,
    features: Path,
    predictions: Path,
    device: str | torch.device = "auto",
) -> dict[str, Ranked]:
    """Every system's ranks; a retriever of several systems is loaded, and embeds, once.

    Raises:
        EarwitnessError: a retriever is not trained, features or a captioning system's captions are
            missing, or no clip has captions.
    """
    clips = manifest.split(plan.split)
    queries = queries_of(clips)
    if not queries.captions:
        raise EarwitnessError(
            f"dataset {manifest.dataset}: no clip of its split '{plan.split}' has a caption, so "
            "there is nothing to rank by; take the dataset out of retrieval_test_sets"
        )
    members = dict.fromkeys(chain.from_iterable(plan.systems.values()))
    if absent := next((name for name in members if not (retrievers / name).is_dir()), None):
        raise EarwitnessError(
            f"{retrievers / absent}: no retriever; run `dvc repro train_retriever adapt`"
        )
    embedded = {name: embed(retrievers / name, features, clips, device) for name in members}
    similar = {system: [embedded[name] for name in own] for system, own in plan.systems.items()}
    names = [clip.clip_id for clip in clips]
    for system, captioned in plan.captioned.items():
        similar[system] = [
            embed_captioned(captioned, names, queries.ids, features, predictions, device)
        ]
    ranked = {}
    for system, own in similar.items():
        ranks = ensemble_ranks(own, queries.clip_of)
        ranked[system] = Ranked(own, ranks, scores(ranks, queries.clip_of))
    return ranked


def queries_of(clips: Sequence[Clip]) -> Queries:
    """Every caption of every clip."""
    pairs = [(at, number) for at, clip in enumerate(clips) for number in range(len(clip.captions))]
    return Queries(
        [clips[at].captions[number] for at, number in pairs],
        [caption_id(clips[at].clip_id, number) for at, number in pairs],
        torch.tensor([at for at, _ in pairs], dtype=torch.int64),
    )


def embed(
    folder: Path, features: Path, clips: Sequence[Clip], device: str | torch.device
) -> Embeddings:
    """A retriever's embeddings of the clips and of their captions."""
    retriever = load_retriever(folder, device)
    sound, text = (
        open_stores(features, side.features) for side in (retriever.plan.sound, retriever.plan.text)
    )
    captions = retriever.text.captions([clips], [text])
    heard = retriever.sound.stored(sound, [clip.clip_id for clip in clips])
    return retriever.pair(retriever.embed_text(captions).cpu(), retriever.embed_sound(heard).cpu())


def file_names(clips: Sequence[Clip]) -> list[str]:
    """The clips' file names, with their folders where two have the same."""
    names = [PurePosixPath(clip.path).name for clip in clips]
    return names if len(set(names)) == len(names) else [clip.path for clip in clips]


def write_ranking(path: Path, ranked: Ranked, queries: Queries, names: Sequence[str]) -> None:
    """The form of a DCASE 2022 task 6b submission: caption, fname_1 … fname_10.

    One more column, ``rank``, is the right clip's. ``names``: N, of the clips.
    """
    columns = [f"fname_{place}" for place in range(1, CUTOFF + 1)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["caption", *columns, "rank"])
        for part in blocks(len(queries.captions), len(names)):
            own, clip_of = ranked.ranks.clip[part], queries.clip_of[part]
            first = first_clips(mean_similarity(ranked.members, part), own, clip_of)
            rows = zip(queries.captions[part], first.tolist(), own.tolist(), strict=True)
            for caption, found, place in rows:
                there = [names[clip] for clip in found]
                writer.writerow([caption, *there, *[""] * (CUTOFF - len(there)), place])


def first_clips(similarity: Tensor, ranks: Tensor, clip_of: Tensor) -> Tensor:
    """(m, 10), or fewer where there are fewer, the first clips of each caption.

    The right clip stands at its rank, the last of its equals, so that the scores are the file's.

    Args:
        similarity: (m, N), overwritten.
        ranks: (m,) int64, of the right clip, from 1.
        clip_of: (m,) int64, the right clip.
    """
    places = min(CUTOFF, similarity.shape[1])
    similarity.scatter_(1, clip_of[:, None], -torch.inf)
    others = similarity.topk(places, dim=1).indices  # the right one last, or not there
    place, right = torch.arange(places), ranks[:, None] - 1
    shifted = torch.where(place < right, others, others.roll(1, dims=1))
    return torch.where(place == right, clip_of[:, None], shifted)


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """All systems, one a row; shares × 100, as papers print them."""
    width = max(map(len, found)) + 2
    lines = []
    for way, title in (("t2a", "text → audio"), ("a2t", "audio → text")):
        heads = "".join(f"{head:>9}" for head in ("R@1", "R@5", "R@10", "mAP@10", "median"))
        lines.append(f"{title:<{width}}{heads}")
        for system, values in found.items():
            cells = [values[f"{way}_{name}"] for name in COLUMNS]
            shares = "".join(f"{100 * cell:>9.2f}" for cell in cells[:-1])
            lines.append(f"{system:<{width}}{shares}{cells[-1]:>9g}")
    return "\n".join(lines)
