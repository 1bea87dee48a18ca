"""Where in a sound a captioner looked for each word of its caption.

The caption is read once more, teacher-forced, and the attention of the decoder to the sound is
computed from its queries and keys, which hooks record: nothing that training or decoding runs is
changed for it. It is the mean over heads, over layers, and over an ensemble's members. Attention
says what a decoder read from, not why it chose a word (Jain & Wallace 2019).

Captioners whose decoder attends to no frames (a prefix, a pooled feature) have none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.bart.modeling_bart import BartDecoder

from pipeline.decoding.predict import LONGEST
from pipeline.device import autocast
from pipeline.models.decoders.cached import split_parts
from pipeline.models.decoders.gru import GruDecoder
from pipeline.models.decoders.transformer import TransformerDecoder
from pipeline.tensors import Padded
from pipeline.text.tokenizer import Tokenizer
from pipeline.trained.captioner import TrainedCaptioner

COLUMNS = 120  # steps of time, at most


class Attention(NamedTuple):
    """The weights of a caption's words over the time of its sound."""

    words: tuple[str, ...]  # L
    weights: NDArray[np.float32]  # (L, T), of T equal parts of the sound; each row sums to 1


@torch.no_grad()
def word_attention(
    members: Sequence[TrainedCaptioner], sounds: Sequence[tuple[Padded, ...]], text: str
) -> Attention | None:
    """The attention of M members of one vocabulary as they read one caption of one clip.

    Args:
        sounds: M × E × (1, T, D), what each member hears.

    Returns:
        None where no member attends to time, or the caption has no word.
    """
    tokenizer = members[0].tokenizer
    (ids,) = tokenizer.encode([text], LONGEST)
    words = word_of_token(tokenizer, ids)
    pairs = zip(members, sounds, strict=True)
    rows = [steps for pair in pairs if words and (steps := _steps(*pair, ids)) is not None]
    return _of_words(rows, words, tokenizer.decode([ids])[0].split()) if rows else None


def _of_words(
    members: Sequence[Tensor], word_of_step: Sequence[int], words: Sequence[str]
) -> Attention:
    """M × (L, T) of the steps that chose L tokens; the members may differ in T."""
    columns = min(COLUMNS, max(rows.shape[1] for rows in members))
    mean = torch.stack([_resized(rows, columns) for rows in members]).mean(0)
    chose = F.one_hot(torch.tensor(word_of_step), len(words)).T.to(mean)
    total = chose @ mean
    return Attention(tuple(words), (total / total.sum(1, keepdim=True)).cpu().numpy())


def _resized(rows: Tensor, columns: int) -> Tensor:
    """(L, T) → (L, columns), which sum to 1: means of steps, or between steps of fewer."""
    if columns <= rows.shape[1]:
        rows = F.adaptive_avg_pool1d(rows[None], columns)[0]
    else:
        rows = F.interpolate(rows[None], columns, mode="linear")[0]
    return rows / rows.sum(1, keepdim=True)


def _steps(
    member: TrainedCaptioner, sound: tuple[Padded, ...], ids: Sequence[int]
) -> Tensor | None:
    """(L, T) of the steps that chose the L tokens between begin and end.

    None where this captioner attends to less than two steps of time.
    """
    tokens = torch.tensor([ids], device=sound[0].values.device)
    with autocast(member.plan.hardware.precision, tokens.device):
        memory = member.model.encode(sound)
        with recorded(member.model) as layers:
            member.model.logits(memory, tokens[:, :-1])
    if not layers or layers[0].shape[1] < 2:
        return None
    return torch.stack(layers).mean(0)[-len(ids) + 1 : -1]  # a pretrained BART reads a token before


def word_of_token(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The number of the word that each token between begin and end belongs to; none of no word."""
    starts = [[*ids[: stop + 1], tokenizer.end] for stop in range(1, len(ids) - 1)]
    counts = [len(text.split()) for text in tokenizer.decode(starts)] if starts else []
    return [max(count, 1) - 1 for count in counts] if any(counts) else []


class Read(NamedTuple):
    """What one layer's attention to the sound is computed from, filled as the model runs."""

    queries: list[Tensor]  # (1, L, D), or L × (1, 1, D)
    keys: list[Tensor]  # (1, T, D), or the values beside them: (1, T, 2D)
    heads: int
    parts: int  # of keys: 2 with the values
    score: Tensor | None = None  # (D,), of additive attention

    def weights(self) -> Tensor:
        """(L, T), the mean of the heads."""
        queries, keys = torch.cat(self.queries, 1).float(), self.keys[0].float()
        if self.score is not None:  # Bahdanau et al. 2015
            return ((keys + queries[0][:, None]).tanh() @ self.score.float()).softmax(-1)
        key = split_parts(keys, self.parts, self.heads)[0]
        (query,) = split_parts(queries, 1, self.heads)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return scores.softmax(-1).mean(1)[0]


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Tensor]]:
    """(L, T) attention of each layer of ``model``'s decoder, filled at the end of the context.

    In it, one caption of one clip is read teacher-forced. A decoder of another kind leaves the
    list empty.
    """
    layers: list[Tensor] = []
    with ExitStack() as stack:
        reads = [read for module in model.modules() for read in _reads(module, stack)]
        yield layers
    layers += [read.weights() for read in reads]


def _reads(module: nn.Module, stack: ExitStack) -> Iterator[Read]:
    """Of each layer, where ``module`` is a decoder that attends to sound."""
    match module:
        case TransformerDecoder():
            for layer in module.stack():
                queries, keys = outputs(stack, layer.query), outputs(stack, layer.memory)
                yield Read(queries, keys, layer.heads, 2)
        case BartDecoder():
            attentions: list[Any] = [layer.encoder_attn for layer in module.layers]
            for cross in attentions:
                queries, keys = outputs(stack, cross.q_proj), outputs(stack, cross.k_proj)
                yield Read(queries, keys, cross.num_heads, 1)
        case GruDecoder():
            queries, keys = outputs(stack, module.query), outputs(stack, module.key)
            yield Read(queries, keys, 1, 1, module.score)


def outputs(stack: ExitStack, module: nn.Module) -> list[Tensor]:
    """What a module gives, call by call, as long as ``stack`` is open."""
    given: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: given.append(output))
    stack.callback(hook.remove)
    return given
