"""WavCaps (Mei et al., 2023): 403,050 clips of four sources, each with a caption by ChatGPT.

``json_files/`` is as it is published (with the sound, at huggingface.co/datasets/cvssp/WavCaps):
``<Source>/<name>_final.json`` with a list ``data`` of ``id``, ``caption``, ``duration`` and more,
and ``blacklist/`` with the ids that are in AudioCaps and Clotho too. The sound is
``<Source>/<id>.flac``, or lies where its archives unpack it. All clips are of development, but for
a share that a hash of seed, source and id draws for validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.datasets import WAVCAPS_FOLDERS, WAVCAPS_TABLES, WavCapsDatasetConfig
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.recordings import Recording, manifest
from pipeline.corpora.splits import drawn_by_name
from pipeline.corpora.tables import checked_name
from pipeline.errors import EarwitnessError
from pipeline.files import inside, read_json
from pipeline.storage.places import folder_at
from pipeline.tables import read_header, read_rows

HINT = "get it from huggingface.co/datasets/cvssp/WavCaps, or correct the dataset's root"
BLACKLISTED = {"FreeSound": "FreeSound", "AudioSet_SL": "AudioSet"}  # source → its key in a list


def prepare(
    name: str, settings: WavCapsDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The dataset at ``settings.root``, which is relative to ``base`` or absolute.

    Raises:
        EarwitnessError: a table, a blacklist or the sound cannot be used; see also recordings.py.
    """
    root = folder_at(base, settings.root)
    excluded = _excluded(root, settings.exclude or (), f"datasets.{name}.exclude")
    named: list[tuple[str, str, str]] = []  # what decides its split, its path, its caption
    for source in settings.sources:
        folder = _sound_folder(root, source, name)
        for clip, caption in _clips(root / WAVCAPS_TABLES[source]):
            if clip not in excluded.get(source, ()):
                named.append((f"{source}/{clip}", f"{folder}/{clip}.flac", caption))
    if len(named) < 2:
        raise EarwitnessError(
            f"dataset {name}: {len(named)} clips are left of its tables, too few to train and "
            "validate on; name more sources, or exclude less"
        )
    keys = [key for key, _, _ in named]
    held_out = drawn_by_name(keys, settings.validation_share, f"{settings.seed} ")
    recordings = [
        Recording("validation" if out else "development", path, (caption,))
        for out, (_, path, caption) in zip(held_out.tolist(), named, strict=True)
    ]
    longest = settings.longest_minutes
    return manifest(name, settings.root, recordings, base, settings.bad_audio, progress, longest)


def _sound_folder(root: Path, source: str, name: str) -> str:
    """Where a source's sound lies, below the root."""
    folders = [pattern.format(source) for pattern in WAVCAPS_FOLDERS]
    found = next((folder for folder in folders if (root / folder).is_dir()), None)
    if found is None:
        raise EarwitnessError(
            f"dataset {name}: no {folders[0]}/ in {root}; put the sound of {source} there, or "
            f"leave {source} out of its sources"
        )
    return found


def _clips(path: Path) -> Iterator[tuple[str, str]]:
    """The name of each clip's file without its ending, and its caption."""
    content = read_json(path, HINT)
    entries = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise EarwitnessError(f"{path}: no list data in it; {HINT}")
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        where = f"{path}: entry {number}"
        clip = _bare(_text(entry, "id", where))
        if clip in seen:
            raise EarwitnessError(f"{where} ({clip!r}) occurs twice; remove one")
        seen.add(clip)
        caption = " ".join(_text(entry, "caption", where).split())
        if not caption:
            raise EarwitnessError(f"{where} ({clip!r}) has no caption; write one or remove it")
        yield checked_name(clip, "id", where), caption


def _text(entry: Any, field: str, where: str) -> str:
    value = entry.get(field) if isinstance(entry, Mapping) else None
    if type(value) is int and field == "id":
        return str(value)
    if not isinstance(value, str):
        raise EarwitnessError(f"{where} has no {field}; correct it")
    return value


def _bare(clip: str) -> str:
    """An id without the ending that AudioSet's have."""
    return clip.removesuffix(".wav")


def _excluded(root: Path, names: Sequence[str], where: str) -> dict[str, set[str]]:
    """Source → the ids that are left out of it.

    A list is WavCaps' own (JSON, ids by source), or a CSV file with a column ``id`` or with its ids
    in the first column, such as aac-datasets' and DCASE's: a Freesound id is a number, and one of
    AudioSet is not.
    """
    found: dict[str, set[str]] = {source: set() for source in BLACKLISTED}
    for name in names:
        path = inside(root, name, where)
        if path.suffix.lower() == ".csv":
            header = read_header(path)
            column = "id" if "id" in header else header[0]
            ids = {_bare(row.values[column]) for row in read_rows(path, [column])}
            found["FreeSound"] |= {each for each in ids if each.isdecimal()}
            found["AudioSet_SL"] |= {each for each in ids if not each.isdecimal()}
            continue
        content = read_json(path, f"correct {where}")
        lists = content if isinstance(content, Mapping) else {}
        for source, key in BLACKLISTED.items():
            listed = lists.get(key)
            if not isinstance(listed, list) or not {*map(type, listed)} <= {str, int}:
                raise EarwitnessError(f"{path}: no list of ids {key} in it; correct {where}")
            found[source] |= {_bare(str(each)) for each in listed}
    return found
