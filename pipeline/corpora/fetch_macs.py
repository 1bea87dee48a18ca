"""MACS from Zenodo: its captions, and of TAU Urban Acoustic Scenes 2019 the sound that they name.

The sound is in 21 zips of 36 GB together, 14,400 files of ten kinds of scene, of which MACS has
3,930 of three. Which zips have them is read from their servers first (pipeline/remote_zip.py), and
of each zip only they are unpacked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from pipeline.corpora.archives import base_name, unpack_files
from pipeline.corpora.fetch import Remote, address, fetch_file, fetching
from pipeline.corpora.macs import FOLDERS, TABLE, file_names
from pipeline.errors import one_line
from pipeline.remote_zip import zip_names

CAPTIONS = Remote(TABLE, "23fcb2ebd0b109094034ef9e87972256")
CAPTIONS_ZENODO = "https://zenodo.org/records/5114771/files"
SOUND_ZENODO = "https://zenodo.org/records/2589280/files"
GIGA = 1e9
UNPACKED = 12.0  # gigabytes of MACS' sound: 3,930 files of ten seconds, 48 kHz, stereo, 24 bits


class SoundArchive(NamedTuple):
    """A zip of TAU Urban Acoustic Scenes 2019."""

    file: Remote
    size: int  # bytes


# (MD5, bytes) of zips 1 to 21. The MD5s are those that aac-datasets 0.7.0 and soundata 1.0.1 have,
# compared with each other; the bytes are dcase_util's. None was asked for here.
_SOUND = (
    ("aca4ebfd9ed03d5f747d6ba8c24bc728", 1_657_550_587),
    ("c4f170408ce77c8c70c532bf268d7be0", 1_666_219_450),
    ("c7214a07211f10f3250290d05e72c37e", 1_817_901_591),
    ("a6a62110f6699cf4432072acb1dffda6", 1_821_710_642),
    ("091a0b6d3c84b8e60e46940aa7d4a8a0", 1_803_118_466),
    ("114f4ca13e074391b98a1cfd8140de65", 1_789_566_029),
    ("5951dd2968f7a514e2afbe279c4f060d", 1_747_953_866),
    ("b0b63dc95b327e1509857c8d8a663cc3", 1_728_724_513),
    ("3c32a693a6b111ffb957be3c1dd22e9b", 1_667_106_209),
    ("0ffbf60006da520cc761fb74c878b98b", 1_632_636_175),
    ("599055d93b4c11057c29be2df54538d4", 1_671_793_546),
    ("98b8d162ff3665695c4c910e6c372cc8", 1_672_592_150),
    ("a356c08b1a5a21d433eba37ef87587f4", 1_673_481_614),
    ("f8969771e7faf7dd471d1cf78b0cf011", 1_666_137_450),
    ("4758c4b0fb7484faa632266e78850820", 1_675_127_004),
    ("a18acad9ede8ea76574216feb887f0bc", 1_648_240_966),
    ("1af7703484632f340da5c33662dc9632", 1_698_414_214),
    ("b67402bf3e08f4da394a7c18756c0fd2", 1_731_093_704),
    ("035db315f19106eb848b6f9b32bcc47c", 1_745_153_640),
    ("9cb28c74911bf8a3eadcf53f50a5b5d6", 1_774_038_704),
    ("0e44ed85c88ec036a9725b4dd1dfaea0", 1_333_808_800),
)
SOUND: tuple[SoundArchive, ...] = tuple(
    SoundArchive(
        Remote(f"TAU-urban-acoustic-scenes-2019-development.audio.{number}.zip", md5), size
    )
    for number, (md5, size) in enumerate(_SOUND, 1)
)


def has_sound(root: Path) -> bool:
    """Whether there is a folder of MACS' sound: it is complete, as it is made in one step."""
    return any((root / folder).is_dir() for folder in FOLDERS)


def has_macs(root: Path) -> bool:
    """Whether ``root`` has all that :func:`fetch_macs` would download."""
    return has_sound(root) and (root / TABLE).exists()


def most_to_fetch(root: Path) -> int:
    """Bytes of the archives that ``root`` lacks the sound of: so many at most are fetched."""
    if has_sound(root):
        return 0
    return sum(each.size for each in SOUND if not (_parts(root) / each.file.name).is_dir())


def fetch_macs(
    root: Path,
    say: Callable[[str], None],
    captions_url: str = CAPTIONS_ZENODO,
    sound_url: str = SOUND_ZENODO,
    progress: bool = True,
    pause: float = 2.0,
) -> None:
    """Downloads what ``root`` lacks of MACS; after an interruption, the next call continues.

    An archive is removed once its sound is unpacked, so that two gigabytes are needed beside it.

    Args:
        say: told what will be downloaded, and how large it is, before anything is.
        captions_url: the address of the captions, without the file's name.
        sound_url: the address of the archives, without their names.
        progress: show a bar on a terminal.
        pause: seconds before another try, longer each time.

    Raises:
        EarwitnessError: no connection, a checksum that is wrong, or an archive that cannot be
            unpacked.
    """
    with fetching(root):
        fetch_file(CAPTIONS, root, captions_url, progress, pause)
        if not has_sound(root):
            names = {*file_names(root / TABLE)}
            for archive in _in_order(root, names, sound_url, say):
                if names <= _found(root):
                    break
                fetch_file(archive.file, root, sound_url, progress, pause)
                unpack_files(root / archive.file.name, names, _parts(root) / archive.file.name)
                (root / archive.file.name).unlink()
            _gather(root)
        shutil.rmtree(_parts(root), ignore_errors=True)  # left by a run that was killed


def _in_order(
    root: Path, names: Collection[str], url: str, say: Callable[[str], None]
) -> list[SoundArchive]:
    """The archives that ``root`` lacks the sound of: first those that say they have some of it.

    The others come last, and are reached only where one of those did not say the truth.
    """
    left = [each for each in SOUND if not (_parts(root) / each.file.name).is_dir()]
    needed = []
    for archive in left:
        listed = zip_names(address(url, archive.file))
        if listed is None or {base_name(name) for name in listed} & {*names}:
            needed.append(archive)
    gigabytes = sum(each.size for each in needed) / GIGA
    say(
        f"downloads {gigabytes:.1f} GB into {root}, {len(needed)} of {len(SOUND)} archives of TAU "
        f"Urban Acoustic Scenes 2019; about {UNPACKED:.0f} GB unpacked"
    )
    return [*needed, *(each for each in left if each not in needed)]


def _parts(root: Path) -> Path:
    """What is unpacked already: a folder an archive, until all is there."""
    return root / ".audio"


def _found(root: Path) -> set[str]:
    return {path.name for path in _parts(root).rglob("*") if path.is_file()}


def _gather(root: Path) -> None:
    """The sound of all archives, as one folder, which is there in one step."""
    whole = _parts(root) / "whole"
    whole.mkdir(parents=True, exist_ok=True)
    for path in _parts(root).glob("*.zip/*"):
        path.rename(whole / path.name)
    with one_line(root / FOLDERS[0], "move away what is there", "cannot be put in place"):
        whole.rename(root / FOLDERS[0])
