"""The recordings of the test sets for the page: embedded up to a limit, linked beyond it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from earwitness.report import ogg
from earwitness.report.pictures import spectrogram
from earwitness.report.run import Run
from pipeline.audio.sound_file import SoundFile
from pipeline.audio.waveforms import load, probe, streamed
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import shown, write_bytes
from pipeline.storage.stored import Stored

LOWEST, HIGHEST = 8000, 24000  # Hz
BYTES_PER_SECOND = 6000  # about what ogg gives, and no less
MADE = "1"  # changes with what is made: of pictures.py and ogg.py
LONGEST = 600.0  # seconds; a longer recording is linked, without a picture


@dataclass
class Sounds:
    """``clips``: dataset → clip id → ``seconds``, ``top`` (Hz) and ``webp`` (base64) of its
    spectrogram, and one of ``embedded`` (a number in the list), ``link`` (an address relative to
    the page) and ``why`` (there is none)."""

    clips: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    embedded: list[bytes] = field(default_factory=list)


def collect(run: Run) -> Sounds:
    """In the manifests' order, so that it is the first clips that are embedded."""
    sounds = Sounds()
    budget = int(run.params.report.audio_megabytes * (1 << 20))
    for dataset, manifest in run.manifests.items():
        own = sounds.clips[dataset] = {}
        for clip in run.clips(dataset):
            own[clip.clip_id], taken = _clip(run, manifest, clip, budget, sounds.embedded)
            budget -= taken
    return sounds


def _clip(
    run: Run, manifest: Manifest, clip: Clip, budget: int, embedded: list[bytes]
) -> tuple[dict[str, Any], int]:
    """What the page knows of a clip's sound, and the bytes that it takes of the budget."""
    found: dict[str, Any] = {"seconds": round(clip.duration, 3)}
    if not clip.path:
        return found | {"why": "This dataset has captions alone, and no sound."}, 0
    try:
        path = manifest.sound_file(run.original / manifest.root, clip)
    except EarwitnessError:
        return found | {"why": "The recording is no longer where the dataset had it."}, 0
    elsewhere = _elsewhere(path, run)
    cache = _Cache(run.original / "data" / "partial" / "report", clip.digest)
    try:
        if isinstance(path, Stored):
            path = path.fetched()  # once for all that follows
        if probe(path) > LONGEST:
            return found | elsewhere, 0
        recording = _Recording(path)
        picture = cache.get(f"{recording.rate}.webp", recording.picture)
        found |= {"webp": base64.b64encode(picture).decode(), "top": recording.rate // 2}
        if clip.duration * BYTES_PER_SECOND > budget:
            return found | elsewhere, 0
        content = cache.get(f"{recording.rate}.ogg", recording.ogg)
    except EarwitnessError:
        return found | {"why": "The recording cannot be read any more."}, 0
    embedded.append(content)
    return found | {"embedded": len(embedded) - 1}, len(content)


def _elsewhere(recording: SoundFile, run: Run) -> dict[str, str]:
    """What the page says of a recording that is not embedded: no browser opens what is stored."""
    if isinstance(recording, Path):
        return {"link": quote(os.path.relpath(recording, run.original / "data"))}
    return {"why": f"The recording is at {shown(str(recording))}."}


class _Recording:
    """One file, decoded when it is first needed."""

    def __init__(self, path: SoundFile) -> None:
        self.path = path
        with streamed(path) as (own, _):
            self.rate = min(max(own, LOWEST), HIGHEST)

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """(samples,) at ``rate`` Hz."""
        return load(self.path, self.rate)

    def picture(self) -> bytes:
        return spectrogram(self.samples, self.rate)

    def ogg(self) -> bytes:
        return ogg.encode(self.samples, self.rate)


class _Cache:
    """What was made of a recording, by its digest, for the next report: a report is made often."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.digest = folder, digest

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        path = self.folder / MADE / f"{self.digest}-{name}"
        if self.digest and path.is_file():
            return path.read_bytes()
        content = make()
        if self.digest:
            write_bytes(path, content)
        return content
