"""The synthesised corpus: the same bytes everywhere, captions that are true, sounds that differ."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy._core._multiarray_umath import __cpu_dispatch__

from pipeline.config.datasets import SoundscapesDatasetConfig
from pipeline.corpora import soundscapes
from pipeline.corpora.manifest import SPLITS, check_clips
from pipeline.corpora.synthesis.backgrounds import BACKGROUNDS
from pipeline.corpora.synthesis.events import EVENTS
from pipeline.corpora.synthesis.grammar import captions
from pipeline.corpora.synthesis.scenes import Level, Scene, Sounding, draw_scene
from pipeline.corpora.synthesis.words import BACKGROUND_WORDS, EVENT_WORDS

RATE = 16000
RAW = Path("data/raw")
SMALL = {"layout": "soundscapes", "development": 6, "validation": 2, "evaluation": 3}
DEFAULT = SoundscapesDatasetConfig(layout="soundscapes")

# words that give a kind away, written independently of the grammar
TELLS = {
    "bark": "dog|hound",
    "beep": "beep",
    "bell": "bell",
    "knock": "knock",
    "drum": "drum",
    "drip": "water",
    "laser": "laser",
    "gunshot": "gun",
    "glass": "glass",
    "owl": "owl",
    "cat": "cat",
    "guitar": "guitar",
    "horn": "horn|honk",
    "whistle": "whistle",
    "siren": "siren",
    "bird": "bird",
    "footsteps": "walk",
    "engine": "engine|motor",
    "phone": "phone|telephone",
    "clock": "clock|watch",
    "typing": "typ(es|ing)",
    "man": r"(man|male)\b",
    "woman": "woman|female",
    "baby": "baby|infant",
    "cricket": "cricket|insect",
    "drill": "drill|tool",
    "applause": "clap|applau",
    "thunder": "thunder",
}
BACKGROUND_TELLS = {
    "rain": r"\brain\b",
    "wind": r"\bwind\b",
    "traffic": r"\btraffic\b|\bcars\b",
    "hum": r"\bhum",
    "static": r"\bstatic\b|\bradio\b",
    "waves": r"\bwaves\b",
}


def small(**settings: object) -> SoundscapesDatasetConfig:
    return SoundscapesDatasetConfig.model_validate({**SMALL, **settings})


def make(base: Path, settings: SoundscapesDatasetConfig) -> soundscapes.Manifest:
    return soundscapes.prepare("set", settings, base, RAW, progress=False)


def scenes(count: int, split: int = 0) -> list[tuple[Scene, np.random.Generator]]:
    """Scenes and a generator for the captions of each, without their sound."""
    made = []
    for number in range(count):
        seed = np.random.SeedSequence([DEFAULT.seed, split, number])
        first, _, words = (np.random.default_rng(child) for child in seed.spawn(3))
        made.append((draw_scene(first, DEFAULT.seconds, DEFAULT.max_events), words))
    return made


# --- the same bytes ---------------------------------------------------------------------------

DIGEST = """
import sys; from pathlib import Path
from pipeline.config.datasets import SoundscapesDatasetConfig
from pipeline.corpora import soundscapes
settings = SoundscapesDatasetConfig(
    layout="soundscapes", development=12, validation=2, evaluation=3
)
print(soundscapes.prepare("set", settings, Path(sys.argv[1]), Path("raw"), progress=False).root)
"""


def test_bytes_do_not_depend_on_threads_or_vector_units(tmp_path: Path) -> None:
    """numpy picks other sine and exponential code without AVX; the samples must not change."""
    variants = [
        {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
        {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "2", "LC_ALL": "C"},
        {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)},
    ]
    roots = set()
    for index, variant in enumerate(variants):
        command = [sys.executable, "-W", "ignore", "-c", DIGEST, str(tmp_path / str(index))]
        environment = {**os.environ, **variant}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        roots.add(ran.stdout.strip())
    assert len(roots) == 1


def test_a_clip_is_the_same_in_any_corpus(tmp_path: Path) -> None:
    few = make(tmp_path / "a", small())
    many = make(tmp_path / "b", small(development=9, evaluation=1))
    later = {clip.clip_id: clip for clip in many.clips}
    assert all(later.get(clip.clip_id, clip) == clip for clip in few.clips)
    assert few.root != many.root


def test_seeds_differ_and_do_not_overwrite_each_other(tmp_path: Path) -> None:
    first = make(tmp_path, small())
    other = make(tmp_path, small(seed=8))
    assert first.root != other.root
    assert {clip.digest for clip in first.clips}.isdisjoint(clip.digest for clip in other.clips)
    content = (tmp_path / first.root / first.clips[0].path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == first.clips[0].digest
    assert make(tmp_path, small()) == first


def test_lost_and_half_written_files_are_made_again(tmp_path: Path) -> None:
    first = make(tmp_path, small())
    (tmp_path / first.root / first.clips[0].path).unlink()
    leftover = tmp_path / RAW / "set" / soundscapes.PARTIAL
    leftover.mkdir()
    (leftover / "half.wav").write_bytes(b"RIFF")
    assert make(tmp_path, small()) == first
    assert (tmp_path / first.root / first.clips[0].path).exists()
    left = {path.name for path in (tmp_path / RAW / "set").iterdir()}
    assert left == {Path(first.root).name}


def test_killed_and_run_again_gives_the_same_corpus(tmp_path: Path) -> None:
    expected = subprocess.run(
        [sys.executable, "-c", DIGEST, str(tmp_path / "whole")], capture_output=True, text=True
    ).stdout.strip()
    command = [sys.executable, "-c", DIGEST, str(tmp_path / "cut")]
    partial = tmp_path / "cut" / "raw" / "set" / soundscapes.PARTIAL / "development"
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while running.poll() is None and not any(partial.glob("*.wav")):
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert again == expected


def test_two_runs_at_once_take_turns(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIGEST, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    roots = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0]
    (root,) = roots
    assert len(list((tmp_path / root).rglob("*.wav"))) == 17


# --- the files --------------------------------------------------------------------------------


def test_the_manifest_describes_the_files(tmp_path: Path) -> None:
    manifest = make(tmp_path, small(sample_rate=8000, seconds=(1.0, 2.5), max_events=5))
    assert manifest.root.startswith("data/raw/set/")
    assert [len(manifest.split(split)) for split in SPLITS] == [6, 2, 3]
    assert check_clips(manifest.clips, "test") == manifest.clips
    for clip in manifest.clips:
        info = soundfile.info(tmp_path / manifest.root / clip.path)
        assert (info.samplerate, info.channels, info.subtype) == (8000, 1, "PCM_16")
        assert info.frames / 8000 == clip.duration and 1.0 <= clip.duration <= 2.5
        assert len(set(clip.captions)) >= 2 and len(clip.captions) == 5
        assert clip.events and set(clip.events) <= {*EVENTS, *BACKGROUNDS}


# --- captions ---------------------------------------------------------------------------------


def found(pattern: str, text: str) -> list[int]:
    return [match.start() for match in re.finditer(rf"\b(?:{pattern})", text)]


def test_captions_say_all_that_happens_and_nothing_else() -> None:
    for scene, words in scenes(300):
        kinds = {sounding.kind for sounding in scene.soundings}
        for caption in captions(words, scene, 5):
            text = caption.lower()
            assert {kind for kind, tell in TELLS.items() if found(tell, text)} == kinds, caption
            over = {kind for kind, tell in BACKGROUND_TELLS.items() if re.search(tell, text)}
            assert over <= {scene.background}, caption


def test_captions_keep_the_order_of_events() -> None:
    checked = 0
    for scene, words in scenes(300):
        for caption in captions(words, scene, 5):
            text = caption.lower()
            places = [[found(TELLS[s.kind], text)[0] for s in group] for group in scene.groups]
            if " after " in text:
                places.reverse()
            for before, behind in pairwise(places):
                assert max(before) < min(behind), caption
                checked += 1
            if len(scene.groups) > 1:
                assert re.search("before|after|then|followed by|finally", text), caption
            if any(len(group) > 1 for group in scene.groups):
                assert re.search(r"\b(while|as)\b", text), caption
    assert checked > 500


def test_captions_do_not_overstate() -> None:
    """What a caption says of number, loudness and pitch is so for one of its events at least."""
    for scene, words in scenes(300):
        counts = {sounding.count for sounding in scene.soundings}
        loud = {sounding.loudness for sounding in scene.soundings} | {scene.strength}
        pitch = {sounding.pitch for sounding in scene.soundings} | {scene.strength}
        truths = {
            r"\bonce\b": 1 in counts,
            r"\b(twice|two)\b": 2 in counts,
            r"\bthree\b": 3 in counts,
            r"\b(several|repeatedly|many|series)\b": max(counts) > 3,
            r"\bloud(ly)?\b": "high" in loud,
            r"\b(faint|softly|quietly|distant|distance)\b": "low" in loud,
            r"\b(shrill|high|thin|small|little)\b": "high" in pitch,
            r"\b(low|deep|big|large)\b": "low" in pitch,
        }
        for caption in captions(words, scene, 5):
            for pattern, true in truths.items():
                assert true or not re.search(pattern, caption.lower()), (caption, scene)


def test_captions_are_sentences() -> None:
    for scene, words in scenes(300):
        for caption in captions(words, scene, 5):
            assert re.fullmatch(r"[A-Z][a-z ,]+\.", caption), caption
            assert "  " not in caption and not re.search(r"\b(\w+) \1\b", caption), caption
            assert not re.search(r"\ba [aeiou]", caption, re.IGNORECASE), caption
            assert not re.search(r"\ban [^aeiou]", caption, re.IGNORECASE), caption


def test_every_kind_has_words_and_every_pitched_kind_adjectives() -> None:
    assert set(EVENT_WORDS) == set(EVENTS) == set(TELLS)
    assert set(BACKGROUND_WORDS) == set(BACKGROUNDS) == set(BACKGROUND_TELLS)
    for kind, event in EVENTS.items():
        assert bool(EVENT_WORDS[kind].low and EVENT_WORDS[kind].high) == event.pitched
        assert bool(EVENT_WORDS[kind].one and EVENT_WORDS[kind].several) == bool(event.unit)


def test_the_corpus_is_small_in_words_and_large_in_scenes() -> None:
    training, evaluation = scenes(DEFAULT.development), scenes(DEFAULT.evaluation, split=2)
    texts = [text for scene, words in training for text in captions(words, scene, 5)]
    vocabulary = set(re.findall("[a-z]+", " ".join(texts).lower()))
    assert 150 <= len(vocabulary) <= 350
    assert len(set(texts)) > 0.95 * len(texts)
    seen = {frozenset(scene.labels) for scene, _ in training}
    known = sum(frozenset(scene.labels) in seen for scene, _ in evaluation)
    assert known < 0.25 * len(evaluation)
    kinds = [kind for scene, _ in training for kind in set(scene.labels)]
    assert min(kinds.count(kind) for kind in [*EVENTS, *BACKGROUNDS]) > 50


# --- sound ------------------------------------------------------------------------------------


def alone(kind: str, pitch: Level = "", loudness: Level = "", count: int = 0) -> np.ndarray:
    """(samples,) in [-1, 1] of one event from 0.5 s on, in three seconds of quiet."""
    count = count or (2 if EVENTS[kind].unit else 0)
    sounding = Sounding(kind, pitch, loudness, count, 0.5, 2.0)
    scene = Scene(3.0, None, "", ((sounding,),))
    return soundscapes.render(np.random.default_rng(3), scene, RATE) / 32767


def decibels(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples**2) + 1e-12))


@pytest.mark.parametrize("kind", EVENTS)
def test_events_sound_when_they_should(kind: str) -> None:
    samples = alone(kind)
    assert decibels(samples[: RATE // 2]) < -60
    assert decibels(samples[RATE // 2 : 5 * RATE // 2]) > -45
    assert np.abs(samples).max() < 1


@pytest.mark.parametrize("kind", [kind for kind, event in EVENTS.items() if event.unit])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_counted_events_sound_as_often_as_said(kind: str, count: int) -> None:
    seconds = 1.6 * EVENTS[kind].unit * count
    scene = Scene(seconds + 1, None, "", ((Sounding(kind, "", "", count, 0.5, seconds),),))
    samples = soundscapes.render(np.random.default_rng(3), scene, RATE)
    block = RATE // 50
    level = np.abs(samples[: len(samples) // block * block]).reshape(-1, block).max(axis=1)
    smooth = np.convolve(level, np.ones(3) / 3, "same")
    gap = int(0.8 * EVENTS[kind].unit * 50)
    on = np.flatnonzero(smooth > 0.25 * smooth.max())
    assert 1 + int(np.sum(np.diff(on) > max(2, 0.25 * gap))) == count


@pytest.mark.parametrize("kind", EVENTS)
def test_loudness_is_heard(kind: str) -> None:
    faint, plain, loud = (decibels(alone(kind, loudness=level)) for level in ("low", "", "high"))
    assert faint + 5 < plain and plain + 3 < loud


@pytest.mark.parametrize("kind", [kind for kind, event in EVENTS.items() if event.pitched])
def test_pitch_is_heard(kind: str) -> None:
    """By the shift along a logarithmic frequency axis at which two spectra agree best."""
    low, high = (logarithmic_spectrum(alone(kind, pitch=level)) for level in ("low", "high"))
    shifts = range(-60, 61)
    match = [float(np.dot(np.roll(low, shift), high)) for shift in shifts]
    assert shifts[int(np.argmax(match))] >= 6  # twelfths of an octave


def logarithmic_spectrum(samples: np.ndarray) -> np.ndarray:
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    bands = np.geomspace(30, 7500, 97)  # twelve to an octave
    level = [power[(hertz >= a) & (hertz < b)].sum() for a, b in pairwise(bands)]
    rough = np.log10(np.array(level) + 1e-3 * max(level))
    return rough - rough.mean()


def test_kinds_are_told_apart_by_a_linear_classifier() -> None:
    """Ridge regression on log-mel statistics of single events, over backgrounds, unseen draws."""
    kinds = list(EVENTS)

    def examples(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows, labels = [], []
        for index, kind in enumerate(kinds):
            for number in range(first, first + count):
                rng = np.random.default_rng([index, number])
                background = str(rng.choice(list(BACKGROUNDS)))
                times = int(rng.integers(1, 3)) if EVENTS[kind].unit else 0
                sounding = Sounding(kind, "", "", times, 0.3, 1.6)
                scene = Scene(2.0, background, "", ((sounding,),))
                rows.append(statistics(soundscapes.render(rng, scene, RATE) / 32767))
                labels.append(index)
        return np.array(rows), np.array(labels)

    rows, labels = examples(0, 14)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    rows = (rows - mean) / deviation
    weights = np.linalg.solve(
        rows.T @ rows + 30 * np.eye(rows.shape[1]), rows.T @ np.eye(len(kinds))[labels]
    )
    unseen, truth = examples(100, 5)
    guesses = (((unseen - mean) / deviation) @ weights).argmax(axis=1)
    assert np.mean(guesses == truth) > 0.8  # chance: 0.04


def statistics(samples: np.ndarray) -> np.ndarray:
    """Per band of a log spectrogram: the mean, the highest, the spread, and the change."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(2, 257, 41).astype(int))
    bands = np.log10(np.add.reduceat(power, edges[:-1], axis=1) + 1e-5)
    change = np.abs(np.diff(bands, axis=0)).mean(axis=0)
    return np.concatenate([bands.mean(axis=0), bands.max(axis=0), bands.std(axis=0), change])
