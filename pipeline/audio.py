"""Sound files and arrays to mono waveforms, by libsndfile (WAV, FLAC, OGG, MP3) and soxr.

Files are read in blocks, so that ten minutes of eight channels at 192 kHz cost no more memory than
their mono result. What cannot be used is an :class:`EarwitnessError` of one line: which file, what
is wrong with it, how to fix it. Silence is accepted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pipeline.errors import EarwitnessError

Samples = NDArray[np.float32]

BLOCK_VALUES = 1 << 20  # samples times channels read at once: 4 MB
RATES = (1_000, 1_000_000)  # Hz; a rate outside of these is a broken header
UNKNOWN_SIZE = (0, 0xFFFFFFFF)  # data sizes that streaming writers put into a WAV's header
# an MP3's header counts the encoder's delay and padding too: a few frames of 1152 samples
MP3_SLACK = 4 * 1152


@dataclass(frozen=True)
class Waveform:
    """Sound in memory; :func:`waveform` makes one."""

    name: str  # for errors
    samples: Samples  # (S,), at least one, full scale ±1
    sample_rate: int

    def __str__(self) -> str:
        return self.name


def waveform(samples: NDArray[Any], sample_rate: int, name: str) -> Waveform:
    """An array (S,) or (channels, S) of floats as one channel, the mean of all.

    Raises:
        EarwitnessError: another shape or type, no samples, samples that are not finite, or an
            impossible rate.
    """
    if samples.dtype.kind != "f":
        raise EarwitnessError(f"{name}: an array of {samples.dtype}; give floats in ±1")
    if samples.ndim not in (1, 2) or not samples.size:
        raise EarwitnessError(
            f"{name}: an array of shape {samples.shape}; give (samples,) or (channels, samples)"
        )
    if samples.ndim == 2 and len(samples) > samples.shape[1]:
        raise EarwitnessError(
            f"{name}: {len(samples)} channels of {samples.shape[1]} samples; transpose it: "
            "(channels, samples)"
        )
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise EarwitnessError(f"{name}: sample_rate {sample_rate} Hz, which no recording has")
    mono = np.atleast_2d(samples.astype(np.float32)).mean(axis=0)
    if not np.isfinite(mono).all():
        raise EarwitnessError(f"{name}: has samples that are NaN or infinite")
    return Waveform(name, mono, sample_rate)


def probe(sound: Path | Waveform) -> float:
    """The duration in seconds; of a file by its header where it is reliable, else by decoding.

    Raises:
        EarwitnessError: the file is missing, empty, not audio, has no samples, or is a WAV
            that is shorter than its header says. :func:`verify` finds broken contents.
    """
    if isinstance(sound, Waveform):
        return len(sound.samples) / sound.sample_rate
    with _opened(sound) as file:
        if file.format != "MP3" and 0 < file.frames < 1 << 40:
            return float(file.frames / file.samplerate)
    return verify(sound)


def verify(path: Path) -> float:
    """A file's duration in seconds, after checking that every sample decodes and is finite.

    Raises:
        EarwitnessError: as :func:`load`.
    """
    with _opened(path) as sound:
        return sum(len(block) for block in _mono_blocks(path, sound)) / sound.samplerate


def load(sound: Path | Waveform, sample_rate: int) -> Samples:
    """A whole file or array as one channel, the mean of all, at ``sample_rate`` Hz.

    Returns:
        (samples,) float32, at least one, full scale ±1.

    Raises:
        EarwitnessError: the file is missing, empty, not audio, shorter than its header says, has
            no samples, or has samples that are not finite.
    """
    if isinstance(sound, Waveform):
        starts = range(0, len(sound.samples), BLOCK_VALUES)
        blocks = (sound.samples[at : at + BLOCK_VALUES] for at in starts)
        return _resampled(blocks, sound.sample_rate, sample_rate)
    with _opened(sound) as file:
        return _resampled(_mono_blocks(sound, file), file.samplerate, sample_rate)


def _resampled(blocks: Iterable[Samples], given: int, wanted: int) -> Samples:
    """(n,) blocks at ``given`` Hz, joined at ``wanted`` Hz."""
    if given == wanted:
        return np.concatenate(list(blocks))
    stream = soxr.ResampleStream(given, wanted, 1, dtype="float32", quality="HQ")
    parts = [stream.resample_chunk(block) for block in blocks]
    parts.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    samples = np.concatenate(parts)
    return samples if len(samples) else np.zeros(1, np.float32)  # a sample or two may give none


def windows(samples: Samples, longest: int) -> list[Samples]:
    """Cuts a clip into the fewest windows of at most ``longest`` samples, equal to one sample.

    Windows are equal so that in an average no short last window counts as much as a long one.
    Nothing is repeated or padded: 25 s in windows of 10 s become 3 of 8⅓ s.

    Args:
        samples: (S,).
        longest: length of a window, in samples.

    Returns:
        Consecutive views of ``samples``; one view where the clip fits a window.
    """
    count = max(1, -(-len(samples) // longest))
    bounds = [index * len(samples) // count for index in range(count + 1)]
    return [samples[start:stop] for start, stop in pairwise(bounds)]


def fit(samples: Samples, length: int, pad: Literal["zero", "repeat"] = "zero") -> Samples:
    """(S,) samples cut or padded at the end to exactly ``length``.

    ``repeat`` pads with the clip again from its start, as CLAP's ``repeat`` does.
    """
    if len(samples) >= length:
        return samples[:length]
    if pad == "repeat":
        return np.resize(samples, length)
    return np.pad(samples, (0, length - len(samples)))


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    _check_bytes(path)
    try:
        sound = soundfile.SoundFile(str(path))
    except (soundfile.SoundFileError, TypeError):  # TypeError: headerless .raw
        raise EarwitnessError(
            f"{path}: not sound that can be decoded (WAV, FLAC, OGG and MP3 can); convert it"
        ) from None
    with sound:
        if not RATES[0] <= sound.samplerate <= RATES[1]:
            raise EarwitnessError(
                f"{path}: its header says {sound.samplerate} Hz, which no recording has; replace it"
            )
        yield sound


def _mono_blocks(path: Path, sound: soundfile.SoundFile) -> Iterator[Samples]:
    """(n,) blocks of the mean of all channels; raises where values are not finite or missing."""
    frames = max(1, BLOCK_VALUES // sound.channels)
    buffer = np.empty((min(frames, max(1, sound.frames)), sound.channels), np.float32)
    done = 0
    while True:
        try:
            block = sound.read(out=buffer)
        except soundfile.SoundFileError as error:
            reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
            raise EarwitnessError(
                f"{path}: truncated or damaged after {done / sound.samplerate:.2f} s "
                f"({reason}); replace it"
            ) from None
        if not len(block):
            break
        mono = block[:, 0].copy() if sound.channels == 1 else block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise EarwitnessError(f"{path}: has samples that are NaN or infinite; replace it")
        done += len(block)
        yield mono
    _check_complete(path, sound, done)


def _check_complete(path: Path, sound: soundfile.SoundFile, done: int) -> None:
    if not done:
        raise EarwitnessError(f"{path}: has a header but no samples; replace it")
    slack = MP3_SLACK if sound.format == "MP3" else 0
    if sound.frames < 1 << 40 and done + slack < sound.frames:
        raise EarwitnessError(
            f"{path}: truncated: its header says {sound.frames / sound.samplerate:.2f} s, "
            f"{done / sound.samplerate:.2f} s are in it; replace it"
        )


def _check_bytes(path: Path) -> None:
    """Finds what is wrong with a file before decoding, for a clearer message."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise EarwitnessError(f"{path}: not a file; give a sound file")
        if not size:
            raise EarwitnessError(f"{path}: empty file (0 bytes); replace it")
        with path.open("rb") as stream:
            end = _wav_data_end(stream)
    except FileNotFoundError:
        raise EarwitnessError(f"{path}: not there; check the name") from None
    except OSError as error:
        raise EarwitnessError(f"{path}: cannot be read ({error.strerror})") from None
    if end is not None and end > size:
        raise EarwitnessError(
            f"{path}: truncated WAV: its header says {end} bytes, the file has {size}; replace it"
        )


def _wav_data_end(stream: BinaryIO) -> int | None:
    """The byte at which a WAV's samples end by its header; None for other files or an unknown size.

    This is needed because libsndfile reads a truncated WAV without an error.
    """
    head = stream.read(12)
    if head[:4] not in (b"RIFF", b"RIFX") or head[8:] != b"WAVE":
        return None
    form = "<4sI" if head[:4] == b"RIFF" else ">4sI"
    while len(head := stream.read(8)) == 8:
        name, size = struct.unpack(form, head)
        if name == b"data":
            return None if size in UNKNOWN_SIZE else stream.tell() + size
        stream.seek(size + size % 2, 1)  # chunks are padded to an even length
    return None
