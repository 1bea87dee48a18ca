"""WSAC's captioner: one embedding → a prefix → a GPT-style decoder (Kouzelis & Katsouros 2023, 2).

Trained on captions alone, it learns to reconstruct each caption from the caption's embedding; at
inference it reads a sound's embedding of the same space instead. The gap between the two is bridged
in training by noise and a shift (3.1), at inference by a text memory
(pipeline/decoding/text_memory.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.prefix import PrefixConfig, PrefixModelConfig
from pipeline.errors import EarwitnessError
from pipeline.models.captioners.base import Captioner, Inputs, Learning, Losses, Saved
from pipeline.models.decoders.gpt import POSITIONS, Gpt, GptStepper, Sizes
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.layers.modality_gap import gap, spread
from pipeline.models.layers.pooling import unit
from pipeline.tensors import Bank, Batch, Memory, Padded, TokenIds


class Prefix(Captioner):
    """Reads one embedding a clip, and in training its captions' embeddings of the same space.

    Attributes:
        noise: σ, set by :meth:`calibrate`; 0 for none.
        shift: (W,) added to the captions' embeddings, set by :meth:`calibrate`.
    """

    noise: Tensor
    shift: Tensor

    def __init__(
        self,
        settings: PrefixModelConfig,
        inputs: Inputs,
        tokens: TokenIds,
        learning: Learning,
        saved: Saved | None = None,
    ) -> None:
        super().__init__(tokens, learning)
        config, (width,) = settings.prefix, inputs.widths
        if saved is None:
            _check_space(inputs)
        sizes = saved and Sizes(**saved["decoder"])
        self.settings = config
        decoder = Gpt(sizes, config.dropout) if sizes else _decoder(config, tokens)
        hidden = [config.mapping_width] * (config.mapping_layers - 1)
        self.mapping = _mapping(width, hidden, config.prefix_length * decoder.sizes.width)
        self.decoder = decoder
        # only for training, which measures them again when it is resumed
        self.register_buffer("noise", torch.zeros(()), persistent=False)
        self.register_buffer("shift", torch.zeros(width), persistent=False)
        self.configuration = {"decoder": decoder.sizes._asdict()}

    def calibrate(self, sound: Bank | None, text: Bank | None, captions: Tensor) -> None:
        """Sets σ and the shift, measured on the training embeddings (3.1)."""
        if self.settings.noise is not None:
            if self.settings.noise == "captions":
                assert text is not None
                self.noise.fill_(spread(text, captions))
            else:
                self.noise.fill_(self.settings.noise)
        self.configuration["noise"] = float(self.noise)  # for the record
        if self.settings.shift:
            if sound is None or len(sound) == 0 or text is None:
                raise EarwitnessError(
                    "prefix.shift needs the mean of sound embeddings, but no sound is given; "
                    "name a sound_dataset, or set prefix.shift: false"
                )
            self.shift.copy_(gap(sound, text))

    def encode(self, features: Sequence[Padded]) -> Memory:
        """1 × (B, T, W) stored sound → (B, P, D): the prefix of its unit mean."""
        (feature,) = features
        return self.prefix(unit(feature))

    def prefix(self, embeddings: Tensor) -> Memory:
        """p = f(z): (B, W) → (B, P, D)."""
        values = self.mapping(embeddings).unflatten(-1, (self.settings.prefix_length, -1))
        return Memory(values, torch.ones_like(values[..., 0], dtype=torch.bool))

    def bridged(self, embeddings: Tensor) -> Tensor:
        """z + n + Δ: (B, W) the captions' unit embeddings that training reads (3.1.1, 3.1.2)."""
        if self.settings.noise is not None:
            embeddings = embeddings + self.noise * torch.randn_like(embeddings)
        if self.settings.shift:
            embeddings = embeddings + self.shift
        return F.normalize(embeddings, dim=-1) if self.settings.renormalise else embeddings

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        length = memory.values.shape[1]
        words = self.decoder.embedding(tokens).to(memory.values.dtype)
        hidden = self.decoder(torch.cat([memory.values, words], 1))
        return self.decoder.logits(hidden[:, length:])[..., : self.tokens.size]

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy of each caption given its embedding (eq. 1) or, supervised, its sound's."""
        if self.settings.supervised:
            memory = self.encode(batch.features)
        else:
            assert batch.text is not None
            memory = self.prefix(self.bridged(unit(batch.text)))
        logits = self.logits(memory, batch.tokens[:, :-1])
        return Losses(self.cross_entropy(logits, batch))

    def stepper(self) -> Stepper:
        return GptStepper(self.decoder, self.tokens)


def _check_space(inputs: Inputs) -> None:
    """Refuses sound that cannot replace text."""
    if inputs.text_width is None:
        raise EarwitnessError("prefix reads one sound embedding and text; name both")
    if inputs.widths[0] != inputs.text_width:
        raise EarwitnessError(
            f"{inputs.names[0]} is {inputs.widths[0]} wide, but {inputs.text} is "
            f"{inputs.text_width}; name the sound and the text of one space, such as one CLAP's"
        )


def _decoder(settings: PrefixConfig, tokens: TokenIds) -> Gpt:
    """A pretrained GPT-2, or one from scratch of the sizes in ``settings``."""
    if settings.pretrained is not None:
        from pipeline.models.decoders.gpt import load_gpt

        return load_gpt(settings.pretrained, tokens.size, settings.dropout)
    positions = max(POSITIONS, settings.prefix_length + settings.max_tokens)
    sizes = Sizes(tokens.size, positions, settings.layers, settings.heads, settings.width)
    return Gpt(sizes, settings.dropout)


def _mapping(width: int, hidden: Sequence[int], out: int) -> nn.Sequential:
    """f: linear layers with tanh between them, as in ClipCap's and WSAC's code."""
    layers: list[nn.Module] = []
    for before, after in pairwise((width, *hidden, out)):
        layers += [nn.Tanh()] if layers else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)
