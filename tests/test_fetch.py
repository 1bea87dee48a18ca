"""Downloads from a local server that cuts, ignores ranges, lies, or refuses."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora.archives import unpack
from pipeline.corpora.fetch import Remote, SplitFiles, fetch_clotho
from pipeline.download import Checksum, download
from pipeline.errors import EarwitnessError
from tests.conftest import REPOSITORY

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cuts`` are the bytes after which the next connections break."""

    def __init__(self, files: dict[str, bytes], ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.ranges = ranges
        self.cuts: list[int] = []
        self.status = 200
        self.pause = 0.0  # seconds before a file's bytes
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        name = self.path.lstrip("/").split("?")[0]
        self.server.asked.append(f"{name} {asked}".strip())
        content = self.server.files.get(name)
        if content is None or self.server.status != 200:
            self.send_error(404 if content is None else self.server.status)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if last and self.server.ranges:  # a part in the middle, which is never cut
            self.send_part(content, int(first), int(last))
            return
        start = int(first or 0) if self.server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        time.sleep(self.server.pause)
        sent = content[start:]
        if self.server.cuts:
            sent = sent[: self.server.cuts.pop(0)]
        self.wfile.write(sent)

    def send_part(self, content: bytes, first: int, last: int) -> None:
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def do_HEAD(self) -> None:
        content = self.server.files.get(self.path.lstrip("/").split("?")[0], b"")
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes], ranges: bool = True) -> Iterator[Server]:
    server = Server(files, ranges)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def get(server: Server, path: Path, digest: str = md5(CONTENT)) -> None:
    checksum = Checksum("md5", digest)
    download(f"{server.address}/sound.bin", path, checksum, progress=False, pause=0)


def test_cut_connections_are_resumed_where_they_broke(tmp_path: Path) -> None:
    with serving({"sound.bin": CONTENT}) as server:
        server.cuts = [100_000, 50_000]
        get(server, tmp_path / "sound.bin")
        asked = server.asked
    assert (tmp_path / "sound.bin").read_bytes() == CONTENT
    assert asked == ["sound.bin", "sound.bin bytes=100000-", "sound.bin bytes=150000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["sound.bin"]


def test_a_later_call_goes_on(tmp_path: Path) -> None:
    with serving({"sound.bin": CONTENT}) as server:
        server.cuts = [120_000, 0, 0, 0, 0, 0]
        with pytest.raises(EarwitnessError, match=r"120000 bytes are kept: run again"):
            get(server, tmp_path / "sound.bin")
        assert not (tmp_path / "sound.bin").exists()
        server.asked.clear()
        server.cuts.clear()
        get(server, tmp_path / "sound.bin")
        assert server.asked == ["sound.bin bytes=120000-"]
    assert (tmp_path / "sound.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(tmp_path: Path) -> None:
    (tmp_path / "sound.bin.part").write_bytes(CONTENT[:1000])
    with serving({"sound.bin": CONTENT}, ranges=False) as server:
        get(server, tmp_path / "sound.bin")
    assert (tmp_path / "sound.bin").read_bytes() == CONTENT


def test_a_part_that_is_all_there_is_only_checked(tmp_path: Path) -> None:
    (tmp_path / "sound.bin.part").write_bytes(CONTENT)
    with serving({"sound.bin": CONTENT}) as server:
        get(server, tmp_path / "sound.bin")
    assert (tmp_path / "sound.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "sound.bin.part").write_bytes(CONTENT + b"more")
    with serving({"sound.bin": CONTENT}) as server:
        get(server, tmp_path / "sound.bin")
    assert (tmp_path / "sound.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"", b"something else" * 100])
def test_a_wrong_checksum_is_refused_and_nothing_is_left(tmp_path: Path, left: bytes) -> None:
    if left:
        (tmp_path / "sound.bin.part").write_bytes(left)
    wrong = md5(CONTENT if left else b"")
    with serving({"sound.bin": CONTENT}) as server, pytest.raises(EarwitnessError, match="MD5"):
        get(server, tmp_path / "sound.bin", wrong)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there_is_not_asked_for_twice(tmp_path: Path) -> None:
    with serving({}) as server:
        with pytest.raises(EarwitnessError, match="404"):
            get(server, tmp_path / "sound.bin")
        assert len(server.asked) == 1


def test_a_failing_server_is_asked_again_and_then_named(tmp_path: Path) -> None:
    with serving({"sound.bin": CONTENT}) as server:
        server.status = 503
        with pytest.raises(EarwitnessError, match="503"):
            get(server, tmp_path / "sound.bin")
        assert len(server.asked) == 5


def test_no_connection_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"no connection .* or put the file at"):
        download("http://127.0.0.1:9/x", tmp_path / "x", progress=False, pause=0)


def test_an_answer_without_an_end_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that gives no length may send for ever."""
    sent = Handler.send_header
    monkeypatch.setattr(
        Handler,
        "send_header",
        lambda self, key, value: key == "Content-Length" or sent(self, key, value),
    )
    with serving({"sound.bin": CONTENT}) as server:
        url = f"{server.address}/sound.bin"
        with pytest.raises(EarwitnessError, match="no length and more than 299999 bytes"):
            download(url, tmp_path / "x", progress=False, most=len(CONTENT) - 1)
        assert not list(tmp_path.iterdir())
        download(url, tmp_path / "x", progress=False, most=len(CONTENT))
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_two_processes_at_once_bring_a_file_once(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from pipeline.download import Checksum, download
path = Path(sys.argv[2])
download(sys.argv[1], path, Checksum("md5", {md5(CONTENT)!r}), progress=False, pause=0)
assert path.read_bytes()
"""
    path = tmp_path / "sound.bin"
    with serving({"sound.bin": CONTENT}) as server:
        server.pause = 1.0  # while the first receives, the second asks
        command = [sys.executable, "-c", script, f"{server.address}/sound.bin", str(path)]
        both = [subprocess.Popen(command, cwd=REPOSITORY) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
        assert server.asked == ["sound.bin"]
    assert path.read_bytes() == CONTENT
    assert [found.name for found in tmp_path.iterdir()] == ["sound.bin"]


def test_a_full_disk_is_one_line_and_the_part_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "sound.bin.part").write_bytes(CONTENT[:1000])
    with serving({"sound.bin": CONTENT}) as server:
        monkeypatch.setattr("pipeline.download._store", full)
        with pytest.raises(EarwitnessError, match=r"no room .*; make room and run again"):
            get(server, tmp_path / "sound.bin")
        assert len(server.asked) == 1
    assert (tmp_path / "sound.bin.part").stat().st_size == 1000


# --- Clotho -----------------------------------------------------------------------------------


def archive(folder: Path, members: dict[str, bytes]) -> bytes:
    py7zr = pytest.importorskip("py7zr", reason="py7zr unpacks Clotho's archives")
    path = folder / "made.7z"
    with py7zr.SevenZipFile(path, "w") as opened:
        for name, content in members.items():
            opened.writestr(content, name)
    content = path.read_bytes()
    path.unlink()
    return content


def clotho_files(folder: Path) -> tuple[dict[str, bytes], dict[str, SplitFiles]]:
    sound = {"validation/a b.wav": b"RIFF" + bytes(5000), "validation/c.wav": b"RIFF" + bytes(10)}
    files = {"audio.7z": archive(folder, sound), "captions.csv": b"file_name,caption_1\n"}
    remotes = {name: Remote(name, md5(content)) for name, content in files.items()}
    return files, {"validation": SplitFiles(remotes["audio.7z"], (remotes["captions.csv"],))}


def test_clotho_is_fetched_unpacked_and_not_fetched_twice(tmp_path: Path) -> None:
    files, splits = clotho_files(tmp_path)
    root = tmp_path / "clotho"
    with serving(files) as server:
        server.cuts = [64]
        fetch_clotho(root, print, server.address, splits, progress=False, pause=0)
        assert server.asked == ["audio.7z", "audio.7z bytes=64-", "captions.csv"]
        fetch_clotho(root, print, server.address, splits, progress=False, pause=0)
        assert len(server.asked) == 3
    assert sorted(path.name for path in (root / "validation").iterdir()) == ["a b.wav", "c.wav"]
    assert (root / "validation" / "a b.wav").stat().st_size == 5004
    assert sorted(path.name for path in root.iterdir()) == ["captions.csv", "validation"]


def test_a_broken_archive_leaves_nothing_unpacked(tmp_path: Path) -> None:
    content = archive(tmp_path, {"validation/a.wav": CONTENT})
    damaged = content[:1000] + bytes(1000) + content[2000:]
    (tmp_path / "x.7z").write_bytes(damaged)
    with pytest.raises(EarwitnessError, match="cannot be unpacked"):
        unpack(tmp_path / "x.7z", "validation", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.7z"]


def test_an_archive_without_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.7z").write_bytes(archive(tmp_path, {"other/a.wav": b"x"}))
    with pytest.raises(EarwitnessError, match="holds no folder validation"):
        unpack(tmp_path / "x.7z", "validation", tmp_path)
    assert not (tmp_path / "other").exists()


def test_a_member_that_leaves_its_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "x.7z").write_bytes(archive(tmp_path, {"validation/a.wav": b"x"}))
    import py7zr

    # py7zr writes no such archive itself: the names are changed as they are read
    monkeypatch.setattr(py7zr.SevenZipFile, "getnames", lambda _: ["validation/../../evil.wav"])
    with pytest.raises(EarwitnessError, match=r"evil\.wav' leaves its folder"):
        unpack(home / "x.7z", "validation", home)
    assert [path.name for path in tmp_path.rglob("*")] == ["home", "x.7z"]


def test_zenodos_files_are_those_of_clotho_2_1() -> None:
    from pipeline.corpora.fetch import CLOTHO, ZENODO
    from pipeline.corpora.manifest import SPLITS

    assert ZENODO.startswith("https://") and "4783391" in ZENODO
    assert tuple(CLOTHO) == SPLITS
    for split, files in CLOTHO.items():
        remotes = (files.audio, *files.tables)
        assert all(split in remote.name and len(remote.md5) == 32 for remote in remotes)
    assert len({r.md5 for files in CLOTHO.values() for r in (files.audio, *files.tables)}) == 9


# --- archives and answers that someone else made ----------------------------------------------


def sound_archive(folder: Path, **settings: str) -> Path:
    py7zr = pytest.importorskip("py7zr", reason="py7zr unpacks Clotho's archives")
    path = folder / "x.7z"
    with py7zr.SevenZipFile(path, "w", **settings) as opened:
        opened.writestr(CONTENT[:300], "validation/a.wav")
    return path


def refused(path: Path, reason: str) -> None:
    """In one line, with nothing unpacked and nothing left."""
    with pytest.raises(EarwitnessError, match=reason) as raised:
        unpack(path, "validation", path.parent)
    assert "\n" not in str(raised.value)
    assert [found.name for found in path.parent.iterdir()] == ["x.7z"]


@pytest.mark.parametrize("part", range(8))
def test_any_byte_of_an_archive_may_be_wrong(tmp_path: Path, part: int) -> None:
    """Refused in one line, or unpacked as it was: some bytes mean nothing to the content."""
    path = sound_archive(tmp_path)
    good = path.read_bytes()
    for at in range(part, len(good), 8):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            unpack(path, "validation", tmp_path)
        except EarwitnessError as error:
            assert "\n" not in str(error)
            assert [found.name for found in tmp_path.iterdir()] == ["x.7z"]
        else:
            assert [f.read_bytes() for f in tmp_path.rglob("*.wav")] == [CONTENT[:300]], at
            shutil.rmtree(tmp_path / "validation")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    refused(sound_archive(tmp_path, password="secret"), "encrypted; unpack it yourself")


@pytest.mark.parametrize("name", ["validation/" + "n" * 300, "validation/" + "n" * 5000])
def test_too_long_a_name_in_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.7z").write_bytes(archive(tmp_path, {name: b"x"}))
    refused(tmp_path / "x.7z", "cannot be unpacked .*name too long")


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path: Path) -> None:
    members = {"validation/a": b"x", "validation/a/b": b"x"}
    (tmp_path / "x.7z").write_bytes(archive(tmp_path, members))
    refused(tmp_path / "x.7z", "cannot be unpacked")
    (tmp_path / "x.7z").write_bytes(archive(tmp_path, {"validation": b"x"}))
    refused(tmp_path / "x.7z", "holds no folder validation")


def test_a_link_in_an_archive_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    py7zr = pytest.importorskip("py7zr", reason="py7zr unpacks Clotho's archives")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.wav").symlink_to("/etc/passwd")
    home = tmp_path / "home"
    home.mkdir()
    with py7zr.SevenZipFile(home / "x.7z", "w") as opened:
        opened.writeall(tmp_path / "in", "validation")
    monkeypatch.setattr(py7zr.SevenZipFile, "extract", lambda *_, **__: pytest.fail("unpacked"))
    refused(home / "x.7z", r"a\.wav' is a link")


def test_an_archive_that_swells_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.7z").write_bytes(archive(tmp_path, {"validation/zeros.wav": bytes(6_000_000)}))
    assert (tmp_path / "x.7z").stat().st_size < 20_000
    refused(tmp_path / "x.7z", "6000000 bytes unpacked, far more than sound packs to")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_archive_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.7z").mkdir() if kind == "folder" else os.mkfifo(tmp_path / "x.7z")
    refused(tmp_path / "x.7z", "not a regular file")


@pytest.mark.parametrize("length", ["x", "-5", "1.5", "1_0", ""])
@pytest.mark.parametrize("md5_known", [True, False])
def test_a_length_that_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: str, md5_known: bool
) -> None:
    """Whatever the server says of the length, half a file never passes for the file."""
    sent = Handler.send_header
    monkeypatch.setattr(
        Handler,
        "send_header",
        lambda self, key, value: sent(self, key, length if key == "Content-Length" else value),
    )
    with serving({"sound.bin": CONTENT}) as server:
        server.cuts = [1000] * 5
        known = Checksum("md5", md5(CONTENT)) if md5_known else None
        with pytest.raises(EarwitnessError, match="run again") as raised:
            download(f"{server.address}/sound.bin", tmp_path / "x", known, progress=False, pause=0)
    assert "\n" not in str(raised.value) and not (tmp_path / "x").exists()


@pytest.mark.parametrize("status", [416, 301, 999])
def test_a_strange_status_is_one_line(tmp_path: Path, status: int) -> None:
    """416 without having been asked for a part; redirection to itself and to nowhere."""
    with serving({"sound.bin": CONTENT}) as server:
        server.status = status
        with pytest.raises(EarwitnessError, match=str(status)) as raised:
            get(server, tmp_path / "sound.bin")
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_page_in_place_of_the_file_is_removed(tmp_path: Path) -> None:
    page = {"sound.bin": b"<html>please log in</html>"}
    with serving(page) as server, pytest.raises(EarwitnessError, match=r"MD5 .* removed"):
        get(server, tmp_path / "sound.bin")
    assert not list(tmp_path.iterdir())
