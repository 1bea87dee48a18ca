"""Sound files to what an index stores of them: the whole file's embedding, and its windows'.

A long file is read in pieces of five minutes, so that it takes no more memory than a short one. Its
embedding is then the mean of its pieces', of unit length where the cosine compares them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earwitness.index.layout import Entries, FileTable, IndexHeader, StoredIndex
from earwitness.index.moments import LONGEST, window_spans
from earwitness.index.opened import SoundIndex
from earwitness.index.origin import Origin
from earwitness.index.scoring import LEAST, Kind, Member, Values
from earwitness.retrieval import RetrievalSystem
from pipeline.audio.waveforms import Samples, Waveform, probe, streamed
from pipeline.features.frames import quantised
from pipeline.files import shown
from pipeline.trained.retriever import TrainedRetriever

PIECE = 300.0  # seconds that are in memory at once, and 2 more, which the next piece has too


@dataclass
class _Made:
    """What is embedded of one file so far."""

    seconds: float = 0.0
    rows: list[Values] = field(default_factory=list)  # of the pieces
    weights: list[float] = field(default_factory=list)  # their seconds
    spans: list[NDArray[np.float64]] = field(default_factory=list)
    windows: list[Values] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """A part of a file, with what of it is embedded: itself, then its windows."""

    made: _Made
    sound: Waveform
    start: float  # seconds
    windows: NDArray[np.float64]  # (n, 2) in the file's time

    @property
    def seconds(self) -> float:
        return len(self.sound.samples) / self.sound.sample_rate

    @property
    def spans(self) -> NDArray[np.float64]:
        """(1 + n, 2) in its own time."""
        own = (self.windows - self.start).clip(0.0, self.seconds)
        return np.concatenate([[[0.0, self.seconds]], own])


def members_of(system: RetrievalSystem) -> tuple[Member, ...]:
    """How each part of the system's embeddings is compared."""
    return tuple(Member(member.width, _measure(member)) for member in system.members)


def _measure(member: TrainedRetriever) -> Kind:
    settings = member.plan.biencoder
    if settings.loss == "exp_distance":
        return "distance"
    return "cosine" if settings.similarity == "cosine" else "dot"


def embed(
    system: RetrievalSystem, files: Sequence[Path], digests: Sequence[bytes], moments: bool
) -> Entries:
    """The entries of N files, in order.

    Args:
        digests: N × 32 bytes. moments: their windows too.

    Raises:
        EarwitnessError: a file cannot be decoded, or an encoder is not there.
    """
    seconds = [probe(path) for path in files]
    made = [_Made() for _ in files]
    whole = [n for n, length in enumerate(seconds) if length <= PIECE and not moments]
    if whole:
        rows = system.embed_batch([files[n] for n in whole])
        for number, row in zip(whole, rows, strict=True):
            made[number] = _Made(seconds[number], [row], [1.0])
    others = [n for n in range(len(files)) if not made[n].rows]
    for batch in _batches(_pieces(files[n], seconds[n], made[n], moments) for n in others):
        _embed_batch(system, batch)
    return _entries(made, digests, members_of(system))


def index_now(
    system: RetrievalSystem, files: Sequence[Path], longest_minutes: float, moments: bool
) -> SoundIndex:
    """An index in memory, of N files; their paths are relative to the current folder.

    Args:
        longest_minutes: a longer file is refused; of no meaning for moments, which are of pieces.
    """
    members, zeros = members_of(system), np.zeros(len(files), np.int64)
    unknown = [bytes(32)] * len(files)
    if moments:
        entries = embed(system, files, unknown, moments)
    else:
        rows = system.embed_audio(files, longest_minutes=longest_minutes)
        made = [_Made(probe(path), [row], [1.0]) for path, row in zip(files, rows, strict=True)]
        entries = _entries(made, unknown, members)
    here = Path.cwd()
    paths = [os.path.relpath(path.parent.resolve() / path.name, here) for path in files]
    header = IndexHeader(".", (), Origin("", "", "", "", {}), members, moments)
    table = FileTable(tuple(paths), zeros, zeros, np.arange(len(files)))
    return SoundIndex(StoredIndex(header, entries, table), here, system=system)


def _pieces(path: Path, seconds: float, made: _Made, moments: bool) -> Iterator[_Piece]:
    """A file's pieces; a window belongs to the piece that it begins in."""
    with streamed(path) as (rate, blocks):
        spans = window_spans(seconds) if moments else np.zeros((0, 2))
        at = 0.0
        for samples, is_last in _joined(blocks, round(PIECE * rate), round(LONGEST * rate)):
            sound = Waveform(shown(path), samples, rate)
            stop = np.inf if is_last else at + PIECE
            own = spans[(spans[:, 0] >= at) & (spans[:, 0] < stop)]
            made.seconds = at + len(samples) / rate
            yield _Piece(made, sound, at, own)
            at += PIECE


def _joined(blocks: Iterator[Samples], length: int, more: int) -> Iterator[tuple[Samples, bool]]:
    """Blocks of any size as pieces of ``length + more`` samples, one every ``length``; the last has
    what is left. With each, whether it is the last.
    """
    waiting, held = [], 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        while held > length + more:
            joined = np.concatenate(waiting)
            yield joined[: length + more], False
            waiting, held = [joined[length:]], held - length
    yield np.concatenate(waiting), True


def _batches(files: Iterator[Iterator[_Piece]]) -> Iterator[list[_Piece]]:
    """Pieces that are encoded together: of as many seconds as one long piece."""
    batch: list[_Piece] = []
    held = 0.0
    for pieces in files:
        for piece in pieces:
            if batch and held + piece.seconds > PIECE:
                yield batch
                batch, held = [], 0.0
            batch.append(piece)
            held += piece.seconds
    if batch:
        yield batch


def _embed_batch(system: RetrievalSystem, batch: Sequence[_Piece]) -> None:
    spans = [piece.spans for piece in batch]
    rows = system.embed_excerpts([piece.sound for piece in batch], spans)
    bounds = np.cumsum([len(own) for own in spans])[:-1]
    for piece, own in zip(batch, np.split(rows, bounds), strict=True):
        piece.made.rows.append(own[0])
        piece.made.weights.append(piece.seconds)
        piece.made.spans.append(piece.windows)
        piece.made.windows.append(own[1:])


def _entries(made: Sequence[_Made], digests: Sequence[bytes], members: Sequence[Member]) -> Entries:
    width = sum(member.width for member in members)
    windows = [rows for one in made for rows in one.windows]
    whole, scales = quantised(np.concatenate([np.zeros((0, width), np.float32), *windows]))
    spans = [own for one in made for own in one.spans]
    return Entries(
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        seconds=np.array([one.seconds for one in made], np.float32),
        rows=np.array([_mean(one, members) for one in made], np.float32).reshape(-1, width),
        counts=np.array([sum(map(len, one.spans)) for one in made], np.int64),
        spans=np.concatenate([np.zeros((0, 2)), *spans]).astype(np.float32),
        windows=whole,
        scales=scales,
    )


def _mean(made: _Made, members: Sequence[Member]) -> Values:
    """(D,) of a file's pieces, weighted by their seconds."""
    if len(made.rows) == 1:
        return made.rows[0]
    row = np.average(np.stack(made.rows), axis=0, weights=made.weights).astype(np.float32)
    at = 0
    for width, measure in members:
        if measure == "cosine":
            own = row[at : at + width]
            own /= max(float(np.linalg.norm(own)), LEAST)
        at += width
    return row
