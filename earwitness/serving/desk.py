"""The work behind the answers: what decodes, captions and searches, each on threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from earwitness.attention import attention
from earwitness.captioning import CaptioningSystem
from earwitness.inputs import SEARCHED
from earwitness.serving.answers import (
    CaptionAnswer,
    HitAnswer,
    attention_answer,
    candidate,
    spectrogram_answer,
)
from earwitness.serving.limits import Limits
from earwitness.serving.spectrogram import spectrogram
from earwitness.serving.workers import Workers, call
from pipeline.audio import waveforms
from pipeline.audio.sound_file import opened
from pipeline.decoding.attention import Attention
from pipeline.decoding.predict import Caption
from pipeline.errors import EarwitnessError
from pipeline.files import writable

DECODERS = 2  # threads; a long sound must not hold up a short one
SIMILAR = 5  # files of the index that are shown beside a caption


class FoundFile(Protocol):
    """A file that an index found."""

    @property
    def path(self) -> Path: ...
    @property
    def score(self) -> float: ...
    @property
    def start(self) -> float | None: ...
    @property
    def end(self) -> float | None: ...


class Searchable(Protocol):
    """What :func:`earwitness.open_index` opens."""

    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def folder(self) -> Path: ...
    @property
    def has_moments(self) -> bool: ...
    def search(
        self,
        text: str | None = None,
        like: Path | None = None,
        without: Sequence[str] = (),
        top: int = 10,
        moments: bool = False,
    ) -> Sequence[Any]: ...
    def similar(
        self, sound: Path, sample_rate: int | None = None, top: int = 10
    ) -> Sequence[Any]: ...


class Wanted(NamedTuple):
    """A sound to caption."""

    path: Path
    attention: bool


class Captioned(NamedTuple):
    caption: Caption
    attention: Attention | None


class Desk:
    """Requests come in from many tasks; each model works on one thread.

    Args:
        name: of the system, for people.
        index: to search; None: there is none.
    """

    def __init__(
        self, system: CaptioningSystem, index: Searchable | None, limits: Limits, name: str = ""
    ) -> None:
        self.system, self.index, self.limits, self.name = system, index, limits, name
        files = [] if index is None else [Path(index.folder, path) for path in index.paths]
        self.files = [*map(Path.absolute, files)]
        self._numbers = {path: number for number, path in enumerate(self.files)}
        self._decoders = Workers[Callable[[], Any], Any](call, threads=DECODERS)
        self._searches = Workers[Callable[[], Any], Any](call)
        self._captions = Workers[Wanted, Captioned](
            self._captioned, size=limits.batch, gather=limits.gather
        )

    def warm_up(self) -> None:
        """Loads the encoders, so that a mistake in them ends the start and not a request."""
        noise = np.random.default_rng(0).normal(0, 0.01, 16_000).astype(np.float32)
        self.system.caption([noise], sample_rate=16_000)

    @property
    def is_working(self) -> bool:
        """Whether a thread still computes, though nobody may wait for it any more."""
        return any(each.running for each in (self._decoders, self._searches, self._captions))

    async def caption(self, path: Path, file: str, candidates: int, details: bool) -> CaptionAnswer:
        """The caption of an uploaded sound.

        Args:
            file: its name, for people.
            candidates: other captions, at most.
            details: with its spectrogram, attention and similar files of the index.

        Raises:
            EarwitnessError: it cannot be decoded or is too long.
        """
        seconds = await self._decoders.do(partial(self._check, path))
        found = await self._captions.do(Wanted(path, details))
        best = candidate(found.caption.text, found.caption.log_prob)
        answer = CaptionAnswer(
            text=best.text,
            probability=best.probability,
            log_prob=best.log_prob,
            file=file,
            seconds=seconds,
            unsure=found.caption.unsure,
            candidates=[candidate(*other) for other in found.caption.candidates[:candidates]],
            attention=found.attention and attention_answer(found.attention),
        )
        if details:
            levels = partial(spectrogram, path, 60 * self.limits.longest_minutes)
            drawn = spectrogram_answer(await self._decoders.do(levels))
            answer = replace(answer, spectrogram=drawn)
        if details and self.index is not None:
            similar = partial(self.index.similar, path, top=SIMILAR)
            hits = [*map(self.hit, await self._searches.do(similar))]
            answer = replace(answer, similar=hits)
        return answer

    async def search(
        self, text: str | None, like: Path | None, without: Sequence[str], top: int, moments: bool
    ) -> list[HitAnswer]:
        """Files of the index; see :class:`Searchable`."""
        assert self.index is not None
        if like is not None:
            await self._decoders.do(partial(self._check, like))
        search = partial(
            self.index.search, text=text, like=like, without=without, top=top, moments=moments
        )
        return [*map(self.hit, await self._searches.do(search))]

    def sound(self, number: str) -> Path | None:
        """The indexed file of this number; None where there is none, or it is no longer a sound.

        An index is a file that others may have made: only what has a sound's ending is given out.
        """
        if not (number.isascii() and number.isdecimal() and len(number) < 12):
            return None
        if int(number) >= len(self.files):
            return None
        path = self.files[int(number)]
        return path if path.suffix.lower() in SEARCHED and path.is_file() else None

    def hit(self, found: FoundFile) -> HitAnswer:
        number = self._numbers.get(found.path.absolute())
        assert self.index is not None
        name = Path(found.path.name)
        if found.path.is_relative_to(self.index.folder):
            name = found.path.relative_to(self.index.folder)
        url = None if number is None else f"/audio/{number}"
        return HitAnswer(writable(name), float(found.score), url, found.start, found.end)

    def _check(self, path: Path) -> float:
        """The seconds of a sound file; every sample of it is decoded.

        Raises:
            EarwitnessError: it cannot be decoded; NotSoundError and TooLongError are of these.
        """
        with opened(path):
            pass
        return waveforms.verify(path, 60 * self.limits.longest_minutes)

    def _captioned(self, wanted: Sequence[Wanted]) -> list[Captioned | Exception]:
        """All in one call; where one of them fails, each in its own, so that it fails alone."""
        try:
            captions = self._call([each.path for each in wanted])
        except EarwitnessError as error:
            if len(wanted) == 1:
                return [error]
            return [answer for each in wanted for answer in self._captioned([each])]
        return [*map(self._with_attention, wanted, captions)]

    def _call(self, paths: Sequence[Path]) -> list[Caption]:
        return self.system.caption(paths, longest_minutes=self.limits.longest_minutes)

    def _with_attention(self, wanted: Wanted, caption: Caption) -> Captioned | Exception:
        if not wanted.attention:
            return Captioned(caption, None)
        limit = self.limits.longest_minutes
        try:
            (found,) = attention(self.system, [wanted.path], [caption.text], longest_minutes=limit)
        except EarwitnessError as error:
            return error
        return Captioned(caption, found)
