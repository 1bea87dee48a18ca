"""Clotho v2.1 from Zenodo: resumed where it stopped, checked, then unpacked.

Every file arrives in ``NAME.part`` beside its place and is moved there once its MD5 is right; an
archive's folder is unpacked aside and moved in one step. So what is there is whole, and what is
there is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import NamedTuple
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from pipeline.errors import EarwitnessError
from pipeline.lock import exclusive

ZENODO = "https://zenodo.org/records/4783391/files"
CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte
TRIES = 5  # in a row that bring nothing
FOR_GOOD = range(400, 500)  # HTTP statuses that another try will not change …
PASSING = (408, 416, 429)  # … except these


class Remote(NamedTuple):
    """A file to fetch, with the MD5 that Zenodo gives for it."""

    name: str
    md5: str


class SplitFiles(NamedTuple):
    """What one split of Clotho consists of."""

    audio: Remote  # a 7z archive of one folder, named as the split
    tables: tuple[Remote, ...]


CLOTHO: dict[str, SplitFiles] = {
    "development": SplitFiles(
        Remote("clotho_audio_development.7z", "c8b05bc7acdb13895bb3c6a29608667e"),
        (
            Remote("clotho_captions_development.csv", "d4090b39ce9f2491908eebf4d5b09bae"),
            Remote("clotho_metadata_development.csv", "170d20935ecfdf161ce1bb154118cda5"),
        ),
    ),
    "validation": SplitFiles(
        Remote("clotho_audio_validation.7z", "7dba730be08bada48bd15dc4e668df59"),
        (
            Remote("clotho_captions_validation.csv", "5879e023032b22a2c930aaa0528bead4"),
            Remote("clotho_metadata_validation.csv", "2e010427c56b1ce6008b0f03f41048ce"),
        ),
    ),
    "evaluation": SplitFiles(
        Remote("clotho_audio_evaluation.7z", "4569624ccadf96223f19cb59fe4f849f"),
        (
            Remote("clotho_captions_evaluation.csv", "1b16b9e57cf7bdb7f13a13802aeb57e2"),
            Remote("clotho_metadata_evaluation.csv", "13946f054d4e1bf48079813aac61bf77"),
        ),
    ),
}


def fetch_clotho(
    root: Path,
    base_url: str = ZENODO,
    splits: Mapping[str, SplitFiles] = CLOTHO,
    progress: bool = True,
    pause: float = 2.0,
) -> None:
    """Brings what is missing of Clotho to ``root``; interrupted, it goes on when called again.

    Args:
        base_url: where the files lie, without their names.
        progress: show a bar on a terminal.
        pause: seconds before another try, longer each time.

    Raises:
        EarwitnessError: no connection, a checksum that is wrong, an archive that cannot be
            unpacked, or another process that fetches into ``root``.
    """
    with exclusive(root / ".fetch.lock"):
        for split, files in splits.items():
            if not (root / split).is_dir():
                archive = root / files.audio.name
                _unpacker(archive)  # said before gigabytes are fetched
                _bring(files.audio, root, base_url, progress, pause)
                unpack(archive, split, root)
                archive.unlink()
            for table in files.tables:
                _bring(table, root, base_url, progress, pause)


def _bring(file: Remote, root: Path, base_url: str, progress: bool, pause: float) -> None:
    if not (root / file.name).exists():
        url = f"{base_url}/{file.name}?download=1"
        download(url, root / file.name, file.md5, progress, pause)


def download(url: str, path: Path, md5: str, progress: bool = True, pause: float = 2.0) -> None:
    """Fetches ``url`` to ``path`` by way of ``path`` + ``.part``, which a later call goes on with.

    Raises:
        EarwitnessError: the server refuses, the connection fails :data:`TRIES` times in a row, or
            the MD5 is not ``md5`` (nothing is left then).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    failures = 0
    while problem := _receive(url, part, progress):
        failures += 1
        if not problem.hopeful or failures == TRIES:
            raise EarwitnessError(
                f"{url}: {problem.reason}; {_size(part)} bytes are kept: run again to go on, "
                f"or put the file at {path}"
            )
        if problem.gained:
            failures = 0
        time.sleep(pause * failures)
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise EarwitnessError(
            f"{url}: MD5 {found} is not {md5}, removed; run again, or put the file at {path}"
        )
    part.replace(path)


class _Problem(NamedTuple):
    reason: str
    hopeful: bool  # another try may do
    gained: bool  # this one brought something


def _receive(url: str, part: Path, progress: bool) -> _Problem | None:
    """One connection; None once all of the file is in ``part``."""
    before = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "earwitness"})
    if before:
        request.add_header("Range", f"bytes={before}-")
    hopeful = True
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if _store(response, part, before, progress):
                return None
        reason = "the connection closed early"
    except HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{before}":
            return None  # all of it was there already
        if error.code == 416:
            part.unlink()  # longer than the file: begin again
        reason = f"the server says {error.code} {error.reason}"
        hopeful = error.code not in FOR_GOOD or error.code in PASSING
    except (URLError, HTTPException, OSError) as error:
        reason = f"no connection ({getattr(error, 'reason', error)})"
    return _Problem(reason, hopeful, _size(part) > before)


def _store(response: HTTPResponse, part: Path, before: int, progress: bool) -> bool:
    """Writes what comes; whether that was all of it."""
    goes_on = response.status == 206 and str(response.headers.get("Content-Range")).startswith(
        f"bytes {before}-"
    )
    if not goes_on:
        before = 0  # the server sends the whole file again
    length = response.headers.get("Content-Length")
    total = None if length is None else before + int(length)
    name = part.name.removesuffix(".part")
    quiet = None if progress else True
    bar = tqdm(desc=name, initial=before, total=total, unit="B", unit_scale=True, disable=quiet)
    with bar, part.open("ab" if goes_on else "wb") as stream:
        while chunk := response.read(CHUNK):
            stream.write(chunk)
            bar.update(len(chunk))
    return total is None or _size(part) == total


def unpack(archive: Path, folder: str, root: Path) -> None:
    """Unpacks the one folder that a 7z archive holds to ``root / folder``, in one step.

    Raises:
        EarwitnessError: py7zr is not there, the archive is broken, holds no such folder, or has a
            member that is a link or leaves the folder.
    """
    py7zr = _unpacker(archive)
    aside = root / f".unpack-{folder}"
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed run
    try:
        with py7zr.SevenZipFile(archive) as opened:
            for name in opened.getnames():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts:
                    raise EarwitnessError(f"{archive}: member {name!r} leaves its folder; refused")
            opened.extractall(aside)
        link = next((path for path in aside.rglob("*") if path.is_symlink()), None)
        if link is not None:
            raise EarwitnessError(f"{archive}: member {link.name!r} is a link; refused")
        if not (aside / folder).is_dir():
            raise EarwitnessError(f"{archive}: holds no folder {folder}; unpack it yourself")
        (aside / folder).replace(root / folder)
    except (py7zr.exceptions.ArchiveError, EOFError, ValueError) as error:
        raise EarwitnessError(
            f"{archive}: cannot be unpacked ({error}); remove it and run again"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpacker(archive: Path) -> ModuleType:
    try:
        import py7zr
    except ImportError:
        raise EarwitnessError(
            f"{archive}: needs py7zr to be unpacked; run `pip install py7zr`, or unpack it into "
            f"{archive.parent} yourself"
        ) from None
    return py7zr


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
