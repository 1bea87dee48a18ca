"""MACS (Martin & Mesaros, 2021): several annotators' captions and tags of urban scenes.

``MACS.yaml`` (zenodo.org/records/5114771) lists the clips: a file name, and of each annotator one
sentence and tags; the tags become the clip's events. The sound is TAU Urban Acoustic Scenes 2019
development (zenodo.org/records/2589280), in ``audio/`` or in the folder that its archives make.
MACS has no splits of its own: all of it is development.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.config.datasets import MacsDatasetConfig
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.recordings import Recording, files_by_stem, find_file, manifest
from pipeline.corpora.tables import checked_name
from pipeline.errors import EarwitnessError
from pipeline.storage.places import folder_at
from pipeline.yaml_files import read_yaml

TABLE = "MACS.yaml"
FOLDERS = ("audio", "TAU-urban-acoustic-scenes-2019-development/audio")
SPLIT = "development"


def prepare(
    name: str, settings: MacsDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: the table or the sound cannot be used; see also recordings.py.
    """
    root = folder_at(base, settings.root)
    table = root / TABLE
    if not table.exists():
        raise EarwitnessError(
            f"dataset {name}: no {TABLE} in {root}; correct its root, or set fetch: true, or get "
            "it from zenodo.org/records/5114771"
        )
    folder = next((folder for folder in FOLDERS if (root / folder).is_dir()), None)
    if folder is None:
        raise EarwitnessError(
            f"dataset {name}: no {FOLDERS[0]}/ or {FOLDERS[1]}/ in {root}; set fetch: true, or put "
            "the sound of TAU Urban Acoustic Scenes 2019 development there "
            "(zenodo.org/records/2589280)"
        )
    files = files_by_stem(root / folder)
    recordings = [
        Recording(SPLIT, f"{folder}/{find_file([file_name], files)}", captions, tags)
        for file_name, captions, tags in _rows(table)
    ]
    longest = settings.longest_minutes
    return manifest(name, settings.root, recordings, base, settings.bad_audio, progress, longest)


def file_names(table: Path) -> list[str]:
    """Of the recordings that ``MACS.yaml`` has captions of.

    Raises:
        EarwitnessError: the table cannot be used.
    """
    return [file_name for file_name, _, _ in _rows(table)]


def _rows(path: Path) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """File name, captions and tags of each clip."""
    seen: set[str] = set()
    for number, entry in enumerate(_entries(path), 1):
        where = f"{path}: entry {number}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("filename"), str):
            raise EarwitnessError(f"{where} has no filename; correct it")
        file_name = checked_name(entry["filename"], "filename", where)
        where = f"{where} ({file_name!r})"
        if file_name in seen:
            raise EarwitnessError(f"{where} occurs twice; remove one")
        seen.add(file_name)
        annotations = entry.get("annotations") or []
        if not isinstance(annotations, list) or not all(
            isinstance(one, Mapping) and isinstance(one.get("sentence"), str) for one in annotations
        ):
            raise EarwitnessError(f"{where} has an annotation without a sentence; correct it")
        captions = [" ".join(one["sentence"].split()) for one in annotations]
        if not any(captions):
            raise EarwitnessError(f"{where} has no caption; write one or remove it")
        tags = [tag for one in annotations for tag in _tags(one, where)]
        yield file_name, tuple(filter(None, captions)), tuple(dict.fromkeys(tags))


def _entries(path: Path) -> list[Any]:
    """The list ``files``, every scalar as the text that is written: ``1984`` is a caption too."""
    content = read_yaml(path, "correct it", YAML(typ="base", pure=True))
    entries = content.get("files") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise EarwitnessError(f"{path}: no list of files in it; give MACS's own {TABLE}")
    return entries


def _tags(annotation: Mapping[str, Any], where: str) -> list[str]:
    tags = annotation.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise EarwitnessError(f"{where} has tags that are no list of words; correct them")
    return [tag.strip() for tag in tags if tag.strip()]
