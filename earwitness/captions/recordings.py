"""Sound files as they are captioned: whole or in windows, read once, a little ahead of the encoder.

Short files are decoded in several threads; a long one is read in blocks and never held whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat, takewhile
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from earwitness.captions.merging import merged
from pipeline.audio import waveforms
from pipeline.audio.cutting import Cutting, cut
from pipeline.audio.waveforms import Samples, Waveform
from pipeline.config.section import nearest
from pipeline.decoding.predict import Caption
from pipeline.engine.prefetch import prefetch
from pipeline.errors import EarwitnessError
from pipeline.threads import share

Windows = Literal["auto", "none", "fixed", "silence"]

LONG = 60.0  # seconds; what is longer is cut by ``auto``, as no captioner was trained on it
GROUP = 320.0  # seconds of sound in one group, at most: 82 MB at 64 kHz
READERS = 4  # threads that decode


class SoundPart(NamedTuple):
    """What gets one caption: a file, or a window of one."""

    file: int  # its number
    start: float  # seconds
    end: float
    sound: Waveform | Path  # the path of one that is long and not cut


class SoundEnd(NamedTuple):
    """All of a file was read, or could not be."""

    file: int
    seconds: float
    problem: EarwitnessError | None


class CaptionedWindow(NamedTuple):
    """A window of a recording, in seconds, and its caption."""

    start: float
    end: float
    caption: Caption


class CaptionedSound(NamedTuple):
    """A whole recording: ``text`` is the caption of its one window, or the line merged of all."""

    seconds: float
    text: str
    windows: tuple[CaptionedWindow, ...]  # at least one, in the order of time


def checked(windows: str, seconds: float, hop: float | None) -> Cutting:
    """How recordings are cut.

    Raises:
        EarwitnessError: no such ``windows``, or a length or a hop that cannot be.
    """
    if windows not in (known := get_args(Windows)):
        hint = nearest(windows, known)
        raise EarwitnessError(f"windows: no '{windows}'{hint}; give {', '.join(known)}")
    return Cutting("fixed" if windows == "fixed" else "silence", seconds, hop)


@dataclass(frozen=True)
class FileReading:
    """How files are read.

    Args:
        windows: ``auto`` cuts at silence what is longer than a minute; ``none`` cuts nothing.
        cutting: of ``fixed`` and ``silence``, and of what ``auto`` cuts.
        rate: in Hz, of all encoders; None: each resamples for itself.
        longest: seconds; a longer file is refused.
    """

    windows: Windows
    cutting: Cutting
    rate: int | None
    longest: float

    def parts(self, files: Sequence[Path]) -> Iterator[SoundPart | SoundEnd]:
        """All parts of all files, in order, each file's end after its parts."""
        with ThreadPoolExecutor(share(READERS)) as pool:
            for own in prefetch(pool, self._begun, enumerate(files), READERS):
                yield from own

    def _begun(self, item: tuple[int, Path]) -> Iterator[SoundPart | SoundEnd]:
        """A file's parts; the first of them is decoded by the thread that calls this."""
        own = self._read(*item)
        return chain([next(own)], own)

    def _read(self, file: int, path: Path) -> Iterator[SoundPart | SoundEnd]:
        seconds = 0.0
        try:
            with waveforms.streamed(path, self.longest) as (rate, blocks):
                for part in self._parts(file, path, blocks, rate):
                    seconds = part.end
                    yield part
        except EarwitnessError as error:
            yield SoundEnd(file, seconds, error)
        else:
            yield SoundEnd(file, seconds, None)

    def _parts(
        self, file: int, path: Path, blocks: Iterator[Samples], rate: int
    ) -> Iterator[SoundPart]:
        pieces: Iterable[tuple[int, Samples]] = cut(blocks, rate, self.cutting)
        if self.windows in ("auto", "none"):
            head = _up_to(blocks, LONG * rate)
            if (length := sum(map(len, head))) <= LONG * rate:
                pieces = [(0, np.concatenate(head))]
            elif self.windows == "none":  # read to its end, for its length and for errors
                seconds = (length + sum(map(len, blocks))) / rate
                yield SoundPart(file, 0.0, seconds, path)
                return
            else:
                pieces = cut(chain(head, blocks), rate, self.cutting)
        for start, samples in pieces:
            sound = Waveform(str(path), samples, rate)
            if self.rate is not None:
                sound = Waveform(sound.name, waveforms.load(sound, self.rate), self.rate)
            yield SoundPart(file, start / rate, (start + len(samples)) / rate, sound)


def _up_to(blocks: Iterator[Samples], most: float) -> list[Samples]:
    """Blocks until they have more than ``most`` samples, or all."""
    head: list[Samples] = []
    there = 0
    while there <= most and (block := next(blocks, None)) is not None:
        head.append(block)
        there += len(block)
    return head


def groups(
    events: Iterable[SoundPart | SoundEnd], size: int
) -> Iterator[list[SoundPart | SoundEnd]]:
    """``size`` parts at a time, or 320 seconds of them, whichever is less; and at least one."""
    group: list[SoundPart | SoundEnd] = []
    parts, seconds = 0, 0.0
    for event in events:
        if isinstance(event, SoundPart):
            length = event.end - event.start
            if parts and (parts == size or seconds + length > GROUP):
                yield group
                group, parts, seconds = [], 0, 0.0
            parts, seconds = parts + 1, seconds + length
        group.append(event)
    if group:
        yield group


def ahead(made: Iterator[list[SoundPart | SoundEnd]]) -> Iterator[list[SoundPart | SoundEnd]]:
    """The same groups; a thread reads the next one while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        yield from takewhile(bool, prefetch(pool, lambda _: next(made, []), repeat(None), 1))


class CaptionAssembly:
    """The captions of parts, put together file by file."""

    def __init__(self) -> None:
        self._windows: list[CaptionedWindow] = []
        self._problem: EarwitnessError | None = None

    def add(
        self, group: Sequence[SoundPart | SoundEnd], captions: Iterator[Caption | EarwitnessError]
    ) -> Iterator[CaptionedSound | EarwitnessError]:
        """The files that end in this group; ``captions`` are of its parts, in order."""
        for event in group:
            if isinstance(event, SoundPart):
                caption = next(captions)
                if isinstance(caption, EarwitnessError):
                    self._problem = self._problem or caption
                else:
                    self._windows.append(CaptionedWindow(event.start, event.end, caption))
            else:
                problem = self._problem or event.problem
                yield problem or captioned(event.seconds, self._windows)
                self._windows, self._problem = [], None


def captioned(seconds: float, windows: Sequence[CaptionedWindow]) -> CaptionedSound:
    """A recording with the line that is merged of its windows."""
    texts = [(own.caption.text, own.end - own.start) for own in windows]
    return CaptionedSound(seconds, merged(texts), tuple(windows))
