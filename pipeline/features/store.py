"""The feature file: all frames of one dataset under one encoder, in one HDF5.

``values`` float16 (total frames, D) is one contiguous block, so that it can be memory-mapped;
``offsets`` int64 (entries + 1,) says where each entry's frames begin; ``ids`` (N,) names the clips.
Entry ``clip * views + view`` holds a clip's view, and view 0 is the clean one. For text each
caption is an entry, named ``<clip_id>#<k>``.

That is format 1. Format 2 is for a file that is cut, whose further frames lie in files beside it
(store_parts.py), and for one whose ``values`` are int8, with ``scales`` float32 (total frames,).

Readers open with ``'r'`` only: to append through DVC's link would corrupt its cache without notice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.config.feature_files import StoredAs
from pipeline.config.section import Section
from pipeline.corpora.manifest import Clip
from pipeline.errors import EarwitnessError, one_line
from pipeline.features.file_size import most_bytes
from pipeline.features.frames import StoredFrames
from pipeline.features.hdf5 import attribute, block
from pipeline.features.store_parts import (
    LIBVER,
    MAKE_ANEW,
    FrameWriter,
    PartFiles,
    digest_of_parts,
    read_frames,
    read_part,
)
from pipeline.files import replacing, write_json

PLAIN, VARIED = 1, 2  # format versions; of VARIED are files that are cut, or int8


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
    store: StoredAs = "float16"


def write_store(
    path: Path,
    header: Header,
    ids: Sequence[str],
    lengths: NDArray[np.int64],
    width: int,
    blocks: Iterable[NDArray[np.float16]],
    file_bytes: int | None = None,
) -> Index:
    """Writes a feature file whole or not at all; the same input gives the same bytes.

    Args:
        ids: N names.
        lengths: (N * views,) frames of each entry.
        width: D.
        blocks: (n, D) float16 each; concatenated they are all entries in order.
        file_bytes: of frames in one file, at most; None: see :mod:`pipeline.features.file_size`.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    frames, frame_bytes = int(offsets[-1]), width * 2 if header.store == "float16" else width + 4
    per_file = max(1, (file_bytes or most_bytes()) // max(1, frame_bytes))
    further = range(1, -(-frames // per_file))
    about = json.dumps([list(ids), header.views, width]).encode() + offsets.tobytes()
    with PartFiles(path, further) as parts:
        with (
            replacing(path) as temporary,
            h5py.File(temporary, "w", libver=LIBVER, locking=False) as file,
        ):
            plain = not further and header.store == "float16"
            _write_about(file, header, ids, offsets, PLAIN if plain else VARIED)
            writer = FrameWriter([file, *parts.files], frames, width, per_file, header.store, about)
            for block_of_frames in blocks:
                writer.add(block_of_frames)
            if writer.written != frames:
                raise ValueError(f"{path}: {writer.written} frames given, {frames} announced")
            digest = digest_of_parts(writer.sha256(), per_file)
            if not plain:
                file.attrs.update(frames_per_file=per_file, parts=digest)
            parts.place(digest)
        parts.remove_others(digest)
    return Index(
        sha256=writer.sha256(),
        width=width,
        frame_seconds=header.frame_seconds,
        entries=len(lengths),
        views=header.views,
        ids=len(ids),
    )


def _write_about(
    file: h5py.File, header: Header, ids: Sequence[str], offsets: NDArray[np.int64], version: int
) -> None:
    """All but the frames."""
    file.attrs.update(
        format_version=version,
        encoder=header.encoder,
        settings=json.dumps(header.settings, sort_keys=True),
        weights=header.weights,
        frame_seconds=header.frame_seconds,
        views=header.views,
    )
    file.create_dataset("offsets", data=offsets, track_times=False)
    encoded = np.array([name.encode() for name in ids])
    text = h5py.string_dtype("utf-8", length=max(encoded.dtype.itemsize, 1))
    file.create_dataset("ids", data=encoded.astype(text), dtype=text, track_times=False)


@dataclass(frozen=True)
class FeatureStore:
    """An open feature file: the values are memory-mapped, all else is in memory."""

    path: Path
    header: Header
    ids: tuple[str, ...]  # N
    offsets: NDArray[np.int64]  # (N * views + 1,)
    values: StoredFrames  # (total frames, D), memory-mapped, read as float16

    @staticmethod
    def open(path: Path) -> FeatureStore:
        """Opens and checks ``<dataset>/<encoder>.h5`` or ``<dataset>/<retriever>/frames.h5``.

        Raises:
            EarwitnessError: missing, cut short, of another format, inconsistent, with data that
                lie in other files than its own, or without one of those.
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
        return self.values.shape[1]

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
    header, version = _header(file.attrs)
    ids = tuple(name.decode() for name in block(file, "ids", "S", 1, path)[:].tolist())
    offsets = block(file, "offsets", np.int64, 1, path)[:]
    if len(offsets) != len(ids) * header.views + 1:
        raise ValueError(f"{len(offsets)} offsets for {len(ids)} ids of {header.views} views")
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
        raise ValueError("offsets do not rise from 0")
    if len(set(ids)) < len(ids):
        raise ValueError("an id occurs twice")
    frames = int(offsets[-1])
    if version == PLAIN:
        part = read_part(file, path, frames)
        if part.scales is not None:
            raise ValueError("values of format 1 with scales")
        return FeatureStore(path, header, ids, offsets, StoredFrames([part], max(1, frames)))
    values = read_frames(file, path, frames)
    store: StoredAs = "float16" if values.parts[0].scales is None else "int8"
    return FeatureStore(path, replace(header, store=store), ids, offsets, values)


def _header(attributes: h5py.AttributeManager) -> tuple[Header, int]:
    """The attributes, and the format's version."""
    version = int(attribute(attributes, "format_version", np.integer))
    if version not in (PLAIN, VARIED):
        raise ValueError(f"format version {version}, not {PLAIN} or {VARIED}")
    header = Header(
        encoder=attribute(attributes, "encoder", str),
        settings=json.loads(attribute(attributes, "settings", str)),
        weights=attribute(attributes, "weights", str),
        frame_seconds=float(attribute(attributes, "frame_seconds", np.floating)),
        views=int(attribute(attributes, "views", np.integer)),
    )
    if not isinstance(header.settings, dict):
        raise ValueError("settings is no mapping")
    if header.views < 1 or not 0 <= header.frame_seconds < np.inf:
        raise ValueError(f"{header.views} views of frames of {header.frame_seconds} s")
    return header, version
