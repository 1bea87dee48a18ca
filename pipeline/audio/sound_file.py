"""Sound files opened so that libsndfile reads every sample that is in them, or says why not.

A file is opened here and given to libsndfile open: so any name will do, and a companion ``._x.mp3``
that macOS left beside ``x.mp3`` is not taken for a part of it. A stored recording is brought into
an open file without a name first, so that all that is done for files is done for it too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import soundfile

from pipeline.audio import chunks, mpeg, ogg
from pipeline.audio.c_stderr import silent_c_code
from pipeline.audio.pieces import Piece, Pieces
from pipeline.errors import EarwitnessError, NotSoundError
from pipeline.files import shown
from pipeline.storage.stored import Stored

# of files that can be decoded; a dataset's sound may have another of these than its table says, and
# of several the first is taken
SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aif", ".aiff", ".aifc", ".wave"),
    *(".w64", ".rf64", ".caf", ".au", ".snd", ".mp2", ".mp1", ".mpga", ".bwf", ".voc", ".sph"),
)
RATES = (1_000, 1_000_000)  # Hz; a rate outside of these is a broken header
# an MP3's header counts the encoder's delay and padding too: a few frames
MPEG_SLACK = 4
APPLE_DOUBLE = b"\x00\x05\x16\x07"  # of a companion ._x that macOS leaves on other systems' disks


class Decoder(soundfile.SoundFile):
    """libsndfile, read from front to end.

    soundfile would seek behind each block that it has read, where it already is; a FLAC whose
    length is unknown, as pipes make it, cannot do that.
    """

    def seekable(self) -> bool:
        return False


Decoders = Sequence[Decoder]
SoundFile = Path | Stored


@contextmanager
def opened(sound: SoundFile) -> Iterator[Decoders]:
    """The decoders of a sound file, to be read one after the other: one, but for chained files.

    All have one sample rate.

    Raises:
        EarwitnessError: the file is missing, empty, not sound, or shorter than its header says; or
            it is stored elsewhere and cannot be brought, see :meth:`Stored.open`.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_file(sound))
        stack.enter_context(silent_c_code())
        name = called(sound)
        decoders = _decoders(sound, file.fileno(), stack)
        rates = {decoder.samplerate for decoder in decoders}
        if len(rates) > 1:
            raise EarwitnessError(
                f"{name}: changes its sample rate ({', '.join(map(str, sorted(rates)))} Hz);"
                " convert it"
            )
        if not RATES[0] <= min(rates) <= RATES[1]:
            raise EarwitnessError(
                f"{name}: its header says {min(rates)} Hz, which no recording has; replace it"
            )
        yield decoders


def called(sound: SoundFile) -> str:
    """What messages call it."""
    return shown(str(sound))


def _file(sound: SoundFile) -> BinaryIO:
    """The file, open, where it is one and not empty."""
    if isinstance(sound, Path):
        return _local_file(sound)
    file = sound.open()
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise EarwitnessError(f"{called(sound)}: empty file (0 bytes); replace it")
    return file


def _local_file(path: Path) -> BinaryIO:
    try:
        if not path.is_file() and path.exists():
            raise EarwitnessError(f"{shown(path)}: not a file; give a sound file")
        if not path.stat().st_size:
            raise EarwitnessError(f"{shown(path)}: empty file (0 bytes); replace it")
        return path.open("rb", buffering=0)  # type: ignore[return-value]
    except FileNotFoundError:
        raise EarwitnessError(f"{shown(path)}: not there; check the name") from None
    except OSError as error:
        raise EarwitnessError(f"{shown(path)}: cannot be read ({error.strerror})") from None
    except ValueError:  # NUL, or a character that is none
        raise EarwitnessError(f"{shown(path)}: no file can have this name; correct it") from None


def _decoders(sound: SoundFile, file: int, stack: ExitStack) -> Decoders:
    """Of the file as it is, or of the streams that are to be read in its place."""
    size = os.fstat(file).st_size
    head = os.pread(file, 4, 0)
    if head == APPLE_DOUBLE:
        raise EarwitnessError(
            f"{called(sound)}: what macOS keeps beside a file, no sound; remove it"
        )
    links = ogg.streams(file, size) if head == b"OggS" else []
    if len(links) > 1:
        return _chain(sound, file, links, stack)
    chunk = chunks.sample_chunk(file)
    if chunk is not None and chunk.is_truncated(size):
        raise EarwitnessError(
            f"{called(sound)}: truncated {chunk.kind}: its header says {chunk.stop} bytes, the "
            f"file has {size}; replace it"
        )
    pieces = _mended(sound, file, chunk, size)
    whole = _decoder(Pieces(file, pieces) if pieces else file, stack)
    if whole is None or whole.subtype.startswith("MPEG"):
        start = chunk.start if chunk else 0
        stop = min(chunk.stop, size) if chunk and not chunk.is_unknown else size
        streams = _mpeg_streams(sound, mpeg.stretches(file, start, stop), stop, whole)
        if streams:
            return _chain(sound, file, streams, stack)
    # libsndfile knows some files without a header by their ending
    if whole is None and isinstance(sound, Path):
        whole = _decoder(os.fsencode(sound), stack)
    if whole is None:
        raise _not_sound(sound)
    return [whole]


def _chain(
    sound: SoundFile, file: int, streams: Sequence[Sequence[Piece]], stack: ExitStack
) -> Decoders:
    decoders = []
    for pieces in streams:
        decoder = _decoder(Pieces(file, pieces), stack)
        if decoder is None:
            raise _not_sound(sound)
        decoders.append(decoder)
    return decoders


def _decoder(source: int | bytes | Pieces, stack: ExitStack) -> Decoder | None:
    """libsndfile's, closed at the end of ``stack``; None where it knows no such sound."""
    try:
        return stack.enter_context(Decoder(source, closefd=False))
    except (soundfile.SoundFileError, TypeError):  # TypeError: headerless .raw
        return None


def _not_sound(sound: SoundFile) -> NotSoundError:
    return NotSoundError(
        f"{called(sound)}: not sound that can be decoded (WAV, FLAC, OGG and MP3 can); convert it"
    )


def _mended(
    sound: SoundFile, file: int, chunk: chunks.SampleChunk | None, size: int
) -> Sequence[Piece] | None:
    try:
        return None if chunk is None else chunks.mended(file, chunk, size)
    except struct.error:
        raise EarwitnessError(
            f"{called(sound)}: its header does not say how long it is, and it is too long for its "
            "kind; convert it"
        ) from None


def _mpeg_streams(
    sound: SoundFile, found: list[mpeg.Stretch], stop: int, whole: Decoder | None
) -> list[list[Piece]]:
    """Streams of the frames alone; none where ``whole``, the file as it is, is read completely."""
    if not found:
        return []
    if whole is None:
        framed = sum(one.stop - one.start for one in found)
        return [*mpeg.streams(found)] if 2 * framed >= stop - found[0].start else []
    one, there = found[0], found[0].frames * found[0].samples_a_frame
    if len(found) == 1 and whole.frames == there:
        return []
    declared = one.declared is not None and one.declared >= one.frames
    if len(found) == 1 and declared and whole.frames >= there - MPEG_SLACK * one.samples_a_frame:
        return []  # less the encoder's delay and padding, which an info frame tells too
    lost = mpeg.frames_lost(found)
    if lost > MPEG_SLACK:
        seconds = lost * one.samples_a_frame / one.sample_rate
        raise EarwitnessError(
            f"{called(sound)}: truncated or damaged: {seconds:.2f} s fewer are in it than its "
            "header says; replace it"
        )
    return [*mpeg.streams(found)]
