"""DCASE 2022's captioning baseline and its variants: features → adapter → BART (CMU 5.1, 6.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.config.bart import BartConfig
from pipeline.config.cmu import CmuConfig, CmuModelConfig
from pipeline.errors import EarwitnessError
from pipeline.models.captioners.base import Captioner, Inputs, Learning, Losses, Saved
from pipeline.models.decoders.bart import Bart
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.layers.crnn import Crnn
from pipeline.models.layers.feature_input import resize_to
from pipeline.tensors import Batch, Memory, Padded, TokenIds


class Cmu(Captioner):
    """BART with its encoder, or with a CRNN in place of the encoder."""

    def __init__(
        self,
        settings: CmuModelConfig,
        inputs: Inputs,
        tokens: TokenIds,
        learning: Learning,
        saved: Saved | None = None,
    ) -> None:
        super().__init__(tokens, learning)
        self.settings = settings.cmu
        sizes, input_width = _bart_sizes(settings.bart, settings.cmu)
        bart = Bart.from_settings(
            sizes, tokens, input_width=input_width, saved=saved and saved["bart"]
        )
        self.adapter = make_adapter(sum(inputs.widths), bart.width, settings.cmu)
        self.crnn: Crnn | None = None
        if settings.cmu.encoder == "crnn":
            self.crnn = Crnn(bart.width, (), settings.cmu.crnn)
        self.bart, self.tokens = bart, bart.tokens
        self.configuration = {"bart": bart.configuration()}

    def encode(self, features: Sequence[Padded]) -> Memory:
        """E × (B, T, W) stored features → (B, T', D); T' is T of the first, or less by a CRNN."""
        first, *others = features
        values = torch.cat([first.values, *(resize_to(other, first) for other in others)], -1)
        read = Padded(self.adapter(values), first.lengths)
        if self.crnn is not None:
            read = self.crnn(read)
        return self.bart.encode(read.values, read.mask, self.settings.memory)

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.bart.logits(memory, tokens)

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy without padding, which the baseline's includes."""
        logits = self.logits(self.encode(batch.features), batch.tokens[:, :-1])
        return Losses(self.cross_entropy(logits, batch))

    def stepper(self) -> Stepper:
        return self.bart.stepper()


def make_adapter(inputs: int, width: int, settings: CmuConfig) -> nn.Sequential:
    """One linear layer to BART's width, or two with ``settings.adapter_activation`` between."""
    if settings.adapter_layers == 1:
        return nn.Sequential(nn.Linear(inputs, width))
    between = [nn.ReLU()] if settings.adapter_activation == "relu" else []
    inner = settings.adapter_width
    return nn.Sequential(nn.Linear(inputs, inner), *between, nn.Linear(inner, width))


def _bart_sizes(bart: BartConfig, settings: CmuConfig) -> tuple[BartConfig, int | None]:
    """BART's settings, and the width of its input if it differs from BART's."""
    if settings.encoder == "bart":
        if settings.memory != "last" and not bart.encoder_layers:
            raise EarwitnessError(
                f"cmu.memory {settings.memory} needs an encoder; raise bart.encoder_layers"
            )
        return bart, None
    if bart.pretrained is not None:
        raise EarwitnessError(
            "cmu.encoder crnn replaces an untrained encoder; set bart.pretrained: null"
        )
    return bart.model_copy(update={"encoder_layers": 0}), 2 * settings.crnn.width
