"""Files that are written whole or not at all.

What is being written has a name that begins with ``.`` and holds ``~``: DVC passes over it
(.dvcignore), so what a killed writer leaves is in no digest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import EarwitnessError, reason

TEXT_BYTES = 512 << 20  # of a manifest of 400,000 clips, and more; its values take several times it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, moved into its place if the block ends without error."""
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name[:40]}~{os.getpid()}~"  # see writer_of
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of writing name ``path``: a full disk names nothing, others the temporary file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError):
            named = error.filename
            if named is None or (isinstance(named, str) and "~" in Path(named).name):
                error.filename = str(path)
        else:
            error.add_note(str(path))
        raise


def writer_of(path: Path) -> int | None:
    """The process that writes a temporary file of :func:`replacing`; None: it is none."""
    match path.name.rsplit("~", 2):
        case [name, process, _] if name.startswith(".") and process.isdecimal():
            return int(process)
    return None


@contextmanager
def delivering(path: Path) -> Iterator[Path]:
    """As :func:`replacing`, for a path that a person gave.

    What a link leads to is written, and the link stays. A device or a pipe is written to, in one
    go, and never replaced.

    Raises:
        EarwitnessError: see :func:`check_place`; or the device takes no more.
    """
    check_place(path)
    try:
        if is_stream(path):
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(folder) / "whole"
                yield whole
                sys.stdout.flush()  # the device may be the same terminal
                with path.open("ab", buffering=0) as stream:
                    stream.write(whole.read_bytes())
        else:
            with replacing(Path(os.path.realpath(path))) as temporary:
                yield temporary
    except OSError as error:
        raise _not_writable(path, error) from None


def check_place(path: Path) -> None:
    """Refuses a path where no file can be written; makes nothing, so it can be asked beforehand.

    Raises:
        EarwitnessError: it is a folder, it is below a file, or it may not be written.
    """
    try:
        real = Path(os.path.realpath(path))
        if real.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if real.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if is_stream(path):
            return
        above = real.parent
        while not above.exists() and above != above.parent:
            above = above.parent
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is a file")
        if len(os.fsencode(real.name)) > os.pathconf(above, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{above} may not be written")
    except OSError as error:
        raise _not_writable(path, error) from None
    except ValueError as error:  # a NUL in the name
        raise EarwitnessError(f"{path}: cannot be written ({error}); give another path") from None


def is_stream(path: Path) -> bool:
    """A device, a pipe or a socket; so are the names of open files, such as ``/dev/stdout``."""
    if not path.exists():
        return False
    named_open = Path(os.path.realpath(path.parent)).is_relative_to("/proc")
    return named_open or path.parent == Path("/dev") or not (path.is_file() or path.is_dir())


def _not_writable(path: Path, error: OSError) -> EarwitnessError:
    reason = error.strerror or str(error)
    return EarwitnessError(f"{path}: cannot be written ({reason}); give another path")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, moved into its place if the block ends without error.

    What a killed writer left is removed, so there may be only one writer at a time.
    """
    with _naming(path):
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


def check_file(path: Path, hint: str) -> None:
    """Refuses what is no regular file: a folder, and a pipe or a device, which may never end.

    Raises:
        EarwitnessError: so it is, or it is not there; ``hint`` says what to do.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise EarwitnessError(f"{path}: not there; {hint}") from None
    except (OSError, ValueError) as error:
        raise EarwitnessError(f"{path}: cannot be read ({reason(error)}); {hint}") from None
    if not stat.S_ISREG(mode):
        raise EarwitnessError(f"{path}: not a regular file; {hint}")


def write_atomic(path: Path, text: str) -> None:
    """Writes UTF-8 text in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


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
        if "\\u" in text and "\\ud" in text.lower():
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
    """``root / name``, refused where the name leads out of ``root``; ``source`` is what named it.

    Links are the user's own: one that lies below ``root`` may lead anywhere.
    """
    if not leads_inside(name):
        raise EarwitnessError(f"{source}: path {name!r} leaves {root}; correct the row")
    return root / name


def leads_inside(name: str) -> bool:
    """Whether a relative path stays below where it begins, and is a path that can be."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\0" in name) and is_unicode(name)


def is_unicode(text: str) -> bool:
    """Whether a file can hold the text: no half of a surrogate pair is in it."""
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)


def shown(path: Path | str) -> str:
    """A path as one line for any file or terminal: ``\\xe9`` for a byte that is no UTF-8."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in writable(path)
    )


def writable(path: Path | str) -> str:
    """A path as text that is UTF-8: ``\\xe9`` for a byte that is not."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return str(path).encode("utf-8", "backslashreplace").decode()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def user_cache() -> Path:
    """Where is kept what serves all clones of a user; it may be deleted."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "earwitness"
