"""A run whose results are written by hand, its report, and the report in a real browser."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from browsers import DESKTOP, until, watched

from earwitness.report.assembly import page
from earwitness.report.run import Run
from pipeline.config.params import load_params
from pipeline.corpora.manifest import Clip, Manifest

RATE = 16000
HOSTILE = "</script><img src=x onerror=alert(1)> \u202eright to left " + "w" * 400
PARAMS = """\
datasets: {toy: {layout: clotho, root: toy}}
encoders: {logmel: {module: logmel}}
training: {words: {}}
captioners:
  heard: {architecture: seq2seq, dataset: toy, training: words, features: [logmel]}
systems:
  alpha: {captioners: [heard]}
  beta: {captioners: [heard]}
  gamma: {captioners: [heard]}
test_sets: [toy]
retrieval_test_sets: []
evaluation: {spice: false, sbert: null}
report: {attention_clips: 0}
"""
# clip → its file, its tone in Hz, its events, its references
CLIPS: dict[str, tuple[str, float, tuple[str, ...], tuple[str, ...]]] = {
    "dog": ("a/dog.wav", 500.0, ("dog",), ("A dog barks.", "The dog is barking.")),
    "rain": ("rain.flac", 1000.0, ("rain", "wind"), ("Rain falls on a roof.",)),
    "bell": ("bell, 50 % & more.ogg", 2000.0, ("bell",), ("A bell rings twice.",)),
    "hostile": ("hostile.mp3", 4000.0, ("<b>bold</b>", "wind"), (HOSTILE,)),
}
# seed → system → its captions, in the order of CLIPS
CAPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "1": {
        "alpha": ("a dog barks", "rain falls", "a bell rings", HOSTILE),
        "beta": ("a dog howls", "water runs", "a bell rings", "it is quiet"),
        "gamma": ("a dog barks", "engines hum", "a bell rings", "it is quiet"),
    },
    "2": {
        "alpha": ("a cat mews", "rain falls", "a bell rings", "it is loud"),
        "beta": ("a cat mews", "rain falls", "a gong sounds", "it is quiet"),
        "gamma": ("a cat mews", "rain falls", "metal clangs", "it is quiet"),
    },
}
EQUAL = (0.1, 0.2, 0.3, 0.4)
SCORES: dict[str, dict[str, tuple[float | None, ...]]] = {  # of CIDEr-D; None: an empty cell
    "1": {
        "alpha": (1.5, 0.2, 0.9, 0.0),
        "beta": (0.4, 0.3, 0.9, 0.1),
        "gamma": (1.5, 0.1, 0.9, None),
    },
    "2": {"alpha": EQUAL, "beta": EQUAL, "gamma": EQUAL},
}
METRICS = ("cider_d", "bleu_4", "repetition")
MEANS = {  # system → of each metric: mean, low, high
    "alpha": ((0.65, 0.50, 0.80), (0.30, 0.20, 0.40), (0.2, 0.1, 0.3)),
    "beta": ((0.30, 0.25, 0.35), (0.35, 0.30, 0.40), (0.0, 0.0, 0.1)),
    "gamma": ((0.62, 0.55, 0.70), (0.10, 0.05, 0.15), (0.5, 0.4, 0.6)),
    "yardstick_human": ((1.90, 1.70, 2.10), (0.55, 0.50, 0.60), (0.0, 0.0, 0.0)),
}


def write_sounds(root: Path, seconds: float = 1.2) -> None:
    """Each clip's tone in its own format, below ``root/sounds``."""
    time = np.arange(int(RATE * seconds)) / RATE
    for file, hertz, _, _ in CLIPS.values():
        path = root / "sounds" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * time), RATE)


def write_manifest(root: Path, seconds: float = 1.2, blind: bool = False) -> Manifest:
    clips = tuple(
        Clip(name, "evaluation", file, seconds, () if blind else references, events)
        for name, (file, _, events, references) in CLIPS.items()
    )
    manifest = Manifest("toy", "sounds", clips, blind=blind)
    manifest.save(root / "data/corpora/toy.json")
    return manifest


def write_scores(
    path: Path, rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ("seed", "clip_id")
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else list(first))
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def make_run(root: Path) -> Run:
    """Three systems, two seeds, four clips, one yardstick; a captioner's curves for each seed."""
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    write_sounds(root)
    write_manifest(root)
    for system in ("alpha", "beta", "gamma"):
        rows = [
            {"seed": seed, "clip_id": clip, "caption": caption,
             "cider_d": "" if score is None else score}
            for seed in CAPTIONS
            for clip, caption, score in zip(
                CLIPS, CAPTIONS[seed][system], SCORES[seed][system], strict=True
            )
        ]  # fmt: skip
        write_scores(root / f"data/scores/toy/{system}.csv", rows)
    human = [
        {"seed": "1", "clip_id": clip, "caption": references[0], "cider_d": 1.9}
        for clip, (_, _, _, references) in CLIPS.items()
    ]
    write_scores(root / "data/scores/toy/yardstick_human.csv", human)
    for system, values in MEANS.items():
        metrics = dict(zip(METRICS, values, strict=True))
        flat = {name: mean for name, (mean, _, _) in metrics.items()}
        write_json(root / f"metrics/toy/{system}.json", {"N": 4, "vocabulary": 7, **flat})
        own = {
            name: {"mean": mean, "low": low, "high": high, "sd": 0.01,
                   "by_seed": {"1": mean + 0.01, "2": mean - 0.01}}
            for name, (mean, low, high) in metrics.items()
        }  # fmt: skip
        intervals = {"clips": 4, "seeds": [1, 2], "resamples": 2000, "metrics": own}
        write_json(root / f"intervals/toy/{system}.json", intervals)
    for seed, curve in {"1": (0.1, 0.5, 0.4), "2": (0.2, 0.3, 0.6)}.items():
        rows = [
            {"step": 10 * at, "epoch": at, "total": 3.0 / at, "validation_cider_d": value}
            for at, value in enumerate(curve, start=1)
        ]
        write_scores(root / f"data/models/captioners/heard/{seed}/curves.csv", rows)
    return Run(root, root, load_params(root / "params.yaml"))


def write_report(run: Run) -> Path:
    path = run.data / "report.html"
    path.write_text(page(run), encoding="utf-8")
    return path


def block(text: str, name: str) -> Any:
    """A section's data, read back from the page."""
    found = re.search(rf'<script [^>]*id="data-{name}">([^<]*)</script>', text)
    assert found, name
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


@contextmanager
def opened(
    browser: Any, report: Path, view: str = "", size: Any = DESKTOP, scheme: str = "light"
) -> Iterator[Any]:
    """The page with a view open; see :func:`browsers.watched`: it may ask for files beside it."""
    with watched(browser, size, scheme, "file:") as page:
        page.goto(report.as_uri() + (f"#{view}" if view else ""))
        ready(page, view.split("?")[0])
        yield page


def ready(page: Any, view: str = "") -> None:
    chosen = f"#view-{view}" if view else "main > section:not([hidden])"
    until(page, f"!!document.querySelector('{chosen}[data-ready]')")
