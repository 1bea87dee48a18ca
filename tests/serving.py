"""A real server on a free port of this machine, over a trained system and a stand-in index."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from earwitness.captioning import CaptioningSystem
from earwitness.serving.desk import Desk
from earwitness.serving.limits import Limits
from earwitness.serving.server import address, listen, make_server
from earwitness.serving.uploads import Uploads
from pipeline.decoding.predict import Caption

USUAL = Limits()


class Hit(NamedTuple):
    path: Path
    score: float
    start: float | None
    end: float | None


class FakeIndex:
    """With the names of ``earwitness.open_index``'s; it finds its files in order of name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths = folder, sorted(path for path in folder.iterdir())
        self.has_moments = True
        self.asked: list[dict[str, Any]] = []

    def search(
        self,
        text: str | None = None,
        like: Path | None = None,
        without: Sequence[str] = (),
        top: int = 10,
        moments: bool = False,
    ) -> list[Hit]:
        seconds = None if like is None else soundfile.info(like).duration
        self.asked.append(
            {"text": text, "like": seconds, "without": tuple(without), "moments": moments}
        )
        span = (0.25, 0.75) if moments else (None, None)
        return [Hit(path, 1 - n / 10, *span) for n, path in enumerate(self.paths[:top])]

    def similar(self, sound: Path, sample_rate: int | None = None, top: int = 10) -> list[Hit]:
        return self.search(like=sound, top=top)


class Watched:
    """A captioning system that notes the size of each call, and can be made slow."""

    def __init__(self, system: CaptioningSystem, seconds: float = 0.0) -> None:
        self._system, self.seconds, self.calls = system, seconds, list[int]()

    def caption(self, sounds: Sequence[Any], **settings: Any) -> list[Caption]:
        self.calls.append(len(sounds))
        time.sleep(self.seconds)
        return self._system.caption(sounds, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)


class Running(NamedTuple):
    url: str
    host: tuple[str, int]
    desk: Desk
    uploads: Path


@contextmanager
def served(
    system: Any, index: FakeIndex | None = None, limits: Limits = USUAL
) -> Iterator[Running]:
    uploads, listening = Uploads(), listen("127.0.0.1", 0)
    desk = Desk(system, index, limits, "toy")
    server = make_server(desk, uploads)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Running(address(listening), listening.getsockname(), desk, uploads.folder)
        assert not list(uploads.folder.iterdir())  # whatever was sent is gone
    finally:
        server.should_exit = True
        thread.join(10)
        uploads.close()
    assert not thread.is_alive()


def tone(seconds: float, pitch: float = 440.0, rate: int = 16_000, kind: str = "WAV") -> bytes:
    """A file's bytes."""
    time = np.arange(int(rate * seconds)) / rate
    stream = io.BytesIO()
    soundfile.write(stream, 0.3 * np.sin(2 * np.pi * pitch * time * (1 + time)), rate, format=kind)
    return stream.getvalue()
