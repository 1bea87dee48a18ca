"""Which sound files are in the indexed folders, and which of them are new, changed or gone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from earwitness.index.layout import FileTable
from earwitness.inputs import sound_files
from pipeline.errors import EarwitnessError, reason
from pipeline.files import sha256, shown
from pipeline.outside.digests import RECENT
from pipeline.threads import share


@dataclass(frozen=True)
class SeenFile:
    """A file as it was looked at: SHA-256 of its content, and what shows that it changed."""

    size: int
    modified: int  # ns; 0: too new to be sure
    digest: bytes


def base_of(folders: Sequence[Path]) -> Path:
    """The folder that paths are relative to: the only one, or what all lie in.

    Raises:
        EarwitnessError: one is no folder.
    """
    for folder in folders:
        if not folder.is_dir():
            what = "a file" if folder.exists() else "not there"
            raise EarwitnessError(f"{shown(folder)}: {what}; give a folder of sound files")
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))


def look(
    folders: Sequence[Path], base: Path, known: Mapping[str, SeenFile]
) -> tuple[dict[str, SeenFile], list[str]]:
    """All sound files by their path relative to ``base``, in order; and what cannot be read.

    A file is read only where it is new, or its size or its time changed.

    Args:
        known: as they were at the last look.
    """
    files, problems = sound_files([folder.resolve() for folder in folders])
    started = time.time_ns()
    states: dict[str, tuple[int, int]] = {}
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            problems.append(f"{shown(path)}: cannot be read ({error.strerror})")
            continue
        states[os.path.relpath(path, base)] = (status.st_size, status.st_mtime_ns)
    found = {
        name: known[name]
        for name, state in states.items()
        if name in known and state == (known[name].size, known[name].modified)
    }
    changed = [name for name in states if name not in found]
    with ThreadPoolExecutor(share(8)) as threads:
        read = threads.map(lambda name: _digest(base / name), changed)
        bar = tqdm(read, "reading", len(changed), disable=None, unit="file", delay=2)
        for name, digest in zip(changed, bar, strict=True):
            if isinstance(digest, str):
                problems.append(digest)
                continue
            size, modified = states[name]
            is_recent = modified > started - RECENT
            found[name] = SeenFile(size, 0 if is_recent else modified, digest)
    return {name: found[name] for name in sorted(found)}, problems


def _digest(path: Path) -> bytes | str:
    """SHA-256, or why there is none."""
    try:
        return bytes.fromhex(sha256(path))
    except OSError as error:
        return f"{shown(path)}: cannot be read ({reason(error)})"


def seen(files: FileTable, digests: Sequence[bytes]) -> dict[str, SeenFile]:
    """The files of an index; ``digests``: of its entries."""
    rows = zip(
        files.paths, files.sizes.tolist(), files.modified.tolist(), files.entry.tolist(),
        strict=True,
    )  # fmt: skip
    return {name: SeenFile(size, at, digests[entry]) for name, size, at, entry in rows}
