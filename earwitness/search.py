"""Sound files in the order in which they fit a query: ``earwitness search "a dog barks" FILE…``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from earwitness.sound import Entries, decodable, listener
from pipeline.config.params import load_params
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.metrics.retrieval import mean_similarity
from pipeline.trained.retriever import TrainedRetriever, load_retriever

SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"))
CHUNK = 128  # files whose features are held at once


def search_files(
    query: str, files: Sequence[Path], system: str | None, params: Path, data: Path
) -> tuple[list[tuple[Path, float]], list[str]]:
    """The files that can be decoded, best first, and the reasons of those that cannot.

    A file's score is the mean over the system's retrievers of its similarity with the query: the
    cosine, or what else they were trained with.

    Args:
        files: sound files, and folders, in which those with a sound file's ending are taken.
        system: of ``retrieval_systems``; None takes the only or first one that has retrievers.
        params: ``params.yaml``. data: the repository's data folder.

    Raises:
        EarwitnessError: no such system, it is not trained yet, or the query is empty.
    """
    if not query.strip():
        raise EarwitnessError("the query is empty; say what to search for")
    members = _members(system, params, data)
    there, empty = sound_files(files)
    sound, failed = decodable(there)
    failed = [*empty, *failed]
    if not sound:
        return [], failed
    queries = [member.embed_text(member.text.queries([query])) for member in members]
    scores = _scores(members, queries, sound, data).tolist()
    return sorted(zip(sound, scores, strict=True), key=lambda pair: (-pair[1], pair[0])), failed


def sound_files(files: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The files, each once, with those of folders in their place; and the folders without any.

    A folder is searched to its depth, in order of name; what is hidden, and files without a sound
    file's ending, are passed over.
    """
    found: list[Path] = []
    empty = []
    for path in files:
        own = _walk(path) if path.is_dir() else [path]
        found += own
        if not own:
            empty.append(f"{path}: no sound files in this folder ({' '.join(sorted(SUFFIXES))})")
    return [*dict.fromkeys(found)], empty


def _walk(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def _members(system: str | None, params: Path, data: Path) -> list[TrainedRetriever]:
    systems = load_params(params).retrieval_systems
    if not systems:
        raise EarwitnessError(f"{params}: retrieval_systems is empty; add one and run `dvc repro`")
    heard = [name for name, own in systems.items() if own.retrievers]
    name = system or next(iter(heard or systems))
    if name not in systems:
        raise EarwitnessError(f"no retrieval system '{name}'{nearest(name, systems)}")
    if name not in heard:
        raise EarwitnessError(
            f"retrieval system '{name}' ranks by captions, which files that are searched have not; "
            "name one of retrievers"
        )
    folder = data / "models" / "retrievers"
    return [load_retriever(folder / member) for member in systems[name].retrievers]


def _scores(
    members: Sequence[TrainedRetriever],
    queries: Sequence[Tensor],
    sound: Sequence[Path],
    data: Path,
) -> Tensor:
    """(N,) of the files."""
    hear: dict[str, Callable[[Sequence[Path]], Entries]] = {}
    for member in members:
        for feature in member.sound.features:
            if feature not in hear:
                hear[feature] = listener(member.plan.datasets[0], feature, data)
    scores = []
    with tqdm(total=len(sound), unit="file", disable=None) as bar:
        for at in range(0, len(sound), CHUNK):
            chunk = sound[at : at + CHUNK]
            heard = {feature: listen(chunk) for feature, listen in hear.items()}
            scores.append(_chunk_scores(members, queries, heard))
            bar.update(len(chunk))
    return torch.cat(scores)


def _chunk_scores(
    members: Sequence[TrainedRetriever], queries: Sequence[Tensor], heard: dict[str, Entries]
) -> Tensor:
    similar = []
    for member, query in zip(members, queries, strict=True):
        sound = member.sound.made([heard[name] for name in member.sound.features])
        similar.append(member.pair(query.cpu(), member.embed_sound(sound).cpu()))
    return mean_similarity(similar, slice(None))[0]
