"""Files from the web: resumed where they stopped, checked, and moved into place in one step."""

from __future__ import annotations

import hashlib
import time
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from pipeline.errors import EarwitnessError

CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte
TRIES = 5  # in a row that bring nothing
PERMANENT = range(400, 500)  # HTTP statuses that another try will not change …
TEMPORARY = (408, 416, 429)  # … except these


def download(
    url: str,
    path: Path,
    md5: str | None = None,
    *,
    progress: bool = True,
    tries: int = TRIES,
    pause: float = 2.0,
) -> None:
    """Downloads ``url`` into ``path`` + ``.part``, which a later call continues, then to ``path``.

    Args:
        md5: of the whole file, where it is known.
        progress: show a bar on a terminal.
        pause: seconds before another try, longer each time.

    Raises:
        EarwitnessError: the server refuses, the connection fails ``tries`` times in a row, or the
            MD5 differs (nothing is kept then).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    failures = 0
    while failure := _receive(url, part, progress):
        failures += 1
        if failure.permanent or failures == tries:
            raise EarwitnessError(
                f"{url}: {failure.reason}; {_size(part)} bytes are kept: run again to go on, "
                f"or put the file at {path}"
            )
        if failure.gained:
            failures = 0
        time.sleep(pause * failures)
    if md5 is not None and (found := _md5(part)) != md5:
        part.unlink()
        raise EarwitnessError(
            f"{url}: MD5 {found} is not {md5}, removed; run again, or put the file at {path}"
        )
    part.replace(path)


class _Failure(NamedTuple):
    reason: str
    permanent: bool  # another try will not help
    gained: bool  # some bytes arrived


def _receive(url: str, part: Path, progress: bool) -> _Failure | None:
    """One connection; None once the whole file is in ``part``."""
    before = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "earwitness"})
    if before:
        request.add_header("Range", f"bytes={before}-")
    permanent = False
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if _store(response, part, before, progress):
                return None
        reason = "the connection closed early"
    except HTTPError as error:
        if (
            error.code == 416
            and before
            and error.headers.get("Content-Range") == f"bytes */{before}"
        ):
            return None  # the part was the whole file already
        if error.code == 416:
            part.unlink(missing_ok=True)  # longer than the file: begin again
        reason = f"the server says {error.code} {' '.join(str(error.reason).split())[:200]}"
        permanent = error.code in PERMANENT and error.code not in TEMPORARY
    except (URLError, HTTPException, OSError, ValueError) as error:
        words = " ".join(str(getattr(error, "reason", error)).split())[:200]
        reason = f"no connection ({words or type(error).__name__})"
    return _Failure(reason, permanent, _size(part) > before)


def _store(response: HTTPResponse, part: Path, before: int, progress: bool) -> bool:
    """Writes what arrives; whether that completes the file."""
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
        while chunk := response.read(CHUNK):
            stream.write(chunk)
            bar.update(len(chunk))
    return total is None or _size(part) == total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
