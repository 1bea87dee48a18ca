"""What was captioned before: a file of one line a sound, that each run adds to and the next reads.

It lies beside what is written, as ``captions.csv.state.jsonl``; beside sidecars it is
``earwitness.state.jsonl``, one in each folder. A sound is done where the same system with the same
settings captioned the same content; to forget all, remove the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from earwitness.captions.records import SoundRecord
from pipeline.errors import EarwitnessError, reason
from pipeline.files import check_place, read_text, sha256

BESIDE_SIDECARS = "earwitness.state.jsonl"
HINT = "remove it, or give another place"


class FileStamp(NamedTuple):
    """What the file system says of a file."""

    size: int
    modified: int  # ns


def stamp(path: Path) -> FileStamp | None:
    """None: it cannot be asked."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return FileStamp(status.st_size, status.st_mtime_ns)


def _digest(path: Path) -> str | None:
    """None: it cannot be read, which its decoder says."""
    try:
        return sha256(path)
    except OSError:
        return None


class _StateLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    settings: str  # digest of the system and all that its captions depend on
    sidecar: str  # what was written beside the sound, such as ``json 3``; empty: nothing
    size: int
    modified: int
    sha256: str
    sound: SoundRecord


class CaptionState:
    """The sounds that are in one file, for one system and its settings.

    Args:
        path: of the file, which need not be there.
        settings: a digest; lines of others are passed over, and stay.

    Raises:
        EarwitnessError: the file cannot be read or written, or is another's.
    """

    def __init__(self, path: Path, settings: str) -> None:
        self._path, self._settings = path, settings
        self._by_name: dict[str, _StateLine] = {}
        self._by_content: dict[str, _StateLine] = {}
        self._sizes: set[int] = set()
        self._kinds: set[tuple[str, str]] = set()  # names and kinds of sidecars, of any settings
        self._written: dict[tuple[str, str], str] = {}  # names and sidecars: digests of content
        self._unfinished = False  # the last line, by a killed run
        check_place(path)
        if path.exists():
            self._read()

    def find(self, path: Path, name: str) -> SoundRecord | None:
        """The captions of a file, where its content is the same as then, by any name."""
        now = stamp(path)
        if now is None:
            return None
        line = self._by_name.get(name)
        if line and FileStamp(line.size, line.modified) == now:
            return line.sound
        if now.size not in self._sizes:
            return None
        same = self._by_content.get(_digest(path) or "")
        if same is None:
            return None
        found = same.sound.named(name)
        self._append(path, now, same.sha256, found, "")  # so that it is known by its name
        return found

    def has(self, sound: SoundRecord, sidecar: str = "") -> bool:
        """Whether a line says that these captions were written so, with these settings."""
        line = self._by_name.get(sound.file)
        if line is None or line.sound != sound:
            return False
        return not sidecar or self._written.get((sound.file, sidecar)) == line.sha256

    def knows(self, name: str, kind: str) -> bool:
        """Whether a sidecar of this kind was written before, with any settings and any content."""
        return (name, kind) in self._kinds

    def add(
        self, path: Path, before: FileStamp | None, sound: SoundRecord, sidecar: str = ""
    ) -> None:
        """Writes a line, unless the file changed since ``before`` it was read."""
        if digest := _digest(path):
            self._append(path, before, digest, sound, sidecar)

    def _append(
        self,
        path: Path,
        before: FileStamp | None,
        digest: str,
        sound: SoundRecord,
        sidecar: str,
    ) -> None:
        if before is None or stamp(path) != before:
            return
        line = _StateLine(
            settings=self._settings,
            sidecar=sidecar,
            size=before.size,
            modified=before.modified,
            sha256=digest,
            sound=sound,
        )
        self._keep(line)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        begin = "\n" if self._unfinished else ""
        self._unfinished = False
        with self._path.open("ab", buffering=0) as stream:  # a line is written in one go
            stream.write(f"{begin}{line.model_dump_json()}\n".encode())

    def _keep(self, line: _StateLine) -> None:
        self._by_name[line.sound.file] = line
        self._by_content[line.sha256] = line
        self._sizes.add(line.size)
        self._written[line.sound.file, line.sidecar] = line.sha256
        self._kinds.add((line.sound.file, line.sidecar.partition(" ")[0]))

    def _read(self) -> None:
        content = read_text(self._path, HINT, made="a state of captions")
        self._unfinished = bool(content) and not content.endswith("\n")
        lines = content.split("\n")
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                line = _StateLine.model_validate_json(text)
            except ValidationError as error:
                if number == 1 and not self._is_ours(text):
                    raise EarwitnessError(
                        f"{self._path}: no state of captions ({reason(error)}); {HINT}"
                    ) from None
                continue  # half a line of a killed run, or of another version
            self._kinds.add((line.sound.file, line.sidecar.partition(" ")[0]))
            if line.settings == self._settings:
                self._keep(line)

    def _is_ours(self, text: str) -> bool:
        """Whether a line begins as ours do."""
        return text.startswith('{"settings":') or '{"settings":'.startswith(text)


def beside(out: Path) -> Path:
    """The state of a table or document."""
    real = Path(os.path.realpath(out))
    return real.with_name(f"{real.name}.state.jsonl")
