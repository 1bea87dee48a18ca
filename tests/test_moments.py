"""Moments inside recordings: windows against excerpts, spans against what was played when."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import DTypeLike, NDArray
from onnx_models import tagger
from tones import RATE, Words, make_tones

import earwitness
from earwitness import spaces
from earwitness.hits import clock, written
from earwitness.index import embedding
from earwitness.index.layout import FILE, FOLDER, read_index
from earwitness.index.moments import best_moments, curve, moments_of, window_spans
from earwitness.index.opened import Hit
from pipeline.audio.waveforms import Waveform
from pipeline.encoders.base import Packed, TextEncoder
from pipeline.features.frames import quantised
from pipeline.trained import readers

PLAYED = (7.0, 10.0)  # seconds, of the high tone


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_tones(root)
    return root


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "build_text_encoder", lambda settings, device: Words())


class Letters(TextEncoder):
    """A random vector for each text."""

    width = 16

    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        seeds = [sum(caption.encode()) for caption in captions]
        rows = [np.random.default_rng(seed).normal(size=self.width) for seed in seeds]
        return Packed(np.array(rows, dtype), np.ones(len(captions), np.int64))


def tone(hertz: float, seconds: float, seed: int = 0) -> NDArray[np.float64]:
    time = np.arange(round(RATE * seconds)) / RATE
    noise = 0.001 * np.random.default_rng(seed).normal(size=len(time))
    wave: NDArray[np.float64] = 0.3 * np.sin(2 * np.pi * hertz * time) + noise
    return wave


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Twenty seconds of a low tone with a high one in it, and a short low one."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    parts = [tone(300, PLAYED[0]), tone(5000, PLAYED[1] - PLAYED[0]), tone(300, 10, 1)]
    soundfile.write(folder / "long.flac", np.concatenate(parts), RATE)
    soundfile.write(folder / "short.wav", tone(320, 0.7), RATE)
    return folder


def build(root: Path, folder: Path, **options: Any) -> earwitness.SoundIndex:
    earwitness.build_index([folder], moments=True, **{"root": root, "device": "cpu", **options})
    return earwitness.open_index(folder, root=root, device="cpu")


def overlap(hit: Hit, span: tuple[float, float]) -> float:
    """Intersection over union."""
    assert hit.start is not None and hit.end is not None
    both = min(hit.end, span[1]) - max(hit.start, span[0])
    return both / (hit.end - hit.start + span[1] - span[0] - both)


def test_a_moment_is_where_it_was_played(repository: Path, recordings: Path) -> None:
    index = build(repository, recordings)
    best, *others = index.search("a high tone", top=5, moments=True)
    assert best.path == recordings / "long.flac"
    assert overlap(best, PLAYED) > 0.75
    assert all(hit.score < best.score for hit in others)
    low = index.search("low", top=None, moments=True)
    assert not any(overlap(hit, PLAYED) > 0.2 for hit in low if hit.path == best.path)
    assert (low[0].path.name, low[0].start, low[0].end) == ("short.wav", 0.0, 0.7)
    spans = sorted((h.start, h.end) for h in low if h.path == best.path)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    quiet = index.search("high", without=["low"], top=1, moments=True)
    assert overlap(quiet[0], PLAYED) > 0.75


def test_an_index_keeps_its_moments_and_gets_them(repository: Path, recordings: Path) -> None:
    options: dict[str, Any] = {"root": repository, "device": "cpu"}
    lines: list[str] = []
    earwitness.build_index([recordings], **options)
    done = earwitness.build_index([recordings], moments=True, notice=lines.append, **options)
    assert done.embedded == 2
    assert lines == ["the index was made without moments; every sound is embedded again"]
    soundfile.write(recordings / "new.wav", tone(5000, 1.5), RATE)
    assert earwitness.build_index([recordings], **options).embedded == 1
    index = earwitness.open_index(recordings, root=repository, device="cpu")
    assert index.search("high", moments=True)[0].path.name == "new.wav"


def test_a_long_recording_is_read_in_pieces(
    repository: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same windows as of the whole; never more than a piece in memory."""
    build(repository, recordings)
    one = read_index(recordings / FOLDER / FILE)
    own, longest = embedding.RetrievalSystem.embed_excerpts, []

    def watched(system: Any, sounds: Any, spans: Any) -> Any:
        longest.append(sum(len(sound.samples) / sound.sample_rate for sound in sounds))
        return own(system, sounds, spans)

    monkeypatch.setattr(embedding.RetrievalSystem, "embed_excerpts", watched)
    monkeypatch.setattr(embedding, "PIECE", 6.0)
    build(repository, recordings, where=recordings.parent / "other")
    other = read_index(recordings.parent / "other" / FILE)
    assert max(longest) <= 8.0 < sum(longest)
    assert other.entries.seconds.tolist() == pytest.approx([20.0, 0.7])
    values = []
    for index in (one, other):
        order = np.lexsort(index.entries.spans[: index.entries.counts[0]].T)
        rows = index.entries.windows * index.entries.scales[:, None]
        values.append((index.entries.spans[order], rows[order]))
    np.testing.assert_allclose(values[0][0], values[1][0], atol=1e-5)
    np.testing.assert_allclose(values[0][1], values[1][1], atol=0.02)
    np.testing.assert_allclose(one.entries.rows[0], other.entries.rows[0], atol=0.05)
    assert np.linalg.norm(other.entries.rows[0]) == pytest.approx(1, abs=1e-5)


def test_windows_are_as_the_excerpts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an encoder with one embedding a window, whatever sounds are beside it."""
    monkeypatch.setattr(spaces, "build_text_encoder", lambda settings, device: Letters())
    tagger(tmp_path / "tagger.onnx", outputs=["probabilities"])
    labels = tmp_path / "labels.txt"
    labels.write_text("Bark\nRain\nHorn\nSheep\n", encoding="utf-8")
    system = earwitness.open_space(str(tmp_path / "tagger.onnx"), labels, device="cpu")
    draw = np.random.default_rng(0)
    sounds = [draw.normal(0, 0.2, n).astype(np.float32) for n in (4 * RATE, RATE // 2)]
    spans = [np.array([[0, 4], [0.5, 1.5], [2, 4]]), np.array([[0, 0.5]])]
    waves = [Waveform(str(n), sound, RATE) for n, sound in enumerate(sounds)]
    made = system.embed_excerpts(waves, spans)
    cut = [
        sound[round(a * RATE) : round(b * RATE)]
        for sound, own in zip(sounds, spans, strict=True)
        for a, b in own
    ]
    alone = np.concatenate([system.embed_audio([one], sample_rate=RATE) for one in cut])
    np.testing.assert_allclose(made, alone, atol=1e-4)


def test_windows_of_every_length_cover_a_recording() -> None:
    for seconds in (0.3, 1.0, 1.7, 5.0, 61.26):
        spans = window_spans(seconds)
        assert spans[:, 0].min() == 0 and spans[:, 1].max() == pytest.approx(seconds)
        lengths = {*np.round(spans[:, 1] - spans[:, 0], 6)}
        assert lengths == {one for one in (1.0, 2.0) if one < seconds} or len(spans) == 1
        parts = [window_spans(seconds, at, at + 3.0) for at in np.arange(0, seconds, 3.0)]
        whole = np.concatenate(parts)
        np.testing.assert_array_equal(whole[np.lexsort(whole.T)], spans[np.lexsort(spans.T)])


def test_a_curve_is_the_mean_of_the_windows_over_each_quarter() -> None:
    draw = np.random.default_rng(0)
    spans = window_spans(6.3).astype(np.float32)
    values = draw.normal(size=len(spans)).astype(np.float32)
    expected = []
    for cell in range(25):
        middle = 0.25 * cell + 0.1
        bounds = np.rint(spans / 0.25) * 0.25
        over = (bounds[:, 0] <= middle) & (middle < bounds[:, 1])
        expected.append(values[over].mean())
    np.testing.assert_allclose(curve(spans, values), expected, atol=1e-5)


@pytest.mark.parametrize("top", [1, 3, 20, None])
def test_the_best_moments_are_those_of_all(top: int | None) -> None:
    """Recordings that cannot have one of the best are passed over: against a search of all."""
    draw = np.random.default_rng(top or 0)
    seconds = draw.uniform(0.4, 40, 30)
    spans = [window_spans(each).astype(np.float32) for each in seconds]
    counts = np.array([len(each) for each in spans])
    values = [draw.normal(draw.normal(), 1, count).astype(np.float32) for count in counts]
    every = [
        moment
        for entry, pair in enumerate(zip(spans, values, strict=True))
        for moment in moments_of(entry, *pair)
    ]
    every.sort(key=lambda moment: -moment.score)
    found = best_moments(np.concatenate(values), np.concatenate(spans), counts, top)
    assert found == every[:top]
    for moment in found:
        assert 0 <= moment.start < moment.end <= seconds[moment.entry] + 1e-5


def test_rows_in_eight_bits_are_near() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    rows[3] = 0
    whole, scales = quantised(rows)
    assert whole.dtype == np.int8
    np.testing.assert_allclose(
        whole * scales[:, None], rows, atol=float(np.abs(rows).max()) / 127 / 2 + 1e-6
    )


def test_a_playlist_is_relative_where_it_lies_above(tmp_path: Path) -> None:
    """As VLC reads it; names that a line cannot hold are URIs."""
    names = ["in/a b.wav", "#1.wav", "two\nlines.wav", os.fsdecode(b"lat\xe9.wav")]
    hits = [Hit(tmp_path / name, 0.5, duration=12.3) for name in names]
    hits.append(Hit(Path("/away/c.wav"), 0.4, 83.5, 85.25, 900.0))
    lines = written(hits, "m3u", str, tmp_path / "list.m3u").splitlines()
    assert lines[:3] == ["#EXTM3U", "#EXTINF:12,a b.wav", "in/a b.wav"]
    assert lines[3:5] == ["#EXTINF:12,#1.wav", "./#1.wav"]
    assert lines[6] == f"file://{tmp_path}/two%0Alines.wav"
    assert lines[8] == f"file://{tmp_path}/lat%E9.wav"
    assert lines[9:] == [
        "#EXTINF:2,c.wav 1:23.5–1:25.2", "#EXTVLCOPT:start-time=83.5",
        "#EXTVLCOPT:stop-time=85.25", "/away/c.wav",
    ]  # fmt: skip
    alone = written(hits[:1], "m3u", str).splitlines()
    assert alone[2] == str(tmp_path / "in/a b.wav")


def test_times_are_as_a_player_shows_them() -> None:
    times = {0: "0:00.0", 59.96: "1:00.0", 83.5: "1:23.5", 3723.04: "1:02:03.0"}
    assert {seconds: clock(seconds) for seconds in times} == times


def test_real_sounds_are_found_in_a_recording(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four clips of five seconds, one behind the other, by CED-tiny and MiniLM."""
    weights = shared_data / "weights"
    if not (weights / "ced-tiny.onnx").is_file():
        pytest.skip("ced-tiny.onnx is not on this machine")
    monkeypatch.undo()
    with (shared_data / "realsounds" / "events.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "evaluation"]
    queries = {
        "dog": "a dog barks", "rain": "rain is falling", "car_horn": "a car honks its horn",
        "sheep": "a sheep bleats",
    }  # fmt: skip
    parts = []
    for kind in queries:
        name = next(row["file_name"] for row in rows if row["event"] == kind)
        samples, rate = soundfile.read(shared_data / "realsounds" / "evaluation" / name)
        parts.append(samples[: 5 * rate])
    folder = tmp_path / "real"
    folder.mkdir()
    soundfile.write(folder / "day.ogg", np.concatenate(parts), rate)
    earwitness.build_index(
        [folder], model=str(weights / "ced-tiny.onnx"), labels=weights / "audioset_labels.csv",
        moments=True, device="cpu",
    )  # fmt: skip
    index = earwitness.open_index(folder, device="cpu")
    for number, query in enumerate(queries.values()):
        (hit,) = index.search(query, top=1, moments=True)
        assert hit.start is not None and hit.end is not None
        middle = (hit.start + hit.end) / 2
        assert 5 * number < middle < 5 * (number + 1), query
