"""Sound files and arrays to mono waveforms, by libsndfile (WAV, FLAC, OGG, MP3) and soxr.

Files are read in blocks, so that ten minutes of eight channels at 192 kHz cost no more memory than
their mono result. What cannot be used is an :class:`EarwitnessError` of one line: which file, what
is wrong with it, how to fix it. Silence is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pipeline.audio.sound_file import (
    MPEG_SLACK,
    RATES,
    Decoder,
    Decoders,
    SoundFile,
    called,
    opened,
)
from pipeline.errors import EarwitnessError, TooLongError
from pipeline.storage.stored import Stored

Samples = NDArray[np.float32]

BEGINNING = 1 << 16  # bytes of a remote file that tell how long it is, of some kinds
BLOCK_VALUES = 1 << 20  # samples times channels read at once: 4 MB
UNKNOWN = 1 << 40  # a count of frames that libsndfile does not know is higher
# 16-bit integers that someone stored as floats, without scaling, reach this; what is louder is in
# no unit of sound, and overflows in a mean or in a feature's float16
LOUDEST = 32768.0


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
    check_values(samples, name, "give finite ones")
    mono = np.atleast_2d(samples.astype(np.float32)).mean(axis=0)
    return Waveform(name, mono, sample_rate)


def probe(sound: SoundFile | Waveform, longest: float = math.inf) -> float:
    """The duration in seconds; of a file by its header where it is reliable, else by decoding.

    Of a remote WAV or FLAC only the beginning is brought.

    Raises:
        EarwitnessError: the file is missing, empty, not audio, has no samples, lasts more than
            ``longest`` seconds, or is shorter than its header says. :func:`verify` finds broken
            contents.
    """
    if isinstance(sound, Waveform):
        return len(sound.samples) / sound.sample_rate
    if isinstance(sound, Stored):
        seconds = _by_beginning(sound)
        if seconds is not None and seconds <= longest:
            return seconds
        sound = sound.fetched()  # once for both that follow
    with opened(sound) as decoders:
        seconds = _counted(decoders)
    return verify(sound, longest) if seconds is None or seconds > longest else seconds


def _by_beginning(sound: Stored) -> float | None:
    """The duration of a remote WAV or FLAC by its first bytes; None where they do not tell."""
    if not sound.is_remote or (sound.size or 0) <= BEGINNING:
        return None
    begun = sound.beginning(BEGINNING)
    if not (begun.content or b"").startswith((b"RIFF", b"fLaC")):
        return None
    try:
        with opened(begun) as decoders:
            return _counted(decoders)
    except EarwitnessError:  # the whole file tells whether it is so
        return None


def _counted(decoders: Decoders) -> float | None:
    """The duration by the headers; None where one is not reliable."""
    if not all(map(_is_counted, decoders)):
        return None
    return sum(decoder.frames for decoder in decoders) / decoders[0].samplerate


def _is_counted(decoder: Decoder) -> bool:
    return not decoder.subtype.startswith("MPEG") and 0 < decoder.frames < UNKNOWN


def verify(sound: SoundFile, longest: float = math.inf) -> float:
    """A file's duration in seconds, after checking that every sample decodes and is finite.

    It takes no memory beyond a block.

    Raises:
        EarwitnessError: as :func:`load`.
    """
    with streamed(sound, longest) as (rate, blocks):
        return sum(len(block) for block in blocks) / rate


@contextmanager
def streamed(
    sound: SoundFile, longest: float = math.inf
) -> Iterator[tuple[int, Iterator[Samples]]]:
    """A file's sample rate, and its sound in blocks: (n,) float32 each, the mean of all channels.

    A block is at most 4 MB of the file's channels, so that an hour takes no more memory than a
    minute.

    Raises:
        EarwitnessError: as :func:`load`, some of it only when the blocks are read.
    """
    with opened(sound) as decoders:
        yield decoders[0].samplerate, _mono_blocks(sound, decoders, longest)


def load(sound: SoundFile | Waveform, sample_rate: int, longest: float = math.inf) -> Samples:
    """A whole file or array as one channel, the mean of all, at ``sample_rate`` Hz.

    Returns:
        (samples,) float32, at least one, full scale ±1.

    Raises:
        EarwitnessError: the file is missing, empty, not audio, shorter than its header says, lasts
            more than ``longest`` seconds, has no samples, or has samples that are not finite or
            larger than any unit of sound gives.
    """
    if isinstance(sound, Waveform):
        starts = range(0, len(sound.samples), BLOCK_VALUES)
        blocks = (sound.samples[at : at + BLOCK_VALUES] for at in starts)
        return _resampled(blocks, sound.sample_rate, sample_rate)
    with streamed(sound, longest) as (rate, mono):
        return _resampled(mono, rate, sample_rate)


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


def _mono_blocks(sound: SoundFile, decoders: Decoders, longest: float) -> Iterator[Samples]:
    """(n,) blocks of the mean of all channels; raises where values are missing or impossible."""
    rate = decoders[0].samplerate
    known = sum(decoder.frames for decoder in decoders if decoder.frames < UNKNOWN) / rate
    if known > longest:
        raise TooLongError(f"{called(sound)}: {known / 60:.1f} minutes long; {_limit(longest)}")
    done = 0
    for decoder in decoders:
        for mono in _decoded(sound, decoder, done / rate):
            done += len(mono)
            if done > longest * rate:
                raise TooLongError(f"{called(sound)}: too long; {_limit(longest)}")
            yield mono
    if not done:
        raise EarwitnessError(f"{called(sound)}: has a header but no samples; replace it")


def _limit(longest: float) -> str:
    return f"at most {longest / 60:g} are read: cut it, or raise longest_minutes"


def _decoded(sound: SoundFile, decoder: Decoder, before: float) -> Iterator[Samples]:
    """(n,) blocks of one decoder; ``before``: the seconds of those before it."""
    frames = max(1, BLOCK_VALUES // decoder.channels)
    buffer = np.empty((min(frames, max(1, decoder.frames)), decoder.channels), np.float32)
    done = 0
    while True:
        try:
            block = decoder.read(out=buffer)
        except soundfile.SoundFileError as error:
            reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
            raise EarwitnessError(
                f"{called(sound)}: truncated or damaged after "
                f"{before + done / decoder.samplerate:.2f} s ({reason}); replace it"
            ) from None
        if not len(block):
            break
        check_values(block, called(sound), "replace it")
        done += len(block)
        yield block[:, 0].copy() if decoder.channels == 1 else block.mean(axis=1)
    # an MP3's header counts the encoder's delay and padding too
    slack = MPEG_SLACK * 1152 if decoder.subtype.startswith("MPEG") else 0
    if decoder.frames < UNKNOWN and done + slack < decoder.frames:
        raise EarwitnessError(
            f"{called(sound)}: truncated: its header says "
            f"{decoder.frames / decoder.samplerate:.2f} s, {done / decoder.samplerate:.2f} s are "
            "in it; replace it"
        )


def check_values(samples: NDArray[Any], name: str, hint: str) -> None:
    """Refuses samples that are not finite, or too large for any unit of sound."""
    lowest, highest = float(samples.min()), float(samples.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise EarwitnessError(f"{name}: has samples that are NaN or infinite; {hint}")
    loudest = max(-lowest, highest)
    if loudest > LOUDEST:
        raise EarwitnessError(f"{name}: has samples of {loudest:.4g}, full scale is 1; scale it")
