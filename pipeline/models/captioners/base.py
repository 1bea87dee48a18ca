"""What every captioner is: stored features in, logits of the next token out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.config.plans import CaptionerPlan
from pipeline.models.decoders.stepper import Stepper
from pipeline.tensors import Bank, Batch, Memory, Padded, TokenIds


class Captioner(nn.Module, ABC):
    """The model of one plan; training, decoding, self-critical training and ensembles use it alike.

    Attributes:
        plan: what it was built from. tokens: of the vocabulary that it writes in.
    """

    plan: CaptionerPlan
    tokens: TokenIds

    @classmethod
    @abstractmethod
    def from_plan(
        cls,
        plan: CaptionerPlan,
        widths: Sequence[int],
        text_width: int | None,
        tokens: TokenIds,
    ) -> Captioner:
        """An untrained one.

        Args:
            widths: W of each of the plan's E stored features.
            text_width: W of the stored text features, where the plan names some.

        Raises:
            EarwitnessError: sizes that do not fit each other, or pretrained weights not to be had.
        """

    @classmethod
    @abstractmethod
    def from_form(
        cls, plan: CaptionerPlan, widths: Sequence[int], form: dict[str, Any]
    ) -> Captioner:
        """One with random weights, to be loaded with :meth:`inference_state_dict`; no network.

        Args:
            form: of :meth:`form`.
        """

    @abstractmethod
    def form(self) -> dict[str, Any]:
        """All that :meth:`from_form` needs beside the plan, as JSON."""

    @abstractmethod
    def encode(self, features: Sequence[Padded]) -> Memory:
        """E × (B, T, W) stored features → what the decoder attends to; with gradients."""

    @abstractmethod
    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        """(B, L) int64 tokens, ``begin`` first → (B, L, V); l predicts l + 1; teacher-forced."""

    @abstractmethod
    def loss(self, batch: Batch) -> Any:
        """A named tuple of scalars, ``total`` among them: one batch of cross-entropy training."""

    @abstractmethod
    def stepper(self) -> Stepper:
        """One decoding step, cached and without gradients, over the memory of :meth:`encode`."""

    def calibrate(self, sound: Bank | None, text: Bank | None, captions: Tensor) -> None:
        """Called once before training, also before it is resumed, with all that is trained on.

        Args:
            sound: the first stored feature of the clips, where ``plan.reads.all_sound``.
            text: of the captions, clip by clip, where ``plan.reads.text``.
            captions: (clips,) int64, how many captions each clip has.
        """
        return

    def before_step(self, step: int, steps: int) -> None:
        """Called before the training step ``step`` of all ``steps``, both from 0."""
        return

    def after_step(self) -> None:
        """Called after each step of the optimizer."""
        return

    def inference_state_dict(self) -> dict[str, Tensor]:
        """The weights that captioning needs."""
        return self.state_dict()
