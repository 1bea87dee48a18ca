"""Downloads from a local server that cuts, ignores ranges, lies, or refuses."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora.fetch import Remote, SplitFiles, fetch_clotho, unpack
from pipeline.download import download
from pipeline.errors import EarwitnessError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cuts`` are the bytes after which the next connections break."""

    def __init__(self, files: dict[str, bytes], ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.ranges = ranges
        self.cuts: list[int] = []
        self.status = 200
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
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0) if self.server.ranges else 0
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
        sent = content[start:]
        if self.server.cuts:
            sent = sent[: self.server.cuts.pop(0)]
        self.wfile.write(sent)

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
    download(f"{server.address}/sound.bin", path, digest, progress=False, pause=0)


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
        download("http://127.0.0.1:9/x", tmp_path / "x", "0", progress=False, pause=0)


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
        fetch_clotho(root, server.address, splits, progress=False, pause=0)
        assert server.asked == ["audio.7z", "audio.7z bytes=64-", "captions.csv"]
        fetch_clotho(root, server.address, splits, progress=False, pause=0)
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
