"""``earwitness.build_index``: embeds the sound files of folders once, and again what changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from earwitness.index.grouping import UNSORTED, Notice, Sorting, needed_faiss
from earwitness.index.layout import (
    FILE,
    FOLDER,
    FileTable,
    IndexHeader,
    StoredIndex,
    folder_of,
    read_index,
    write_index,
)
from earwitness.index.listing import SeenFile, base_of, look, seen
from earwitness.index.lists import InvertedLists
from earwitness.index.origin import Origin, origin_of
from earwitness.index.pool import NEW, Pool
from earwitness.index.scoring import Member
from earwitness.inputs import decodable
from pipeline.errors import EarwitnessError, reason
from pipeline.files import shown
from pipeline.lock import exclusive


@dataclass(frozen=True)
class IndexSummary:
    """What :func:`build_index` did, in files; ``embedded`` counts different sounds.

    A file that was moved is one added and one gone, and nothing is embedded.
    """

    place: Path  # the index's folder
    added: int = 0
    changed: int = 0
    gone: int = 0
    unchanged: int = 0
    embedded: int = 0
    failed: list[str] = field(default_factory=list)  # a line for each file that cannot be used
    # of an index that is searched in part, see :class:`earwitness.index.lists.InvertedLists`
    recall: dict[str, float] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """In the index."""
        return self.added + self.changed + self.unchanged


class _Wanted(NamedTuple):
    """What an index is to be made by, and what there is of it."""

    origin: Origin
    moments: bool
    old: StoredIndex | None  # None: none, or one whose embeddings cannot be used
    before: StoredIndex | None  # also one whose embeddings cannot be used


class _Asked(NamedTuple):
    """What is to embed, as :func:`build_index` is given it."""

    system: str | Path
    model: str
    labels: str | Path | None
    seed: int | None
    root: str | Path | None

    @property
    def named(self) -> bool:
        """Whether it is said at all."""
        return bool(self.system or self.model or self.labels or self.seed is not None)

    def origin(self) -> Origin:
        return origin_of(self.system, self.model, self.labels, root=self.root, seed=self.seed)


def build_index(
    folders: Sequence[str | Path],
    where: str | Path | None = None,
    *,
    system: str | Path = "",
    model: str = "",
    labels: str | Path | None = None,
    seed: int | None = None,
    moments: bool | None = None,
    approximate: bool | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    notice: Notice = lambda line: None,
) -> IndexSummary:
    """Makes an index of folders' sound files, or brings one up to date.

    A sound is known by its content: a file that was moved or copied is not embedded again. A run
    that was killed is continued. Where the system or ``moments`` is another than the index's,
    everything is embedded again, and ``notice`` is told so.

    Args:
        folders: searched to their depth; hidden folders and files are passed over.
        where: the index's folder; None: ``.earwitness`` in the folder, where it is only one.
        system: a retrieval system of ``params.yaml``, or a retriever's folder; "": the index's, or
            the first.
        model: of :func:`earwitness.open_space`, in the place of a system.
        labels: of a tagger's classes.
        seed: that the system's models were trained with; None: the index's, or the first.
        moments: store windows too, so that moments inside recordings are found; None: as the
            index has it.
        approximate: sort the sounds into lists, by FAISS, so that a search compares with those near
            the query alone; None: as the index has it, and where it has over a million sounds.
        root: the repository.

    Raises:
        EarwitnessError: no such folder or system, FAISS is wanted and not installed, another
            process writes the index, or it is of other folders.
    """
    if not folders:
        raise EarwitnessError("no folder is given; name one or more folders of sound files")
    paths = [Path(folder).expanduser() for folder in folders]
    base = base_of(paths)
    if where is None and len(paths) > 1:
        raise EarwitnessError("several folders: say where their index is to be, by --index")
    if approximate:
        needed_faiss()  # before hours of embedding
    place = base / FOLDER if where is None else Path(where).expanduser()
    _check_writable(place)
    try:
        with exclusive(place / ".lock"):
            for leftover in place.glob(f".{FILE}~*"):  # of a run that was killed while it wrote
                leftover.unlink()
            stored = read_index(place / FILE) if (place / FILE).exists() else None
            if stored is not None:
                _check_folders(stored, place, paths)
            made = _Asked(system, model, labels, seed, root)
            wanted = _wanted(stored, made, moments, notice)
            sort = Sorting(approximate, notice)
            return _update(place, base, paths, wanted, device, sort)
    finally:
        with suppress(OSError):  # it holds an index, or what a later run goes on from
            place.rmdir()


def _check_writable(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(13, "it may not be written")
    except OSError as error:
        raise EarwitnessError(
            f"{shown(place)}: no index can be written here ({reason(error)}); give another folder "
            "by --index"
        ) from None


def _check_folders(stored: StoredIndex, place: Path, folders: Sequence[Path]) -> None:
    """Refuses an index of other folders, which would lose them; where they moved it goes on."""
    base = folder_of(stored.header, place)
    given = [folder.resolve() for folder in folders]
    for name in stored.header.folders:
        old = Path(os.path.normpath(base / name))
        if old.is_dir() and not any(old.is_relative_to(folder) for folder in given):
            raise EarwitnessError(
                f"{shown(place)}: the index of {shown(old)} too; name all its folders, or another "
                "index by --index"
            )


def _wanted(
    stored: StoredIndex | None, asked: _Asked, moments: bool | None, notice: Notice
) -> _Wanted:
    before = stored.header if stored else None
    known = before.origin if before else None
    repository = Path(asked.root) if asked.root else None
    if known is not None and not asked.named:
        origin = known.now(repository)
    else:
        made = asked.origin()
        origin = replace(made, files=known.files if known else {}).now(repository)
    if moments is None:
        moments = bool(before and before.moments)
    if before is None or known is None:
        return _Wanted(origin, moments, None, stored)
    why = ""
    if not known.same(origin):
        own = f"by {known.name}" if known.name != origin.name else f"before {origin.name} changed"
        why = f"the index was made {own}"
    elif moments and not before.moments:
        why = "the index was made without moments"
    if why:
        notice(f"{why}; every sound is embedded again")
    return _Wanted(origin, moments, None if why else stored, stored)


def _update(
    place: Path,
    base: Path,
    folders: Sequence[Path],
    wanted: _Wanted,
    device: str,
    sort: Sorting,
) -> IndexSummary:
    before = _seen(wanted.before)
    found, failed = look(folders, base, before)
    if not found:
        raise EarwitnessError(failed[0] if failed else f"{shown(base)}: no sound files in it")
    pool = Pool(place / NEW, wanted.origin, wanted.moments, wanted.old)
    needed = {file.digest: base / name for name, file in reversed(found.items())}
    missing = {
        digest: path for digest, path in reversed(needed.items()) if digest not in pool.known
    }
    if wanted.old is not None:  # few are new: what cannot be used costs no loading of models
        sound, problems = decodable([*missing.values()], np.inf)
        failed += problems
        good = {*sound}
        missing = {digest: path for digest, path in missing.items() if path in good}
    embedded = len(missing)
    if missing or not pool.members:
        problems = pool.embed(missing, device)
        failed += problems
        embedded -= len(problems)
    used = {name: file for name, file in found.items() if file.digest in pool.known}
    if not used:
        raise EarwitnessError(f"{failed[0]}, and no other sound is there")
    header = _header(place, base, folders, wanted, pool.members)
    lists = wanted.old.lists if wanted.old else None
    had = bool(wanted.before and wanted.before.lists)
    asked = sort.wanted(had, len({file.digest for file in used.values()}))
    if asked != had or (wanted.old is None or wanted.old.header != header or used != before):
        kept, entry = pool.chosen([file.digest for file in used.values()])
        table = FileTable(
            tuple(used),
            np.array([file.size for file in used.values()], np.int64),
            np.array([file.modified for file in used.values()], np.int64),
            entry,
        )
        new = place / (UNSORTED if asked else FILE)
        write_index(new, header, kept, table)
        lists = sort.sorted(new, place / FILE, lists, pool.system(device)) if asked else None
    pool.close()
    return _summary(place, before, used, embedded, failed, lists)


def _seen(stored: StoredIndex | None) -> dict[str, SeenFile]:
    return seen(stored.files, [*stored.entries.known()]) if stored else {}


def _header(
    place: Path,
    base: Path,
    folders: Sequence[Path],
    wanted: _Wanted,
    members: tuple[Member, ...],
) -> IndexHeader:
    own = place.resolve()
    return IndexHeader(
        folder=os.path.relpath(base, own) if own.is_relative_to(base) else str(base),
        folders=tuple(sorted({os.path.relpath(each.resolve(), base) for each in folders})),
        origin=wanted.origin,
        members=members,
        moments=wanted.moments,
    )


def _summary(
    place: Path,
    before: Mapping[str, SeenFile],
    used: Mapping[str, SeenFile],
    embedded: int,
    failed: list[str],
    lists: InvertedLists | None,
) -> IndexSummary:
    both = used.keys() & before.keys()
    unchanged = sum(used[name].digest == before[name].digest for name in both)
    return IndexSummary(
        place,
        added=len(used) - len(both),
        changed=len(both) - unchanged,
        gone=len(before) - len(both),
        unchanged=unchanged,
        embedded=embedded,
        failed=failed,
        recall=lists.recall if lists else {},
    )
