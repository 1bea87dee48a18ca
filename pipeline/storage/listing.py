"""What lies below a dataset's root in object storage, or in tar shards: read in one listing."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import EarwitnessError
from pipeline.files import shown
from pipeline.storage import remote
from pipeline.storage.stored import Stored, address
from pipeline.storage.tar import members
from pipeline.storage.urls import (
    SHARD,
    check_url,
    expanded,
    fixed_folder,
    is_magic,
    is_pattern,
    is_url,
    matches,
)

THREADS = 32  # that wait for the storage, one request each


class RootFile(NamedTuple):
    """A file at a root: an object, or a shard or a file beside the shards."""

    place: str  # its address, or its path on this machine
    size: int
    version: str  # of an object; empty of a file on this machine


class Entry(NamedTuple):
    """A file as a layout sees it."""

    stored: Stored
    path: str  # of its clip in the manifest
    version: str  # SHA-256 that changes with its content; empty where the content is to be read
    text: bytes | None  # the content of a short text in a tar


@dataclass(frozen=True)
class Listing:
    """``files``: path, as a layout sees it → entry."""

    root: str
    files: Mapping[str, Entry]


def sources(base: Path, root: str) -> dict[str, RootFile]:
    """The files that a root names, by their path below its fixed folder, in order.

    Args:
        base: what a path is relative to.
        root: an address or a pattern; see urls.py.

    Raises:
        EarwitnessError: see remote.py; nothing is there, or not all that braces name is.
    """
    if not is_pattern(root):
        found = remote.listing(root)
        address = root.rstrip("/")
        return {name: RootFile(f"{address}/{name}", *one) for name, one in found.items()}
    folder = fixed_folder(root)
    names = [name.removeprefix(folder).lstrip("/") for name in expanded(root)]
    there = _remote(folder, names) if is_url(root) else _local(base / folder, names)
    chosen: dict[str, RootFile] = {}
    for name in names:
        found_here = [name] if not is_magic(name) else [one for one in there if matches(one, name)]
        chosen |= {one: there[one] for one in found_here if one in there}
        if not is_magic(name) and name not in there:
            raise EarwitnessError(f"{shown(f'{folder}/{name}')}: not there; correct the root")
    if not chosen:
        raise EarwitnessError(f"{shown(root)}: no file has such a name; correct the root")
    return dict(sorted(chosen.items()))


def _remote(folder: str, names: list[str]) -> dict[str, RootFile]:
    check_url(f"{folder}/.")
    if folder.startswith(("http://", "https://")):  # a web server has no listing
        if any(map(is_magic, names)):
            raise EarwitnessError(
                f"{folder}: a web server cannot say what is there; name the shards by {{000..099}}"
            )
        with ThreadPoolExecutor(THREADS) as threads:
            infos = threads.map(lambda name: remote.info(f"{folder}/{name}"), names)
            pairs = zip(names, infos, strict=True)
            return {name: RootFile(f"{folder}/{name}", *one) for name, one in pairs}
    depth = max(name.count("/") for name in names) + 1
    found = remote.listing(folder, depth)
    return {name: RootFile(f"{folder}/{name}", *one) for name, one in found.items()}


def _local(folder: Path, names: list[str]) -> dict[str, RootFile]:
    found: dict[str, RootFile] = {}
    for name in names:
        paths = sorted(folder.glob(name)) if is_magic(name) else [folder / name]
        for path in paths:
            if path.is_file():
                relative = path.relative_to(folder).as_posix()
                found[relative] = RootFile(str(path), path.stat().st_size, "")
    return found


def read_listing(base: Path, root: str) -> Listing:
    """All files at a root; of its tars, what they hold.

    Of shards that have a name in common, each is a folder of its own.

    Raises:
        EarwitnessError: see :func:`sources` and tar.py.
    """
    if not is_pattern(root):
        objects = sources(base, root)
        return Listing(root, {n: _entry(n, source) for n, source in objects.items()})
    given = sources(base, root)
    shards = {name: one for name, one in given.items() if name.lower().endswith(SHARD)}
    with ThreadPoolExecutor(THREADS if is_url(root) else 1) as threads:
        read = threads.map(lambda one: members(one.place, one.size), shards.values())
        inside = dict(zip(shards, read, strict=True))
    counts = Counter(member.name for found in inside.values() for member in found)
    apart = any(count > 1 for count in counts.values())
    files = {n: _entry(n, source) for n, source in given.items() if n not in shards}
    for shard, found in inside.items():
        own = shards[shard]
        for member in found:
            name = f"{shard[: -len(SHARD)]}/{member.name}" if apart else member.name
            if name in files:
                raise EarwitnessError(f"{shown(root)}: {name!r} is there twice; rename one")
            stored = Stored(own.place, member.name, member.offset, member.size)
            version = _digest(own.version, member.offset, member.size) if own.version else ""
            path = address(shard, member.offset, member.size, name)
            files[name] = Entry(stored, path, version, member.text)
    return Listing(root, files)


def _entry(name: str, source: RootFile) -> Entry:
    return Entry(Stored(source.place, size=source.size), name, source.version, None)


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
