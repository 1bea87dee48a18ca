"""The file of an index, one HDF5: what is stored of each sound, and which files have it.

Every table is one contiguous block, so that it is memory-mapped: an index of 100,000 sounds is open
in a fraction of a second. Sounds are known by the SHA-256 of their file, so a file that is moved or
copied is the same entry. Paths are relative to the indexed folder, which can be moved. The file is
written beside and moved into place, so a reader never sees half of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from earwitness.index.lists import InvertedLists
from earwitness.index.origin import Origin
from earwitness.index.scoring import MEASURES, Member
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import replacing

FILE = "index.h5"
FOLDER = ".earwitness"  # of an index, in the folder that is indexed
VERSION, SORTED = 1, 2  # of the file; SORTED has inverted lists
FORMAT = "earwitness index"
BLOCK = 1 << 14  # rows that are copied at once
HINT = "delete it and run `earwitness index` again"
ALIGNMENT = 64  # bytes, of each table in the file
SLACK = 3  # seconds that a recording has more than windows, at most
TABLES: dict[str, tuple[type, int]] = {  # of the file: type and dimensions
    "header": (np.uint8, 1),  # JSON
    "digests": (np.uint8, 2),
    "seconds": (np.float32, 1),
    "rows": (np.float32, 2),
    "counts": (np.int64, 1),
    "spans": (np.float32, 2),
    "windows": (np.int8, 2),
    "scales": (np.float32, 1),
    "names": (np.uint8, 1),
    "name_ends": (np.int64, 1),
    "sizes": (np.int64, 1),
    "modified": (np.int64, 1),
    "entry": (np.int64, 1),
}
LISTS: dict[str, tuple[type, int]] = {"centroids": (np.float32, 2), "list_ends": (np.int64, 1)}


@dataclass(frozen=True)
class Entries:
    """What is stored of E different sounds, which have W windows together."""

    digests: NDArray[np.uint8]  # (E, 32) SHA-256 of each one's file
    seconds: NDArray[np.float32]  # (E,)
    rows: NDArray[np.float32]  # (E, D) embeddings
    counts: NDArray[np.int64]  # (E,) windows of each; zeros: without moments
    spans: NDArray[np.float32]  # (W, 2) start and end of each window, seconds
    windows: NDArray[np.int8]  # (W, D) their embeddings, to be multiplied by …
    scales: NDArray[np.float32]  # (W,)

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def none(width: int) -> Entries:
        """No sound; ``width``: D."""
        empty = {
            "digests": (0, 32), "rows": (0, width), "spans": (0, 2), "windows": (0, width),
        }  # fmt: skip
        names = [field.name for field in fields(Entries)]
        return Entries(**{name: np.zeros(empty.get(name, 0), TABLES[name][0]) for name in names})

    def known(self) -> dict[bytes, int]:
        """SHA-256 → entry."""
        return {digest.tobytes(): at for at, digest in enumerate(np.asarray(self.digests))}

    def windows_of(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """The windows of some entries, in their order."""
        counts = np.asarray(self.counts)
        starts = (np.cumsum(counts) - counts)[entries]
        own = counts[entries]
        before = np.cumsum(own) - own
        return np.repeat(starts - before, own) + np.arange(int(own.sum()))


@dataclass(frozen=True)
class FileTable:
    """N files: which entry each one is, and how to see that it did not change."""

    paths: tuple[str, ...]  # relative to the folder, in order
    sizes: NDArray[np.int64]  # (N,) bytes
    modified: NDArray[np.int64]  # (N,) ns; 0: it was too new to be sure, read it again
    entry: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class IndexHeader:
    """What an index is of.

    ``folder``: what its paths are relative to, as seen from the index's own folder where it lies
    inside, else absolute. ``folders``: that were indexed, relative to ``folder``.
    """

    folder: str
    folders: tuple[str, ...]
    origin: Origin
    members: tuple[Member, ...]  # of an embedding, in order
    moments: bool


@dataclass(frozen=True)
class StoredIndex:
    """An index as it is in its file; the large tables are memory-mapped."""

    header: IndexHeader
    entries: Entries
    files: FileTable
    lists: InvertedLists | None = None  # None: a search compares with every entry


def folder_of(header: IndexHeader, place: Path) -> Path:
    """The folder that paths are relative to; ``place``: the index's own."""
    return Path(os.path.normpath(place.resolve() / header.folder))


def find_index(path: Path) -> Path:
    """The folder of an index: ``path`` itself, or the hidden folder in it.

    Raises:
        EarwitnessError: there is none.
    """
    path = path.parent if path.name == FILE else path
    for folder in (path, path / FOLDER):
        if (folder / FILE).is_file():
            return folder
    raise EarwitnessError(f"{path}: no index in this folder; make it by `earwitness index FOLDER`")


def write_index(
    path: Path,
    header: IndexHeader,
    parts: Sequence[tuple[Entries, NDArray[np.int64]]],
    files: FileTable,
    lists: InvertedLists | None = None,
) -> None:
    """Writes an index whole or not at all.

    Args:
        parts: entries, and which of them to keep; joined they are those that ``files`` name.
        lists: that they are sorted by.
    """
    names = [os.fsencode(name) for name in files.paths]
    kept: dict[str, list[tuple[NDArray[Any], NDArray[np.int64]]]] = {}
    for entries, chosen in parts:
        windows = entries.windows_of(chosen)
        for field in fields(Entries):
            by_window = field.name in ("spans", "windows", "scales")
            pair = (getattr(entries, field.name), windows if by_window else chosen)
            kept.setdefault(field.name, []).append(pair)
    # a product with rows that are not aligned would copy them all first
    aligned = {"alignment_threshold": 1, "alignment_interval": ALIGNMENT}
    with replacing(path) as temporary, h5py.File(temporary, "w", **aligned) as file:
        about = {"format": FORMAT, "version": SORTED if lists else VERSION, **asdict(header)}
        if lists is not None:
            about["lists"] = {"probes": lists.probes, "recall": lists.recall}
        file["header"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        for name, sources in kept.items():
            _copy(file, name, sources)
        file["names"] = np.frombuffer(b"".join(names), np.uint8)
        file["name_ends"] = np.cumsum([len(name) for name in names], dtype=np.int64)
        for name in ("sizes", "modified", "entry"):
            file[name] = np.asarray(getattr(files, name), np.int64)
        if lists is not None:
            file["centroids"], file["list_ends"] = lists.centroids, lists.ends


def _copy(
    file: h5py.File, name: str, sources: Sequence[tuple[NDArray[Any], NDArray[np.int64]]]
) -> None:
    """One table, of chosen rows of several, a block at a time."""
    rows = sum(len(chosen) for _, chosen in sources)
    table = file.create_dataset(name, (rows, *sources[0][0].shape[1:]), TABLES[name][0])
    at = 0
    for values, chosen in sources:
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            table[at : at + len(block)] = values[block]
            at += len(block)


def read_index(path: Path) -> StoredIndex:
    """What :func:`write_index` wrote.

    Raises:
        EarwitnessError: it is missing, damaged, no index, or names files outside of its folder.
    """
    if not path.is_file():
        raise EarwitnessError(f"{path}: not there; make it by `earwitness index FOLDER`")
    with one_line(path, HINT, "damaged, or no index"), h5py.File(path, "r") as file:
        # not an attribute: in a damaged file libhdf5 may look for one for ever
        about = json.loads(_table(file, "header", path).tobytes())
        header = _header(about)
        wanted = TABLES.keys() | (LISTS.keys() if about["version"] == SORTED else set())
        tables = {name: _table(file, name, path) for name in wanted - {"header"}}
    with one_line(path, HINT, "damaged, or no index"):
        entries = Entries(**{field.name: tables[field.name] for field in fields(Entries)})
        _check(entries, width := sum(member.width for member in header.members))
        files, lists = _files(tables, len(entries)), None
        if about["version"] == SORTED:
            centroids, ends = tables["centroids"], tables["list_ends"]
            if centroids.shape[1] != width:
                raise ValueError(f"centroids of {centroids.shape[1]} values, not {width}")
            lists = InvertedLists.parse(about["lists"], centroids, ends, len(entries))
        return StoredIndex(header, entries, files, lists)


def _header(values: Any) -> IndexHeader:
    """Of its JSON; anything that is not one is an error."""
    if values["format"] != FORMAT or values["version"] not in (VERSION, SORTED):
        raise ValueError(f"{values['format']} {values['version']}, not {FORMAT} {SORTED}")
    return IndexHeader(
        folder=str(values["folder"]),
        folders=tuple(map(str, values["folders"])),
        origin=Origin.parse(values["origin"]),
        members=tuple(Member(int(width), MEASURES[kind]) for width, kind in values["members"]),
        moments=bool(values["moments"]),
    )


def _table(file: h5py.File, name: str, path: Path) -> NDArray[Any]:
    """One block of this very file, memory-mapped; anything else is a ValueError."""
    kind, dimensions = {**TABLES, **LISTS}[name]
    table = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(table, h5py.Dataset) or table.is_virtual or table.external:
        raise ValueError(f"{name} is missing, or lies in another file")
    if table.dtype != kind or table.ndim != dimensions or table.chunks is not None:
        raise ValueError(f"{name} is {table.dtype} of {table.shape}")
    if table.size == 0:
        return np.empty(table.shape, kind)
    offset = table.id.get_offset()
    if offset is None or offset + table.nbytes > path.stat().st_size:
        raise ValueError(f"{name} goes beyond the end of the file")
    return np.memmap(path, kind, "r", offset, table.shape).view(np.ndarray)


def _check(entries: Entries, width: int) -> None:
    count, windows = len(entries), len(entries.windows)
    shapes = {
        "digests": (count, 32), "seconds": (count,), "rows": (count, width), "counts": (count,),
        "spans": (windows, 2), "windows": (windows, width), "scales": (windows,),
    }  # fmt: skip
    for name, shape in shapes.items():
        if getattr(entries, name).shape != shape:
            raise ValueError(f"{name} is of {getattr(entries, name).shape}, not {shape}")
    if (count and int(entries.counts.min()) < 0) or int(entries.counts.sum()) != windows:
        raise ValueError("its windows are not those that its sounds have")
    # of each second of a recording there is a window
    longest = int(entries.counts.max()) + SLACK if windows else 0
    if windows and not 0 <= entries.spans.min() <= entries.spans.max() <= longest:
        raise ValueError("its windows are not in any recording")


def _files(tables: dict[str, NDArray[Any]], entries: int) -> FileTable:
    """The table of files; a path that leads outside is a ValueError."""
    ends, content = tables["name_ends"].tolist(), tables["names"].tobytes()
    if any(len(tables[name]) != len(ends) for name in ("sizes", "modified", "entry")):
        raise ValueError("its tables of files differ in length")
    if [0, *ends] != sorted([0, *ends]) or (ends[-1] if ends else 0) != len(content):
        raise ValueError("its names do not fill their table")
    starts = [0, *ends[:-1]]
    paths = [os.fsdecode(content[a:b]) for a, b in zip(starts, ends, strict=False)]
    for path in paths:
        if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise ValueError(f"it names {path!r}, which is not in its folder")
    entry = tables["entry"]
    if len(entry) and not 0 <= int(entry.min()) <= int(entry.max()) < entries:
        raise ValueError("a file has no embedding")
    return FileTable(tuple(paths), tables["sizes"], tables["modified"], entry)
