"""What every captioner is: stored features in, logits of the next token out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from pipeline.models.decoders.stepper import Stepper
from pipeline.tensors import Bank, Batch, Memory, Padded, TokenIds

Saved = Mapping[str, Any]  # JSON


class Inputs(NamedTuple):
    """The stored features that a captioner reads."""

    names: tuple[str, ...]  # of the sound's, E of them, in order
    widths: tuple[int, ...]  # W of each
    text: str | None = None  # name of the captions'
    text_width: int | None = None  # W of those; None: there is no training, which alone reads them


class Learning(NamedTuple):
    """What a captioner itself has to know of its training."""

    label_smoothing: float
    teacher_forcing: float  # probability at the last step
    seed: int
    compiled: bool  # whether its parts may be compiled


class Captioner(nn.Module, ABC):
    """The model of one architecture; training, decoding, self-critical training and ensembles use
    it alike.

    Each is built by ``(settings, inputs, tokens, learning, saved=None)``:

    Args:
        settings: the architecture's own, of a plan.
        saved: ``configuration`` of a trained one: the same shapes with random weights, to be loaded
            with :meth:`inference_state_dict`; no file is read and no network is asked.

    Attributes:
        tokens: of the vocabulary that it writes in.
        configuration: what builds the same model again and the settings do not say, as JSON.

    Raises:
        EarwitnessError: sizes that do not fit each other, or pretrained weights not available.
    """

    tokens: TokenIds
    configuration: dict[str, Any]

    def __init__(self, tokens: TokenIds, learning: Learning) -> None:
        super().__init__()
        self.tokens, self.learning = tokens, learning
        self.configuration = {}

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
            sound: the first stored feature of the clips, where it is read to calibrate.
            text: of the captions, clip by clip, where batches have it.
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
