"""A project under DVC whose test set is blind: recordings and queries, and no captions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from project import Project

# as a challenge lists them; the archive has written one of them otherwise
LISTED = ("dogs: bark.wav", "rain.flac", "a bell.ogg", "street.mp3", "wind.wav")
QUERIES = ("a dog barks", "Rain falls on  a roof", "a bell, and then another", "wind")
NOTHING: dict[str, Any] = {}
BLIND = {"layout": "blind", "root": "data/raw/test", "table": "set.csv", "queries": "asked.csv"}
PARAMS: dict[str, Any] = {
    "seeds": [1],
    "datasets": {
        "soundscapes": {
            "layout": "soundscapes",
            "development": 8,
            "validation": 3,
            "evaluation": 3,
            "seconds": [1.0, 1.5],
        },
        "test": BLIND,
    },
    "encoders": {"logmel": {"module": "logmel", "sample_rate": 16000, "mels": 16, "fmax": 8000.0}},
    "text_encoders": {"minilm": {"module": "sentence"}},
    "tagging": {"dataset": None, "encoders": []},
    "spaces": NOTHING,
    "biencoder": {"width": 8},
    "retrieval_training": {"epochs": 1, "batch": 8},
    "encoded": ["frozen"],
    "retrievers": {"frozen": {"datasets": ["soundscapes"], "sound": ["logmel"], "text": "minilm"}},
    "adapted": NOTHING,
    "seq2seq": {
        "encoder_layers": 1,
        "encoder_width": 8,
        "width": 16,
        "heads": 2,
        "feed_forward": 16,
        "decoder_layers": 1,
    },
    "captioners": {
        "words": {
            "architecture": "seq2seq",
            "dataset": "soundscapes",
            "training": "words",
            "features": ["logmel"],
        }
    },
    "training": {"words": {"epochs": 1, "batch": 8, "schedule": "constant"}},
    "finetuned": NOTHING,
    "decoding": {"beams": 2, "max_length": 10},
    "systems": {"alone": {"captioners": ["words"]}},
    "retrieval_systems": {
        "frozen": {"retrievers": ["frozen"]},
        "captioned": {"captions_of": "alone", "text": "minilm"},
    },
    "test_sets": ["soundscapes", "test"],
    "retrieval_test_sets": ["soundscapes", "test"],
    "evaluation": {"spice": False, "sbert": None, "fluency": None},
}


def write_set(root: Path) -> None:
    """The challenge's files: sound of several formats in a folder, and the two tables."""
    (root / "sound").mkdir(parents=True)
    for number, name in enumerate(LISTED, start=1):
        time = np.arange(16000) / 16000
        sweep = 0.3 * np.sin(2 * np.pi * (200 * number + 700 * number * time) * time)
        soundfile.write(root / "sound" / name.replace(":", "_"), sweep, 16000)
    soundfile.write(root / "sound/not in the set.wav", np.full(16000, 0.1), 16000)
    _write(root / "set.csv", "file_name", LISTED)
    _write(root / "asked.csv", "caption", QUERIES)


def blind_project(root: Path) -> Project:
    """Not run yet."""
    project = Project(root, PARAMS, forked=True)
    write_set(project.root / BLIND["root"])
    return project


def _write(path: Path, column: str, cells: tuple[str, ...]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([[column], *([cell] for cell in cells)])
