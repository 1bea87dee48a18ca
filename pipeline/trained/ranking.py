"""Each retrieval system ranks a split's clips by its captions, and its captions by its clips.

A system is one retriever or several, whose similarities are averaged (SJTU 3), or a captioning
system (CMU 3.2; pipeline/trained/caption_ranking.py). N clips, M captions.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.config.plans import RankingPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import caption_ids, open_stores
from pipeline.files import replacing, write_json
from pipeline.metrics.retrieval import (
    CUTOFF,
    Embeddings,
    Ranks,
    blocks,
    chance_scores,
    ensemble_ranks,
    finite,
    mean_similarity,
    scores,
)
from pipeline.metrics.yardsticks import PREFIX
from pipeline.trained.caption_ranking import embed_captioned
from pipeline.trained.retriever import load_retriever

CHANCE = PREFIX + "chance"
BLIND_CUTOFF = 16  # clips a query of a blind set: DCASE 2025 asks for so many, others for ten
COLUMNS = ("r1", "r5", "r10", f"map{CUTOFF}", "median_rank")

Scores = dict[str, dict[str, float]]


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
    """Ranks with every system, writes the rankings and scores, and returns the scores and chance.

    A blind set has no scores: its metrics are the numbers of clips and queries alone.

    Args:
        retrievers: folder of the trained retrievers, each in a folder of its name.
        features: folder of the dataset's feature files.
        predictions: folder of the dataset's captions, for systems that rank by them.
        rankings: gets ``<system>.csv``, a row a caption; see :func:`write_ranking`.
        metrics: gets ``<system>.json`` and ``yardstick_chance.json``.

    Raises:
        EarwitnessError: see :func:`rank_systems`.
    """
    places = {"retrievers": retrievers, "features": features, "predictions": predictions}
    clips = manifest.recordings(plan.split)
    queries = queries_of(manifest.asked(plan.split))
    names = file_names(clips)
    if manifest.blind:
        embedded = embed_systems(plan, manifest, **places, device=device)
        for system, members in embedded.items():
            write_blind_ranking(rankings / f"{system}.csv", members, queries, names)
        found: Scores = {system: {} for system in embedded}
    else:
        ranked = rank_systems(plan, manifest, **places, device=device)
        found = {system: result.scores for system, result in ranked.items()}
        found[CHANCE] = chance_scores(queries.clip_of, len(clips))
        for system, result in ranked.items():
            write_ranking(rankings / f"{system}.csv", result, queries, names)
    for folder in (rankings, metrics):  # which DVC expects, also where there is no system
        folder.mkdir(parents=True, exist_ok=True)
    counts = {"N": len(clips), "captions": len(queries.captions)}
    for system, values in found.items():
        rounded = {name: round(value, 6) for name, value in values.items()}
        write_json(metrics / f"{system}.json", counts | rounded)
    for path in (*metrics.glob("*.json"), *rankings.glob("*.csv")):
        if path.stem not in found:  # of a system that no longer exists
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
    """Every system's ranks, of a dataset that is not blind.

    Raises:
        EarwitnessError: see :func:`embed_systems`.
    """
    places = {"retrievers": retrievers, "features": features, "predictions": predictions}
    clip_of = queries_of(manifest.asked(plan.split)).clip_of
    ranked = {}
    for system, embeddings in embed_systems(plan, manifest, **places, device=device).items():
        ranks = ensemble_ranks(embeddings, clip_of, plan.ties)
        ranked[system] = Ranked(embeddings, ranks, scores(ranks, clip_of))
    return ranked


def embed_systems(
    plan: RankingPlan,
    manifest: Manifest,
    *,
    retrievers: Path,
    features: Path,
    predictions: Path,
    device: str | torch.device = "auto",
) -> dict[str, list[Embeddings]]:
    """Every system's embeddings. A retriever in several systems is loaded, and embeds, once.

    Raises:
        EarwitnessError: a retriever is not trained, features or a captioning system's captions are
            missing, or there is no caption to search by.
    """
    clips, asked = manifest.recordings(plan.split), manifest.asked(plan.split)
    queries = queries_of(asked)
    if not queries.captions:
        other = f" or give its queries in datasets.{manifest.dataset}" if manifest.blind else ""
        raise EarwitnessError(
            f"dataset {manifest.dataset}: no clip of its split '{plan.split}' has a caption, so "
            f"there is nothing to rank by; take the dataset out of retrieval_test_sets{other}"
        )
    folders = {
        (system, name): retrievers / name / ("" if name in plan.spaces else str(seeds[0]))
        for system, seeds in plan.seeds.items()
        for name in plan.systems.get(system, ())
    }
    embedded = {
        folder: embed(folder, features, clips, asked, device)
        for folder in dict.fromkeys(folders.values())
    }
    similar = {
        system: [embedded[folders[system, name]] for name in each]
        for system, each in plan.systems.items()
    }
    names = [clip.clip_id for clip in clips]
    for system, captioned in plan.captioned.items():
        seed = plan.seeds[system][0]
        similar[system] = [
            embed_captioned(captioned, names, queries.ids, features, predictions, seed, device)
        ]
    return similar


def queries_of(clips: Sequence[Clip]) -> Queries:
    """Every caption of every clip."""
    counts = torch.tensor([len(clip.captions) for clip in clips], dtype=torch.int64)
    return Queries(
        [caption for clip in clips for caption in clip.captions],
        caption_ids(clips),
        torch.arange(len(clips)).repeat_interleave(counts),
    )


def embed(
    folder: Path,
    features: Path,
    clips: Sequence[Clip],
    asked: Sequence[Clip],
    device: str | torch.device,
) -> Embeddings:
    """A retriever's embeddings of the clips, and of the captions of those ``asked``."""
    retriever = load_retriever(folder, device)
    sound, text = (
        open_stores(features, side.features) for side in (retriever.plan.sound, retriever.plan.text)
    )
    captions = retriever.text.captions([asked], [text])
    sounds = retriever.sound.stored(sound, [clip.clip_id for clip in clips])
    return retriever.pair(retriever.embed_text(captions).cpu(), retriever.embed_sound(sounds).cpu())


def file_names(clips: Sequence[Clip]) -> list[str]:
    """The clips' file names; with their folders where two clips have the same name."""
    names = [clip.file_name for clip in clips]
    return names if len(set(names)) == len(names) else [clip.path for clip in clips]


def write_ranking(path: Path, ranked: Ranked, queries: Queries, names: Sequence[str]) -> None:
    """The form of a DCASE 2022 task 6b submission: caption, fname_1 … fname_10.

    One column more, ``rank``, is the rank of the right clip. ``names``: N, of the clips.
    """
    columns = [f"fname_{place}" for place in range(1, CUTOFF + 1)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["caption", *columns, "rank"])
        for part in blocks(len(queries.captions), len(names)):
            ranks, clip_of = ranked.ranks.clip[part], queries.clip_of[part]
            first = first_clips(mean_similarity(ranked.members, part), ranks, clip_of)
            rows = zip(queries.captions[part], first.tolist(), ranks.tolist(), strict=True)
            for caption, found, rank in rows:
                listed = [names[clip] for clip in found]
                writer.writerow([caption, *listed, *[""] * (CUTOFF - len(listed)), rank])


def write_blind_ranking(
    path: Path, members: Sequence[Embeddings], queries: Queries, names: Sequence[str]
) -> None:
    """As DCASE's retrieval tasks have it, for ten clips or sixteen: caption, fname_1 … fname_16.

    Of equally similar clips the one that is first in the set is first. ``names``: N, of the clips.
    """
    columns = [f"fname_{place}" for place in range(1, BLIND_CUTOFF + 1)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["caption", *columns])
        for part in blocks(len(queries.captions), len(names)):
            similarity = finite(mean_similarity(members, part))
            order = similarity.argsort(dim=1, descending=True, stable=True)[:, :BLIND_CUTOFF]
            for caption, found in zip(queries.captions[part], order.tolist(), strict=True):
                listed = [names[clip] for clip in found]
                writer.writerow([caption, *listed, *[""] * (BLIND_CUTOFF - len(listed))])


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


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """One row a system; shares × 100, as papers print them."""
    if not any(found.values()):
        return f"ranked by {', '.join(found)}; no scores: of a blind set the answers are not known"
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
