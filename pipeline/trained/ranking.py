"""Each retrieval system ranks a split's clips by its captions, and its captions by its clips.

A system is one retriever or several, whose similarities are averaged (SJTU 3), or a captioning
system (CMU 3.2; pipeline/trained/caption_ranking.py). N clips, M captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pipeline.config.plans import RankingPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import caption_ids, open_stores
from pipeline.files import write_json
from pipeline.metrics.intervals import Intervals, SeedScores, as_json, intervals
from pipeline.metrics.over_seeds import mean_over_seeds
from pipeline.metrics.resampling import Measured
from pipeline.metrics.retrieval import Embeddings, chance_scores, ensemble_ranks, scores
from pipeline.metrics.retrieval_clips import QueryRanks, clip_sums
from pipeline.metrics.tables import ScoreFolders, remove_others
from pipeline.metrics.yardsticks import PREFIX
from pipeline.trained.caption_ranking import embed_captioned
from pipeline.trained.ranking_files import (
    Queries,
    Ranked,
    write_blind_ranking,
    write_ranking,
    write_sound_ranking,
)
from pipeline.trained.retriever import load_retriever

CHANCE = PREFIX + "chance"
SOUND = "sound"  # the folder of rankings the other way, of captions by clips
Scores = dict[str, dict[str, float]]


def rank(
    plan: RankingPlan,
    manifest: Manifest,
    *,
    retrievers: Path,
    features: Path,
    predictions: Path,
    folders: ScoreFolders,
    device: str | torch.device = "auto",
) -> tuple[Scores, dict[str, Intervals]]:
    """Ranks with every system and seed, and writes the rankings, scores and intervals.

    A blind set has no scores: its metrics are the numbers of clips and queries alone.

    Args:
        retrievers: folder of the trained retrievers; see :mod:`pipeline.model_folders`.
        features: folder of the dataset's feature files.
        predictions: folder of the dataset's captions, for systems that rank by them.
        folders: get ``<system>.json``, ``<system>.json`` and ``<system>.csv``, a row a caption (see
            :func:`pipeline.trained.ranking_files.write_ranking`), and ``yardstick_chance.json``;
            and ``sound/<system>.csv``, a row a clip.

    Returns:
        The systems' scores, means over their seeds, and chance; and the intervals.

    Raises:
        EarwitnessError: see :func:`rank_systems`.
    """
    places = {"retrievers": retrievers, "features": features, "predictions": predictions}
    clips = manifest.recordings(plan.split)
    queries = queries_of(manifest.asked(plan.split))
    names = file_names(clips)
    counts = {"N": len(clips), "captions": len(queries.captions)}
    if manifest.blind:
        embedded = embed_systems(plan, manifest, **places, device=device)
        for system, each in embedded.items():
            write_blind_ranking(folders.clips / f"{system}.csv", each, queries, names)
        found: Scores = {system: {} for system in embedded}
        around: dict[str, Intervals] = {}
    else:
        ranked = rank_systems(plan, manifest, **places, device=device)
        found, around = _scores(plan, ranked, queries, len(clips))
        ids = [clip.clip_id for clip in clips]
        for system, seeds in ranked.items():
            write_ranking(folders.clips / f"{system}.csv", seeds, queries, names, ids)
            write_sound_ranking(folders.clips / SOUND / f"{system}.csv", seeds, queries, ids)
    _write(found, around, counts, folders, plan)
    return found, around


def _scores(
    plan: RankingPlan, ranked: Mapping[str, Mapping[int, Ranked]], queries: Queries, clips: int
) -> tuple[Scores, dict[str, Intervals]]:
    """Of all systems, and of chance: the means over seeds, and the intervals."""
    systems = {name: _scored(own, queries, clips) for name, own in ranked.items()}
    chance = chance_scores(queries.clip_of, clips)
    systems[CHANCE] = {plan.seed: SeedScores(chance, Measured({}))}
    found = {
        name: mean_over_seeds([own.corpus for own in seeds.values()])
        for name, seeds in systems.items()
    }
    return found, intervals(systems, plan.resamples)


def _scored(seeds: Mapping[int, Ranked], queries: Queries, clips: int) -> dict[int, SeedScores]:
    owner = queries.clip_of.numpy()
    found = {}
    for seed, own in seeds.items():
        ranks = QueryRanks(own.ranks.clip.cpu().numpy(), own.ranks.caption.cpu().numpy())
        (sums,) = clip_sums([ranks], owner, clips)
        found[seed] = SeedScores(own.scores, Measured(sums))
    return found


def _write(
    found: Scores,
    around: Mapping[str, Intervals],
    counts: dict[str, int],
    folders: ScoreFolders,
    plan: RankingPlan,
) -> None:
    for folder in folders:  # which DVC expects, also where there is no system
        folder.mkdir(parents=True, exist_ok=True)
    for system, values in found.items():
        write_json(folders.metrics / f"{system}.json", counts | values)
    for system, own in around.items():
        seeds = [*plan.seeds.get(system, (plan.seed,))]
        values = as_json(own, counts["N"], seeds, plan.resamples)
        write_json(folders.intervals / f"{system}.json", values)
    remove_others(folders.metrics, "json", found)
    remove_others(folders.clips, "csv", found)
    remove_others(folders.clips / SOUND, "csv", found)
    remove_others(folders.intervals, "json", around)


def rank_systems(
    plan: RankingPlan,
    manifest: Manifest,
    *,
    retrievers: Path,
    features: Path,
    predictions: Path,
    device: str | torch.device = "auto",
) -> dict[str, dict[int, Ranked]]:
    """Every system's ranks by seed, of a dataset that is not blind.

    Raises:
        EarwitnessError: see :func:`embed_systems`.
    """
    places = {"retrievers": retrievers, "features": features, "predictions": predictions}
    clip_of = queries_of(manifest.asked(plan.split)).clip_of
    ranked: dict[str, dict[int, Ranked]] = {}
    for system, seeds in embed_systems(plan, manifest, **places, device=device).items():
        ranked[system] = {}
        for seed, embeddings in seeds.items():
            ranks = ensemble_ranks(embeddings, clip_of, plan.ties)
            ranked[system][seed] = Ranked(embeddings, ranks, scores(ranks, clip_of))
    return ranked


def embed_systems(
    plan: RankingPlan,
    manifest: Manifest,
    *,
    retrievers: Path,
    features: Path,
    predictions: Path,
    device: str | torch.device = "auto",
) -> dict[str, dict[int, list[Embeddings]]]:
    """Every system's embeddings by seed. A retriever in several systems is loaded, and embeds, once
    with each seed; a space once.

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
    embedded: dict[Path, Embeddings] = {}

    def member(name: str, seed: int) -> Embeddings:
        folder = retrievers / name / ("" if name in plan.spaces else str(seed))
        if folder not in embedded:
            embedded[folder] = embed(folder, features, clips, asked, device)
        return embedded[folder]

    similar = {
        system: {seed: [member(name, seed) for name in names] for seed in plan.seeds[system]}
        for system, names in plan.systems.items()
    }
    ids = [clip.clip_id for clip in clips]
    for system, captioned in plan.captioned.items():
        seeds = plan.seeds[system]
        embeddings = embed_captioned(
            captioned, ids, queries.ids, features, predictions, seeds, device
        )
        similar[system] = {seed: [own] for seed, own in embeddings.items()}
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
