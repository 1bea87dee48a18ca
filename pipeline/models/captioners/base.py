"""The interface of all captioners: stored features in, logits of the next token out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from pipeline.losses.cross_entropy import cross_entropy
from pipeline.models.decoders.stepper import Stepper
from pipeline.tensors import Bank, Batch, Memory, Padded, TokenIds

Saved = Mapping[str, Any]  # JSON


class Inputs(NamedTuple):
    """The stored features that a captioner reads."""

    names: tuple[str, ...]  # of the E sound features, in order
    widths: tuple[int, ...]  # W of each
    text: str | None = None  # name of the text feature, which only training reads
    text_width: int | None = None  # W of it; None: inference only


class Learning(NamedTuple):
    """The settings of training that a captioner needs."""

    label_smoothing: float
    teacher_forcing: float  # probability at the last step
    seed: int
    compiled: bool  # whether its modules may be compiled


class Losses(NamedTuple):
    """The loss of one batch: a scalar, for captioners with cross-entropy alone."""

    total: Tensor


class Captioner(nn.Module, ABC):
    """One architecture, for training, decoding, self-critical training and ensembles.

    Subclasses are built by ``(settings, inputs, tokens, learning, saved=None)``:

    Args:
        settings: the architecture's section, of a plan.
        saved: ``configuration`` of a trained captioner, for the same shapes with random weights
            that :meth:`inference_state_dict` fits; no file is read and nothing is downloaded.

    Attributes:
        tokens: of the vocabulary of its captions.
        configuration: JSON of what the settings lack to build the same model again.

    Raises:
        EarwitnessError: sizes do not fit each other, or pretrained weights are not available.
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

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """(B, L − 1, V) teacher-forced logits → a scalar, with the training's label smoothing."""
        smoothing = self.learning.label_smoothing
        return cross_entropy(logits, batch.tokens[:, 1:], self.tokens.pad, smoothing)

    @abstractmethod
    def stepper(self) -> Stepper:
        """One decoding step, cached and without gradients, over the memory of :meth:`encode`."""

    def calibrate(self, sound: Bank | None, text: Bank | None, captions: Tensor) -> None:
        """Called once before training, and before it is resumed, with all training data.

        Args:
            sound: the first stored feature of the clips, if this captioner calibrates on it.
            text: the captions' feature, clip by clip, if batches have it.
            captions: (clips,) int64, the number of captions of each clip.
        """
        return

    def before_step(self, step: int, steps: int) -> None:
        """Called before training step ``step``, from 0, of ``steps``."""
        return

    def after_step(self) -> None:
        """Called after each step of the optimizer."""
        return

    def inference_state_dict(self) -> dict[str, Tensor]:
        """The weights that captioning needs."""
        return self.state_dict()
