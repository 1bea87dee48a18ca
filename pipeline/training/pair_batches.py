"""Contrastive batches of (clip, caption) pairs of several datasets, randomly cropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline import ranks
from pipeline.features.bank import Crop
from pipeline.features.mixture import AnyBank
from pipeline.models.biencoder import Pairs
from pipeline.trained.inputs import Embeddable
from pipeline.training.caption_batches import PairOrder
from pipeline.training.loop import epoch_generator


class PairBatches(PairOrder):
    """The batches of every epoch, of almost equal size; the same for the same ``seed`` and epoch.

    There is no small last batch: it would have too few negatives.

    Args:
        sound: E banks over the mixture's clips, dataset by dataset.
        frame_seconds: E, the frame period of each.
        captions: (clips,) int64, how many captions each clip has.
        texts: all captions, clip by clip.
        batch: B, at most. draw, seed: see :class:`PairOrder`.
        crop_seconds: length of a random crop of sound for each pair and epoch, the same in all E
            features; None gives whole clips.
        device: where the batches go.
    """

    def __init__(
        self,
        sound: Sequence[AnyBank],
        frame_seconds: Sequence[float],
        captions: Tensor,
        texts: Embeddable,
        *,
        batch: int,
        draw: Literal["all", "one"],
        seed: int,
        crop_seconds: float | None,
        device: torch.device,
    ) -> None:
        super().__init__(captions, batch, draw, seed)
        self.sound, self.texts, self.device = tuple(sound), texts, device
        self.crop_frames = [
            max(1, round(crop_seconds / seconds)) if crop_seconds and seconds else None
            for seconds in frame_seconds
        ]
        self.ends = torch.arange(1, self.steps + 1) * self.pairs // self.steps  # (steps,)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Pairs]:
        """The batches of one epoch from the ``start``-th on, of each the part of this rank."""
        generator = epoch_generator(self.seed, epoch)
        order = self._order(generator)
        clips = self.clip_of[order]
        entries = [self._entries(bank, clips, generator) for bank in self.sound]
        place = torch.rand(len(clips), generator=generator, dtype=torch.float64)
        crops = [
            None if frames is None else draw_crop(bank.lengths[entry], frames, place)
            for bank, entry, frames in zip(self.sound, entries, self.crop_frames, strict=True)
        ]
        ends = [0, *self.ends.tolist()]
        moved_clips = clips.to(self.device)
        for step in range(start, self.steps):
            rows, whole = ranks.part(ends[step], ends[step + 1])
            yield Pairs(
                sound=tuple(
                    bank.batch(entry[rows], crop and Crop(crop.start[rows], crop.length[rows]))
                    for bank, entry, crop in zip(self.sound, entries, crops, strict=True)
                ),
                text=self.texts.batch(order[rows]),
                clips=moved_clips[rows],
                whole=whole,
            )


def draw_crop(lengths: Tensor, frames: int, place: Tensor) -> Crop:
    """``frames`` frames of each entry, or all of a shorter one; all starts are equally likely.

    Args:
        lengths: (B,) int64, frames of each entry.
        place: (B,) float64 in [0, 1), uniform.
    """
    length = lengths.clamp(max=frames)
    return Crop((place * (lengths - length + 1)).long(), length)
