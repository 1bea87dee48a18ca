"""Fingerprints of what lies outside the repository: the files of datasets and of models.

A fingerprint says what the content is and nothing else, no time and no path of a machine, so that
it is the same to the byte wherever the content is; so DVC runs again what depends on it exactly
where the content changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.datasets import BaseDatasetConfig
from pipeline.config.params import Params
from pipeline.files import write_json
from pipeline.outside.digests import UNREADABLE, Digests, digest_of, list_files
from pipeline.outside.named import dataset_files, model_files
from pipeline.storage.listing import sources
from pipeline.storage.places import is_folder
from pipeline.storage.urls import is_pattern

# name → SHA-256 of a file, or of a folder's files and how many they are; what is missing is not in
Fingerprint = dict[str, Any]


def look_at_dataset(settings: BaseDatasetConfig, base: Path, digests: Digests) -> Fingerprint:
    """Of all that `prepare` reads of a dataset; empty where it reads nothing, or nothing is there.

    Of object storage one listing is read and no file: an ETag and a size stand for the content.

    Args:
        base: the folder that a relative ``root`` lies in.

    Raises:
        EarwitnessError: the root is in object storage, or is tar shards, and cannot be listed.
    """
    given = getattr(settings, "root", "")
    root = base / given
    if not is_folder(root, given):
        return _look_at_stored(settings, base, given, digests)
    found: Fingerprint = {}
    for name in dataset_files(settings):
        files = list_files(root / name)
        if content := digests.of_files(root / name, files):
            found[name] = content.get(".") or _total(content)
    return found


def _look_at_stored(
    settings: BaseDatasetConfig, base: Path, root: str, digests: Digests
) -> Fingerprint:
    versions = {
        name: one.version or digests.of(Path(one.place)) or UNREADABLE
        for name, one in sources(base, root).items()
    }
    if is_pattern(root):
        return {".": _total(versions)}
    found: Fingerprint = {}
    for name in dataset_files(settings):
        own = {n: v for n, v in versions.items() if name == "." or n.startswith(f"{name}/")}
        if name in versions or own:
            found[name] = versions.get(name) or _total(own)
    return found


def _total(digests: Mapping[str, str]) -> dict[str, Any]:
    return {"files": len(digests), "sha256": digest_of(digests)}


def look_at_models(params: Params, base: Path, digests: Digests) -> Fingerprint:
    """Of all weights and tokenizers that the parameters name by a path.

    Args:
        base: the folder that relative paths lie in.
    """
    names = model_files(params)
    return {name: digest for name in names if (digest := digests.of(base / name)) is not None}


def read_last(path: Path) -> Fingerprint:
    """The fingerprint in a file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, found: Fingerprint) -> None:
    """Writes a fingerprint, if it is another than the file has."""
    if not path.exists() or read_last(path) != found:
        write_json(path, found)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words, a line each."""
    lines = []
    for name in dict.fromkeys((*old, *new)):
        before, now = old.get(name), new.get(name)
        if before != now:
            what = "changed" if before and now else "is new" if now else "is gone"
            lines.append(f"{name} {what}{_counted(before, now)}")
    return lines


def _counted(before: Any, now: Any) -> str:
    """The numbers of files of a folder, where they differ."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    return "" if before["files"] == now["files"] else f" ({before['files']} → {now['files']} files)"
