"""Files from the web: resumed where they stopped, checked, and moved into place in one step.

Every file that earwitness downloads by its address comes this way (models on the hub come by
huggingface_hub). Two processes that want one file at once wait for each other: the second finds
what the first has brought.
"""

from __future__ import annotations

import errno
import hashlib
import time
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from pipeline.errors import EarwitnessError, reason
from pipeline.files import check_file
from pipeline.lock import exclusive

CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte
TRIES = 5  # in a row that bring nothing
PERMANENT = range(400, 500)  # HTTP statuses that another try will not change …
TEMPORARY = (408, 416, 429)  # … except these
FULL = (errno.ENOSPC, errno.EDQUOT)
MOST = 8 << 30  # bytes of a file whose length nobody says; Clotho's largest has 5 GB


class Checksum(NamedTuple):
    """What the bytes of a file must give."""

    kind: str  # md5 or sha256, as its publisher states it
    value: str  # hexadecimal

    def of(self, path: Path) -> str:
        """That of the file at ``path``."""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, self.kind).hexdigest()

    def fits(self, path: Path) -> bool:
        """Whether the file at ``path`` is the one that is meant."""
        return self.of(path) == self.value


def download(
    url: str,
    path: Path,
    checksum: Checksum | None = None,
    *,
    progress: bool = True,
    tries: int = TRIES,
    pause: float = 2.0,
    most: int = MOST,
) -> None:
    """Downloads ``url`` into ``path`` + ``.part``, which a later call continues, then to ``path``.

    A good file at ``path`` stays: one with this checksum, or any where none is known. Another one
    is replaced, once the right one has arrived.

    Args:
        checksum: of the whole file; None: none is published.
        progress: show a bar on a terminal.
        pause: seconds before another try, longer each time.
        most: bytes that are taken where the server does not say how many come.

    Raises:
        EarwitnessError: the server refuses or sends more than ``most``, the connection fails
            ``tries`` times in a row, or the checksum differs (nothing is kept then).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.with_name(f".{path.name}.lock"), wait=True):
        if path.exists():
            check_file(path, "move away what is there")
            if checksum is None or checksum.fits(path):
                return  # another process has brought it meanwhile
        part = path.with_name(f"{path.name}.part")
        _fill(part, path, url, progress, tries, pause, most)
        if checksum is not None and (found := checksum.of(part)) != checksum.value:
            part.unlink()
            raise EarwitnessError(
                f"{url}: {checksum.kind.upper()} {found} is not {checksum.value}, removed; "
                f"run again, or put the file at {path}"
            )
        part.replace(path)


def _fill(
    part: Path, path: Path, url: str, progress: bool, tries: int, pause: float, most: int
) -> None:
    """Tries until ``part`` is the whole file."""
    failures = 0
    while failure := _receive(url, part, progress, most):
        failures += 1
        if failure.permanent or failures == tries:
            raise EarwitnessError(
                f"{url}: {failure.reason}; {_size(part)} bytes are kept: run again to go on, "
                f"or put the file at {path}"
            )
        if failure.gained:
            failures = 0
        time.sleep(pause * failures)


class _Failure(NamedTuple):
    reason: str
    permanent: bool  # another try will not help
    gained: bool  # some bytes arrived


def _receive(url: str, part: Path, progress: bool, most: int) -> _Failure | None:
    """One connection; None once the whole file is in ``part``."""
    before = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "earwitness"})
    if before:
        request.add_header("Range", f"bytes={before}-")
    permanent = False
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if _store(response, part, before, progress, most):
                return None
        problem = "the connection closed early"
    except HTTPError as error:
        if (
            error.code == 416
            and before
            and error.headers.get("Content-Range") == f"bytes */{before}"
        ):
            return None  # the part was the whole file already
        if error.code == 416:
            part.unlink(missing_ok=True)  # longer than the file: begin again
        problem = f"the server says {error.code} {' '.join(str(error.reason).split())[:200]}"
        permanent = error.code in PERMANENT and error.code not in TEMPORARY
    except (URLError, HTTPException, OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        if getattr(cause, "errno", None) in FULL:
            raise EarwitnessError(
                f"{part}: no room ({reason(cause)}); make room and run again: it goes on from there"
            ) from None
        problem = f"no connection ({reason(cause if isinstance(cause, Exception) else error)})"
    return _Failure(problem, permanent, _size(part) > before)


def _store(response: HTTPResponse, part: Path, before: int, progress: bool, most: int) -> bool:
    """Writes what arrives; whether that completes the file.

    Raises:
        EarwitnessError: no length is given, and more than ``most`` bytes arrive.
    """
    resumed = response.status == 206 and str(response.headers.get("Content-Range")).startswith(
        f"bytes {before}-"
    )
    if not resumed:
        before = 0  # the server sends the whole file again
    length = response.headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise ValueError(f"the server gives a length of {length!r}")
    total = None if length is None else before + int(length)
    name = part.name.removesuffix(".part")
    quiet = None if progress else True
    bar = tqdm(desc=name, initial=before, total=total, unit="B", unit_scale=True, disable=quiet)
    with bar, part.open("ab" if resumed else "wb") as stream:
        written = before
        while chunk := response.read(CHUNK):
            written += len(chunk)
            if total is None and written > most:
                part.unlink()
                raise EarwitnessError(
                    f"{response.url}: gives no length and more than {most} bytes, removed; "
                    f"put the file at {part.with_name(name)}"
                )
            stream.write(chunk)
            bar.update(len(chunk))
    return total is None or _size(part) == total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
