"""Captions of many files and of long recordings: the same as of each sound alone."""

from __future__ import annotations

import platform
import resource
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_repository import make_repository

from earwitness.captioning import CaptioningSystem
from earwitness.captions.recordings import LONG, CaptionedSound, FileReading, SoundEnd, SoundPart
from pipeline.audio.cutting import Cutting
from pipeline.errors import EarwitnessError
from pipeline.freed import give_back

RATE = 44100


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> CaptioningSystem:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return CaptioningSystem.load("three", root=root, device="cpu")


def sweep(seconds: float, number: int, rate: int = RATE) -> NDArray[np.float64]:
    time = np.arange(round(rate * seconds)) / rate
    return 0.3 * np.sin(2 * np.pi * (200 + 700 * (number % 7) * (1 + np.sin(time))) * time)


def good(found: CaptionedSound | EarwitnessError) -> CaptionedSound:
    assert isinstance(found, CaptionedSound), found
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of several kinds and lengths, mono and stereo."""
    folder, made = tmp_path_factory.mktemp("sounds"), []
    for number, ending in enumerate(["wav", "flac", "ogg", "mp3", "aiff", "wav", "ogg", "mp3"]):
        sound, path = sweep(0.4 + 0.7 * number, number), folder / f"{number}.{ending}"
        soundfile.write(path, np.stack([sound, sound / 2], 1) if number % 2 else sound, RATE)
        made.append(path)
    return made


def test_a_caption_does_not_depend_on_its_neighbours(
    system: CaptioningSystem, files: list[Path]
) -> None:
    """One by one, together, backwards, in batches of 3, and as `caption` reads them itself."""
    one_by_one = [good(next(system.caption_files([path]))) for path in files]
    assert len({found.text for found in one_by_one}) > 1
    together = [good(found) for found in system.caption_files(files)]
    backwards = [good(found) for found in system.caption_files(files[::-1])][::-1]
    batches = [good(found) for found in system.caption_files(files, batch=3)]
    for others in (together, backwards, batches):
        assert [found.text for found in others] == [found.text for found in one_by_one]
        for found, alone in zip(others, one_by_one, strict=True):
            assert found.seconds == alone.seconds
            (own,), (same,) = found.windows, alone.windows
            assert own.caption.log_prob == pytest.approx(same.caption.log_prob, abs=1e-4)
    whole = system.caption(files)
    assert [caption.text for caption in whole] == [found.text for found in together]
    for caption, found in zip(whole, together, strict=True):
        (own,) = found.windows
        assert caption.log_prob == pytest.approx(own.caption.log_prob, abs=1e-4)
        assert [t for t, _ in caption.candidates] == [t for t, _ in own.caption.candidates]
    for path, found in zip(files, together, strict=True):
        assert found.seconds == pytest.approx(soundfile.info(path).duration, abs=0.06)


@pytest.mark.parametrize("hop", [None, 1.5])
def test_windows_are_captioned_as_files_of_their_own(
    system: CaptioningSystem, tmp_path: Path, hop: float | None
) -> None:
    sound = np.concatenate([sweep(2.0, number) for number in range(5)])[: round(9.5 * RATE)]
    path = tmp_path / "long.wav"
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    found = system.caption_windows(path, windows="fixed", window_seconds=2.0, hop_seconds=hop)
    starts = [0, 2, 4, 6, 8] if hop is None else [0, 1.5, 3, 4.5, 6, 7.5]
    assert [(own.start, own.end) for own in found.windows] == [
        (start, min(start + 2.0, 9.5)) for start in starts
    ]
    assert found.seconds == 9.5
    pieces = [sound[round(own.start * RATE) : round(own.end * RATE)] for own in found.windows]
    alone = system.caption(pieces, sample_rate=RATE)
    assert [own.caption.text for own in found.windows] == [caption.text for caption in alone]
    assert len({caption.text for caption in alone}) > 1
    for own, caption in zip(found.windows, alone, strict=True):
        assert own.caption.log_prob == pytest.approx(caption.log_prob, abs=1e-3)
    texts = {caption.text for caption in alone}
    assert {*found.text.split("; ")} <= texts


def test_silence_is_where_windows_end(system: CaptioningSystem, tmp_path: Path) -> None:
    sounds = [sweep(seconds, number) for number, seconds in enumerate((2.5, 3.5, 2.2, 3.0))]
    pause = np.zeros(RATE // 2)
    path = tmp_path / "long.flac"
    soundfile.write(path, np.concatenate([each for s in sounds for each in (s, pause)]), RATE)
    found = system.caption_windows(path, window_seconds=3.2)
    bounds = np.cumsum([len(each) / RATE + 0.5 for each in sounds])
    ends = [own.end for own in found.windows]
    assert len(ends) == 4 and ends[-1] == pytest.approx(bounds[-1])
    for end, bound in zip(ends[:-1], bounds[:-1], strict=True):
        assert bound - 0.5 < end < bound


def test_auto_cuts_what_is_longer_than_a_minute(system: CaptioningSystem, tmp_path: Path) -> None:
    paths = {}
    for name, seconds in (("minute", LONG), ("longer", LONG + 1)):
        paths[name] = tmp_path / f"{name}.wav"
        soundfile.write(paths[name], sweep(seconds, 3, 8000), 8000)
    minute, longer = map(good, system.caption_files([*paths.values()]))
    assert len(minute.windows) == 1 and len(longer.windows) in (5, 6, 7)
    whole = [good(found) for found in system.caption_files([*paths.values()], windows="none")]
    assert [len(found.windows) for found in whole] == [1, 1]
    assert [found.seconds for found in whole] == [LONG, LONG + 1]
    assert [found.text for found in whole] == [c.text for c in system.caption([*paths.values()])]


def test_one_that_cannot_be_read_does_not_end_the_others(
    system: CaptioningSystem, files: list[Path], tmp_path: Path
) -> None:
    """Not there, no sound, damaged in the middle of a window and of a long file, and too long."""
    flac = tmp_path / "damaged.flac"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 70 * 8000)
    soundfile.write(flac, noise, 8000)
    content = bytearray(flac.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
    flac.write_bytes(content)
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    long = tmp_path / "long.wav"
    soundfile.write(long, sweep(70, 1, 8000), 8000)
    order = [tmp_path / "gone.wav", files[0], flac, text, files[1], long]
    found = [*system.caption_files(order, longest_minutes=1.15, batch=2)]
    wrong = [str(each) if isinstance(each, EarwitnessError) else None for each in found]
    assert [problem is None for problem in wrong] == [False, True, False, False, True, False]
    for problem, path, words in (
        (wrong[0], order[0], "not there"),
        (wrong[2], flac, "damaged"),
        (wrong[3], text, "not sound"),
        (wrong[5], long, "at most 1.15 are read"),
    ):
        assert problem is not None and problem.startswith(str(path)) and words in problem
    expected = [good(each).text for each in system.caption_files(files[:2])]
    assert [good(found[1]).text, good(found[4]).text] == expected
    assert [*system.caption_files([])] == []
    (only,) = system.caption_files([text])
    assert isinstance(only, EarwitnessError)


def test_one_that_cannot_be_encoded_does_not_end_the_others(
    system: CaptioningSystem, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none can be, it is the encoder that fails, and the run."""
    made = system.features.made

    def failing(sounds, features, longest, bad=("2.ogg",)):  # type: ignore[no-untyped-def]
        if any(str(sound).endswith(bad) for sound in sounds):
            raise EarwitnessError("values are NaN")
        return made(sounds, features, longest)

    expected = [good(found).text for found in system.caption_files(files)]
    monkeypatch.setattr(type(system.features), "made", lambda self, *given: failing(*given))
    for batch in (1, 3, 64):
        found = [*system.caption_files(files, batch=batch)]
        assert isinstance(found[2], EarwitnessError)
        rest = [good(each).text for each in found[:2] + found[3:]]
        assert rest == expected[:2] + expected[3:]
    everything = tuple(path.name for path in files)
    monkeypatch.setattr(
        type(system.features), "made", lambda self, *given: failing(*given, bad=everything)
    )
    for batch in (1, 64):
        with pytest.raises(EarwitnessError, match="values are NaN"):
            [*system.caption_files(files, batch=batch)]


def test_a_long_recording_is_never_held_whole(tmp_path: Path) -> None:
    """Twenty minutes are 77 MB of samples at 16 kHz, which is what is read here at 8 kHz."""
    path = tmp_path / "long.flac"
    block = sweep(60, 2, 8000)
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(20):
            file.write(block)
    reading = FileReading("auto", Cutting("silence"), 16000, 3600)
    tracemalloc.start()
    try:
        seconds = 0.0
        for event in reading.parts([path]):
            if isinstance(event, SoundPart):
                assert not isinstance(event.sound, Path)
                seconds += len(event.sound.samples) / event.sound.sample_rate
            else:
                assert event == SoundEnd(0, 1200.0, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds == pytest.approx(1200, abs=0.01)
    assert peak < 25e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library has no malloc_trim")
def test_free_memory_goes_back_to_the_system() -> None:
    """A block at the end of the heap is in use, so that all that is free before it stays there."""

    def resident() -> int:
        pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * resource.getpagesize()

    last: list[bytearray] = []

    def work() -> None:
        blocks = [bytearray(b"x" * 60_000) for _ in range(2000)]
        last.append(blocks.pop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    before = resident()
    give_back()
    assert before - resident() > 60e6


def test_settings_that_cannot_be(system: CaptioningSystem, files: list[Path]) -> None:
    with pytest.raises(EarwitnessError, match="windows: no 'silent'; did you mean 'silence'"):
        system.caption_windows(files[0], windows="silent")  # type: ignore[arg-type]
    with pytest.raises(EarwitnessError, match="a window of 0 seconds"):
        system.caption_windows(files[0], window_seconds=0)
    with pytest.raises(EarwitnessError, match="beam"):
        system.caption_windows(files[0], beam=2)
    with pytest.raises(EarwitnessError, match=r"gone\.wav: not there"):
        system.caption_windows("gone.wav")
    with pytest.raises(EarwitnessError, match="candidates 5: this search finds 4"):
        system.check_candidates(5)
