"""The feature file: all frames of one dataset under one encoder, in one HDF5.

``values`` float16 (total frames, D) is one contiguous block, so that it can be memory-mapped;
``offsets`` int64 (entries + 1,) says where each entry's frames begin; ``ids`` (N,) names the clips.
Entry ``clip * views + view`` holds a clip's view, and view 0 is the clean one. For text each
caption is an entry, named ``<clip_id>#<k>``.

Readers open with ``'r'`` only: to append through DVC's link would corrupt its cache without notice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.config.section import Section
from pipeline.corpora.manifest import Clip
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import replacing, write_json

MAKE_ANEW = "delete it and run `dvc repro`"
FORMAT_VERSION = 1
LIBVER = ("v110", "v110")  # fixed, so that the bytes do not depend on the library's default


def caption_id(clip_id: str, number: int) -> str:
    """The name of a clip's caption in a feature file."""
    return f"{clip_id}#{number}"


def caption_ids(clips: Iterable[Clip]) -> list[str]:
    """The names of all captions, clip by clip."""
    return [caption_id(clip.clip_id, k) for clip in clips for k in range(len(clip.captions))]


class Index(Section):
    """What later jobs know of a feature file: the digest of its content, and its size."""

    sha256: str  # of values, offsets and ids
    width: int  # D
    frame_seconds: float
    entries: int
    views: int  # a clip, the clean one included
    ids: int  # N

    def save(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


@dataclass(frozen=True)
class Header:
    """Where the values come from: the file's attributes."""

    encoder: str
    settings: dict[str, Any]  # the encoder's, resolved
    weights: str  # digest
    frame_seconds: float  # between frames; 0 for text
    views: int = 1  # a clip, the clean one included


def write_store(
    path: Path,
    header: Header,
    ids: Sequence[str],
    lengths: NDArray[np.int64],
    width: int,
    blocks: Iterable[NDArray[np.float16]],
) -> Index:
    """Writes a feature file whole or not at all; the same input gives the same bytes.

    Args:
        ids: N names.
        lengths: (N * views,) frames of each entry.
        width: D.
        blocks: (n, D) float16 each; concatenated they are all entries in order.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    encoded = np.array([name.encode() for name in ids])
    digest = hashlib.sha256(json.dumps([list(ids), header.views, width]).encode())
    digest.update(offsets.tobytes())
    with (
        replacing(path) as temporary,
        h5py.File(temporary, "w", libver=LIBVER, locking=False) as file,
    ):
        file.attrs.update(
            format_version=FORMAT_VERSION,
            encoder=header.encoder,
            settings=json.dumps(header.settings, sort_keys=True),
            weights=header.weights,
            frame_seconds=header.frame_seconds,
            views=header.views,
        )
        file.create_dataset("offsets", data=offsets, track_times=False)
        text = h5py.string_dtype("utf-8", length=max(encoded.dtype.itemsize, 1))
        file.create_dataset("ids", data=encoded.astype(text), dtype=text, track_times=False)
        shape = (int(offsets[-1]), width)
        values = file.create_dataset("values", shape, np.float16, track_times=False)
        start = 0
        for block in blocks:
            values[start : start + len(block)] = block
            digest.update(block.tobytes())
            start += len(block)
        if start != len(values):
            raise ValueError(f"{path}: {start} frames given, {len(values)} announced")
    return Index(
        sha256=digest.hexdigest(),
        width=width,
        frame_seconds=header.frame_seconds,
        entries=len(lengths),
        views=header.views,
        ids=len(ids),
    )


@dataclass(frozen=True)
class FeatureStore:
    """An open feature file: the values are memory-mapped, all else is in memory."""

    path: Path
    header: Header
    ids: tuple[str, ...]  # N
    offsets: NDArray[np.int64]  # (N * views + 1,)
    values: NDArray[np.float16]  # (total frames, D), memory-mapped, read only

    @staticmethod
    def open(path: Path) -> FeatureStore:
        """Opens and checks ``<dataset>/<encoder>.h5`` or ``<dataset>/<retriever>/frames.h5``.

        Raises:
            EarwitnessError: missing, cut short, of another format, inconsistent, or with data that
                lie in other files.
        """
        if not path.is_file():
            raise EarwitnessError(f"{path}: no features; run `dvc repro`")
        broken = one_line(path, MAKE_ANEW, "cut short, or no feature file")
        # without HDF5's lock, which network disks often refuse: a file in its place is whole
        with broken, h5py.File(path, "r", locking=False) as file:
            return _read(file, path)

    @property
    def width(self) -> int:
        """D."""
        return int(self.values.shape[1])

    @property
    def views(self) -> int:
        return self.header.views

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N * views,) frames of each entry."""
        return np.diff(self.offsets)

    def entry(self, clip: int, view: int = 0) -> NDArray[np.float16]:
        """(T, D), one view of one clip."""
        if not (0 <= clip < len(self.ids) and 0 <= view < self.views):
            raise IndexError(f"{self.path}: no clip {clip} with view {view}")
        at = clip * self.views + view
        return self.values[self.offsets[at] : self.offsets[at + 1]]

    def names(self, clips: Sequence[str]) -> list[str]:
        """The file's names of ``clips``; of a file of captions, each clip's first caption."""
        if not self.ids or "#" not in self.ids[0]:
            return list(clips)
        return [clip if "#" in clip else caption_id(clip, 0) for clip in clips]

    def check_ids(self, expected: Sequence[str], source: str) -> None:
        """Refuses ids other than ``expected``, in order; ``source`` says where those come from."""
        if self.ids == tuple(expected):
            return
        pairs = enumerate(zip(self.ids, expected, strict=False))
        first = next((i for i, (found, wanted) in pairs if found != wanted), None)
        problem = (
            f"{len(self.ids)} ids, not {len(expected)}"
            if first is None
            else f"{self.ids[first]!r} where {expected[first]!r} should be"
        )
        raise EarwitnessError(f"{self.path}: not the clips of {source} ({problem}); {MAKE_ANEW}")


def open_stores(folder: Path, names: Iterable[str]) -> list[FeatureStore]:
    """The feature files ``<name>.h5`` in a dataset's folder, in the order of ``names``."""
    return [FeatureStore.open(folder / f"{name}.h5") for name in names]


def _read(file: h5py.File, path: Path) -> FeatureStore:
    """Everything of an open file, checked; what is wrong is a ValueError."""
    header = _header(file.attrs)
    ids = tuple(name.decode() for name in _block(file, "ids", "S", 1, path)[:].tolist())
    offsets = _block(file, "offsets", np.int64, 1, path)[:]
    dataset = _block(file, "values", np.float16, 2, path)
    if len(offsets) != len(ids) * header.views + 1:
        raise ValueError(f"{len(offsets)} offsets for {len(ids)} ids of {header.views} views")
    if offsets[0] != 0 or offsets[-1] != len(dataset) or (offsets[1:] < offsets[:-1]).any():
        raise ValueError("offsets do not rise from 0 to the number of frames")
    if len(set(ids)) < len(ids):
        raise ValueError("an id occurs twice")
    return FeatureStore(path, header, ids, offsets, _mapped(dataset, path))


def _header(attributes: h5py.AttributeManager) -> Header:
    version = _attribute(attributes, "format_version", np.integer)
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version}, not {FORMAT_VERSION}")
    header = Header(
        encoder=_attribute(attributes, "encoder", str),
        settings=json.loads(_attribute(attributes, "settings", str)),
        weights=_attribute(attributes, "weights", str),
        frame_seconds=float(_attribute(attributes, "frame_seconds", np.floating)),
        views=int(_attribute(attributes, "views", np.integer)),
    )
    if not isinstance(header.settings, dict):
        raise ValueError("settings is no mapping")
    if header.views < 1 or not 0 <= header.frame_seconds < np.inf:
        raise ValueError(f"{header.views} views of frames of {header.frame_seconds} s")
    return header


def _attribute(attributes: h5py.AttributeManager, name: str, kind: type) -> Any:
    """One value of a ``kind``; anything else is a ValueError."""
    value = attributes[name] if attributes.get_id(name).shape == () else None
    if not isinstance(value, kind):
        raise ValueError(f"attribute {name} is {type(value).__name__}")
    return value


def _block(file: h5py.File, name: str, dtype: Any, dimensions: int, path: Path) -> h5py.Dataset:
    """A data set that is one block of this very file; anything else is a ValueError.

    A link, a virtual data set or one with external storage would be read from any file that its
    writer chose, and one that announces more than the file has would fill the memory with zeros.
    """
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a link, which is refused" if link else f"no {name}")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is a {type(dataset).__name__.lower()}")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} lies in other files, which is refused")
    if dataset.ndim != dimensions or not (dataset.dtype == dtype or dataset.dtype.kind == dtype):
        raise ValueError(f"{name} is {dataset.dtype} of {dataset.shape}")
    if dataset.chunks is not None or dataset.nbytes > path.stat().st_size:
        raise ValueError(f"{name} is not one block within the file")
    return dataset


def _mapped(dataset: h5py.Dataset, path: Path) -> NDArray[np.float16]:
    if dataset.size == 0:  # nothing is allocated, and nothing can be mapped
        return np.empty(dataset.shape, np.float16)
    offset = dataset.id.get_offset()
    if offset is None or offset + dataset.nbytes > path.stat().st_size:
        raise ValueError("values go beyond the end of the file")
    return np.memmap(path, np.float16, "r", offset, dataset.shape)
