"""Sounds that clients send: files of a private folder, removed as soon as they are answered."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath

import psutil
from starlette.datastructures import UploadFile

from pipeline.errors import EarwitnessError
from pipeline.files import shown

PREFIX = "earwitness-serve-"
PIECE = 1 << 20  # bytes copied at once
NAME = 120  # characters of a client's file name that are shown


class Uploads:
    """A temporary folder of this process, which no other user can look into."""

    def __init__(self) -> None:
        _remove_left()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @asynccontextmanager
    async def kept(self, upload: UploadFile) -> AsyncIterator[Path]:
        """The upload as a file, for this context; its own name is used in messages alone.

        Raises:
            EarwitnessError: as the context does, about the name that the client gave.
        """
        handle, name = tempfile.mkstemp(dir=self.folder)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                while piece := await upload.read(PIECE):
                    stream.write(piece)
            yield path
        except EarwitnessError as error:
            text = str(error).replace(shown(path), named(upload))
            raise type(error)(text) from None
        finally:
            path.unlink(missing_ok=True)


def named(upload: UploadFile) -> str:
    """The last part of the name that a client gave, as one line."""
    last = PurePosixPath((upload.filename or "").replace("\\", "/")).name
    return shown(last)[:NAME] or "the sound"


def _remove_left() -> None:
    """Folders of servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(ValueError, OSError):
            process = int(folder.name.removeprefix(PREFIX).split("-")[0])
            if folder.stat().st_uid == os.getuid() and not psutil.pid_exists(process):
                shutil.rmtree(folder, ignore_errors=True)
