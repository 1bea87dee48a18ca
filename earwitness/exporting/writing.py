"""Writes a trained system as one folder, whole or not at all: ``earwitness export``."""

from __future__ import annotations

import csv
import os
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml.comments import CommentedMap

from earwitness import params_file
from earwitness.captioning import CaptioningSystem
from earwitness.exporting.card import write_card
from earwitness.exporting.parts import SystemParts, datasets, parts_of
from earwitness.exporting.reading import (
    CARD,
    MANIFEST,
    PARAMS,
    ExportedSystem,
    is_export,
    leads_out,
)
from earwitness.exporting.weights import Relocation
from earwitness.loading import load
from earwitness.places import place_of
from earwitness.recipes import prune
from earwitness.repository import Repository
from earwitness.training_data import is_synthetic
from pipeline.config.exported import ExportConfig, ExportedFileConfig
from pipeline.config.params import parse_params
from pipeline.config.plans import CaptionerPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, caption_ids, write_store
from pipeline.files import read_json, replacing_folder, sha256, write_atomic, write_json
from pipeline.model_folders import PLAN
from pipeline.trained.folder import CURVES, FORM

COLUMNS = ("seed", "clip_id", "caption", "log_prob")  # of a table of captions
LEARNED_FROM = ("development", "validation")  # the splits that a text memory may have
HEAD = """\
# What this exported system was made from. Only `earwitness` reads it, and it is checked by
# manifest.json: do not edit it.
"""
ONNX = "onnx"


def export(
    name: str,
    folder: str | Path,
    *,
    root: str | Path | None = None,
    overwrite: bool = False,
    weights: bool = True,
    onnx: bool = False,
    seed: int | None = None,
) -> Path:
    """Writes a system of ``params.yaml`` as one folder, which :func:`earwitness.load` takes.

    Args:
        name: of ``systems`` or ``retrieval_systems``.
        folder: is made; one that is there must be an earlier export.
        root: the repository; found as :func:`earwitness.load` does.
        overwrite: takes the place of an earlier export.
        weights: copies weights that the parameters name by a path; else they are left out, and the
            manifest says what to put where.
        onnx: writes a retrieval system's towers as ONNX too.
        seed: that its models were trained with; None: the first that the system has.

    Returns:
        The folder.

    Raises:
        EarwitnessError: no such system, or not trained; the folder is there; or a tower cannot be
            written as ONNX.
    """
    target = Path(os.path.realpath(Path(folder).expanduser()))
    _check_target(target, folder, overwrite)
    place = place_of(name, root)
    if place.model is not None or isinstance(place.repository, ExportedSystem):
        raise EarwitnessError(f"{name}: give the name of a system of params.yaml")
    repository = place.repository
    system = load(name, root=repository.root, device="cpu", seed=seed)
    if onnx and isinstance(system, CaptioningSystem):
        raise EarwitnessError(
            f"{name}: a captioning system, and ONNX is of retrieval systems' towers; leave out onnx"
        )
    parts = parts_of(system, repository)
    with replacing_folder(target) as new:
        moves = Relocation(repository, new, weights)
        for part in parts.frozen:
            moves.add(part)
        _write_params(name, system, repository, moves)
        _write_models(parts, moves)
        _write_data(name, system.seed, parts, repository, new)
        if onnx:
            from earwitness.exporting.towers import write_towers

            write_towers(system, parts, new / ONNX)  # type: ignore[arg-type]
        kind = "captioning" if isinstance(system, CaptioningSystem) else "retrieval"
        manifest = ExportConfig(
            made_by=f"earwitness {metadata.version('earwitness')}",
            kind=kind,
            system=name,
            files=_listed(new),
            left_out=moves.left_out,
            named=tuple(moves.named.values()),
        )
        write_json(new / MANIFEST, manifest.model_dump(mode="json"))
        write_card(new / CARD, manifest, system, parts, repository)
    return target


def _check_target(target: Path, given: str | Path, overwrite: bool) -> None:
    if not target.exists():
        above = target.parent
        while not above.exists():
            above = above.parent
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise EarwitnessError(f"{given}: cannot be written below {above}; give another folder")
        return
    if not is_export(target):
        raise EarwitnessError(
            f"{given}: is there, and no earlier export; give a folder that is not there"
        )
    if not overwrite:
        raise EarwitnessError(f"{given}: is there; give another folder, or say overwrite")


def _write_params(name: str, system: Any, repository: Repository, moves: Relocation) -> None:
    """The parameters of this one system, for any machine."""
    captions = isinstance(system, CaptioningSystem)
    params = repository.params()
    values = params.model_dump(mode="json")
    del values["hardware"]  # of this machine
    for section, used in (("systems", captions), ("retrieval_systems", not captions)):
        values[section] = {name: {**values[section][name], "seeds": [system.seed]}} if used else {}
    values["test_sets"] = [each for each in values["test_sets"] if captions]
    values["retrieval_test_sets"] = []
    whole = _commented(moves.moved(values))
    prune(whole)
    own = parse_params(_plain(whole), str(repository.params_file))
    params_file.complete(whole, own)
    write_atomic(moves.place / PARAMS, params_file.text(whole, HEAD))


def _commented(value: Any) -> Any:
    """As ruamel holds it, which can have comments."""
    if isinstance(value, dict):
        return CommentedMap({key: _commented(own) for key, own in value.items()})
    return value


def _plain(value: Any) -> Any:
    return {key: _plain(own) for key, own in value.items()} if isinstance(value, dict) else value


def _write_models(parts: SystemParts, moves: Relocation) -> None:
    """The models' folders, without what only training reads, and the plans of their features."""
    repository, new = moves.repository, moves.place
    for folder in parts.models:
        target = new / folder.relative_to(repository.root)
        target.mkdir(parents=True)
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name == CURVES or not path.is_file():
                continue
            match path.name:
                case "plan.json" | "finetuning.json":
                    write_json(target / path.name, moves.moved(read_json(path, "train it again")))
                case "model.json":
                    write_json(target / FORM, _unnamed(read_json(path, "train it again")))
                case _:
                    shutil.copyfile(path, target / path.name)
        assert (target / PLAN).is_file()
    for path, plan in parts.extraction.items():
        values = moves.moved(plan.model_dump(mode="json"))
        write_json(new / path.relative_to(repository.root), values)


def _unnamed(form: Any) -> Any:
    """A model's form without the folder that a pretrained network was once read from."""
    if isinstance(form, dict):
        return {
            key: "" if key == "_name_or_path" and leads_out(str(value)) else _unnamed(value)
            for key, value in form.items()
        }
    return [_unnamed(value) for value in form] if isinstance(form, list) else form


def _write_data(
    name: str, seed: int, parts: SystemParts, repository: Repository, new: Path
) -> None:
    """What is known of the data: kinds of synthetic sound, text memories, captions of test sets."""
    params = repository.params()
    memories = {plan.dataset for plan in parts.memories}
    for dataset in dict.fromkeys(datasets(parts)):
        if dataset in memories or is_synthetic(dataset, params, repository):
            _write_clips(dataset, dataset in memories, repository, new)
    for plan in parts.memories:
        _write_memory(plan, repository, new)
    captioning = any(isinstance(plan, CaptionerPlan) for plan in parts.models.values())
    for dataset in params.test_sets if captioning else ():
        path = f"data/predictions/{dataset}/{name}.csv"
        if (repository.root / path).is_file():
            _write_predictions(repository.root / path, new / path, seed)


def _write_clips(dataset: str, memory: bool, repository: Repository, new: Path) -> None:
    """A manifest with neither sound nor sentences: names and numbers of captions for a text
    memory, and the kinds of synthetic sound.
    """
    path = repository.data / f"corpora/{dataset}.json"
    if not path.is_file():
        return
    manifest = Manifest.load(path)
    kinds = {event for clip in manifest.clips for event in clip.events if manifest.synthetic}
    clips = [Clip("kinds", "", "", 0.0, (), tuple(sorted(kinds)))] if kinds else []
    clips += [
        Clip(clip.clip_id, clip.split, "", 0.0, ("",) * len(clip.captions))
        for clip in manifest.clips
        if memory and clip.split in LEARNED_FROM
    ]
    target = new / path.relative_to(repository.root)
    target.parent.mkdir(parents=True, exist_ok=True)
    replace(manifest, root="", clips=tuple(clips), skipped=()).save(target)


def _write_memory(plan: CaptionerPlan, repository: Repository, new: Path) -> None:
    """The embeddings of the captions that a captioner may have learned from."""
    manifest = Manifest.load(repository.data / f"corpora/{plan.dataset}.json")
    store = FeatureStore.open(repository.data / f"features/{plan.dataset}/{plan.text}.h5")
    target = new / store.path.relative_to(repository.root)
    if target.exists():
        return
    at = {own: number for number, own in enumerate(store.ids)}
    learned = (clip for clip in manifest.clips if clip.split in LEARNED_FROM)
    ids = [own for own in caption_ids(learned) if own in at]
    rows = np.array([at[own] for own in ids]) * store.views
    blocks = (store.entry(at[own]) for own in ids)
    target.parent.mkdir(parents=True, exist_ok=True)
    # of int8 what it stands for, so that the memory is read as it was here
    header = replace(store.header, settings={}, views=1, store="float16")
    write_store(target, header, ids, store.lengths[rows], store.width, blocks)


def _write_predictions(source: Path, target: Path, seed: int) -> None:
    """A test set's captions, without the candidates; ``unsure`` is measured by them."""
    with source.open(encoding="utf-8", newline="") as stream:
        rows = [
            [row.get(column) for column in COLUMNS]
            for row in csv.DictReader(stream)
            if row.get("seed") == str(seed)
        ]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])


def _listed(folder: Path) -> dict[str, ExportedFileConfig]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): ExportedFileConfig(
            sha256=sha256(path), bytes=path.stat().st_size
        )
        for path in files
    }
