"""A dataset's root as its layout reads it: a folder of this machine, or what stands for one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from pipeline.storage.listing import Entry, Listing, read_listing
from pipeline.storage.stored import Stored
from pipeline.storage.urls import is_stored, is_url

_known: ContextVar[dict[tuple[Path, str], _Tree] | None] = ContextVar("_known", default=None)


@contextmanager
def one_listing() -> Iterator[None]:
    """While it is open, a root is listed once, however often it is asked for."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def folder_at(base: Path, root: str) -> Path:
    """A dataset's root: ``base / root``, or an address or pattern as a :class:`StoredPath`.

    A folder of this machine stays one, whatever its name.

    Raises:
        EarwitnessError: object storage does not answer, nothing is there, or a shard cannot be
            used; see listing.py.
    """
    if is_folder(base / root, root):
        return base / root
    known = _known.get()
    tree = None if known is None else known.get((base, root))
    if tree is None:
        tree = _Tree(read_listing(base, root))
        if known is not None:
            known[base, root] = tree
    # a layout asks of it what it asks of a path, so it need not know which it has
    return cast(Path, StoredPath(tree, PurePosixPath()))


def is_folder(path: Path, root: str) -> bool:
    """Whether a root is the path of a folder: ``path``, where a pattern would be no folder."""
    return not is_stored(root) or (not is_url(root) and path.is_dir())


class _Tree:
    """A listing by folders."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.folders: dict[PurePosixPath, dict[str, None]] = {PurePosixPath(): {}}
        for name in listing.files:
            self._add(PurePosixPath(name))

    def _add(self, path: PurePosixPath) -> None:
        above = path.parent
        if above not in self.folders:
            self.folders[above] = {}
            self._add(above)
        self.folders[above][path.name] = None


class StoredPath:
    """A path in a listing, with those of :class:`pathlib.Path`'s methods that read."""

    def __init__(self, tree: _Tree, path: PurePosixPath) -> None:
        self._tree, self._path = tree, path

    def __truediv__(self, name: str | PurePosixPath) -> StoredPath:
        return StoredPath(self._tree, self._path / name)

    def __str__(self) -> str:
        root = self._tree.listing.root.rstrip("/")
        return root if self._path == PurePosixPath() else f"{root}/{self._path}"

    def __fspath__(self) -> str:
        return str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: StoredPath) -> bool:
        return self._path < other._path

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def stem(self) -> str:
        return self._path.stem

    @property
    def suffix(self) -> str:
        return self._path.suffix

    @property
    def parent(self) -> StoredPath:
        return StoredPath(self._tree, self._path.parent)

    @property
    def entry(self) -> Entry | None:
        """What the listing says of a file; None of a folder, and of what is not there."""
        return self._tree.listing.files.get(str(self._path))

    def is_file(self) -> bool:
        return self.entry is not None

    def is_dir(self) -> bool:
        return self._path in self._tree.folders

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[StoredPath]:
        return (self / name for name in self._tree.folders.get(self._path, ()))

    def files_below(self) -> Iterator[PurePosixPath]:
        """The files at any depth but in hidden folders, by their path below this one."""
        for path in map(PurePosixPath, self._tree.listing.files):
            if path.is_relative_to(self._path):
                below = path.relative_to(self._path)
                if not any(part.startswith(".") for part in below.parts[:-1]):
                    yield below

    def stat(self) -> os.stat_result:
        entry = self.entry
        if entry is None and not self.is_dir():
            raise FileNotFoundError(str(self))
        kind, size = (stat.S_IFDIR, 0) if entry is None else (stat.S_IFREG, entry.stored.size or 0)
        return os.stat_result((kind | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def open(self, mode: str = "rb", **_: Any) -> BinaryIO:
        """The file's bytes; only ``rb``.

        Raises:
            EarwitnessError: see :meth:`Stored.open`.
        """
        if mode != "rb":
            raise ValueError(f"{self}: opened in mode {mode}")
        if (entry := self.entry) is None:
            raise FileNotFoundError(str(self))
        return self.stored().open() if entry.text is None else BytesIO(entry.text)

    def read_text(self, encoding: str = "utf-8") -> str:
        """The file's text.

        Raises:
            EarwitnessError: see :meth:`Stored.open`.
        """
        with self.open() as stream:
            return stream.read().decode(encoding)

    def stored(self) -> Stored:
        """The file's bytes, to be read elsewhere too."""
        if (entry := self.entry) is None:
            raise FileNotFoundError(str(self))
        return entry.stored
