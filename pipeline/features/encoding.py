"""Sound through a frozen encoder, with decoding ahead of it and unpacking behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch

from pipeline import audio
from pipeline.encoders.base import Masks, SoundEncoder
from pipeline.errors import EarwitnessError
from pipeline.features.ahead import ahead
from pipeline.features.passes import Decoded, DecodedRecording, Encoded, PassSettings, cut, unpack
from pipeline.features.throughput import Report
from pipeline.tensors import Padded

R = TypeVar("R")

DEPTH = 3  # batches decoded before the encoder asks for them, at most
THREADS = 4  # that decode


def encode(
    batches: Sequence[Sequence[DecodedRecording]],
    encoder: SoundEncoder,
    settings: PassSettings,
    use: Callable[[Encoded], R],
    report: Report | None = None,
) -> Iterator[R]:
    """``use`` of each batch's entries, in order.

    Args:
        use: called in the thread that unpacks, while the encoder is at the next batch.
        report: is filled on the way.

    Raises:
        EarwitnessError: a file is gone or broken, values do not fit float16, or no GPU memory.
    """
    report = report or Report()
    clock = Clock(device_of(encoder))
    start = time.perf_counter()
    with (
        ThreadPoolExecutor(THREADS) as decoders,
        ThreadPoolExecutor(DEPTH) as cutters,
        ThreadPoolExecutor(1) as unpacker,
    ):

        def decode(batch: Sequence[DecodedRecording]) -> Decoded:
            samples = decoders.map(lambda one: _load(one, encoder.sample_rate), batch)
            return cut(batch, list(samples), encoder.sample_rate, settings)

        def outputs() -> Iterator[tuple[Decoded, list[list[Padded]]]]:
            for decoded in ahead(cutters, decode, batches, DEPTH):
                clock.begin()
                passes = forward(decoded, encoder, settings)
                clock.end()
                yield decoded, passes

        def finish(output: tuple[Decoded, list[list[Padded]]]) -> tuple[int, R]:
            decoded, passes = output
            return len(decoded.recordings), use(unpack(decoded, passes, encoder.pooled))

        for clips, used in ahead(unpacker, finish, outputs(), 1):
            report.count += clips
            yield used
    report.seconds = time.perf_counter() - start
    report.encoder_seconds = clock.seconds()


def forward(decoded: Decoded, encoder: SoundEncoder, settings: PassSettings) -> list[list[Padded]]:
    """Each view's passes, on the encoder's device; bf16 on CUDA, where front ends keep float32."""
    device = device_of(encoder)
    results: list[list[Padded]] = [[] for _ in range(settings.views)]
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"),
        ):
            for waveform, lengths, seeds in decoded.passes:
                if device.type == "cuda":
                    waveform, lengths = waveform.pin_memory(), lengths.pin_memory()
                waveform = waveform.to(device, non_blocking=True)
                lengths = lengths.to(device, non_blocking=True)
                results[0].append(encoder(waveform, lengths))
                if settings.augment is not None:
                    for view in range(1, settings.views):
                        masks = Masks(settings.augment, seeds[view])
                        results[view].append(encoder(waveform, lengths, masks))
    except torch.cuda.OutOfMemoryError:
        raise EarwitnessError(
            f"no GPU memory for {settings.batch_seconds:g} s of sound at once;"
            " lower the encoder's batch_seconds"
        ) from None
    return results


def device_of(encoder: SoundEncoder) -> torch.device:
    """Where its weights are; the CPU where it has none."""
    return next(chain(encoder.parameters(), encoder.buffers()), torch.empty(0)).device


class Clock:
    """Adds up spans of work on a device, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = 0.0
        self._begun = 0.0
        self._events: list[torch.cuda.Event] = []  # begin and end in turn

    def begin(self) -> None:
        self._mark()
        self._begun = time.perf_counter()

    def end(self) -> None:
        self._mark()
        self._seconds += time.perf_counter() - self._begun

    def seconds(self) -> float:
        if not self._cuda:
            return self._seconds
        torch.cuda.synchronize()
        pairs = zip(self._events[::2], self._events[1::2], strict=True)
        return sum(begin.elapsed_time(end) for begin, end in pairs) / 1000

    def _mark(self) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)


def _load(recording: DecodedRecording, sample_rate: int) -> audio.Samples:
    if isinstance(recording.sound, Path) and not recording.sound.is_file():
        raise EarwitnessError(
            f"{recording.sound}: gone since the dataset was prepared;"
            " put it back, or run `dvc repro -f prepare`"
        )
    return audio.load(recording.sound, sample_rate)
