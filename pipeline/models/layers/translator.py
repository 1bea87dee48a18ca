"""TRANSLATOR: aligns sound with text "at the tensor level" (EDTC 3.3), and its twin (3.4).

M encoder layers and N decoder layers walk the T time steps of the input. In each layer

- CAB (context attention block): a Conv1d of kernel 45 over the layer's whole input gives the
  feature c_n of each step; c_n then attends to the hidden state of the step before, h_{n−1}
  (eq. 3's ⊙); residual and layer normalisation;
- GAB (global attention block): the step attends to the layer's whole input; the attention's output
  is the hidden state h_n for the next step; residual and layer normalisation;
- decoder layers then attend to the encoder's feature of the same step, and that output is their
  hidden state h_n instead; their h_{−1} is the last hidden state of the last encoder layer;
- FFN, with residual and layer normalisation.

Where the paper leaves a choice, we read it as follows:

- Attention to a single key returns its value for any query: it is a value and an output projection.
  A query and a key there would never have a gradient, so there are none. It follows that CAB's
  residual must be the convolution's output, or the input would have no effect.
- A layer's "original input" is the whole output of the layer before. So a layer computes all T
steps
  before the next layer begins.
- The first decoder layer's input is TRANSLATOR's input, the steps of Figure 5; the decoder reaches
  the encoder by its cross-attention.
- An encoder layer's h_{−1} is zero.
- A decoder layer's hidden state is the output of an attention to a single key, so it does not
depend
  on the layer's earlier steps: decoder layers have no recurrence, and all their steps are computed
  at once, exactly. Encoder layers have one; see pipeline/models/layers/recurrence.py.
- Inputs are resized to a fixed T beforehand (3.1.1, 3.1.2), so nothing is padded.
- Dropout is applied to what a residual adds, and never to the hidden state for the next step, where
  it would accumulate over T steps.

Letters: S stacked branches, B clips, T steps, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.edtc import TranslatorConfig
from pipeline.errors import EarwitnessError
from pipeline.models.layers.recurrence import walk
from pipeline.models.layers.stacked import (
    StackedConvolution,
    StackedFeedForward,
    StackedLinear,
    StackedNorm,
    attend,
    scaled,
    split_heads,
)


class Translation(NamedTuple):
    output: Tensor  # (B, T, D)
    hidden: Tensor  # (B, D) last hidden state of the last decoder layer


class SingleKeyAttention(nn.Module):
    """Attention to one key: that key's value, projected. (S, …, D) → same."""

    def __init__(self, copies: int, width: int) -> None:
        super().__init__()
        self.value = StackedLinear(copies, width, width, alike=True)
        self.output = StackedLinear(copies, width, width, alike=True)

    def forward(self, key: Tensor) -> Tensor:
        return self.output(self.value(key))


class TranslatorLayer(nn.Module):
    """What encoder and decoder layers share: the parameters of CAB, GAB and FFN."""

    def __init__(self, copies: int, width: int, settings: TranslatorConfig) -> None:
        super().__init__()
        self.heads = settings.heads
        self.dropout = settings.dropout
        self.convolution = StackedConvolution(copies, width, width, settings.kernel, alike=True)
        self.context = SingleKeyAttention(copies, width)
        self.context_norm = StackedNorm(copies, width)
        self.query = StackedLinear(copies, width, width, alike=True)
        self.keys_values = StackedLinear(copies, width, 2 * width, alike=True)
        self.output = StackedLinear(copies, width, width, alike=True)
        self.global_norm = StackedNorm(copies, width)
        self.feed_forward = StackedFeedForward(copies, width, settings.feed_forward, alike=True)
        self.final_norm = StackedNorm(copies, width)

    def drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)

    def finish(self, values: Tensor) -> Tensor:
        """FFN, residual and layer normalisation, (S, B, T, D)."""
        return self.final_norm(values + self.drop(self.feed_forward(values)))


class EncoderLayer(TranslatorLayer):
    def __init__(self, copies: int, width: int, settings: TranslatorConfig, compiled: bool) -> None:
        super().__init__(copies, width, settings)
        self.compiled = compiled

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B, T, D) → the layer's output (S, B, T, D) and its last hidden state (S, B, D)."""
        copies = values.shape[0]
        recurrent, query, query_bias = self._folded(copies)
        keys, whole = (
            split_heads(each, self.heads).flatten(0, 2)
            for each in self.keys_values(values).chunk(2, dim=-1)
        )
        steps = self._context_inputs(values).permute(2, 0, 1, 3).contiguous()
        compiled = self.compiled and self.training and values.is_cuda
        keys, whole = keys.contiguous(), whole.contiguous()
        x, attended = walk(steps, recurrent, query, query_bias, keys, whole, compiled)
        x, attended = x.permute(1, 2, 0, 3), attended.permute(1, 2, 0, 3)
        context = scaled(x, *self.context_norm.parts(copies))
        hidden = self.output(attended)
        out = self.finish(self.global_norm(context + self.drop(hidden)))
        return out, hidden[:, :, -1]

    def _context_inputs(self, values: Tensor) -> Tensor:
        """CAB's sum without the hidden state's part, (S, B, T, D).

        It includes the biases of the value and the output, and from the second step on GAB's bias,
        which reaches the next step through the folded projections.
        """
        copies = values.shape[0]
        first = self.context(values.new_zeros(copies, 1, values.shape[-1]))  # h_{−1} = 0
        later = self.context(self.output.parts(copies)[1][:, None])
        frames = values.shape[2]
        constant = torch.cat([first, later.expand(-1, frames - 1, -1)], dim=1)
        return self.convolution(values) + constant[:, None]

    def _folded(self, copies: int) -> tuple[Tensor, Tensor, Tensor]:
        """M = W_output W_value W_context-output, and GAB's query with CAB's norm in it."""
        output, value, context = (
            linear.parts(copies)[0]
            for linear in (self.output, self.context.value, self.context.output)
        )
        weight, bias = self.query.parts(copies)
        gain, shift = self.context_norm.parts(copies)
        query_bias = torch.baddbmm(bias[:, None], shift[:, None], weight)[:, 0]
        scale = 1 / math.sqrt(weight.shape[-1] // self.heads)
        return output @ value @ context, gain[..., None] * weight * scale, query_bias * scale


class TranslatorDecoderLayer(TranslatorLayer):
    def __init__(self, copies: int, width: int, settings: TranslatorConfig) -> None:
        super().__init__(copies, width, settings)
        self.cross = SingleKeyAttention(copies, width)
        self.cross_norm = StackedNorm(copies, width)

    def forward(self, values: Tensor, encoded: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        """All steps at once.

        Args:
            values: (S, B, T, D).
            encoded: (S, B, T, D), the last encoder layer's output.
            initial: (S, B, D), the last encoder layer's last hidden state.

        Returns:
            (S, B, T, D), and the last hidden state, (S, B, D).
        """
        hidden = self.cross(encoded)
        before = torch.cat([initial[:, :, None], hidden[:, :, :-1]], dim=2)
        context = self.context_norm(self.convolution(values) + self.context(before))
        keys, whole = self.keys_values(values).chunk(2, dim=-1)
        attended = self.output(attend(self.query(context), keys, whole, self.heads))
        out = self.global_norm(context + self.drop(attended))
        out = self.finish(self.cross_norm(out + self.drop(hidden)))
        return out, hidden[:, :, -1]


class Translator(nn.Module):
    """M encoder and N decoder layers (EDTC 3.3.2), with ``branches`` copies of every parameter."""

    def __init__(
        self, width: int, settings: TranslatorConfig, branches: int = 1, compiled: bool = False
    ) -> None:
        """``compiled``: on CUDA, in training, fuse the recurrence's loops by ``torch.compile``."""
        super().__init__()
        self.branches = branches
        if width % settings.heads:
            raise EarwitnessError(
                f"translator.heads: {settings.heads} does not divide features.width ({width}); "
                "choose a divisor"
            )
        self.encoder = nn.ModuleList(
            EncoderLayer(branches, width, settings, compiled)
            for _ in range(settings.encoder_layers)
        )
        self.decoder = nn.ModuleList(
            TranslatorDecoderLayer(branches, width, settings)
            for _ in range(settings.decoder_layers)
        )

    def forward(self, values: Tensor) -> Translation:
        """(B, T, D) through the first branch, W."""
        output, hidden = self.stacked(values[None])
        return Translation(output[0], hidden[0])

    def stacked(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B, T, D), a branch each → outputs (S, B, T, D) and last hidden states (S, B, D)."""
        encoded, hidden = values, values
        for layer in self.encoder:
            encoded, hidden = layer(encoded)
        initial, output = hidden, values
        for layer in self.decoder:
            output, hidden = layer(output, encoded, initial)
        return output, hidden


class TwinTranslator(Translator):
    """TRANSLATOR of the audio branch, W, and of the text branch, W_sim (EDTC 3.4).

    Every parameter has both in its leading axis: one batched pass runs both, and each has its own
    gradient and its own optimizer step. They are equal at every forward pass.
    """

    def __init__(
        self, width: int, settings: TranslatorConfig, momentum: float, compiled: bool = False
    ) -> None:
        super().__init__(width, settings, branches=2, compiled=compiled)
        self.momentum = momentum

    def both(self, audio: Tensor, text: Tensor) -> tuple[Translation, Translation]:
        """(B, T, D) each, audio through W and text through W_sim."""
        output, hidden = self.stacked(torch.stack([audio, text]))
        return Translation(output[0], hidden[0]), Translation(output[1], hidden[1])

    @torch.no_grad()
    def momentum_update(self) -> None:
        """W ← β W + (1 − β) W_sim, then W_sim ← W (eq. 4), after an optimizer's step.

        The optimizer's state of both branches stays as it is.
        """
        branches = [parameter.view(2, -1) for parameter in self.parameters()]
        audio, text = [each[0] for each in branches], [each[1] for each in branches]
        torch._foreach_lerp_(audio, text, 1 - self.momentum)
        torch._foreach_copy_(text, audio)
