"""The recordings of the test sets for the page: embedded up to a limit, linked beyond it."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from earwitness.report import ogg
from earwitness.report.pictures import spectrogram
from earwitness.report.run import Run
from pipeline.audio.waveforms import load, probe, streamed
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError

LOWEST, HIGHEST = 8000, 24000  # Hz
BYTES_PER_SECOND = 6000  # about what ogg gives, and no less
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
    link = quote(os.path.relpath(path, run.original / "data"))
    try:
        if probe(path) > LONGEST:
            return found | {"link": link}, 0
        samples, rate = _loaded(path)
    except EarwitnessError:
        return found | {"why": "The recording cannot be read any more."}, 0
    picture = base64.b64encode(spectrogram(samples, rate)).decode()
    found |= {"webp": picture, "top": rate // 2}
    if len(samples) / rate * BYTES_PER_SECOND > budget:
        return found | {"link": link}, 0
    content = ogg.encode(samples, rate)
    embedded.append(content)
    return found | {"embedded": len(embedded) - 1}, len(content)


def _loaded(path: Path) -> tuple[Any, int]:
    """(samples,) of a whole file, and their rate."""
    with streamed(path) as (own, _):
        rate = min(max(own, LOWEST), HIGHEST)
    return load(path, rate), rate
