"""Captions of any sound files by a trained system: ``earwitness caption FILE…``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from earwitness.sound import decodable, encode
from pipeline.config.params import load_params, with_settings
from pipeline.config.section import nearest
from pipeline.decoding.ensemble import Ensemble, check_widths, predict_ensemble
from pipeline.decoding.text_memory import open_memory, read_sound
from pipeline.errors import EarwitnessError
from pipeline.planning.lookup import encoded_features
from pipeline.tensors import Padded
from pipeline.trained.captioner import load_captioner

Entries = list[NDArray[np.float16]]  # (T, D) of each file
Feature = tuple[str, str]  # the dataset that it is stored for, and its name


def caption_files(
    files: Sequence[Path], system: str | None, params: Path, data: Path
) -> tuple[list[tuple[Path, str]], list[str]]:
    """Captions of the files that can be decoded, and the reasons of those that cannot.

    Args:
        system: of ``params.yaml``; None takes its only or first one.
        params: ``params.yaml``. data: the repository's data folder.

    Raises:
        EarwitnessError: no such system, or it is not trained yet.
    """
    settings = load_params(params)
    if not settings.systems:
        raise EarwitnessError(f"{params}: systems is empty; add one and run `dvc repro`")
    name = system or next(iter(settings.systems))
    if name not in settings.systems:
        raise EarwitnessError(f"no system '{name}'{nearest(name, settings.systems)}")
    chosen = settings.systems[name]
    own = with_settings(settings, chosen.set, f"{params}: systems.{name}.set")
    decoding = own.decoding
    folder = data / "models" / "captioners"
    members = tuple(load_captioner(folder / member) for member in chosen.captioners)
    ensemble = Ensemble(members, chosen.combine)
    sound, failed = decodable(files)
    if not sound:
        return [], failed
    features = hear(sound, ensemble, encoded_features(settings), data)
    folders = data / "corpora", data / "features"
    memories = [open_memory(own.memory, m.plan, *folders, ensemble.device) for m in members]
    gathered = _batches(features, ensemble, len(sound), decoding.batch)
    batches = (read_sound(memories, batch) for batch in gathered)
    captions = [c.text for batch in predict_ensemble(ensemble, batches, decoding) for c in batch]
    return list(zip(sound, captions, strict=True)), failed


def hear(
    sound: Sequence[Path], ensemble: Ensemble, encoded: Mapping[str, str], data: Path
) -> dict[Feature, Entries]:
    """Every feature that a member reads, by the encoders and code of its training set.

    Args:
        sound: decodable files.
        encoded: the features that a retriever makes, and the retriever of each.
        data: the repository's data folder.

    Raises:
        EarwitnessError: an encoder is not there, or gives another width than was trained on.
    """
    wanted = dict.fromkeys(
        (m.plan.dataset, f) for m in ensemble.captioners for f in m.plan.features
    )
    frozen = {key: encode(sound, *key, data) for key in wanted if key[1] not in encoded}
    recoded = {key for key in wanted if key[1] in encoded}
    names = {key: encoded[key[1]] for key in recoded}
    features = frozen | (_recoded(sound, names, frozen, data) if recoded else {})
    for member in ensemble.captioners:
        own = [features[member.plan.dataset, feature] for feature in member.plan.features]
        check_widths(member, [each[0].shape[1] for each in own], member.plan.features)
    return features


def _recoded(
    sound: Sequence[Path],
    wanted: Mapping[Feature, str],
    frozen: Mapping[Feature, Entries],
    data: Path,
) -> dict[Feature, Entries]:
    """Frames or embeddings of retrievers, from the stored features that they read."""
    from pipeline.trained.encoding import recode_features
    from pipeline.trained.retriever import load_retriever

    stored = dict(frozen)
    features: dict[Feature, Entries] = {}
    for (dataset, feature), name in sorted(wanted.items()):
        retriever = load_retriever(data / "models" / "retrievers" / name)
        for read in retriever.plan.features:  # several towers may read the same
            if (dataset, read) not in stored:
                stored[dataset, read] = encode(sound, dataset, read, data)
        own = [stored[dataset, read] for read in retriever.plan.features]
        if feature == name:
            features[dataset, feature] = recode_features(own[0], retriever)
        else:
            embeddings = retriever.embed_features(own).half().numpy()
            features[dataset, feature] = [row[None] for row in embeddings]
    return features


def _batches(
    features: Mapping[Feature, Entries], ensemble: Ensemble, files: int, size: int
) -> Iterator[list[tuple[Padded, ...]]]:
    """M × E × (B, T, D), ``size`` files at a time."""
    for at in range(0, files, size):
        values = {
            key: _padded(entries[at : at + size]).to(ensemble.device)
            for key, entries in features.items()
        }
        yield [
            tuple(values[member.plan.dataset, feature] for feature in member.plan.features)
            for member in ensemble.captioners
        ]


def _padded(entries: Entries) -> Padded:
    """(B, T, D) float32 of (T, D) entries."""
    values = [torch.from_numpy(entry).float() for entry in entries]
    lengths = torch.tensor([len(entry) for entry in entries])
    return Padded(torch.nn.utils.rnn.pad_sequence(values, batch_first=True), lengths)
