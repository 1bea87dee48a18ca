"""Sound files through a frozen encoder: threads decode before it and unpack after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import torch

from pipeline.audio import waveforms
from pipeline.encoders.base import Masks, SoundEncoder
from pipeline.errors import EarwitnessError
from pipeline.features.bringing import brought
from pipeline.features.prefetch import prefetch
from pipeline.features.throughput import Clock, Report
from pipeline.features.windows import Decoded, DecodedRecording, Encoded, PassSettings, cut, unpack
from pipeline.tensors import Padded
from pipeline.threads import share

R = TypeVar("R")

DEPTH = 3  # batches that wait for the encoder, at most
THREADS = 4  # for decoding


def encode(
    batches: Sequence[Sequence[DecodedRecording]],
    encoder: SoundEncoder,
    settings: PassSettings,
    use: Callable[[Encoded], R],
    report: Report | None = None,
) -> Iterator[R]:
    """``use`` of each batch's entries, in order.

    Args:
        use: called in the unpacking thread, while the encoder computes the next batch.
        report: filled in by this function.

    Raises:
        EarwitnessError: a file is missing or broken, values do not fit float16, or the GPU has too
            little memory.
    """
    report = report or Report()
    clock = Clock(device_of(encoder))
    start = time.perf_counter()
    with (
        ThreadPoolExecutor(share(THREADS)) as decoders,
        ThreadPoolExecutor(DEPTH) as cutters,
        ThreadPoolExecutor(1) as unpacker,
    ):

        def decode(batch: Sequence[DecodedRecording]) -> Decoded:
            samples = decoders.map(lambda one: _load(one, encoder.sample_rate), brought(batch))
            return cut(batch, list(samples), encoder.sample_rate, settings)

        def outputs() -> Iterator[tuple[Decoded, list[list[Padded]]]]:
            for decoded in prefetch(cutters, decode, batches, DEPTH):
                clock.begin()
                passes = forward(decoded, encoder, settings)
                clock.end()
                yield decoded, passes

        def finish(output: tuple[Decoded, list[list[Padded]]]) -> tuple[int, R]:
            decoded, passes = output
            return len(decoded.recordings), use(unpack(decoded, passes, encoder.pooled))

        for clips, used in prefetch(unpacker, finish, outputs(), 1):
            report.count += clips
            yield used
    report.seconds = time.perf_counter() - start
    report.encoder_seconds = clock.seconds()


def forward(decoded: Decoded, encoder: SoundEncoder, settings: PassSettings) -> list[list[Padded]]:
    """Each view's passes, on the encoder's device; on CUDA in bf16, but for the front ends."""
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
    """The device of its weights; the CPU where it has none."""
    return next(chain(encoder.parameters(), encoder.buffers()), torch.empty(0)).device


def _load(recording: DecodedRecording, sample_rate: int) -> waveforms.Samples:
    return waveforms.load(recording.sound, sample_rate, recording.longest)
