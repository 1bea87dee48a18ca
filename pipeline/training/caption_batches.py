"""(clip, caption) pairs of a split as batches: a gather of resident tensors, no worker, no file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.errors import EarwitnessError
from pipeline.tensors import Bank, Batch


class PairOrder:
    """Which (clip, caption) pairs make each epoch's batches; the same for the same ``seed``.

    Args:
        captions: (clips,) int64, how many captions each clip has; the pairs are every caption of
            the first clip, then of the second …
        batch: B; the last batch of an epoch holds what is left.
        draw: ``all``: each caption once an epoch; ``one``: one caption of each clip, drawn anew.
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
        return self._order(self._generator(epoch))

    def _generator(self, epoch: int) -> torch.Generator:
        # torch's generator takes 32 bits of its seed: a digest mixes both numbers into them
        digest = hashlib.sha256(f"{self.seed}, {epoch}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:4]))

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.draw == "all":
            return torch.randperm(len(self.clip_of), generator=generator)
        clips = torch.randperm(len(self.counts), generator=generator)
        # float64, and never 1: a product with the count is below it
        uniform = torch.rand(len(clips), generator=generator, dtype=torch.float64)
        return self.first[clips] + (uniform * self.counts[clips]).long()

    @staticmethod
    def _entries(bank: Bank, clips: Tensor, generator: torch.Generator) -> Tensor:
        """(pairs,) entries: of each clip a view drawn from all, the clean one among them.

        Each encoder's views are drawn on their own, as EDTC masks each encoder's input.
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
        tokens: (N, L) int64, every caption of the first clip, then of the second …
        lengths: (N,) int64, tokens of each caption.
        text: bank whose entry n is caption n, for the twin.
        batch, draw, seed: see :class:`PairOrder`.
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
    ) -> None:
        super().__init__(captions, batch, draw, seed)
        self.features, self.text = tuple(features), text
        self.tokens = tokens.to(device)
        self.lengths = lengths
        self.device = device

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the ``start``-th on.

        Lengths and indices stay on the CPU, where they are worked out for the whole epoch at once,
        so that no batch waits for the device.
        """
        generator = self._generator(epoch)
        order = self._order(generator)
        clips = self.clip_of[order]
        entries = [self._entries(bank, clips, generator) for bank in self.features]
        moved_order, moved_clips = order.to(self.device), clips.to(self.device)
        for at in range(start * self.batch, len(order), self.batch):
            rows = slice(at, at + self.batch)
            longest = int(self.lengths[order[rows]].max())
            yield Batch(
                features=tuple(
                    bank.batch(entry[rows])
                    for bank, entry in zip(self.features, entries, strict=True)
                ),
                tokens=self.tokens[moved_order[rows], :longest],
                text=None if self.text is None else self.text.batch(order[rows]),
                clips=moved_clips[rows],
            )
