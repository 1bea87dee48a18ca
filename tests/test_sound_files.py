"""Every sample that is in a file is read, though its header, or libsndfile, says they are fewer."""

from __future__ import annotations

import ctypes
import io
import os
import struct
import sys
import threading
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio import waveforms
from pipeline.audio.c_stderr import silent_c_code
from pipeline.errors import EarwitnessError
from pipeline.files import inside

DELAYS = (576, 576 + 529)  # samples that LAME, and with it the decoder, put before the sound
SECONDS = 6
MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, layer III
MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
ART = b"ID3\x03\0\0\0\0\x40\0" + np.random.default_rng(0).bytes(64 << 7)  # a tag with a picture
TRAILERS = b"APETAGEX" + bytes(200) + b"TAG" + bytes(125)


def sound(rate: int, channels: int = 1) -> np.ndarray:
    """Noise and quiet by turns, so that a variable bit rate varies."""
    noise = np.random.default_rng(rate).normal(0, 0.1, (SECONDS * rate, channels))
    return noise * (np.arange(SECONDS * rate) // rate % 2)[:, None]


def mp3(mode: str = "VARIABLE", rate: int = 44100, channels: int = 1) -> bytes:
    """As LAME writes it, a Xing frame first."""
    stream = io.BytesIO()
    soundfile.write(
        stream, sound(rate, channels), rate, format="MP3", bitrate_mode=mode, compression_level=0.5
    )
    return stream.getvalue()


def frame(content: bytes) -> int:
    """The length of the frame that stands at the start."""
    header = int.from_bytes(content[:4])
    rate = (44100, 48000, 32000)[header >> 10 & 3]
    padding = header >> 9 & 1
    if header >> 19 & 3 == 3:
        return 144_000 * MPEG1[header >> 12 & 15] // rate + padding
    return 72_000 * MPEG2[header >> 12 & 15] // (rate // 2) + padding


def whole(content: bytes) -> np.ndarray:
    samples = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]
    return samples.mean(axis=1)


def wav_around(content: bytes, samples: int) -> bytes:
    """An MP3 in a WAV; ``samples`` is what its header says."""
    form = struct.pack("<HHIIHH", 0x55, 1, 44100, 16000, 1, 0)
    form += struct.pack("<HHIHHH", 12, 1, 2, 417, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"fact" + struct.pack("<II", 4, samples)
    body += b"data" + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def assert_begins(samples: np.ndarray, expected: np.ndarray) -> None:
    """After the delay that a Xing frame would have told."""
    assert len(samples) >= len(expected) + DELAYS[0]
    shifted = [samples[at:][: len(expected)] for at in DELAYS]
    assert min(np.abs(each - expected[: len(each)]).max() for each in shifted) < 1e-6


def load(folder: Path, name: str, content: bytes, rate: int = 44100) -> np.ndarray:
    path = folder / name
    path.write_bytes(content)
    samples = waveforms.load(path, rate)
    assert waveforms.verify(path) == waveforms.probe(path) == len(samples) / rate
    return samples


# --- MPEG -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (44100, 2), (16000, 1), (22050, 2)])
def test_an_mp3_without_a_xing_frame_is_read_to_its_end(
    tmp_path: Path, mode: str, rate: int, channels: int
) -> None:
    content = mp3(mode, rate, channels)
    expected, bare = whole(content), content[frame(content) :]
    assert len(expected) == SECONDS * rate
    for name, other in {
        "bare.mp3": bare, "tag.mp3": ART + bare, "tags.mp3": ART + ART + bare + TRAILERS,
        "silence.mp3": bytes(5000) + bare, "no ending": bare,
    }.items():  # fmt: skip
        samples = load(tmp_path, name, other, rate)
        assert len(samples) - len(expected) < 4 * 1152
        assert_begins(samples, expected)


def test_a_whole_mp3_is_read_as_libsndfile_reads_it(tmp_path: Path) -> None:
    content = mp3()
    for name, other in {"a.mp3": content, "b.mp3": ART + content + TRAILERS}.items():
        np.testing.assert_array_equal(load(tmp_path, name, other), whole(content))


def test_a_xing_frame_that_libsndfile_overlooks_is_not_believed(tmp_path: Path) -> None:
    content = mp3()
    at = content.index(b"Xing")
    moved = content[:at] + bytes(15) + content[at : frame(content) - 15]  # where stereo has it
    samples = load(tmp_path, "moved.mp3", moved + content[frame(content) :])
    assert_begins(samples, whole(content))


def test_an_mp3_that_begins_in_mid_frame_loses_that_frame_alone(tmp_path: Path) -> None:
    content = mp3()
    bare = content[frame(content) :]
    samples = load(tmp_path, "mid.mp3", bare[100:])
    expected = whole(content)
    settled = 20 * 1152  # frames that refer to the lost ones
    assert_begins(samples[settled - 1152 :], expected[settled:])


def test_mp3s_in_one_file_are_all_read(tmp_path: Path) -> None:
    """As recorders, podcasts and `cat` make them; of a second the tags may be in between."""
    content = mp3()
    expected, length = whole(content), len(whole(content))
    for name, other in {"two.mp3": content, "art.mp3": ART + content}.items():
        samples = load(tmp_path, name, content + other)
        assert_begins(samples, expected)
        rest, noise = samples[length + DELAYS[0] :], expected[44100:48000]
        errors = [np.abs(rest[at:][44100:48000] - noise).max() for at in range(4 * 1152)]
        second = rest[int(np.argmin(errors)) :][:length]
        np.testing.assert_allclose(second[4 * 1152 :], expected[4 * 1152 :], atol=1e-6)


def test_what_is_no_frame_is_passed_over(tmp_path: Path) -> None:
    content = mp3()
    bare = content[frame(content) :]
    cut = 0
    while cut < len(bare) // 2:
        cut += frame(bare[cut:])
    noise = np.random.default_rng(1).bytes(50_000)
    samples = load(tmp_path, "noise.mp3", bare[:cut] + noise + bare[cut:])
    assert_begins(samples, whole(content))


@pytest.mark.parametrize("said", [SECONDS * 44100, 1000, 0])
def test_an_mp3_inside_a_wav_is_read_to_its_end(tmp_path: Path, said: int) -> None:
    content = mp3()
    bare = content[frame(content) :]
    assert_begins(load(tmp_path, "mp3.wav", wav_around(bare, said)), whole(content))


def test_mp3s_with_less_than_their_xing_frames_say_are_refused(tmp_path: Path) -> None:
    content = mp3()
    half, hole = content[: len(content) // 2], content[:9000] + content[14000:]
    for name, other in {"a": half, "b": content + half, "c": hole, "d": hole + content}.items():
        with pytest.raises(EarwitnessError, match=r"truncated"):
            load(tmp_path, f"{name}.mp3", other)


def test_a_change_of_sample_rate_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"changes its sample rate \(16000, 44100 Hz\)"):
        load(tmp_path, "two.mp3", mp3() + mp3(rate=16000))


def test_a_change_of_channels_is_read(tmp_path: Path) -> None:
    samples = load(tmp_path, "two.mp3", mp3() + mp3(channels=2))
    assert len(samples) == pytest.approx(2 * SECONDS * 44100, abs=8 * 1152)
    second = samples[-4 * 44100 - 3000 : -3 * 44100 - 3000]  # noise, where one channel is quiet
    assert np.sqrt(np.mean(second**2)) > 0.01


@pytest.mark.parametrize("junk", [b"\xff", b"\0", b"ID3\3\0\0\0\0\0\0"])
def test_long_junk_behind_the_frames_takes_no_time(tmp_path: Path, junk: bytes) -> None:
    content = mp3()
    bare = content[frame(content) :]
    start = time.process_time()
    samples = load(tmp_path, "junk.mp3", bare + junk * (500_000 // len(junk)))
    assert time.process_time() - start < 5
    assert_begins(samples, whole(content))


# --- Ogg --------------------------------------------------------------------------------------


def ogg(rate: int, seed: int) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).normal(0, 0.1, rate)
    soundfile.write(stream, noise, rate, format="OGG", subtype="VORBIS")
    return stream.getvalue()


def test_all_streams_of_a_chained_ogg_are_read(tmp_path: Path) -> None:
    parts = [ogg(16000, seed) for seed in range(3)]
    expected = np.concatenate([whole(part) for part in parts])
    assert len(expected) == 48000
    samples = load(tmp_path, "three.ogg", b"".join(parts), 16000)
    np.testing.assert_array_equal(samples, expected)
    np.testing.assert_array_equal(load(tmp_path, "one.ogg", parts[0], 16000), expected[:16000])
    with pytest.raises(EarwitnessError, match=r"changes its sample rate"):
        load(tmp_path, "rates.ogg", parts[0] + ogg(22050, 3))


# --- sizes that pipes and recorders write -----------------------------------------------------


def pcm(kind: str, **options: str) -> tuple[np.ndarray, bytes]:
    samples = np.random.default_rng(2).integers(-9000, 9000, 8000).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16000, format=kind, subtype="PCM_16", **options)
    return samples / np.float32(32768), stream.getvalue()


@pytest.mark.parametrize("riff", [0, 8, 36, 16036, 0x7FFFF024, 0xFFFFFFFF])
@pytest.mark.parametrize(
    "size",
    [0, 16001, 16016, 16080, 0x7FFFF000, 0x7FFFFF00, 0x7FFFFFFF, 1 << 31, 0xFFFFFFDB, 0xFFFFFFFF],
)
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_a_wav_that_does_not_know_its_size_is_read_to_its_end(
    tmp_path: Path, endian: str, size: int, riff: int
) -> None:
    samples, content = pcm("WAV", endian=endian)
    order = "<" if endian == "LITTLE" else ">"
    at = content.index(b"data") + 4
    content = content[:4] + struct.pack(f"{order}I", riff) + content[8:]
    content = content[:at] + struct.pack(f"{order}I", size) + content[at + 4 :]
    np.testing.assert_array_equal(load(tmp_path, "pipe.wav", content, 16000), samples)


@pytest.mark.parametrize("size", [16200, 160_000, 0x70000000, 0x90000000])
def test_a_wav_that_is_truncated_is_refused(tmp_path: Path, size: int) -> None:
    _, content = pcm("WAV")
    content = content[:40] + struct.pack("<I", size) + content[44:]
    with pytest.raises(EarwitnessError, match=rf"truncated WAV: its header says {size + 44} bytes"):
        load(tmp_path, "cut.wav", content, 16000)


def test_a_wav_of_other_chunks_alone_is_empty(tmp_path: Path) -> None:
    _, content = pcm("WAV")
    content = content[:40] + struct.pack("<I", 0) + b"LIST" + struct.pack("<I", 4) + b"INFO"
    with pytest.raises(EarwitnessError, match="no samples"):
        load(tmp_path, "empty.wav", content, 16000)


@pytest.mark.parametrize(
    ("kind", "field", "form", "sizes"),
    [
        ("RF64", b"ds64", "8x8x<Q", (0, 2**64 - 1)),
        ("W64", b"data", "16x<Q", (0, 2**63 - 1)),
        ("CAF", b"data", "4x>q", (-1,)),
        ("AIFF", b"SSND", "4x>I", (0, 0x7F000000, 0xFFFFFFFF)),
        ("AU", b".snd", "4x4x>I", (0, 0xFFFFFFFF)),
    ],
)
def test_relatives_of_wav_too(
    tmp_path: Path, kind: str, field: bytes, form: str, sizes: tuple[int, ...]
) -> None:
    samples, content = pcm(kind)
    np.testing.assert_array_equal(load(tmp_path, "whole", content, 16000), samples)
    skip, packed = form[:-2], form[-2:]
    skipped = sum(int(each) for each in skip.split("x") if each)
    at = content.index(field) + skipped + (4 if kind == "RF64" else 0)
    if kind == "RF64":
        at = content.index(field) + 16
    width = struct.calcsize(packed)
    for size in sizes:
        other = content[:at] + struct.pack(packed, size) + content[at + width :]
        read = load(tmp_path, "pipe", other, 16000)
        np.testing.assert_array_equal(read[: len(samples)], samples)
        assert len(read) - len(samples) <= 8  # padding
    with pytest.raises(EarwitnessError, match=rf"truncated {'WAV' if kind == 'RF64' else kind}"):
        load(tmp_path, "cut", content[: len(content) // 2], 16000)


def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    """As `flac -` writes it to a pipe: no samples in total, and no digest of them."""
    samples, content = pcm("FLAC")
    total = int.from_bytes(content[18:26])
    assert total & (1 << 36) - 1 == len(samples)
    content = content[:18] + (total >> 36 << 36).to_bytes(8) + bytes(16) + content[42:]
    np.testing.assert_array_equal(load(tmp_path, "pipe.flac", content, 16000), samples)
    (tmp_path / "pipe.flac").write_bytes(content)
    with pytest.raises(EarwitnessError, match=r"too long; at most 0\.005 are read"):
        waveforms.verify(tmp_path / "pipe.flac", longest=0.3)


# --- names ------------------------------------------------------------------------------------


def test_any_name_that_a_disk_takes_is_opened(tmp_path: Path) -> None:
    samples, content = pcm("WAV")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/lat\xe9 \xff.wav"))
    path.write_bytes(content)
    np.testing.assert_array_equal(waveforms.load(path, 16000), samples)
    path.write_bytes(b"no sound")
    with pytest.raises(EarwitnessError) as caught:
        waveforms.verify(path)
    assert "lat\\xe9 \\xff.wav: not sound" in str(caught.value).encode("utf-8").decode()


@pytest.mark.parametrize("name", ["a\0.wav", "a\ud800.wav"])
def test_a_name_that_no_disk_takes_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(EarwitnessError, match="no file can have this name") as caught:
        waveforms.verify(tmp_path / name)
    assert str(caught.value).isprintable()


def test_what_macos_leaves_beside_a_file_is_not_taken_for_it(tmp_path: Path) -> None:
    content = mp3()
    (tmp_path / "._a.mp3").write_bytes(b"\x00\x05\x16\x07" + bytes(4092))
    np.testing.assert_array_equal(load(tmp_path, "a.mp3", content), whole(content))
    with pytest.raises(EarwitnessError, match="no sound"):
        waveforms.verify(tmp_path / "._a.mp3")


def test_a_link_below_the_root_is_the_users_own(tmp_path: Path) -> None:
    samples, content = pcm("WAV")
    root, away = tmp_path / "root", tmp_path / "away"
    root.mkdir()
    away.mkdir()
    (away / "a.wav").write_bytes(content)
    (root / "linked.wav").symlink_to(away / "a.wav")
    (root / "split").symlink_to(away)
    (tmp_path / "set").symlink_to(root)
    for folder in (root, tmp_path / "set"):
        for name in ("linked.wav", "split/a.wav"):
            path = inside(folder, name, "table")
            np.testing.assert_array_equal(waveforms.load(path, 16000), samples)
    for name in ("../away/a.wav", "split/../../x", str(away / "a.wav"), "a\0.wav", "\ud800"):
        with pytest.raises(EarwitnessError, match=r"table: path .* leaves"):
            inside(root, name, "table")


# --- values and length ------------------------------------------------------------------------


@pytest.mark.parametrize("loudest", [1.0, 32.0, 32767.0])
def test_floats_of_any_unit_are_read(tmp_path: Path, loudest: float) -> None:
    soundfile.write(tmp_path / "a.wav", [0.0, -loudest, loudest], 16000, subtype="FLOAT")
    assert waveforms.load(tmp_path / "a.wav", 16000).tolist() == [0.0, -loudest, loudest]


@pytest.mark.parametrize("loudest", [3e38, 1e6])
def test_samples_of_no_unit_are_refused(tmp_path: Path, loudest: float) -> None:
    samples = np.zeros((9, 2), np.float32)
    samples[4] = -loudest, loudest  # whose mean is 0
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(EarwitnessError, match=rf"samples of {loudest:.0g}".replace("+", ".")):
        waveforms.verify(tmp_path / "a.wav")
    with pytest.raises(EarwitnessError, match="samples of"):
        waveforms.waveform(samples.T, 16000, "array")


def test_what_is_too_long_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 1000, 1, "PCM_16") as file:
        for _ in range(10):
            file.write(np.zeros(1_080_000))
    tracemalloc.start()
    try:
        assert waveforms.verify(path) == waveforms.probe(path) == 10_800
        with pytest.raises(EarwitnessError, match=r"180\.0 minutes long; at most 120 are read"):
            waveforms.load(path, 16000, longest=7200)
        with pytest.raises(EarwitnessError, match=r"180\.0 minutes long"):
            waveforms.verify(path, longest=7200)
        with pytest.raises(EarwitnessError, match=r"180\.0 minutes long"):
            waveforms.probe(path, longest=7200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000  # bytes; the samples are 43 MB
    assert waveforms.verify(path, longest=10_800) == 10_800


# --- the terminal -----------------------------------------------------------------------------


def test_libmpg123_keeps_its_lines_to_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(mp3())
    for at in range(6000, len(content) - 500, 997):  # contents of frames, not their headers
        content[at : at + 40] = np.random.default_rng(at).bytes(40)
    for number in range(4):
        (tmp_path / f"{number}.mp3").write_bytes(content)

    def verify(number: int) -> None:
        with suppress(EarwitnessError):
            waveforms.verify(tmp_path / f"{number}.mp3")

    threads = [threading.Thread(target=verify, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == ""
    with silent_c_code():
        print("of Python", file=sys.stderr)
        ctypes.CDLL(None).perror(b"of C, unheard")
    ctypes.CDLL(None).perror(b"of C")
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["of Python", "of C"]
