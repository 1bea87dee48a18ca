"""Sound files through a frozen encoder: decoded in threads before it, and unpacked after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch

from pipeline.audio import waveforms
from pipeline.encoders.base import Masks, SoundEncoder
from pipeline.engine.steps import Steps
from pipeline.errors import EarwitnessError
from pipeline.features.bringing import brought
from pipeline.features.windows import Decoded, DecodedRecording, Encoded, PassSettings, cut, unpack
from pipeline.tensors import Padded
from pipeline.threads import share

THREADS = 8  # for decoding; more gave nothing beside an H200 (docs/results.md)

Batch = Sequence[DecodedRecording]
Passed = tuple[Decoded, list[list[Padded]]]  # a batch, and each view's passes


class SoundSteps(Steps[Batch, Decoded, Passed, Encoded]):
    """A batch of recordings → its entries.

    Args:
        folder: of the recordings, where they lie in one.
    """

    def __init__(
        self, encoder: SoundEncoder, settings: PassSettings, folder: Path | None = None
    ) -> None:
        self._encoder, self._settings, self.folder = encoder, settings, folder
        self.device = device_of(encoder)

    @contextmanager
    def opened(self) -> Iterator[None]:
        with ThreadPoolExecutor(share(THREADS)) as self._decoders:
            yield

    def to(self, device: torch.device) -> None:
        self._encoder, self.device = self._encoder.to(device), device

    def read(self, item: Batch) -> Decoded:
        rate = self._encoder.sample_rate
        samples = self._decoders.map(lambda one: _load(one, rate), brought(item))
        return cut(item, list(samples), rate, self._settings)

    def compute(self, read: Decoded) -> Passed:
        return read, forward(read, self._encoder, self._settings)

    def finish(self, output: Passed) -> Encoded:
        return unpack(*output, self._encoder.pooled)

    def label(self, item: Batch) -> str:
        more = f" and {len(item) - 3} more" if len(item) > 3 else ""
        return ", ".join(clip.name for clip in item[:3]) + more


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
