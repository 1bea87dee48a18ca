"""Zips of sound that anybody made: refused before anything is written, or unpacked as meant."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora.archives import unpack, unpack_files
from pipeline.errors import EarwitnessError

SOUND = b"RIFF" + np.random.default_rng(0).bytes(200)


def member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def hostile(path: Path, *members: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in members:
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("name", ["../evil.wav", "set/../../evil.wav", "/evil.wav"])
def test_a_zip_whose_member_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = hostile(home / "x.zip", (member("set/a.wav"), SOUND), (member(name), b"x"))
    for unpacked in (lambda: unpack(path, "set", home),
                     lambda: unpack_files(path, {"a.wav", "evil.wav"}, home / "out")):  # fmt: skip
        with pytest.raises(EarwitnessError, match=r"evil\.wav' leaves its folder; refused"):
            unpacked()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["home", "x.zip"]


def test_links_bombs_and_codes_in_a_zip_are_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    link = hostile(home / "link.zip", (member("set/a.wav", stat.S_IFLNK | 0o777), b"/etc/passwd"))
    bomb = hostile(home / "bomb.zip", (member("set/a.wav"), bytes(20_000_000)))
    twice = hostile(home / "twice.zip", (member("set/a.wav"), b"1"), (member("b/a.wav"), b"2"))
    coded = hostile(home / "coded.zip", (member("set/a.wav"), b"1"))
    data = bytearray(coded.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + at] |= 1
    coded.write_bytes(bytes(data))
    before = sorted(path.name for path in home.iterdir())
    for path, reason in ((link, "is a link"), (bomb, "far more than sound"), (coded, "encrypted")):
        with pytest.raises(EarwitnessError, match=reason):
            unpack(path, "set", home)
    with pytest.raises(EarwitnessError, match=r"'a\.wav' occurs twice"):
        unpack_files(twice, {"a.wav"}, home / "out")
    with pytest.raises(EarwitnessError, match="holds no folder other"):
        unpack(twice, "other", home)
    assert sorted(path.name for path in home.iterdir()) == before


@pytest.mark.parametrize("part", range(4))
def test_any_byte_of_a_zip_may_be_wrong(tmp_path: Path, part: int) -> None:
    """Refused in one line, or unpacked as it was: some bytes mean nothing to the content."""
    path = hostile(tmp_path / "x.zip", (member("set/a.wav"), SOUND))
    good = path.read_bytes()
    for at in range(part, len(good), 4):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            unpack_files(path, {"a.wav"}, tmp_path / "out")
        except EarwitnessError as error:
            assert "\n" not in str(error)
            assert [found.name for found in tmp_path.iterdir()] == ["x.zip"]
        else:
            found = [one.read_bytes() for one in (tmp_path / "out").iterdir()]
            assert found in ([SOUND], []), at  # of another name: not one that is wanted
            for one in (tmp_path / "out").iterdir():
                one.unlink()
            (tmp_path / "out").rmdir()
