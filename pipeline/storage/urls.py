"""What a dataset's ``root`` may be beside a folder: an address, or a pattern of tar shards.

``s3://bucket/folder`` is a folder of object storage. ``shards/train-{000000..000099}.tar`` and
``s3://bucket/*.{tar,csv}`` are patterns: braces as in a shell, ``*`` and ``?`` in names. The tars
that match are opened up, and any other file that matches stands beside what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import PurePosixPath

from pipeline.errors import EarwitnessError

URL = re.compile(r"([a-z][a-z0-9+.:-]*)://(.*)", re.DOTALL)
SHARD = ".tar"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
LOOKED_AT = 1000  # of the names that a pattern stands for, to see whether any is a tar
MOST_NAMES = 100_000  # that the braces of one pattern stand for
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")


def is_url(text: str) -> bool:
    """Whether it is an address and no path; ``file://`` is one too."""
    return URL.fullmatch(text) is not None


def is_pattern(root: str) -> bool:
    """Whether it names tar shards: some name that its braces stand for ends in ``.tar``."""
    some = islice(_expanded(root), LOOKED_AT)
    return any(name.lower().endswith((SHARD, *PACKED)) for name in some)


def is_stored(root: str) -> bool:
    """Whether a root is more than the path of a folder."""
    return is_url(root) or is_pattern(root)


def check_url(url: str) -> None:
    """Refuses an address that cannot be used as it is.

    Raises:
        EarwitnessError: it has credentials in it, wraps another address, or is of this machine.
    """
    scheme, rest = URL.fullmatch(url).groups()  # type: ignore[union-attr]
    if "::" in url:
        raise EarwitnessError(f"{url}: one address in another; give the plain one")
    if scheme in ("file", "local"):
        raise EarwitnessError(f"{url}: of this machine; give its path, without {scheme}://")
    if "@" in rest.split("/")[0]:
        hidden = f"{scheme}://…@{rest.split('/')[0].rpartition('@')[2]}"
        raise EarwitnessError(
            f"{hidden}: credentials in an address; take them out, and give them by the environment "
            "or the cloud's own files (docs/storage.md)"
        )
    if not rest.strip("/"):
        raise EarwitnessError(f"{url}: names no bucket or folder; write {scheme}://NAME/FOLDER")


def fixed_folder(pattern: str) -> str:
    """The folder above the first name with a brace, ``*`` or ``?``; else that of the one file."""
    parts = pattern.split("/")
    fixed = next((at for at, part in enumerate(parts[:-1]) if re.search(r"[*?{]", part)), -1)
    return "/".join(parts[:fixed] if fixed >= 0 else parts[:-1])


def expanded(pattern: str) -> list[str]:
    """The names that a pattern's braces stand for, each once.

    Raises:
        EarwitnessError: they are too many, or a brace is not closed.
    """
    found: list[str] = []
    for name in _expanded(pattern):
        if len(found) == MOST_NAMES:
            raise EarwitnessError(f"{pattern}: more than {MOST_NAMES} names; write * for them")
        if "{" in name or "}" in name:
            raise EarwitnessError(f"{pattern}: a brace without its other half; correct the pattern")
        if name.lower().endswith(PACKED):
            raise EarwitnessError(
                f"{name}: a packed tar cannot be read clip by clip; unpack it to {SHARD} (gunzip)"
            )
        found.append(name)
    return list(dict.fromkeys(found))


def _expanded(pattern: str) -> Iterator[str]:
    brace = _BRACES.search(pattern)
    if brace is None:
        yield pattern
        return
    before, behind = pattern[: brace.start()], pattern[brace.end() :]
    bounds = _RANGE.fullmatch(brace[1])
    if bounds is None:
        inner: Iterator[str] = iter(brace[1].split(","))
    else:
        width = len(bounds[1]) if bounds[1].startswith("0") else 0
        numbers = range(int(bounds[1]), int(bounds[2]) + 1)
        inner = (f"{number:0{width}d}" for number in numbers)
    for one in inner:
        yield from _expanded(f"{before}{one}{behind}")


def is_magic(name: str) -> bool:
    """Whether a name stands for others by ``*`` or ``?``."""
    return "*" in name or "?" in name


def matches(path: str, pattern: str) -> bool:
    """Whether a path is meant by a pattern without braces; ``*`` stays within a folder."""
    own, wanted = PurePosixPath(path).parts, PurePosixPath(pattern).parts
    return len(own) == len(wanted) and all(map(fnmatchcase, own, wanted))
