"""TRANSLATOR as a reader of EDTC 3.3.2 would write it: torch's modules, a loop over the steps.

Slow and obvious; pipeline/models/layers/translator.py is checked and timed against it. Attention to
the hidden state is a whole ``nn.MultiheadAttention`` with one key here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.edtc import TranslatorConfig
from pipeline.models.layers import translator as ours
from pipeline.models.layers.stacked import StackedLinear, StackedNorm


class ReferenceLayer(nn.Module):
    def __init__(self, width: int, settings: TranslatorConfig, decoder: bool) -> None:
        super().__init__()
        kernel = settings.kernel
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.cab = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.cab_norm = nn.LayerNorm(width)
        self.gab = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.gab_norm = nn.LayerNorm(width)
        if decoder:
            self.cross = nn.MultiheadAttention(width, settings.heads, batch_first=True)
            self.cross_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, settings.feed_forward)
        self.down = nn.Linear(settings.feed_forward, width)
        self.ffn_norm = nn.LayerNorm(width)

    def forward(
        self, whole: Tensor, hidden: Tensor, encoded: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, D) and h_{−1} (B, D) → (B, T, D) and h_{T−1} (B, D)."""
        steps = self.conv(whole.transpose(1, 2)).transpose(1, 2)[:, : whole.shape[1]]
        outputs = []
        for n in range(whole.shape[1]):
            x = steps[:, n : n + 1]
            previous = hidden[:, None]
            x = self.cab_norm(x + self.cab(x, previous, previous, need_weights=False)[0])
            attended = self.gab(x, whole, whole, need_weights=False)[0]
            x = self.gab_norm(x + attended)
            if encoded is not None:
                step = encoded[:, n : n + 1]
                attended = self.cross(x, step, step, need_weights=False)[0]
                x = self.cross_norm(x + attended)
            hidden = attended[:, 0]
            outputs.append(self.ffn_norm(x + self.down(F.gelu(self.up(x)))))
        return torch.cat(outputs, dim=1), hidden


class ReferenceTranslator(nn.Module):
    def __init__(self, width: int, settings: TranslatorConfig) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            ReferenceLayer(width, settings, decoder=False) for _ in range(settings.encoder_layers)
        )
        self.decoder = nn.ModuleList(
            ReferenceLayer(width, settings, decoder=True) for _ in range(settings.decoder_layers)
        )

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) → (B, T, D) and the last hidden state (B, D)."""
        encoded, hidden = values, values.new_zeros(values.shape[0], values.shape[2])
        for layer in self.encoder:
            encoded, hidden = layer(encoded, torch.zeros_like(hidden))
        initial, output = hidden, values
        for layer in self.decoder:
            output, hidden = layer(output, initial, encoded)
        return output, hidden


Pair = tuple[Tensor, Tensor]


def pairs(
    translator: ours.Translator, reference: ReferenceTranslator, branch: int = 0, grad: bool = False
) -> list[Pair]:
    """(ours of ``branch``, theirs) for every weight, or gradient, in torch's own layout."""

    def of(parameter: Tensor) -> Tensor:
        value = parameter.grad if grad else parameter
        assert value is not None
        return value.detach()

    def row(flat: Tensor) -> Tensor:
        return of(flat).view(translator.branches, -1)[branch]

    def linear(mine: StackedLinear, weight: Tensor, bias: Tensor) -> list[Pair]:
        return [(of(mine.weight)[branch].mT, weight), (row(mine.bias), bias)]

    def norm(mine: StackedNorm, theirs: nn.LayerNorm) -> list[Pair]:
        return [
            (row(mine.weight), of(theirs.weight)),
            (row(mine.bias), of(theirs.bias)),
        ]

    def value_output(mine: ours.SingleKeyAttention, theirs: nn.MultiheadAttention) -> list[Pair]:
        width = theirs.embed_dim
        weight, bias = of(theirs.in_proj_weight), of(theirs.in_proj_bias)
        out = theirs.out_proj
        return [
            *linear(mine.value, weight[2 * width :], bias[2 * width :]),
            *linear(mine.output, of(out.weight), of(out.bias)),
        ]

    found: list[Pair] = []
    mine: ours.TranslatorLayer
    layers = [*translator.encoder, *translator.decoder]
    for mine, theirs in zip(layers, [*reference.encoder, *reference.decoder], strict=True):
        width = theirs.gab.embed_dim
        weight, bias = of(theirs.gab.in_proj_weight), of(theirs.gab.in_proj_bias)
        found += [
            (of(mine.convolution.weight)[branch].permute(2, 1, 0), of(theirs.conv.weight)),
            (row(mine.convolution.bias), of(theirs.conv.bias)),
            *value_output(mine.context, theirs.cab),
            *norm(mine.context_norm, theirs.cab_norm),
            *linear(mine.query, weight[:width], bias[:width]),
            *linear(mine.keys_values, weight[width:], bias[width:]),
            *linear(mine.output, of(theirs.gab.out_proj.weight), of(theirs.gab.out_proj.bias)),
            *norm(mine.global_norm, theirs.gab_norm),
            *linear(mine.feed_forward.up, of(theirs.up.weight), of(theirs.up.bias)),
            *linear(mine.feed_forward.down, of(theirs.down.weight), of(theirs.down.bias)),
            *norm(mine.final_norm, theirs.ffn_norm),
        ]
        if isinstance(mine, ours.TranslatorDecoderLayer):
            found += [
                *value_output(mine.cross, theirs.cross),
                *norm(mine.cross_norm, theirs.cross_norm),
            ]
    return found


def copied(
    translator: ours.Translator, width: int, settings: TranslatorConfig, branch: int = 0
) -> ReferenceTranslator:
    """The reference with the weights of one branch; single-key queries and keys stay random."""
    reference = ReferenceTranslator(width, settings).to(next(translator.parameters()).dtype)
    for mine, theirs in pairs(translator, reference, branch):
        theirs.copy_(mine)
    return reference
