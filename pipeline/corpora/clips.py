"""The clips of a dataset, in columns: of 400,000 clips there is no object each.

A :class:`Clip` is made where one is asked for, and :class:`Clips` is a sequence of them; what reads
all clips reads columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from pipeline.corpora.texts import TextLists, Texts

PART = 1 << 12  # clips that are made together


@dataclass(frozen=True)
class Clip:
    """One recording: ``path`` is relative to the dataset's root, ``duration`` in seconds.

    Of a tar's member ``path`` is ``SHARD!OFFSET+SIZE/MEMBER``: where its bytes are, so that no
    index of the shards is needed.

    In a dataset of captions alone ``path`` is empty and ``duration`` 0; so it is of a blind set's
    queries.

    ``digest``: SHA-256 of the sound file, or, where it is in object storage, of its ETag and size
    (of a tar there, and where in it): where a recording is replaced, its readers run again.
    ``name``: what a blind set's table calls the file, where the file is called otherwise.
    """

    clip_id: str
    split: str
    path: str
    duration: float
    captions: tuple[str, ...]
    events: tuple[str, ...] = ()
    digest: str = ""
    name: str = ""

    @property
    def file_name(self) -> str:
        """What the recording is called, without its folder."""
        return self.name or PurePosixPath(self.path).name


class ClipColumns(NamedTuple):
    """The fields of N clips, named as theirs."""

    clip_id: Texts
    split: NDArray[np.int64]  # (N,) index in ``splits``
    splits: tuple[str, ...]
    path: Texts
    duration: NDArray[np.float64]  # (N,) seconds
    captions: TextLists
    events: TextLists
    digest: Texts
    name: Texts

    @staticmethod
    def of(fields: Sequence[Sequence[Any]]) -> ClipColumns:
        """Packs the eight fields of N clips, in the order of :class:`Clip`."""
        clip_id, split, path, duration, captions, events, digest, name = fields
        splits = tuple(dict.fromkeys(split))
        number = {each: at for at, each in enumerate(splits)}
        return ClipColumns(
            clip_id=Texts.of(clip_id),
            split=np.fromiter(map(number.__getitem__, split), np.int64, len(split)),
            splits=splits,
            path=Texts.of(path),
            duration=np.array(duration, np.float64),
            captions=TextLists.of(captions),
            events=TextLists.of(events),
            digest=Texts.of(digest),
            name=Texts.of(name),
        )


class Clips(Sequence[Clip]):
    """Clips of columns: all, or those of some rows, in their order."""

    def __init__(self, columns: ClipColumns, rows: NDArray[np.int64] | None = None) -> None:
        self.columns, self._rows = columns, rows

    @staticmethod
    def of(clips: Iterable[Clip]) -> Clips:
        """The same clips in columns."""
        if isinstance(clips, Clips):
            return clips
        fields: list[tuple[Any, ...]] = [
            (c.clip_id, c.split, c.path, c.duration, c.captions, c.events, c.digest, c.name)
            for c in clips
        ]
        return Clips(ClipColumns.of([*zip(*fields, strict=True)] or [()] * 8))

    @property
    def rows(self) -> NDArray[np.int64]:
        """(N,) rows of the columns."""
        return np.arange(len(self.columns.clip_id)) if self._rows is None else self._rows

    def where(self, keep: NDArray[np.bool_]) -> Clips:
        """Those of the N clips that ``keep`` (N,) is true for; the same object where all are."""
        return self if bool(keep.all()) else Clips(self.columns, self.rows[keep])

    def __len__(self) -> int:
        return len(self.columns.clip_id) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Clip: ...

    @overload
    def __getitem__(self, at: slice) -> Clips: ...

    def __getitem__(self, at: int | slice) -> Clip | Clips:
        if isinstance(at, slice):
            return Clips(self.columns, self.rows[at])
        place = range(len(self))[at]
        return self._clip(place if self._rows is None else int(self._rows[place]))

    def __iter__(self) -> Iterator[Clip]:
        rows = self.rows
        for at in range(0, len(rows), PART):
            yield from map(self._clip, rows[at : at + PART].tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clips | tuple | list):
            return NotImplemented
        if len(self) != len(other):
            return False
        if isinstance(other, Clips):
            if self.columns is other.columns:
                return np.array_equal(self.rows, other.rows)
            fields = [name for name in ClipColumns._fields if name != "splits"]
            return self.fingerprint(*fields) == other.fingerprint(*fields)
        return all(own == one for own, one in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((len(self), *(self[at].clip_id for at in (0, -1) if len(self))))

    def __repr__(self) -> str:
        return f"Clips({[*self[:3]]!r}{', …' if len(self) > 3 else ''}; {len(self)})"

    def ids(self) -> list[str]:
        """The names of the clips."""
        return [*self.columns.clip_id] if self._rows is None else self._texts("clip_id")

    @property
    def splits(self) -> dict[str, int]:
        """How many of the clips are in each split, by the first clip of each."""
        counts = np.bincount(self.columns.split[self.rows], minlength=len(self.columns.splits))
        return {
            name: count
            for name, count in zip(self.columns.splits, counts.tolist(), strict=True)
            if count
        }

    def of_splits(self, names: Iterable[str]) -> Clips:
        """The clips of some splits, in their order."""
        numbers = [at for at, each in enumerate(self.columns.splits) if each in {*names}]
        return self.where(np.isin(self.columns.split[self.rows], numbers))

    def sounding(self) -> Clips:
        """Those that have sound."""
        return self.where(self.columns.path.lengths[self.rows] > 0)

    @property
    def caption_counts(self) -> NDArray[np.int64]:
        """(N,) captions of each clip."""
        return self.columns.captions.lengths[self.rows]

    def each_caption(self) -> Iterator[str]:
        """All captions, clip by clip."""
        captions = self.columns.captions
        if self._rows is None:
            yield from captions.texts
            return
        entries = captions.entries(self._rows)
        for at in range(0, len(entries), PART):
            yield from (captions.texts[entry] for entry in entries[at : at + PART].tolist())

    def fingerprint(self, *fields: str) -> str:
        """SHA-256 of some fields of the clips, which no other clips have."""
        found = hashlib.sha256(f"{len(self)}".encode())
        for field in fields:
            found.update(f"\n{field}\n".encode())
            for part in self._bytes(getattr(self.columns, field), field):
                found.update(part)
        return found.hexdigest()

    def _bytes(self, column: Any, field: str) -> Iterator[bytes]:
        """What a fingerprint is of: the lengths of texts and the texts, or numbers."""
        rows = self._rows
        if field == "split":  # in the order in which the splits appear, whichever were read before
            codes, first = np.unique(column[self.rows], return_index=True)
            appearing = codes[np.argsort(first)]
            yield "\n".join(self.columns.splits[code] for code in appearing.tolist()).encode()
            place = np.zeros(len(self.columns.splits), np.int64)
            place[appearing] = np.arange(len(appearing))
            yield place[column[self.rows]].tobytes()
        elif isinstance(column, np.ndarray):
            yield column[self.rows].tobytes()
        else:
            if isinstance(column, TextLists):
                yield column.lengths[self.rows].tobytes()
                rows = None if rows is None else column.entries(rows)
                column = column.texts
            yield (column.lengths if rows is None else column.lengths[rows]).tobytes()
            yield from column.parts(rows)

    def _texts(self, field: str) -> list[str]:
        column: Texts = getattr(self.columns, field)
        return [column[row] for row in self.rows.tolist()]

    def _clip(self, row: int) -> Clip:
        own = self.columns
        return Clip(
            own.clip_id[row],
            own.splits[own.split[row]],
            own.path[row],
            float(own.duration[row]),
            own.captions[row],
            own.events[row],
            own.digest[row],
            own.name[row],
        )
