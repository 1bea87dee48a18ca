"""Recordings as windows in forward passes, and the outputs as entries of a feature file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audio import waveforms
from pipeline.audio.sound_file import SoundFile
from pipeline.config.encoders import SpecAugmentConfig
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded


@dataclass(frozen=True)
class DecodedRecording:
    """A sound to encode; its duration in seconds is used for nothing but its batch."""

    name: str
    sound: SoundFile | waveforms.Waveform
    duration: float
    longest: float = math.inf  # seconds; a file that lasts longer is refused


@dataclass(frozen=True)
class PassSettings:
    """How recordings go through an encoder."""

    window_seconds: float
    batch_seconds: float
    views: int = 1  # the clean one included
    augment: SpecAugmentConfig | None = None


class Pass(NamedTuple):
    """One forward pass: B windows."""

    waveform: Tensor  # (B, samples) float32
    lengths: Tensor  # (B,) int64, samples
    seeds: Tensor  # (views, B) int64


class Decoded(NamedTuple):
    """A batch of recordings, decoded and cut into windows."""

    recordings: Sequence[DecodedRecording]  # n
    windows: NDArray[np.int64]  # (n,) how many each recording has
    passes: list[Pass]


class Encoded(NamedTuple):
    """The entries of a batch: view by view, and in each view recording by recording."""

    values: NDArray[np.float16]  # (frames, D)
    lengths: NDArray[np.int64]  # (views × n,)


def make_batches(durations: Sequence[float], settings: PassSettings) -> list[NDArray[np.int64]]:
    """Batches of recordings of similar length, longest first: too little memory shows at once.

    Returns:
        Indices; a batch holds at most ``batch_seconds`` of padded sound, or a single recording.
    """
    seconds = np.asarray(durations, dtype=np.float64)
    batches: list[list[int]] = []
    for clip in np.argsort(-seconds, kind="stable").tolist():
        longest = seconds[batches[-1][0]] if batches else 0.0
        if batches and (len(batches[-1]) + 1) * longest <= settings.batch_seconds:
            batches[-1].append(clip)
        else:
            batches.append([clip])
    return [np.array(batch, dtype=np.int64) for batch in batches]


def cut(
    recordings: Sequence[DecodedRecording],
    samples: Sequence[waveforms.Samples],
    sample_rate: int,
    settings: PassSettings,
) -> Decoded:
    """Decoded recordings, (S,) float32 each, as passes of at most ``batch_seconds`` each."""
    longest = max(1, int(settings.window_seconds * sample_rate))
    pieces = [waveforms.windows(waveform, longest) for waveform in samples]
    limit = settings.batch_seconds * sample_rate
    passes: list[Pass] = []
    group: list[waveforms.Samples] = []
    names: list[str] = []
    widest = 0
    for recording, windows in zip(recordings, pieces, strict=True):
        for number, piece in enumerate(windows):
            widest = max(widest, len(piece))
            if group and (len(group) + 1) * widest > limit:
                passes.append(_pass(group, names, settings))
                group, names, widest = [], [], len(piece)
            group.append(piece)
            names.append(f"{recording.name}#{number}")
    passes.append(_pass(group, names, settings))
    return Decoded(recordings, np.array([len(windows) for windows in pieces], np.int64), passes)


def _pass(
    pieces: Sequence[waveforms.Samples], names: Sequence[str], settings: PassSettings
) -> Pass:
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    waveform = np.zeros((len(pieces), lengths.max()), np.float32)
    for row, piece in zip(waveform, pieces, strict=True):
        row[: len(piece)] = piece
    views = range(settings.views) if settings.augment else ()
    seeds = [[_seed(f"{name}#{view}") for name in names] for view in views]
    return Pass(
        torch.from_numpy(waveform),
        torch.from_numpy(lengths),
        torch.tensor(seeds, dtype=torch.int64),
    )


def _seed(name: str) -> int:
    """63 bits that depend only on the name of a window and its view."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1


def unpack(decoded: Decoded, outputs: Sequence[Sequence[Padded]], pooled: bool) -> Encoded:
    """The encoder's outputs, a list of passes a view, as entries.

    The windows of a recording are joined in time, or averaged for a ``pooled`` encoder.

    Raises:
        EarwitnessError: a value is not finite in float16.
    """
    first = np.cumsum(decoded.windows) - decoded.windows  # each recording's first window
    values, lengths = [], []
    for passes in outputs:
        halves = [_packed(output, torch.float32 if pooled else torch.float16) for output in passes]
        rows = torch.cat(halves).numpy()
        frames = torch.cat([output.lengths.cpu() for output in passes]).numpy()
        if pooled:
            if (frames != 1).any():
                raise ValueError("a pooled encoder gave several frames a window")
            rows = np.add.reduceat(rows, first, axis=0) / decoded.windows[:, None]
            rows = torch.from_numpy(rows).half().numpy()
            lengths.append(np.ones(len(first), np.int64))
        else:
            lengths.append(np.add.reduceat(frames, first))
        _check_finite(rows, lengths[-1], decoded.recordings)
        values.append(rows)
    return Encoded(np.concatenate(values), np.concatenate(lengths))


def _packed(output: Padded, dtype: torch.dtype) -> Tensor:
    """(frames, D) on the CPU: only valid frames; rounded first, to copy less."""
    values, lengths = output.values.to(dtype).cpu(), output.lengths.cpu()
    mask = torch.arange(values.shape[1]) < lengths[:, None]
    return values[mask]


def _check_finite(
    values: NDArray[np.float16], lengths: NDArray[np.int64], recordings: Sequence[DecodedRecording]
) -> None:
    infinite = np.uint16(0x7C00)  # the exponent's bits, all set in infinities and NaN
    if not ((values.view(np.uint16) & infinite) == infinite).any():
        return
    row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
    clip = recordings[int(np.searchsorted(np.cumsum(lengths), row, side="right"))]
    raise EarwitnessError(
        f"{clip.name} ({clip.sound}): the encoder's values are NaN or too large for float16;"
        " check the encoder's weights, or take the clip out of the dataset"
    )
