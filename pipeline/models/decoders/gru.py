"""SJTU's GRU decoder with additive attention (SJTU 2.1, Table 1: 1 × 512; Bahdanau et al. 2015).

Of the decoders in the published code it is the one with the paper's 14.6 M parameters
(``BahAttnCatFc``): the GRU reads the word, the attention's context and the mean of the clip's
memory, concatenated. The memory is the encoder's output. A step, where h is the state before it:

    a_t = softmax(v · tanh(Wk memory + Wq h))        over the frames
    x = [word, Wc Σ a_t memory_t, Wm mean memory]
    h' = GRU(x, h),  logits = W h' + b

All that does not depend on h is computed for all steps at once: the keys, and what the word and the
mean add to the GRU's gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.seq2seq import Seq2SeqConfig
from pipeline.models.decoders.words import WordDecoder
from pipeline.tensors import Memory, TokenIds
from pipeline.uncompiled import uncompiled

States = tuple[Tensor, ...]  # one a layer, (B, K, D)


class GruAttended(NamedTuple):
    """What each step needs of the memory; a clip's K hypotheses share it."""

    keys: Tensor  # (B, 1, T, D)
    values: Tensor  # (B, T, W)
    mask: Tensor  # (B, 1, T) bool
    clip: Tensor  # (B, 1, 3D), what the mean adds to the gates


class GruCell(nn.Module):
    """``nn.GRUCell`` whose input is W_i x + b_i, what x adds to the gates."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 3 * width)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """(…, 3D) and (…, D) → (…, D), the state's dtype; torch's order: reset, update, new."""
        inputs, hidden = inputs.to(state.dtype), self.hidden(state).to(state.dtype)
        reset, update, new = inputs.chunk(3, -1)
        hidden_reset, hidden_update, hidden_new = hidden.chunk(3, -1)
        reset, update = (reset + hidden_reset).sigmoid(), (update + hidden_update).sigmoid()
        new = (new + reset * hidden_new).tanh()
        return new + update * (state - new)


class GruDecoder(WordDecoder):
    """``settings.decoder_layers`` layers over V words; all their states are the attention's query.

    Scheduled sampling: each step reads one word, the caption's or the model's argmax of the step
    before, and continues from the same state in both cases.

    Args:
        inputs: W of the encoder.
    """

    def __init__(self, inputs: int, settings: Seq2SeqConfig, tokens: TokenIds) -> None:
        super().__init__()
        width, layers = settings.width, settings.decoder_layers
        self.tokens, self.width, self.dropout = tokens, width, settings.dropout
        self.embedding = nn.Embedding(tokens.size, width)
        self.key = nn.Linear(inputs, width)
        self.query = nn.Linear(layers * width, width, bias=False)
        self.score = nn.Parameter(torch.randn(width))
        self.context = nn.Linear(inputs, width)
        self.clip = nn.Linear(inputs, width)
        self.word_gates = nn.Linear(width, 3 * width)
        self.context_gates = nn.Linear(width, 3 * width, bias=False)
        self.clip_gates = nn.Linear(width, 3 * width, bias=False)
        self.cells = nn.ModuleList(GruCell(width) for _ in range(layers))
        self.between = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers - 1))
        self.classifier = nn.Linear(width, tokens.size)
        self._initialise(inputs + layers * width)

    def _initialise(self, attention: int) -> None:
        """As the published code; ``attention``: the inputs of keys and query as one matrix."""
        for linear in (self.context, self.clip, self.classifier, self.key):
            nn.init.kaiming_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.kaiming_uniform_(self.embedding.weight)
        for linear in (self.key, self.query):
            nn.init.uniform_(linear.weight, -((6 / attention) ** 0.5), (6 / attention) ** 0.5)
        gates = (self.word_gates, self.context_gates, self.clip_gates, self.cells, self.between)
        for module in gates:
            for weight in module.parameters():
                nn.init.uniform_(weight, -(self.width**-0.5), self.width**-0.5)  # as nn.GRU

    def read(self, values: Tensor) -> Tensor:
        return values

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.scheduled(memory, tokens, [True] * tokens.shape[1])

    @uncompiled  # tracing would unroll the steps, again for each length and ``gold``
    def scheduled(self, memory: Memory, tokens: Tensor, gold: Sequence[bool]) -> Tensor:
        """See :class:`WordDecoder`; the classifier is one product over all steps."""
        attended = self.attended(memory)
        words = self._word_gates(tokens).split(1, 1)
        states = self.first_states(len(tokens), 1, tokens.device)
        outputs: list[Tensor] = []
        for step, is_gold in enumerate(gold):
            word = (
                words[step] if is_gold or step == 0 else self._word_gates(self._pick(outputs[-1]))
            )
            states = self.advance(word, states, attended)
            outputs.append(states[-1])
        return self.classifier(torch.cat(outputs, 1))

    def stepper(self) -> GruStepper:
        return GruStepper(self, self.tokens)

    def attended(self, memory: Memory) -> GruAttended:
        """What each step needs of the memory."""
        valid = memory.mask[..., None]
        total = memory.values.masked_fill(~valid, 0).sum(1, keepdim=True)
        mean = total / valid.sum(1, keepdim=True)
        return GruAttended(
            self.key(memory.values)[:, None],
            memory.values,
            memory.mask[:, None],
            self.clip_gates(self.clip(mean)),
        )

    def _word_gates(self, tokens: Tensor) -> Tensor:
        """(B, K) tokens → (B, K, 3D), what they add to the gates."""
        return self.word_gates(F.dropout(self.embedding(tokens), self.dropout, self.training))

    def first_states(self, clips: int, beams: int, device: torch.device) -> States:
        """Zeros in the weights' dtype, also under autocast, as rounding errors would accumulate."""
        zeros = torch.zeros(clips, beams, self.width, dtype=self.score.dtype, device=device)
        return tuple(zeros for _ in self.cells)

    def advance(self, word: Tensor, states: States, attended: GruAttended) -> States:
        """One step of K hypotheses a clip; ``word``: (B, K, 3D), what words add to the gates."""
        query = self.query(torch.cat(states, -1))[:, :, None]  # (B, K, 1, D)
        scores = (attended.keys + query).tanh() @ self.score.to(query.dtype)  # (B, K, T)
        weights = scores.masked_fill(~attended.mask, float("-inf")).softmax(-1)
        context = self.context(weights @ attended.values.to(weights.dtype))
        inputs = word + self.context_gates(context) + attended.clip
        after = [self.cells[0](inputs, states[0])]
        for cell, between, state in zip(self.cells[1:], self.between, states[1:], strict=True):
            after.append(cell(between(after[-1]), state))
        return tuple(after)

    @torch.no_grad()
    def _pick(self, hidden: Tensor) -> Tensor:
        """(B, 1, D) → (B, 1) int64, the most probable next word."""
        return self.classifier(hidden).argmax(-1)


@dataclass(frozen=True)
class GruState:
    attended: GruAttended
    states: States


class GruStepper:
    """A :class:`pipeline.models.decoders.stepper.Stepper`; runs without gradients or dropout.

    The states are the only cache. The K hypotheses of a clip are K queries to one memory.
    """

    def __init__(self, decoder: GruDecoder, tokens: TokenIds) -> None:
        self.decoder = decoder
        self.vocabulary, self.begin, self.pad, self.end = tokens

    @torch.no_grad()
    def start(self, memory: Memory, beams: int, max_length: int) -> GruState:
        """See :class:`Stepper`."""
        clips, device = memory.values.shape[0], memory.values.device
        states = self.decoder.first_states(clips, beams, device)
        return GruState(self.decoder.attended(memory), states)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: GruState) -> tuple[Tensor, GruState]:
        """(B, K) tokens to (B, K, V) log-probabilities; see :class:`Stepper`."""
        word = self.decoder.word_gates(self.decoder.embedding(tokens))
        states = self.decoder.advance(word, state.states, state.attended)
        logits = self.decoder.classifier(states[-1])
        return logits.float().log_softmax(-1), replace(state, states=states)

    def reorder(self, state: GruState, parents: Tensor) -> GruState:
        """See :class:`Stepper`."""
        index = parents[..., None]
        return replace(
            state, states=tuple(each.gather(1, index.expand_as(each)) for each in state.states)
        )

    def select(self, state: GruState, clips: Tensor) -> GruState:
        """See :class:`Stepper`."""
        attended = GruAttended(*(part[clips] for part in state.attended))
        return GruState(attended, tuple(each[clips] for each in state.states))
