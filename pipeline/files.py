"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import EarwitnessError

TEXT_BYTES = 512 << 20  # of a manifest of 400,000 clips, and more; its values take several times it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, moved into its place if the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, moved into its place if the block ends without error.

    What a killed writer left is removed, so there may be only one writer at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}~*"):
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}~"))
    try:
        yield temporary
        temporary.chmod(0o755)
        replace_folder(temporary, path)
    finally:
        for leftover in path.parent.glob(f".{path.name}~*"):
            shutil.rmtree(leftover)


def replace_folder(source: Path, target: Path) -> None:
    """Moves a folder to ``target``; a folder that was there is removed."""
    old = target.with_name(f".{target.name}~old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write_atomic(path: Path, text: str) -> None:
    """Writes UTF-8 text in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def read_text(path: Path, hint: str, limit: int = TEXT_BYTES, made: str = "") -> str:
    """The UTF-8 text of a regular file, without a byte order mark.

    Args:
        hint: what to do where the file is missing, or is none that can be read.
        limit: of its size, in bytes.
        made: what a file that nobody edits is, such as ``a tokenizer``; else it is to be saved
            as UTF-8.

    Raises:
        EarwitnessError: it is not there, not a regular file (a folder, a pipe and a device are
            none: they may never end), may not be read, is over ``limit`` or is not UTF-8.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise EarwitnessError(f"{path}: cannot be read (it is {kind}); {hint}")
        large = found.st_size > limit
        with path.open("rb") as stream:
            content = b"" if large else stream.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise EarwitnessError(f"{path}: not there; {hint}") from None
    except OSError as error:
        raise EarwitnessError(f"{path}: cannot be read ({error.strerror}); {hint}") from None
    except ValueError:  # of a name with a zero byte
        raise EarwitnessError(f"{str(path)!r}: not a file's name; {hint}") from None
    if large or len(content) > limit:
        raise EarwitnessError(f"{path}: more than the {limit >> 20} MB that are read; {hint}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = f"line {line} is not UTF-8"
        whole = f"not {made} ({problem}); {hint}" if made else f"{problem}; save it as UTF-8"
        raise EarwitnessError(f"{path}: {whole}") from None


def read_json(path: Path, hint: str) -> Any:
    """The value in a JSON file; ``hint`` says what to do when it is missing or broken.

    Raises:
        EarwitnessError: see :func:`read_text`; or it is not JSON, is nested too deep, names a key
            twice, or has a number that is not finite.
    """
    text = read_text(path, hint, made="JSON")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a character can never be written
        return value
    except ValueError as error:
        raise EarwitnessError(f"{path}: not JSON ({error}); {hint}") from None
    except RecursionError:
        raise EarwitnessError(f"{path}: not JSON (nested too deep); {hint}") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return number


def inside(root: Path, name: str, source: str) -> Path:
    """``root / name``, refused where it leaves ``root``; ``source`` is the file that named it."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise EarwitnessError(f"{source}: path {name!r} leaves {root}; correct the row")
    return path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
