"""The default corpus, synthesised: scenes of named events over backgrounds, with their captions.

Each clip has its own random generators, seeded by the corpus's seed, the split and its number, so a
clip does not depend on the other clips, their order or the number of threads. The folder of a
corpus is named by the digest of its content: two settings never mix, and the sound of earlier
settings is found again.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.config.datasets import SoundscapesDatasetConfig
from pipeline.corpora.manifest import SPLITS, Clip, Manifest
from pipeline.corpora.synthesis.backgrounds import BACKGROUNDS
from pipeline.corpora.synthesis.events import EVENTS
from pipeline.corpora.synthesis.grammar import captions
from pipeline.corpora.synthesis.scenes import Level, Scene, Sounding, draw_scene
from pipeline.corpora.synthesis.signals import Signal, loudest, noise
from pipeline.files import replace_folder
from pipeline.lock import exclusive
from pipeline.threads import share

CAPTIONS = 5  # a clip, as in Clotho
# root mean square of the loudest twentieth of a second, full scale 1; faint events stay 12 dB above
# a strong background
EVENT_LEVELS: dict[Level, float] = {"low": 0.055, "": 0.12, "high": 0.28}
BACKGROUND_LEVELS: dict[Level, float] = {"low": 0.004, "": 0.008, "high": 0.014}
FLOOR = 0.0004  # noise, as of a recorder
PEAK = 0.9  # of one event
PARTIAL = ".partial"  # folder of a corpus that is not finished


def prepare(
    name: str, settings: SoundscapesDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """Synthesises the corpus as 16-bit WAV files below ``raw / name``.

    WAV, because the bytes that a FLAC encoder writes change with its version.

    Args:
        base: the folder that ``raw`` is relative to.
        progress: show a bar on a terminal.
    """
    home = base / raw / name
    with exclusive(home / ".lock", wait=True):  # two queued experiments may make the same corpus
        partial = home / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
        for split in SPLITS:
            (partial / split).mkdir(parents=True)
        jobs = [(split, n) for split in SPLITS for n in range(getattr(settings, split))]
        with ThreadPoolExecutor(share(8)) as threads:
            made = threads.map(lambda job: _write(partial, settings, *job), jobs)
            quiet = None if progress else True
            clips = tuple(tqdm(made, name, len(jobs), disable=quiet, unit="clip"))
        digest = hashlib.sha256("".join(clip.digest for clip in clips).encode()).hexdigest()[:12]
        replace_folder(partial, home / digest)
    return Manifest(name, (raw / name / digest).as_posix(), clips)


def synthesise(
    settings: SoundscapesDatasetConfig, split: str, number: int
) -> tuple[Clip, Scene, bytes]:
    """One clip: its row without a digest, its scene, and the bytes of its WAV file."""
    seed = SeedSequence([settings.seed, SPLITS.index(split), number])
    scenes, sounds, words = (np.random.default_rng(child) for child in seed.spawn(3))
    scene = draw_scene(scenes, settings.seconds, settings.max_events)
    samples = render(sounds, scene, settings.sample_rate)
    file = io.BytesIO()
    soundfile.write(file, samples, settings.sample_rate, subtype="PCM_16", format="WAV")
    clip_id = f"{split}-{number:05d}"
    clip = Clip(
        clip_id=clip_id,
        split=split,
        path=f"{split}/{clip_id}.wav",
        duration=len(samples) / settings.sample_rate,
        captions=captions(words, scene, CAPTIONS),
        events=scene.labels,
    )
    return clip, scene, file.getvalue()


def render(rng: Generator, scene: Scene, rate: int) -> NDArray[np.int16]:
    """(samples,) of a scene at ``rate`` Hz."""
    n = round(scene.seconds * rate)
    mix = FLOOR * noise(rng, n)
    if scene.background:
        background = BACKGROUNDS[scene.background](rng, n, rate)
        mix += background * (BACKGROUND_LEVELS[scene.strength] / np.sqrt(np.mean(background**2)))
    for sounding in scene.soundings:
        for start, one in _repetitions(rng, sounding, rate):
            room = max(0, n - start)
            mix[start : start + len(one)] += one[:room]
    return np.round(np.tanh(mix) * 32767).astype(np.int16)


def _repetitions(rng: Generator, sounding: Sounding, rate: int) -> Iterator[tuple[int, Signal]]:
    """The start of each repetition of an event, in samples, and its samples at the right level."""
    event = EVENTS[sounding.kind]
    hertz = _hertz(rng, event.hertz, sounding.pitch)
    length = round((event.unit or sounding.seconds) * rate)
    period = sounding.seconds / max(1, sounding.count)
    for index in range(max(1, sounding.count)):
        slack = max(0.0, period - event.unit) if event.unit else 0.0
        start = sounding.start + index * period + slack * rng.uniform(0.0, 0.3)
        one = event.make(rng, length, rate, hertz * rng.uniform(0.985, 1.015))
        scale = EVENT_LEVELS[sounding.loudness] / loudest(one, rate)
        yield round(start * rate), one * min(scale, PEAK / float(np.abs(one).max()))


def _hertz(rng: Generator, span: tuple[float, float], pitch: Level) -> float:
    """A pitch in the lowest, middle or highest fifth of a kind's range, by ratio."""
    fifth = {"low": 0.0, "": 0.4, "high": 0.8}[pitch] + rng.uniform(0.0, 0.2)
    return float(span[0] * (span[1] / span[0]) ** fifth)


def _write(folder: Path, settings: SoundscapesDatasetConfig, split: str, number: int) -> Clip:
    clip, _, content = synthesise(settings, split, number)
    (folder / clip.path).write_bytes(content)
    return replace(clip, digest=hashlib.sha256(content).hexdigest())
