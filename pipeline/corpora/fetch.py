"""Clotho v2.1, its DCASE test set and MACS' captions from Zenodo: downloaded, checked, unpacked.

Files and the folders of archives are moved into place in one step, so that what exists is complete
and is not downloaded again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple

from pipeline.download import Checksum, download
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import check_file
from pipeline.lock import exclusive

LARGER, SMALL = 50, 100_000  # how much larger unpacked sound may be, and bytes to begin with
ZENODO = "https://zenodo.org/records/4783391/files"


class Remote(NamedTuple):
    """A file to download, with the MD5 that Zenodo gives for it."""

    name: str
    md5: str


class SplitFiles(NamedTuple):
    """What one split of Clotho consists of."""

    audio: Remote  # a 7z archive with one folder, named as the split
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

# the blind test set of DCASE's captioning tasks, 1,043 clips
TEST_ZENODO = "https://zenodo.org/records/3865658/files"
CLOTHO_TEST: dict[str, SplitFiles] = {
    "test": SplitFiles(
        Remote("clotho_audio_test.7z", "9b3fe72560a621641ff4351ba1154349"),
        (Remote("clotho_metadata_test.csv", "52f8ad01c229a310a0ff8043df480e21"),),
    )
}
MACS = Remote("MACS.yaml", "23fcb2ebd0b109094034ef9e87972256")  # its captions, without the sound
MACS_ZENODO = "https://zenodo.org/records/5114771/files"


def is_fetched(root: Path, splits: Mapping[str, SplitFiles] = CLOTHO) -> bool:
    """Whether ``root`` has all that :func:`fetch_clotho` would download."""
    return all(
        (root / split).is_dir() and all((root / table.name).exists() for table in files.tables)
        for split, files in splits.items()
    )


def fetch_clotho(
    root: Path,
    base_url: str = ZENODO,
    splits: Mapping[str, SplitFiles] = CLOTHO,
    progress: bool = True,
    pause: float = 2.0,
) -> None:
    """Downloads what ``root`` lacks of Clotho; after an interruption, the next call continues.

    Args:
        base_url: the address of the files, without their names.
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
                _unpacker(archive)  # a missing library is an error before gigabytes are downloaded
                _fetch(files.audio, root, base_url, progress, pause)
                unpack(archive, split, root)
                archive.unlink()
            for table in files.tables:
                _fetch(table, root, base_url, progress, pause)


def fetch_macs(
    root: Path, base_url: str = MACS_ZENODO, progress: bool = True, pause: float = 2.0
) -> None:
    """Downloads MACS' captions, where ``root`` lacks them; see :func:`fetch_clotho`."""
    _fetch(MACS, root, base_url, progress, pause)


def _fetch(file: Remote, root: Path, base_url: str, progress: bool, pause: float) -> None:
    if not (root / file.name).exists():
        url = f"{base_url}/{file.name}?download=1"
        checksum = Checksum("md5", file.md5)
        download(url, root / file.name, checksum, progress=progress, pause=pause)


def unpack(archive: Path, folder: str, root: Path) -> None:
    """Unpacks the one folder that a 7z archive holds to ``root / folder``, in one step.

    Raises:
        EarwitnessError: py7zr is not installed, or the archive is broken, encrypted, holds no such
            folder, needs more room than there is, or has a member that is a link, leaves the
            folder, or is far larger than any sound would be.
    """
    py7zr, hint = _unpacker(archive), "remove it and run again"
    check_file(archive, hint)
    aside = root / f".unpack-{folder}"
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed run
    try:
        with one_line(archive, hint, "cannot be unpacked"):
            with py7zr.SevenZipFile(archive) as opened:
                _check_members(archive, opened, root)
                opened.extractall(aside)
            link = next((path for path in aside.rglob("*") if path.is_symlink()), None)
        if link is not None:
            raise EarwitnessError(f"{archive}: member {link.name!r} is a link; refused")
        if not (aside / folder).is_dir():
            raise EarwitnessError(f"{archive}: holds no folder {folder}; unpack it yourself")
        with one_line(root / folder, "move away what is there", "cannot be put in place"):
            (aside / folder).replace(root / folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check_members(archive: Path, opened: Any, root: Path) -> None:
    """Refuses what may not be unpacked, before anything is written."""
    if opened.needs_password():
        raise EarwitnessError(f"{archive}: encrypted; unpack it yourself")
    for name in opened.getnames():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise EarwitnessError(f"{archive}: member {name!r} leaves its folder; refused")
    for member in opened.files:
        if member.is_symlink or member.is_junction:
            raise EarwitnessError(f"{archive}: member {member.filename!r} is a link; refused")
    size = sum(member.uncompressed for member in opened.files)
    if size > LARGER * (archive.stat().st_size + SMALL):
        raise EarwitnessError(
            f"{archive}: {size} bytes unpacked, far more than sound packs to; refused"
        )
    if size > (free := shutil.disk_usage(root).free):
        raise EarwitnessError(f"{archive}: needs {size} bytes, {root} has {free}; make room")


def _unpacker(archive: Path) -> ModuleType:
    try:
        import py7zr
    except ImportError:
        raise EarwitnessError(
            f"{archive}: needs py7zr to be unpacked; run `pip install py7zr`, or unpack it into "
            f"{archive.parent} yourself"
        ) from None
    return py7zr
