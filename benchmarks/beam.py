"""Beam search: ours against decoding each clip without a cache, and transformers' ``generate``.

The weights are random; the output's bias of the end of sentence gives captions different lengths,
as real ones have. Three searches use the same weights and settings: ours; one clip at a time
without a cache, its K hypotheses in one batch; and ``generate`` on the whole batch with its own
cache. The second is timed on some clips, and its time is scaled to all clips.

Run it as ``python -m benchmarks.beam``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.plain_beam import plain_beam
from benchmarks.timing import Row, compare, print_table
from pipeline.config.bart import BartConfig
from pipeline.decoding.search import search
from pipeline.models.decoders.bart import Bart
from pipeline.tensors import Memory, TokenIds

BEAMS = 4
FRAMES = 32
SMALL = BartConfig(
    pretrained=None, encoder_layers=2, decoder_layers=2, heads=4, width=192, feed_forward=768
)
BASE = BartConfig(pretrained=None)  # facebook/bart-base: 6 + 6 layers, width 768
MIN_LENGTH = 8  # tokens
SPREAD = 2.0  # scale of the weights, so that captions differ
END_BIAS = {SMALL.width: 1.2, BASE.width: 2.2}


def main() -> None:
    """Prints four rows; about a minute on one core."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rows = measure("small, B = 64", SMALL, 1000, clips=64, alone=16, max_length=40, repeats=3)
    rows += measure("bart-base, B = 16", BASE, 50265, clips=16, alone=2, max_length=20, repeats=1)
    print_table(rows)


def measure(
    name: str,
    settings: BartConfig,
    vocabulary: int,
    *,
    clips: int,
    alone: int,
    max_length: int,
    repeats: int,
) -> list[Row]:
    """Ours against each of the others, on one model.

    Args:
        alone: how many clips are decoded one by one.
        max_length: in tokens.
    """
    model, memory = random_model(settings, vocabulary, clips)
    reference = transformers_model(model)
    some = range(0, clips, clips // alone)

    def ours() -> Tensor:
        stepper = model.stepper()
        found = search(stepper, memory, beams=BEAMS, min_length=MIN_LENGTH, max_length=max_length)
        return found.tokens[:, 0]

    def uncached() -> list[Tensor]:
        one = [Memory(memory.values[i : i + 1], memory.mask[i : i + 1]) for i in some]
        return [uncached_beam(model, clip, max_length) for clip in one]

    def theirs() -> Tensor:
        return generate(reference, memory, max_length)

    report(name, model, ours(), dict(zip(some, uncached(), strict=True)), theirs())
    each = compare(
        f"beam 4: a clip at a time, no cache ({name})", uncached, ours, 8, repeats, warm=False
    )
    return [
        replace(each, slow=each.slow * clips / alone),
        compare(f"beam 4: transformers' generate ({name})", theirs, ours, 1, repeats + 2),
    ]


def random_model(settings: BartConfig, vocabulary: int, clips: int) -> tuple[Bart, Memory]:
    """A model that ends its captions after some ten tokens, and the memory of random features."""
    torch.manual_seed(1)
    model = Bart.from_settings(settings, TokenIds(vocabulary, begin=0, pad=1, end=2)).eval()
    for name, weight in model.named_parameters():
        if "layers" in name and weight.dim() == 2:
            weight.mul_(SPREAD)
    model.final_logits_bias[model.tokens.end] = END_BIAS[settings.width]
    mask = torch.ones(clips, FRAMES, dtype=torch.bool)
    return model, model.encode(torch.randn(clips, FRAMES, settings.width), mask)


def transformers_model(model: Bart) -> BartForConditionalGeneration:
    """transformers' own model around the same weights."""
    reference: Any = BartForConditionalGeneration(model.config).eval()
    reference.model.decoder.load_state_dict(model.decoder.state_dict())
    reference.model.set_input_embeddings(reference.model.decoder.embed_tokens)
    reference.tie_weights()
    reference.final_logits_bias.copy_(model.final_logits_bias[None])
    return reference


def generate(reference: Any, memory: Memory, max_length: int) -> Tensor:
    """(B, L) of transformers' beam search by the same rules."""
    config = reference.config
    return reference.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory.values),
        attention_mask=memory.mask.long(),
        num_beams=BEAMS,
        do_sample=False,
        min_new_tokens=MIN_LENGTH,
        max_new_tokens=max_length + 1,
        suppress_tokens=[config.bos_token_id, config.pad_token_id],
    )


def uncached_beam(model: Bart, memory: Memory, max_length: int) -> Tensor:
    """(L,): one clip's best caption, every prefix read again."""

    def log_probs(tokens: Tensor) -> Tensor:
        repeated = Memory(*(part.expand(len(tokens), *part.shape[1:]) for part in memory))
        return model.logits(repeated, tokens)[:, -1].log_softmax(-1)

    return plain_beam(
        log_probs, model.tokens, beams=BEAMS, min_length=MIN_LENGTH, max_length=max_length
    )


def report(name: str, model: Bart, ours: Tensor, alone: dict[int, Tensor], theirs: Tensor) -> None:
    """Prints how many of the captions are equal, and their lengths."""
    pad, end = model.tokens.pad, model.tokens.end

    def ids(row: Tensor) -> list[int]:
        return [token for token in row.tolist() if token != pad]

    lengths = (ours != pad).sum(-1) - 1
    same = sum(ids(ours[i]) == ids(row) for i, row in alone.items())
    # at the greatest length generate cuts a caption off, and ours ends it
    ended = [i for i, row in enumerate(theirs.tolist()) if end in row[1:]]
    same_as_theirs = sum(ids(ours[i]) == ids(theirs[i]) for i in ended)
    print(
        f"{name}: {same} of {len(alone)} captions equal those without a cache, "
        f"{same_as_theirs} of "
        f"{len(ended)} those that generate ended; {int(lengths.min())} to "
        f"{int(lengths.max())} tokens, mean {float(lengths.float().mean()):.1f}"
    )


if __name__ == "__main__":
    main()
