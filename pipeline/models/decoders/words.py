"""The interface of all decoders over words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.models.decoders.stepper import Stepper
from pipeline.tensors import Memory


class WordDecoder(nn.Module, ABC):
    """Memory and words in, logits of the next word out."""

    @abstractmethod
    def read(self, values: Tensor) -> Tensor:
        """(B, T, W) of the encoder → (B, T, D) that all steps attend to."""

    @abstractmethod
    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        """(B, L) int64 tokens, ``begin`` first → (B, L, V); l predicts l + 1; teacher-forced."""

    @abstractmethod
    def scheduled(self, memory: Memory, tokens: Tensor, gold: Sequence[bool]) -> Tensor:
        """:meth:`logits` with scheduled sampling (Bengio et al. 2015).

        A step l with ``gold[l]`` reads the caption, as in :meth:`logits`. Every other step reads
        what the model found most probable at the steps before; the subclasses say what exactly.
        Argmaxes have no gradient.

        Args:
            tokens: (B, L) int64, ``begin`` first.
            gold: L of them, for the whole batch; the first has no effect.
        """

    @abstractmethod
    def stepper(self) -> Stepper:
        """One decoding step, cached and without gradients, over the memory of :meth:`logits`."""
