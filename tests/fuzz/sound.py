"""Loaders of sound, and of datasets in every layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import soundfile
from pydantic import TypeAdapter

from pipeline.audio import waveforms
from pipeline.config.datasets import DatasetConfig
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.registry import prepare
from tests.fuzz.case import Loader
from tests.fuzz.formats import WAV
from tests.fuzz.harm import BYTES, CSV, YAML

DATASET: TypeAdapter[DatasetConfig] = TypeAdapter(DatasetConfig)
CAPTIONS = "file_name,caption_1,caption_2\na.wav,a dog barks,dogs bark\nb.wav,rain,it rains\n"
MACS = """files:
- filename: a.wav
  annotations:
  - sentence: a dog barks
    tags: [dog, outdoors]
    annotator_id: 5
- filename: b.wav
  annotations:
  - sentence: rain falls
    tags: [rain]
"""


def samples(seconds: float = 0.2, channels: int = 1) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.1, (int(8000 * seconds), channels))
    return noise.astype(np.float32)


def make_sounds(good: Path) -> None:
    """The containers and codings that libsndfile writes."""
    kinds = {
        "wav": ("x.wav", "WAV", "PCM_16"),
        "float": ("x.wav", "WAV", "FLOAT"),
        "extensible": ("x.wav", "WAVEX", "PCM_24"),
        "flac": ("x.flac", "FLAC", "PCM_16"),
        "ogg": ("x.ogg", "OGG", "VORBIS"),
        "opus": ("x.ogg", "OGG", "OPUS"),
        "mp3": ("x.mp3", "MP3", "MPEG_LAYER_III"),
        "aiff": ("x.aiff", "AIFF", "PCM_16"),
        "adpcm": ("x.wav", "WAV", "IMA_ADPCM"),
    }
    for name, (file, container, coding) in kinds.items():
        (good / name).mkdir()
        sound = samples(1.0, 2 if name == "extensible" else 1)
        soundfile.write(good / name / file, sound, 8000, format=container, subtype=coding)


def load_sound(home: Path) -> None:
    file = next(iter(home.iterdir()), home / "x.wav")
    seconds = waveforms.verify(file)
    waveforms.probe(file)
    loaded = waveforms.load(file, 16000)
    assert np.isfinite(loaded).all(), "samples that are not finite"
    assert abs(len(loaded) / 16000 - seconds) < 0.1, f"{len(loaded)} samples of {seconds} s"


def dataset(name: str, tables: dict[str, str], folder: str, **settings: str) -> Loader:
    """A dataset of one layout with two recordings."""

    def make(good: Path) -> None:
        root = good / name
        (root / folder).mkdir(parents=True)
        for file in ("a.wav", "b.wav"):
            soundfile.write(root / folder / file, samples(), 8000)
        for file, text in tables.items():
            (root / file).write_text(text)
        if folder == "none":
            shutil.rmtree(root / folder)

    def load(home: Path) -> Manifest:
        config = DATASET.validate_python({"layout": name, "root": str(home), **settings})
        found = prepare("mine", config, home.parent, Path("raw"), progress=False)
        found.save(home / "manifest.json")
        assert Manifest.load(home / "manifest.json") == found, "a manifest that changes"
        return found

    harms = {file: YAML if file.endswith("yaml") else CSV for file in tables}
    return Loader(f"dataset {name}", make, load, harms)


LOADERS = (
    Loader("audio", make_sounds, load_sound, {"*.wav": WAV, "x.[!w]*": BYTES}),
    dataset(
        "clotho",
        {
            "clotho_captions_development.csv": CAPTIONS,
            "events.csv": "file_name,event\na.wav,dog;bark\n",
        },
        "development",
    ),
    dataset(
        "audiocaps",
        {"train.csv": "audiocap_id,youtube_id,start_time,caption\n1,a,30,a dog\n2,b,0,rain\n"},
        "train",
    ),
    dataset("macs", {"MACS.yaml": MACS}, "audio"),
    dataset("captions", {"text.csv": CAPTIONS}, "none", development="text.csv"),
    dataset(
        "descriptions",
        {"kinds.csv": "label,caption_1,caption_2\nDog,a dog barks,a bark\nRain,it rains,drops\n"},
        "none",
        table="kinds.csv",
    ),
)
