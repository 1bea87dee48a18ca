"""Loaders of what comes from the web: archives, and the answers of servers."""

from __future__ import annotations

import hashlib
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from pipeline.corpora.archives import unpack
from pipeline.download import Checksum, download
from pipeline.metrics import spice_install
from tests.fuzz.archives import HTTP, SEVEN_ZIP, ZIP
from tests.fuzz.case import Loader

CONTENT = Random(0).randbytes(3000)
JAR = spice_install.CORENLP[0]


def make_seven_zip(good: Path) -> None:
    import py7zr

    (good / "one").mkdir()
    with py7zr.SevenZipFile(good / "one/x.7z", "w") as archive:
        archive.writestr(CONTENT, "sound/a b.wav")
        archive.writestr(CONTENT[:100], "sound/c.wav")


def load_seven_zip(home: Path) -> None:
    unpack(home / "x.7z", "sound", home)


def make_zip(good: Path) -> None:
    (good / "one").mkdir()
    with zipfile.ZipFile(good / "one/x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{spice_install._ARCHIVE}/{JAR.name}", CONTENT)
        archive.writestr(f"{spice_install._ARCHIVE}/README.txt", "read me")


def make_sound_zip(good: Path) -> None:
    (good / "one").mkdir()
    with zipfile.ZipFile(good / "one/x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sound/a b.wav", CONTENT)
        archive.writestr("sound/c.wav", CONTENT[:100])


def load_sound_zip(home: Path) -> None:
    unpack(home / "x.zip", "sound", home)


def load_zip(home: Path) -> None:
    """The download is there already, under the name that the installer gives it."""
    whole = home / "x.zip"
    if whole.exists() or whole.is_symlink():
        whole.rename(home / f"{spice_install._ARCHIVE}.zip")
    try:
        spice_install._from_archive(JAR, home, lambda _: None, "http://127.0.0.1:9/x.zip")
        spice_install._right(home / JAR.name, JAR)
    finally:
        whole = home / f"{spice_install._ARCHIVE}.zip"
        if whole.exists() or whole.is_symlink():
            whole.rename(home / "x.zip")


def make_answer(good: Path) -> None:
    (good / "whole").mkdir()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    (good / "whole/answer").write_bytes(head.encode() + CONTENT)
    (good / "rest").mkdir()
    (good / "rest/got.part").write_bytes(CONTENT[:1000])
    head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-2999/3000\r\n"
    (good / "rest/answer").write_bytes(
        f"{head}Content-Length: 2000\r\n\r\n".encode() + CONTENT[1000:]
    )


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that says ``answer`` to everyone and hangs up."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(1 << 16)
                try:
                    client.sendall(answer)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def load_answer(home: Path) -> None:
    answer = home / "answer"
    content = answer.read_bytes() if answer.is_file() else b""
    with answering(content) as address:
        checksum = Checksum("md5", hashlib.md5(CONTENT).hexdigest())
        download(f"{address}/got", home / "got", checksum, progress=False, tries=2, pause=0)
    assert (home / "got").read_bytes() == CONTENT, "another file than asked for"


LOADERS = (
    Loader("7z archives", make_seven_zip, load_seven_zip, {"x.7z": SEVEN_ZIP}),
    Loader("zip archives of sound", make_sound_zip, load_sound_zip, {"x.zip": ZIP}),
    Loader("zip archives", make_zip, load_zip, {"x.zip": ZIP}, frozenset({"x.zip"})),
    Loader("downloads", make_answer, load_answer, {"answer": HTTP}, frozenset({"got.part"})),
)
