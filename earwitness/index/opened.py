"""``earwitness.open_index``: search stored sounds by text, by a sound, or by both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from earwitness.index.layout import FILE, StoredIndex, find_index, folder_of, read_index
from earwitness.index.lists import MOST
from earwitness.index.moments import best_moments
from earwitness.index.scoring import Query, Values, best, combined, scores, window_scores
from pipeline.errors import EarwitnessError
from pipeline.files import sha256, shown
from pipeline.storage.stored import Stored

if TYPE_CHECKING:
    from earwitness.inputs import Sound
    from earwitness.retrieval import RetrievalSystem


class Hit(NamedTuple):
    """A sound that was found, or a moment of it."""

    path: Path  # absolute
    score: float  # more is better
    start: float | None = None  # of the moment, in seconds; None: the whole file is meant
    end: float | None = None
    duration: float = 0.0  # of the file, in seconds


class SoundIndex:
    """N sound files that are embedded. :func:`open_index` makes one; no model is loaded until a
    text, or a sound that is not in it, is to be embedded.

    Attributes:
        folder: that the paths are relative to, absolute.
        paths: (N,) in order.
    """

    def __init__(
        self,
        stored: StoredIndex,
        folder: Path,
        *,
        system: RetrievalSystem | None = None,
        root: Path | None = None,
        device: str = "auto",
    ) -> None:
        self._stored, self.folder = stored, folder
        self._given, self._root, self._device = system, root, device

    def __len__(self) -> int:
        return len(self._stored.files)

    @property
    def paths(self) -> tuple[str, ...]:
        return self._stored.files.paths

    @property
    def has_moments(self) -> bool:
        """Whether moments inside recordings can be found."""
        return self._stored.header.moments

    @cached_property
    def system(self) -> RetrievalSystem:
        """What embedded the sounds, and embeds queries.

        Raises:
            EarwitnessError: it is not there any more, or changed since.
        """
        if self._given is not None:
            return self._given
        origin = self._stored.header.origin
        if not origin.same(origin.now(self._root)):
            raise EarwitnessError(
                f"{shown(self.folder)}: {origin.name} changed since the index was made; run "
                "`earwitness index` on it again"
            )
        return origin.open(self._root, self._device)

    def search(
        self,
        text: str | None = None,
        like: Sound | None = None,
        without: Sequence[str] = (),
        top: int | None = 10,
        moments: bool = False,
        *,
        sample_rate: int | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """The files, or the moments, that fit best, best first.

        The score of one query alone is the system's similarity. Of several queries, or with
        ``without``, it is in standard deviations above the index's mean: see
        :func:`earwitness.index.scoring.combined`.

        Args:
            text: what to find. like: a sound that is to be similar: a file, or an array (samples,)
                or (channels, samples). Give one of the two, or both.
            without: texts of what is not to be in it.
            top: so many at most; None: all.
            moments: find spans inside the recordings, which do not overlap.
            sample_rate: of ``like``, where it is an array.
            min_score: leave out what has less.

        Raises:
            EarwitnessError: no query, an empty one, a sound that cannot be used, an index without
                moments, or a system that changed or is not there any more.
        """
        if text is None and like is None:
            raise EarwitnessError("nothing to search for: give a text, a sound, or both")
        if isinstance(without, str):
            raise EarwitnessError("without: one text is given where a list is needed; give [text]")
        if moments and not self.has_moments:
            raise EarwitnessError(
                f"{shown(self.folder)}: the index has no moments; run `earwitness index` on it "
                "again with --moments"
            )
        texts = [*([] if text is None else [text]), *without]
        embedded = self.system.embed_text(texts) if texts else ()
        queries = [Query(row, is_sound=False) for row in embedded]
        wanted = queries[: len(queries) - len(without)]
        own = None
        if like is not None:
            own = self._entry_of(like)
            wanted.append(Query(self._embedded(like, own, sample_rate), is_sound=True))
        unwanted = queries[len(queries) - len(without) :]
        left_out = self._number(like)
        if moments:
            found = self._moments(wanted, unwanted, top, left_out)
        else:
            found = self._whole(wanted, unwanted, top, left_out)
        return found if min_score is None else [hit for hit in found if hit.score >= min_score]

    def similar(
        self, sound: Sound, sample_rate: int | None = None, top: int | None = 10
    ) -> list[Hit]:
        """The files most similar to a sound; a file of the index itself is left out.

        Args:
            sound: a file, or an array as :meth:`search` takes it.
        """
        return self.search(like=sound, sample_rate=sample_rate, top=top)

    def _whole(
        self,
        wanted: Sequence[Query],
        unwanted: Sequence[Query],
        top: int | None,
        left_out: int | None,
    ) -> list[Hit]:
        entries, files = self._stored.entries, self._stored.files
        members, lists = self._stored.header.members, self._stored.lists
        alone = len(wanted) == 1 and not unwanted
        if lists is not None and alone and top is not None and top <= MOST:
            # one more, as the sound itself may be among them
            near, near_scores = lists.search(wanted[0], entries.rows, members, top + 1)
            if len(near) > top:
                return self._of_entries(near, near_scores, left_out)[:top]
        found = combined(lambda query: scores(query, entries.rows, members), wanted, unwanted)
        values = found[files.entry]
        if left_out is not None:
            values[left_out] = -np.inf
        order = best(values, len(values) if top is None else top)
        pairs = zip(order.tolist(), values[order].tolist(), strict=True)
        return [self._hit(number, score) for number, score in pairs if number != left_out]

    def _of_entries(
        self, entries: NDArray[np.int64], values: Values, left_out: int | None
    ) -> list[Hit]:
        """The files that have some entries, best first."""
        order, sorted_entries = self._by_entry
        ends = np.searchsorted(sorted_entries, entries, side="right")
        starts = np.searchsorted(sorted_entries, entries, side="left")
        found = [
            (-score, int(number))
            for score, start, end in zip(values.tolist(), starts, ends, strict=True)
            for number in order[start:end]
            if number != left_out
        ]
        return [self._hit(number, -score) for score, number in sorted(found)]

    def _moments(
        self,
        wanted: Sequence[Query],
        unwanted: Sequence[Query],
        top: int | None,
        left_out: int | None,
    ) -> list[Hit]:
        entries, files = self._stored.entries, self._stored.files
        members = self._stored.header.members
        values = combined(
            lambda query: window_scores(query, entries.windows, entries.scales, members),
            wanted,
            unwanted,
        )
        if left_out is not None and len(self._copies[own := int(files.entry[left_out])]) == 1:
            values[entries.windows_of(np.array([own]))] = -np.inf
        found: list[Hit] = []
        for moment in best_moments(values, entries.spans, entries.counts, top):
            span = round(moment.start, 2), round(moment.end, 2)
            numbers = [n for n in self._copies.get(moment.entry, []) if n != left_out]
            found += [self._hit(number, moment.score, *span) for number in numbers]
        return found[:top]

    def _hit(
        self, number: int, score: float, start: float | None = None, end: float | None = None
    ) -> Hit:
        files = self._stored.files
        seconds = float(self._stored.entries.seconds[files.entry[number]])
        return Hit(self.folder / files.paths[number], score, start, end, seconds)

    @cached_property
    def _by_entry(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) the files in the order of their entries, and those."""
        order = np.argsort(self._stored.files.entry, kind="stable")
        return order, self._stored.files.entry[order]

    @cached_property
    def _copies(self) -> dict[int, list[int]]:
        """The files of each entry."""
        found: dict[int, list[int]] = {}
        for number, entry in enumerate(self._stored.files.entry.tolist()):
            found.setdefault(entry, []).append(number)
        return found

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {path: number for number, path in enumerate(self.paths)}

    @cached_property
    def _digests(self) -> dict[bytes, int]:
        return self._stored.entries.known()

    def _number(self, sound: Any) -> int | None:
        """Which of the files a sound is; None: none of them."""
        if sound is None or isinstance(sound, np.ndarray | Stored):
            return None
        path = Path(sound)
        return self._numbers.get(os.path.relpath(path.parent.resolve() / path.name, self.folder))

    def _entry_of(self, sound: Sound) -> int | None:
        """The entry that a file has, by its content."""
        if isinstance(sound, np.ndarray | Stored):
            return None
        path = Path(sound)
        try:
            number, status = self._number(path), path.stat()
            files = self._stored.files
            if number is not None:
                state = int(files.sizes[number]), int(files.modified[number])
                if state == (status.st_size, status.st_mtime_ns):
                    return int(files.entry[number])
            return self._digests.get(bytes.fromhex(sha256(path))) if path.is_file() else None
        except (OSError, ValueError):  # what embeds it says what is wrong
            return None

    def _embedded(self, sound: Sound, entry: int | None, sample_rate: int | None) -> Values:
        """(D,) of a sound; ``entry``: where it is known."""
        if entry is not None:
            row: NDArray[np.float32] = self._stored.entries.rows[entry]
            return row
        return self.system.embed_audio([sound], sample_rate=sample_rate)[0]


def open_index(
    path: str | Path, *, root: str | Path | None = None, device: str = "auto"
) -> SoundIndex:
    """An index that ``earwitness index`` made; no model is loaded.

    Args:
        path: the folder that was indexed, or the index's own.
        root: the repository of its system, where that moved.
        device: that queries are embedded on.

    Raises:
        EarwitnessError: no index is there, or it is damaged.
    """
    place = find_index(Path(path).expanduser())
    stored = read_index(place / FILE)
    folder = folder_of(stored.header, place)
    return SoundIndex(stored, folder, root=Path(root) if root else None, device=device)
