"""Encoders that are bound to a file, pickled with its content: another machine may lack it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Carried = tuple[Callable[..., Any], tuple[Any, ...]]


def carried(
    build: Callable[[Any, Path], Any], settings: Any, path: Path, beside: Iterable[str] = ()
) -> Carried:
    """What ``__reduce__`` of such an encoder gives.

    Args:
        build: makes it of its settings and its file.
        beside: other files that belong to it, below the folder of ``path``.
    """
    names = (path.name, *dict.fromkeys(beside))
    contents = {name: (path.parent / name).read_bytes() for name in names}
    return _built, (build, settings, path.name, contents)


def _built(
    build: Callable[[Any, Path], Any], settings: Any, name: str, contents: dict[str, bytes]
) -> Any:
    """From copies of the files, which are there as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="earwitness-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for own, content in contents.items():
        path = folder / own
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return build(settings, folder / name)
