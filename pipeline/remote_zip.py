"""What a zip on a server holds, by its last bytes: one that is not needed is not fetched."""

from __future__ import annotations

import io
import urllib.request
import zipfile
from typing import Any

from pipeline.raw_file import RawFile

TIMEOUT = 30  # seconds without an answer
MOST = 64 << 20  # bytes of a list of members; one of a thousand files has 100 kB


def zip_names(url: str) -> list[str] | None:
    """The names of a zip's members; None where its server gives no parts of files, or no zip.

    Nothing of it is checked: that is done to the archive itself, once it is here.
    """
    try:
        with zipfile.ZipFile(io.BufferedReader(_Ranges(url), 1 << 18)) as archive:
            return archive.namelist()
    except Exception:  # a server may answer anything, and zipfile raises anything
        return None


class _Ranges(RawFile):
    """A file on a server, of which only what is read is asked for."""

    def __init__(self, url: str) -> None:
        self._url, self._read = url, 0
        with self._ask("bytes=0-0") as answer:
            super().__init__(int(answer.headers["Content-Range"].rpartition("/")[2]))

    def _ask(self, part: str) -> Any:
        headers = {"User-Agent": "earwitness", "Range": part}
        request = urllib.request.Request(self._url, headers=headers)
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
        if answer.status != 206:
            answer.close()
            raise OSError("no parts of files")
        return answer

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        size = min(len(view), self._size - self._at)
        self._read += max(size, 0)
        if size <= 0:
            return 0
        if self._read > MOST:
            raise OSError("too long a list of members")
        with self._ask(f"bytes={self._at}-{self._at + size - 1}") as answer:
            data = answer.read(size)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
