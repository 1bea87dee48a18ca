"""Decoding, resampling and windows, on real files of every kind that a dataset may hold."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from pipeline.audio import waveforms
from pipeline.errors import EarwitnessError


def tone(seconds: float, rate: int, hertz: float = 440.0, channels: int = 1) -> np.ndarray:
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1) if channels > 1 else wave


def loudest_hertz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_every_container_gives_the_same_tone(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"a tone, “quoted”.{suffix}"
    soundfile.write(path, tone(2.0, rate), rate)
    samples = waveforms.load(path, 16000)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - 32000) <= 2400  # an MP3 keeps its encoder's padding
    assert loudest_hertz(samples[:30000], 16000) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(samples[4000:28000] ** 2)) == pytest.approx(0.4 / np.sqrt(2), rel=0.05)
    assert waveforms.probe(path) == pytest.approx(2.0, abs=0.16)
    assert waveforms.verify(path) == waveforms.probe(path)


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 192000])
def test_blockwise_resampling_is_the_one_shot_result(
    tmp_path: Path, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waveforms, "BLOCK_VALUES", 997)
    noise = np.random.default_rng(0).normal(0, 0.1, rate + 13).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", noise, rate, subtype="FLOAT")
    whole = soxr.resample(noise, rate, 16000, quality="HQ")
    np.testing.assert_allclose(waveforms.load(tmp_path / "noise.wav", 16000), whole, atol=1e-6)


def test_channels_are_averaged(tmp_path: Path) -> None:
    channels = np.random.default_rng(1).uniform(-1, 1, (4000, 8)).astype(np.float32)
    soundfile.write(tmp_path / "eight.wav", channels, 16000, subtype="FLOAT")
    expected = sum(channels[:, index] for index in range(8)) / 8
    np.testing.assert_allclose(waveforms.load(tmp_path / "eight.wav", 16000), expected, atol=1e-6)


def test_silence_is_accepted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000), 8000)
    assert not waveforms.load(tmp_path / "silence.wav", 16000).any()
    assert waveforms.verify(tmp_path / "silence.wav") == 1.0


def test_one_sample_is_accepted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), 44100)
    assert len(waveforms.load(tmp_path / "one.wav", 16000)) == 1


def test_ten_minutes_of_eight_channels_stay_small_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 48000, 8, "PCM_16") as sound:
        sound.write(np.zeros((1, 8)))
    header = path.read_bytes()[:44]
    frames, size = 600 * 48000, 600 * 48000 * 16
    last = np.zeros((48000, 8), "<i2")
    last[:, 0] = 16000 * np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000)
    with path.open("wb") as stream:  # sparse on disk: zeros, then one second of a tone
        stream.write(header[:4] + struct.pack("<I", size + 36) + header[8:40])
        stream.write(struct.pack("<I", size))
        stream.seek(44 + size - last.nbytes)
        stream.write(last.tobytes())
    assert waveforms.probe(path) == frames / 48000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    samples = waveforms.load(path, 8000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(samples) == 600 * 8000
    assert loudest_hertz(samples[-8000:], 8000) == pytest.approx(1000, abs=1)
    assert grown < 200_000  # KiB; the decoded file would be 920 MB


def hostile(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("these are not samples\n" * 50)
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "headeronly":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind == "nan":
        samples = tone(1.0, 16000)
        samples[9000] = np.nan
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    elif kind == "infinite":
        samples = tone(1.0, 16000)
        samples[9000] = -np.inf
        soundfile.write(path, samples, 16000, subtype="DOUBLE")
    elif kind == "pickle":
        path.write_bytes(b"\x80\x04\x95" + bytes(200))
    elif kind == "norate":
        path.write_bytes(whole[:24] + struct.pack("<I", 3) + whole[28:])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "not there"),
        ("folder", "not a file"),
        ("empty", "empty file"),
        ("text", "not sound that can be decoded"),
        ("pickle", "not sound that can be decoded"),
        ("truncated", "truncated WAV: its header says 32044 bytes, the file has 16022"),
        ("headeronly", "no samples"),
        ("nan", "NaN or infinite"),
        ("infinite", "NaN or infinite"),
        ("norate", "3 Hz"),
    ],
)
def test_broken_files_say_what_is_wrong(tmp_path: Path, kind: str, reason: str) -> None:
    path = hostile(tmp_path, kind)
    for read in (lambda: waveforms.load(path, 16000), lambda: waveforms.verify(path)):
        with pytest.raises(EarwitnessError) as caught:
            read()
        assert str(path) in str(caught.value) and reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_other_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, np.random.default_rng(2).normal(0, 0.1, 64000), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EarwitnessError, match=r"truncated"):
        waveforms.load(path, 16000)


def test_a_streamed_wav_of_unknown_size_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "streamed.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    whole = path.read_bytes()
    at = whole.index(b"data") + 4
    path.write_bytes(whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :])
    assert len(waveforms.load(path, 16000)) == 16000


@pytest.mark.parametrize(("length", "count"), [(1, 1), (100, 1), (101, 2), (250, 3), (300, 3)])
def test_windows_are_few_equal_and_whole(length: int, count: int) -> None:
    samples = np.arange(length, dtype=np.float32)
    cut = waveforms.windows(samples, 100)
    assert len(cut) == count
    assert max(map(len, cut)) <= 100
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    np.testing.assert_array_equal(np.concatenate(cut), samples)


def test_fit_pads_and_crops() -> None:
    samples = np.array([1, 2, 3], np.float32)
    assert waveforms.fit(samples, 5).tolist() == [1, 2, 3, 0, 0]
    assert waveforms.fit(samples, 7, "repeat").tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert waveforms.fit(samples, 2, "repeat").tolist() == [1, 2]
