"""A server of object storage on this machine, and a way to it that cuts connections."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import boto3
import numpy as np
import pytest
import soundfile
from moto.server import ThreadedMotoServer

from pipeline.storage import remote

RATE = 8000
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def server(bucket: str) -> Iterator[str]:
    """The address of a server with one bucket, which clients find by the environment."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    address = "http://{}:{}".format(*moto.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with through(address):
            client().create_bucket(Bucket=bucket)
            yield address
    moto.stop()


@contextmanager
def through(address: str) -> Iterator[None]:
    """Clients go to ``address``, and those that went elsewhere are forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setattr(remote, "_systems", {})
        yield


def client():
    return boto3.client("s3")


def upload(bucket: str, folder: Path, prefix: str = "") -> None:
    """Every file below a folder, as an object of its path."""
    s3 = client()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = f"{prefix}{path.relative_to(folder).as_posix()}"
            s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def pack(folder: Path, names: Sequence[str], shard: Path) -> None:
    """Files below a folder into a tar."""
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(shard, "w") as tar:
        for name in names:
            tar.add(folder / name, name)


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar with such members, whatever they are."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, content in members:
            info.size = len(content) if info.isreg() else info.size
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return stream.getvalue()


def noise(path: Path, seconds: float, seed: int, rate: int = RATE) -> None:
    """Stereo noise with a slow tone, in the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (200 + 50 * seed) * time)[:, None]
    soundfile.write(path, 0.2 * tone + generator.uniform(-0.2, 0.2, (len(time), 2)), rate)


class CuttingProxy:
    """Passes connections on, and cuts the first ``cuts`` bodies of one object in the middle.

    ``gets``: how often that object was asked for.
    """

    def __init__(self, target: str, name: str, cuts: int) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target, self._name, self.cuts, self.gets = (host, int(port)), name.encode(), cuts, 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """One request a connection: a GET or a HEAD, which an empty line ends."""
        with connection, socket.create_connection(self._target) as server:
            asked = b""
            while b"\r\n\r\n" not in asked:
                data = connection.recv(65536)
                if not data:
                    return
                asked += data
            first = asked.split(b"\r\n", 1)[0]
            own = first.startswith(b"GET") and self._name in first
            self.gets += own
            asked = asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
            server.sendall(asked)
            answer = b""
            while data := server.recv(65536):
                answer += data
            if own and self.gets <= self.cuts:
                head, body = answer.split(b"\r\n\r\n", 1)
                answer = head + b"\r\n\r\n" + body[: len(body) // 2]
            connection.sendall(answer)
