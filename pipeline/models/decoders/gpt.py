"""A GPT-style decoder (Radford et al. 2019): pre-norm, learned positions, tied output.

With the sizes of a GPT-2 it is GPT-2, and takes its weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import EarwitnessError
from pipeline.models.decoders.cached import (
    Affine,
    CachedState,
    CachedStepper,
    LayerCache,
    affine,
    join_heads,
    no_past,
    product_dtype,
    split_parts,
)
from pipeline.models.pretrained import load_pretrained
from pipeline.tensors import Memory, TokenIds

POSITIONS = 512  # the longest prefix and caption that can be decoded, from scratch
# our names → those of transformers, whose weights are transposed
LINEARS = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
NORMS = {"attention_norm": "ln_1", "inner_norm": "ln_2"}


class Sizes(NamedTuple):
    """The sizes of a decoder."""

    vocabulary: int  # V
    positions: int
    layers: int
    heads: int
    width: int  # D


class Block(nn.Module):
    """One layer. H heads of width d."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.inner_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, D) → the same; each position attends to itself and those before it."""
        query, keys, values = split_parts(self.qkv(self.attention_norm(hidden)), 3, self.heads)
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(
            query, keys, values, is_causal=True, dropout_p=dropout
        )
        hidden = hidden + self._drop(self.out(join_heads(read)))
        inner = F.gelu(self.up(self.inner_norm(hidden)), approximate="tanh")
        return hidden + self._drop(self.down(inner))

    def _drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class Gpt(nn.Module):
    """Embeddings in, logits of the next token out.

    Raises:
        EarwitnessError: a width that the heads do not divide.
    """

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        if sizes.width % sizes.heads:
            raise EarwitnessError(
                f"prefix.width {sizes.width} is not a multiple of prefix.heads {sizes.heads}; "
                "change one"
            )
        self.sizes, self.dropout = sizes, dropout
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Embedding(sizes.positions, sizes.width)
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, dropout) for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(sizes.width)
        self._initialise()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, S, D) embedded inputs, the first at position 0 → (B, S, D) last states."""
        self.check_length(inputs.shape[1])
        hidden = inputs + self.positions.weight[: inputs.shape[1]]
        hidden = F.dropout(hidden, self.dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden)
        return self.norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, S, D) → (B, S, V)."""
        return F.linear(hidden, self.embedding.weight)

    def check_length(self, length: int) -> None:
        if length > self.sizes.positions:
            raise EarwitnessError(
                f"prefix: {length} tokens with the prefix, but the decoder has "
                f"{self.sizes.positions} positions; lower prefix.max_tokens or max_length"
            )

    def stack(self) -> list[Block]:
        """The layers, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def _initialise(self) -> None:
        """As GPT-2, in proportion to the width; layers that add to the residual begin smaller."""
        std = 0.02 * math.sqrt(768 / self.sizes.width)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=std / math.sqrt(2 * self.sizes.layers) if last else std)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)


@torch.no_grad()
def extend_rows(weight: Tensor, rows: int, like: int) -> Tensor:
    """(V, D) → (rows, D): copies of row ``like`` for the tokens that were added."""
    return torch.cat([weight, weight[like].expand(max(0, rows - len(weight)), -1)])


def load_gpt(name_or_path: str, vocabulary: int, dropout: float) -> Gpt:
    """The weights of a GPT-2, by hub name or folder, in our decoder; this machine is searched
    first.

    Args:
        vocabulary: V of the tokenizer; tokens that were added to GPT-2's begin as copies of its
            end of text.

    Raises:
        EarwitnessError: no such weights or no network, weights that are not safetensors, or not a
            GPT-2's.
    """
    whole = _pretrained(name_or_path)
    config = whole.config
    state = whole.state_dict()
    embedding = state["transformer.wte.weight"]
    end = config.eos_token_id if isinstance(config.eos_token_id, int) else len(embedding) - 1
    sizes = Sizes(
        max(vocabulary, len(embedding)), config.n_positions, config.n_layer, config.n_head,
        config.n_embd,
    )  # fmt: skip
    model = Gpt(sizes, dropout)
    weights: dict[str, Tensor] = {
        "embedding.weight": extend_rows(embedding, sizes.vocabulary, end),
        "positions.weight": state["transformer.wpe.weight"],
        "norm.weight": state["transformer.ln_f.weight"],
        "norm.bias": state["transformer.ln_f.bias"],
    }
    for layer in range(sizes.layers):
        for ours, theirs in (LINEARS | NORMS).items():
            for kind in ("weight", "bias"):
                value = state[f"transformer.h.{layer}.{theirs}.{kind}"]
                weights[f"blocks.{layer}.{ours}.{kind}"] = value.t() if value.ndim == 2 else value
    model.load_state_dict(weights)
    return model


def _pretrained(name_or_path: str) -> Any:
    """transformers' model with all of its weights."""
    from transformers import GPT2LMHeadModel

    whole, lacking, mismatched = load_pretrained(GPT2LMHeadModel, name_or_path, "prefix")
    config = whole.config
    plain = config.activation_function == "gelu_new" and config.n_inner in (None, 4 * config.n_embd)
    if config.model_type != "gpt2" or lacking or mismatched or not plain:
        what = f"lacks {lacking[0]}" if lacking else "is of another form"
        raise EarwitnessError(f"prefix.pretrained: '{name_or_path}' is not a GPT-2 (it {what})")
    return whole


class LayerWeights(NamedTuple):
    """One layer's weights in the dtype of the products."""

    module: Block  # for its norms
    qkv: Affine
    out: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True, kw_only=True)
class GptState(CachedState):
    """The first slots of the caches hold the prefix."""

    layers: tuple[LayerWeights, ...]


class GptStepper(CachedStepper):
    """A ``Stepper``; runs without gradients or dropout."""

    def __init__(self, decoder: Gpt, tokens: TokenIds) -> None:
        self.decoder = decoder
        self.vocabulary, self.begin, self.pad, self.end = tokens

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> GptState:
        """See :class:`Stepper`; computes the prefix and casts the decoder's weights, once."""
        clips, prefix, _ = memory.values.shape
        self.decoder.check_length(prefix + max_length)
        dtype = product_dtype(self.decoder.embedding.weight)
        layers = tuple(_weights(block, dtype) for block in self.decoder.stack())
        slots = prefix + max_length * beams
        hidden = memory.values + self.decoder.positions.weight[:prefix]
        caches = []
        for layer in layers:
            hidden, cache = _read_prefix(hidden, layer, slots)
            caches.append(cache)
        past = no_past(clips, beams, slots, hidden.device)
        past[:, :, :prefix] = True
        output = Affine(self.decoder.embedding.weight.to(dtype), None)
        return GptState(
            layers=layers, output=output, caches=tuple(caches), past=past, prefix=prefix
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: GptState) -> tuple[Tensor, GptState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        after = state.stepped()
        position = self.decoder.positions.weight[state.prefix + state.steps]
        hidden = self.decoder.embedding(tokens) + position
        mask = after.mask
        for layer, cache in zip(state.layers, state.caches, strict=True):
            query, key, value = _qkv(hidden, layer)
            keys, values = cache.write(key, value, after.used)
            read = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            hidden = _after(hidden, read, layer)
        # a pretrained decoder may have more tokens than the tokenizer
        logits = state.output(self.decoder.norm(hidden))[..., : self.vocabulary]
        return logits.float().log_softmax(-1), after


def _read_prefix(hidden: Tensor, layer: LayerWeights, slots: int) -> tuple[Tensor, LayerCache]:
    """(B, P, D) prefix through one layer, and the cache with it in its first slots."""
    query, keys, values = _qkv(hidden, layer)
    read = F.scaled_dot_product_attention(query, keys, values, is_causal=True)
    cache = LayerCache.empty(keys[:, :, :0], values[:, :, :0], slots)
    cache.write(keys, values, keys.shape[2])
    return _after(hidden, read, layer), cache


def _qkv(hidden: Tensor, layer: LayerWeights) -> tuple[Tensor, ...]:
    """(B, L, D) → (B, H, L, d) each."""
    return split_parts(layer.qkv(layer.module.attention_norm(hidden)), 3, layer.module.heads)


def _after(hidden: Tensor, read: Tensor, layer: LayerWeights) -> Tensor:
    """The rest of a layer: (B, L, D) and its attention's output, (B, H, L, d) → (B, L, D)."""
    hidden = hidden + layer.out(join_heads(read))
    inner = F.gelu(layer.up(layer.module.inner_norm(hidden)), approximate="tanh")
    return hidden + layer.down(inner)


def _weights(block: Block, dtype: torch.dtype) -> LayerWeights:
    parts = (block.qkv, block.out, block.up, block.down)
    return LayerWeights(block, *(affine(part, dtype) for part in parts))
