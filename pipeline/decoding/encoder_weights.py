"""What EDTC's encoder read from: FUSER's weights over encoders and time, TRANSLATOR's over time.

As in ``attention``, hooks record what the layers compute, in evaluation mode, and nothing that
training runs is changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.decoding.attention import outputs
from pipeline.device import autocast
from pipeline.models.layers.fuser import ChannelFusion, EncoderFusion
from pipeline.models.layers.stacked import split_heads
from pipeline.models.layers.translator import EncoderLayer, TranslatorDecoderLayer
from pipeline.tensors import Padded
from pipeline.trained.captioner import TrainedCaptioner


class EncoderWeights(NamedTuple):
    """Of one clip. E encoders, T frames, which are equal parts of the sound."""

    # FUSER: each encoder's share of what CFB adds to the fused stream, mean over layers; a frame's
    # shares sum to 1
    share: Tensor | None  # (E, T)
    # EFB: where in each encoder's feature the others look, mean over heads, encoders and their
    # frames; an encoder's sum to 1
    read: Tensor | None  # (E, T)
    # TRANSLATOR: each step's global attention (GAB), mean over heads and layers; rows sum to 1
    encoder: Tensor | None  # (T, T)
    decoder: Tensor | None  # (T, T)


@torch.no_grad()
def encoder_weights(member: TrainedCaptioner, sound: tuple[Padded, ...]) -> EncoderWeights | None:
    """The weights as ``member`` encodes one clip, E × (1, T, D); None: it has none."""
    device = sound[0].values.device
    with ExitStack() as stack:
        reads = [(module, _recorded(module, stack)) for module in member.model.modules()]
        with autocast(member.plan.hardware.precision, device):
            member.model.encode(sound)
    found: dict[type, list[Tensor]] = {}
    for module, weights in reads:
        if weights is not None:
            found.setdefault(type(module), []).append(weights())
    if not found:
        return None
    return EncoderWeights(
        share=_mean(found.get(ChannelFusion, [])),
        read=_mean(found.get(EncoderFusion, [])),
        encoder=_mean(found.get(EncoderLayer, [])),
        decoder=_mean(found.get(TranslatorDecoderLayer, [])),
    )


def _mean(layers: Sequence[Tensor]) -> Tensor | None:
    return torch.stack([*layers]).mean(0) if layers else None


def _recorded(module: nn.Module, stack: ExitStack) -> Callable[[], Tensor] | None:
    """What computes the weights of a layer after it has run; None: a layer without."""
    match module:
        case EncoderFusion():
            queries = outputs(stack, module.query)
            pairs = outputs(stack, module.keys_values)
            return lambda: _between_encoders(module, queries[0], pairs[0])
        case ChannelFusion():
            together = _inputs(stack, module.convolution)
            return lambda: _shares(contributions(module, together[0]))
        case TranslatorDecoderLayer():
            queries = outputs(stack, module.query)
            pairs = outputs(stack, module.keys_values)
            return lambda: _global(queries[0], pairs[0], module.heads)
        case EncoderLayer():
            # its loop hides the query: the context is what the norm reads without the hidden state
            summed = _inputs(stack, module.global_norm)
            hidden = outputs(stack, module.output)
            pairs = outputs(stack, module.keys_values)
            return lambda: _global(module.query(summed[0] - hidden[0]), pairs[0], module.heads)
    return None


def efb_attention(queries: Tensor, pairs: Tensor, heads: int) -> Tensor:
    """(E, 1, T, D) queries and (E, E − 1, 1, T, 2D) keys and values → (E, E − 1, heads, T, T)."""
    query = split_heads(queries[:, None, 0].float(), heads)  # (E, 1, heads, T, D / heads)
    key = split_heads(pairs[:, :, 0].chunk(2, -1)[0].float(), heads)
    return (query @ key.mT / math.sqrt(key.shape[-1])).softmax(-1)


def _between_encoders(module: EncoderFusion, queries: Tensor, pairs: Tensor) -> Tensor:
    """(E, T)."""
    rows = efb_attention(queries, pairs, module.heads).mean((2, 3))  # (E, E − 1, T)
    others = module.others.flatten()
    total = rows.new_zeros(len(queries), rows.shape[-1]).index_add_(0, others, rows.flatten(0, 1))
    return total / total.sum(1, keepdim=True)


def contributions(module: ChannelFusion, together: Tensor) -> Tensor:
    """(1, 1, T, E·D), what the convolution reads → (E, T, D), of which its output is the sum, but
    for its bias."""
    width = module.norm.normalized_shape[0]
    encoders = together.shape[-1] // width
    nothing = module.convolution(torch.zeros_like(together))
    alone = []
    for encoder in range(encoders):
        own = torch.zeros_like(together)
        part = slice(encoder * width, (encoder + 1) * width)
        own[..., part] = together[..., part]
        alone.append((module.convolution(own) - nothing)[0, 0].float())
    return torch.stack(alone)


def _shares(parts: Tensor) -> Tensor:
    """(E, T, D) → (E, T), by length."""
    lengths = parts.norm(dim=-1)
    return lengths / lengths.sum(0).clamp_min(1e-12)


def _global(queries: Tensor, pairs: Tensor, heads: int) -> Tensor:
    """(1, 1, T, D) and keys and values beside each other → (T, T), the mean of the heads."""
    query = split_heads(queries[0, 0].float(), heads)
    key = split_heads(pairs[0, 0].chunk(2, -1)[0].float(), heads)
    return (query @ key.mT / math.sqrt(key.shape[-1])).softmax(-1).mean(0)


def _inputs(stack: ExitStack, module: nn.Module) -> list[Tensor]:
    """What a module is given, call by call, as long as ``stack`` is open."""
    given: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
    stack.callback(hook.remove)
    return given
