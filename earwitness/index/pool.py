"""What is embedded: in the index already, by a run that was killed, and by this one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from earwitness.index.layout import (
    Entries,
    FileTable,
    IndexHeader,
    StoredIndex,
    read_index,
    write_index,
)
from earwitness.index.origin import Origin
from earwitness.index.scoring import Member
from earwitness.inputs import decodable
from earwitness.retrieval import RetrievalSystem
from pipeline.errors import EarwitnessError

NEW = "new"  # folder of what is embedded and not in the index yet
CHUNK = 64  # sounds that are embedded, and kept if the run is killed, at once


class Pool:
    """Entries of several tables, by the SHA-256 of their sound.

    Args:
        folder: of the parts that are embedded and in no index yet. Each is an index without files.
        origin: what embeds. moments: whether windows are stored.
        old: the index that is brought up to date; None: there is none.

    Attributes:
        known: SHA-256 → its table, and its entry there.
        members: of the embeddings; empty where nothing is embedded yet.
    """

    def __init__(
        self, folder: Path, origin: Origin, moments: bool, old: StoredIndex | None
    ) -> None:
        self._folder, self._origin, self._moments = folder, origin, moments
        self._tables: list[Entries] = []
        self._parts = 0
        self._system: RetrievalSystem | None = None
        self.known: dict[bytes, tuple[int, int]] = {}
        self.members: tuple[Member, ...] = ()
        if old is not None:
            self._add(old.entries, old.header.members)
        # the name keeps parts of another system, or without moments, apart
        content = json.dumps([origin.content, moments])
        self._key = hashlib.sha256(content.encode()).hexdigest()[:16]
        self._take_parts()

    def system(self, device: str) -> RetrievalSystem:
        """What embeds, loaded once."""
        if self._system is None:
            self._system = self._origin.open(device=device)
        return self._system

    def embed(self, files: Mapping[bytes, Path], device: str) -> list[str]:
        """Embeds files, by their SHA-256; returns a line for each that cannot be used."""
        system = self.system(device)
        from earwitness.index.embedding import members_of

        self.members = members_of(system)
        failed: list[str] = []
        pairs = [*files.items()]
        with tqdm(total=len(pairs), unit="sound", disable=None) as bar:
            for at in range(0, len(pairs), CHUNK):
                chunk = pairs[at : at + CHUNK]
                failed += self._embed(system, chunk)
                bar.update(len(chunk))
        return failed

    def chosen(
        self, digests: Sequence[bytes]
    ) -> tuple[list[tuple[Entries, NDArray[np.int64]]], NDArray[np.int64]]:
        """The entries of N known files, for :func:`write_index`; and (N,) which is whose."""
        places = sorted({self.known[digest] for digest in digests})
        number = {place: at for at, place in enumerate(places)}
        chosen: list[list[int]] = [[] for _ in self._tables]
        for table, own in places:
            chosen[table].append(own)
        rows = [np.array(each, np.int64) for each in chosen]
        kept = [*zip(self._tables, rows, strict=True)]
        entry = np.array([number[self.known[digest]] for digest in digests], np.int64)
        return kept, entry

    def close(self) -> None:
        """Deletes the parts, once they are in the index."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _embed(self, system: RetrievalSystem, chunk: Sequence[tuple[bytes, Path]]) -> list[str]:
        """One part; the files are checked one by one only where there is a problem."""
        from earwitness.index.embedding import embed

        digests, files = [digest for digest, _ in chunk], [path for _, path in chunk]
        failed: list[str] = []
        try:
            made = embed(system, files, digests, self._moments)
        except EarwitnessError:
            good, failed = decodable(files, np.inf)
            if not failed:
                raise
            if not good:
                return failed
            by_path = dict(zip(files, digests, strict=True))
            made = embed(system, good, [by_path[path] for path in good], self._moments)
        header = IndexHeader(".", (), self._origin, self.members, self._moments)
        nothing = np.zeros(0, np.int64)
        path = self._folder / f"{self._key}-{self._parts:06d}.h5"
        self._parts += 1
        files_of = FileTable((), nothing, nothing, nothing)
        write_index(path, header, [(made, np.arange(len(made)))], files_of)
        self._add(read_index(path).entries, self.members)  # mapped: memory does not grow
        return failed

    def _add(self, entries: Entries, members: tuple[Member, ...]) -> None:
        table = len(self._tables)
        self._tables.append(entries)
        self.members = members
        self.known |= {digest: (table, at) for digest, at in entries.known().items()}

    def _take_parts(self) -> None:
        """Those of a run that was killed; what is of other settings, or damaged, is deleted."""
        for path in sorted(self._folder.glob("*")):  # hidden ones too, which were half written
            try:
                if not path.name.startswith(self._key):
                    raise EarwitnessError("of other settings")
                part = read_index(path)
            except EarwitnessError:
                path.unlink()
                continue
            self._add(part.entries, part.header.members)
            self._parts = int(path.stem.rpartition("-")[2]) + 1
