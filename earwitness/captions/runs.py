"""Captions of many sounds, written where a person wants them; a second run goes on from the first.

What each sound got is saved as soon as it is known (:mod:`earwitness.captions.state`), and the
whole file is written from that at the end: a run that was killed and goes on gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from earwitness.captioning import CaptioningSystem
from earwitness.captions.formats import ENDINGS, OF_ONE_SOUND, Format, document, sidecar
from earwitness.captions.records import SoundRecord, record
from earwitness.captions.state import BESIDE_SIDECARS, CaptionState, FileStamp, beside, stamp
from earwitness.identity import identity
from earwitness.sound_paths import STDIN, NamedSound
from pipeline.errors import EarwitnessError
from pipeline.files import check_place, delivering, is_stream, shown, writable


@dataclass(frozen=True)
class CaptionOutput:
    """Where captions go: one file of all, a sidecar for each sound, both, or neither.

    Args:
        out: the file.
        folder: of sidecars, as deep as the sounds' own folders.
        is_beside: sidecars lie beside their sounds.
        candidates: hypotheses a window.
    """

    kind: Format
    out: Path | None = None
    folder: Path | None = None
    is_beside: bool = False
    candidates: int = 1

    def check(self, sounds: Sequence[NamedSound]) -> None:
        """Refuses what would fail at the end, or write one file twice.

        Raises:
            EarwitnessError: so it is; the message says which.
        """
        if self.folder is not None and self.is_beside:
            raise EarwitnessError("--output-dir and --sidecar are two places; give one of them")
        if self.out is not None:
            check_place(self.out)
        if self.kind in OF_ONE_SOUND and len(sounds) > 1 and not self.has_sidecars:
            raise EarwitnessError(
                f"{self.kind} is of one sound, here are {len(sounds)}; give --sidecar or "
                "--output-dir DIR"
            )
        taken: dict[Path, NamedSound] = {}
        for sound in sounds if self.has_sidecars else ():
            if sound.name == STDIN and self.is_beside:
                raise EarwitnessError("-: nothing lies beside standard input; give --output-dir")
            other = taken.setdefault(self.sidecar(sound), sound)
            if other is not sound:
                raise EarwitnessError(
                    f"{shown(self.sidecar(sound))}: would be of {shown(other.name)} and of "
                    f"{shown(sound.name)}; name them by paths below this folder, or one at a time"
                )

    @property
    def has_sidecars(self) -> bool:
        return self.folder is not None or self.is_beside

    def sidecar(self, sound: NamedSound) -> Path:
        """``a.wav.srt`` for ``a.wav``: with the whole name, so that ``a.mp3`` has its own."""
        where = sound.path if self.folder is None else self.folder / sound.below
        return where.with_name(f"{where.name}.{ENDINGS[self.kind]}")

    def state(self, sound: NamedSound) -> Path | None:
        """The file that says what was done before; None where there is none."""
        if sound.name == STDIN:
            return None
        if self.has_sidecars:
            return self.sidecar(sound).with_name(BESIDE_SIDECARS)
        return None if self.out is None or is_stream(self.out) else beside(self.out)


@dataclass
class CaptionSummary:
    """How a run ended."""

    records: list[SoundRecord] = field(default_factory=list)  # in the order of the sounds
    before: int = 0  # of them, done by an earlier run
    failed: list[str] = field(default_factory=list)  # a line each


def caption_sounds(
    system: CaptioningSystem,
    sounds: Sequence[NamedSound],
    output: CaptionOutput,
    show: Callable[[SoundRecord], None] = lambda record: None,
    *,
    again: bool = False,
    **reading: Any,
) -> CaptionSummary:
    """Captions the sounds that are not done, and writes all.

    Args:
        show: is called with each new record.
        again: nothing counts as done.
        reading: how, as of :meth:`CaptioningSystem.caption_files`.

    Raises:
        EarwitnessError: what is about one sound is in the summary; all else.
    """
    output.check(sounds)
    settings = _digest(system, reading) if any(map(output.state, sounds)) else ""
    run = _CaptionRun(output, settings, again)
    stamps = [stamp(sound.path) for sound in sounds]
    known = {} if again else run.known(sounds)
    done = {n: own for n, own in known.items() if run.save(sounds[n], stamps[n], own)}
    before = len(done)
    new = [number for number in range(len(sounds)) if number not in known]
    paths = [sounds[number].path for number in new]
    for number, found in zip(new, system.caption_files(paths, **reading), strict=True):
        sound = sounds[number]
        if isinstance(found, EarwitnessError):
            run.failed.append(_named(str(found), sound))
            continue
        own = record(writable(sound.name), found)
        if run.save(sound, stamps[number], own):
            done[number] = own
            show(own)
    records = [done[number] for number in sorted(done)]
    if output.out is not None:
        with delivering(output.out) as whole:
            whole.write_bytes(document(records, output.kind, output.candidates).encode())
    return CaptionSummary(records, before, run.failed)


class _CaptionRun:
    """The states of an output, each read when it is first needed, and what could not be written.

    Args:
        settings: a digest of all that captions depend on.
    """

    def __init__(self, output: CaptionOutput, settings: str, again: bool) -> None:
        self._output, self._settings, self._again = output, settings, again
        self._states: dict[Path, CaptionState] = {}
        self.failed: list[str] = []

    def known(self, sounds: Sequence[NamedSound]) -> dict[int, SoundRecord]:
        """The records of an earlier run, by the sounds' numbers."""
        found = {}
        for number, sound in enumerate(sounds):
            state = self._state(sound)
            own = state and state.find(sound.path, writable(sound.name))
            if own:
                found[number] = own
        return found

    def save(self, sound: NamedSound, before: FileStamp | None, own: SoundRecord) -> bool:
        """Whether all is written: the sidecar first, so that what the state knows is there."""
        state = self._state(sound)
        if not self._output.has_sidecars:
            if state is not None and not state.has(own):
                state.add(sound.path, before, own)
            return True
        kind, path = self._output.kind, self._output.sidecar(sound)
        written = f"{kind} {self._output.candidates}"
        if state is not None and state.has(own, written) and path.exists() and not self._again:
            return True
        is_ours = self._again or (state is not None and state.knows(own.file, kind))
        try:
            _write(path, sidecar(own, kind, self._output.candidates).encode(), is_ours)
        except EarwitnessError as error:
            self.failed.append(str(error))
            return False
        if state is not None:
            state.add(sound.path, before, own, written)
        return True

    def _state(self, sound: NamedSound) -> CaptionState | None:
        path = self._output.state(sound)
        if path is None:
            return None
        if path not in self._states:
            self._states[path] = CaptionState(path, self._settings)
        return self._states[path]


def _digest(system: CaptioningSystem, reading: dict[str, Any]) -> str:
    windows = {name: value for name, value in reading.items() if name != "longest_minutes"}
    settings = json.dumps([identity(system), windows], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()


def _write(path: Path, content: bytes, is_ours: bool) -> None:
    if not is_ours and path.exists() and path.read_bytes() != content:
        raise EarwitnessError(
            f"{shown(path)}: is there, and not from here; move it, or give --again to write over it"
        )
    with delivering(path) as whole:
        whole.write_bytes(content)


def _named(problem: str, sound: NamedSound) -> str:
    """The copy of standard input has no name that helps."""
    return problem.replace(shown(sound.path), "-") if sound.name == STDIN else problem
