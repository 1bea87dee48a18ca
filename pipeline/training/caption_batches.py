"""Batches of a split's (clip, caption) pairs, gathered from tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline import ranks
from pipeline.errors import EarwitnessError
from pipeline.tensors import Bank, Batch
from pipeline.training.loop import epoch_generator


class PairOrder:
    """Which (clip, caption) pairs make each epoch's batches; the same for the same ``seed``.

    Args:
        captions: (clips,) int64, how many captions each clip has; the pairs are all captions of
            the first clip, then of the second …
        batch: B; the last batch of an epoch may be smaller.
        draw: ``all``: each caption once an epoch; ``one``: a random caption of each clip an epoch.
    """

    def __init__(
        self, captions: Tensor, batch: int, draw: Literal["all", "one"], seed: int
    ) -> None:
        if len(captions) == 0 or int(captions.min()) == 0:
            raise EarwitnessError("a clip to train on has no caption; leave it out of the dataset")
        self.counts = captions
        self.first = captions.cumsum(0) - captions  # (clips,) each clip's first caption
        self.clip_of = torch.arange(len(captions)).repeat_interleave(captions)  # (N,)
        self.batch, self.draw, self.seed = batch, draw, seed
        self.pairs = len(self.clip_of) if draw == "all" else len(captions)  # in an epoch
        self.steps = -(-self.pairs // batch)

    def order(self, epoch: int) -> Tensor:
        """(pairs,) int64: the captions of one epoch in their order."""
        return self._order(epoch_generator(self.seed, epoch))

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.draw == "all":
            return torch.randperm(len(self.clip_of), generator=generator)
        clips = torch.randperm(len(self.counts), generator=generator)
        # float64, and never 1: a product with the count is below it
        uniform = torch.rand(len(clips), generator=generator, dtype=torch.float64)
        return self.first[clips] + (uniform * self.counts[clips]).long()

    @staticmethod
    def _entries(bank: Bank, clips: Tensor, generator: torch.Generator) -> Tensor:
        """(pairs,) entries: a random view of each clip, the clean one among them.

        Each encoder has its own draws, as EDTC masks each encoder's input.
        """
        if bank.views == 1:
            return clips
        views = torch.randint(bank.views, (len(clips),), generator=generator)
        return clips * bank.views + views


class CaptionBatches(PairOrder):
    """The training batches of every epoch; the same for the same ``seed`` and epoch.

    Args:
        features: E banks; clip i of each is clip i of the split.
        captions: (clips,) int64, how many captions each clip has.
        tokens: (N, L) int64, all captions of the first clip, then of the second …
        lengths: (N,) int64, tokens of each caption.
        text: bank whose entry n is caption n, where the model reads it.
        batch, draw, seed: see :class:`PairOrder`.
        bucket: so many batches are drawn at once, and their captions batched by length; 1: not.
        device: where the batches go.
    """

    def __init__(
        self,
        features: Sequence[Bank],
        captions: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        text: Bank | None,
        *,
        batch: int,
        draw: Literal["all", "one"],
        seed: int,
        device: torch.device,
        bucket: int = 1,
    ) -> None:
        super().__init__(captions, batch, draw, seed)
        self.features, self.text = tuple(features), text
        self.tokens = tokens.to(device)
        self.lengths = lengths
        self.device, self.bucket = device, bucket

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the ``start``-th on, of each the part of this rank.

        Lengths and indices are computed on the CPU for the whole epoch at once, so that no batch
        waits for the device.
        """
        generator = epoch_generator(self.seed, epoch)
        order = self._order(generator)
        clips = self.clip_of[order]
        entries = [self._entries(bank, clips, generator) for bank in self.features]
        moved_order, moved_clips = order.to(self.device), clips.to(self.device)
        for at in range(start * self.batch, len(order), self.batch):
            rows, whole = ranks.part(at, min(at + self.batch, len(order)))
            longest = int(self.lengths[order[rows]].max())
            yield Batch(
                features=tuple(
                    bank.batch(entry[rows])
                    for bank, entry in zip(self.features, entries, strict=True)
                ),
                tokens=self.tokens[moved_order[rows], :longest],
                text=None if self.text is None else self.text.batch(order[rows]),
                clips=moved_clips[rows],
                whole=whole,
            )

    def _order(self, generator: torch.Generator) -> Tensor:
        """(pairs,); of each ``bucket`` batches, captions of like length stand in one batch.

        The batches of a bucket are shuffled. Only the last of an epoch may be smaller.
        """
        order = super()._order(generator)
        if self.bucket == 1:
            return order
        parts: list[Tensor] = []
        for drawn in order.split(self.bucket * self.batch):
            by_length = drawn[self.lengths[drawn].argsort(stable=True)]
            full = len(drawn) // self.batch * self.batch
            batches = by_length[:full].view(-1, self.batch)
            shuffled = batches[torch.randperm(len(batches), generator=generator)]
            parts += [shuffled.flatten(), by_length[full:]]
        return torch.cat(parts)
