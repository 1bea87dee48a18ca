"""Archives of sound, 7z and zip: looked through, and unpacked in one step.

Nothing is written before all members have been looked at, so that what is refused leaves nothing.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import NamedTuple

from pipeline.errors import EarwitnessError, one_line
from pipeline.files import check_file

LARGER, SMALL = 50, 100_000  # how much larger unpacked sound may be, and bytes to begin with
ENCRYPTED = 1  # the bit of a zip member's flags
HINT = "remove it and run again"


class ArchiveMember(NamedTuple):
    """A file or a folder of an archive."""

    name: str
    size: int  # bytes, unpacked
    link: bool
    folder: bool


class Archive(NamedTuple):
    """An archive that is open."""

    members: Sequence[ArchiveMember]
    encrypted: bool
    extract: Callable[[Path, Collection[str]], None]  # those of these names, below a folder


def unpack(archive: Path, folder: str, root: Path) -> None:
    """Unpacks the one folder that an archive holds to ``root / folder``, in one step.

    Raises:
        EarwitnessError: py7zr is not installed, or the archive is broken, encrypted, holds no such
            folder, needs more room than there is, or has a member that is a link, leaves the
            folder, or is far larger than any sound would be.
    """
    with _unpacked(archive, root, lambda name: True) as aside:
        if not (aside / folder).is_dir():
            raise EarwitnessError(f"{archive}: holds no folder {folder}; unpack it yourself")
        with one_line(root / folder, "move away what is there", "cannot be put in place"):
            (aside / folder).replace(root / folder)


def unpack_files(archive: Path, names: Collection[str], target: Path) -> None:
    """Unpacks the files of these ``names``, whatever folders they are in, into ``target``.

    ``target`` is made in one step, and has no folders; those that the archive lacks are not in it.

    Raises:
        EarwitnessError: as :func:`unpack`; ``target`` is there already.
    """
    with (
        _unpacked(archive, target.parent, lambda name: base_name(name) in names) as aside,
        one_line(target, "move away what is there", "cannot be put in place"),
    ):
        flat = aside / ".flat"
        flat.mkdir()
        for path in [path for path in aside.rglob("*") if path.is_file()]:
            if (flat / path.name).exists():
                raise EarwitnessError(f"{archive}: {path.name!r} occurs twice; refused")
            path.rename(flat / path.name)
        flat.rename(target)


def base_name(name: str) -> str:
    """Of a member: its name without folders; nothing of a folder."""
    return "" if name.endswith("/") else PurePosixPath(name).name


def check_unpacker(archive: Path) -> None:
    """Refuses an archive that needs a library which is not there, before it is downloaded."""
    if archive.suffix == ".7z":
        _py7zr(archive)


@contextmanager
def _unpacked(archive: Path, root: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """A folder in ``root`` with the members that are ``wanted``, for the length of the block."""
    check_unpacker(archive)
    check_file(archive, HINT)
    aside = root / f".unpack-{archive.stem}"
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed run
    try:
        with one_line(archive, HINT, "cannot be unpacked"):
            aside.mkdir(parents=True)
            with _opened(archive) as opened:
                _check(archive, opened, root, wanted)
                opened.extract(aside, [one.name for one in opened.members if wanted(one.name)])
            link = next((path for path in aside.rglob("*") if path.is_symlink()), None)
        if link is not None:
            raise EarwitnessError(f"{archive}: member {link.name!r} is a link; refused")
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _opened(archive: Path) -> Iterator[Archive]:
    """Either kind, by its ending."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            members = [
                ArchiveMember(
                    one.filename, one.file_size, stat.S_ISLNK(one.external_attr >> 16), one.is_dir()
                )
                for one in infos
            ]
            encrypted = any(one.flag_bits & ENCRYPTED for one in infos)
            yield Archive(members, encrypted, opened.extractall)
        return
    with _py7zr(archive).SevenZipFile(archive) as opened:
        members = [
            ArchiveMember(
                name, one.uncompressed, one.is_symlink or one.is_junction, one.is_directory
            )
            for name, one in zip(opened.getnames(), opened.files, strict=True)
        ]
        yield Archive(members, opened.needs_password(), opened.extract)


def _check(archive: Path, opened: Archive, root: Path, wanted: Callable[[str], bool]) -> None:
    """Refuses what may not be unpacked, before anything is written."""
    if opened.encrypted:
        raise EarwitnessError(f"{archive}: encrypted; unpack it yourself")
    for member in opened.members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            raise EarwitnessError(f"{archive}: member {member.name!r} leaves its folder; refused")
        if member.link:
            raise EarwitnessError(f"{archive}: member {member.name!r} is a link; refused")
    files = [one for one in opened.members if wanted(one.name) and not one.folder]
    size = sum(one.size for one in files)
    if size > LARGER * (archive.stat().st_size + SMALL):
        raise EarwitnessError(
            f"{archive}: {size} bytes unpacked, far more than sound packs to; refused"
        )
    if size > (free := shutil.disk_usage(root).free):
        raise EarwitnessError(f"{archive}: needs {size} bytes, {root} has {free}; make room")


def _py7zr(archive: Path) -> ModuleType:
    try:
        import py7zr
    except ImportError:
        raise EarwitnessError(
            f"{archive}: needs py7zr to be unpacked; run `pip install py7zr`, or unpack it into "
            f"{archive.parent} yourself"
        ) from None
    return py7zr
