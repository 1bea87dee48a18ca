"""Scheduled sampling: one training step of ours against the published step-by-step way.

    python -m benchmarks.scheduled_sampling [--threads 1]

Decoder and loss of the paper's sizes, forward and backward, with dropout, on the memory of a
10-second clip's 31 frames. The slow way is tests/reference_seq2seq.py: torch's decoder, which reads
the whole prefix at every step as SJTU's code does, or its GRU, which computes the attention's
products again at every step. Gold steps are chosen as in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Row, compare, print_table
from pipeline.config.seq2seq import Seq2SeqConfig
from pipeline.losses.cross_entropy import cross_entropy
from pipeline.models.captioners.seq2seq import DECODERS, gold_steps
from pipeline.tensors import Memory, TokenIds
from tests.reference_seq2seq import REFERENCES

CLIPS = 64  # SJTU 3
FRAMES = 31  # 10 s of CNN14
WORDS = 20
TOKENS = TokenIds(size=4368, begin=1, pad=0, end=2)  # Clotho's
TARGET = 5.0
TRANSFORMER = Seq2SeqConfig()
GRU = Seq2SeqConfig(decoder="gru", decoder_layers=1, width=512)
STEPS = 3  # in each timed run, each with other gold steps


def main() -> None:
    """Prints the table; about a minute on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [
        measure("Transformer 2 × 256, end of training", TRANSFORMER, 0.7, TARGET, arguments),
        measure("Transformer 2 × 256, mean of training", TRANSFORMER, 0.85, TARGET, arguments),
        measure("GRU 1 × 512, mean of training", GRU, 0.85, 2.0, arguments),
    ]
    print_table(rows)


def measure(
    name: str,
    settings: Seq2SeqConfig,
    probability: float,
    target: float,
    arguments: argparse.Namespace,
) -> Row:
    """Both ways at one probability of teacher forcing; times are of one step."""
    torch.manual_seed(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = 2 * settings.encoder_width
    ours = DECODERS[settings.decoder](inputs, settings, TOKENS).to(device)
    plain = REFERENCES[settings.decoder](ours).to(device)
    values = torch.randn(CLIPS, FRAMES, inputs, device=device, requires_grad=True)
    encoded = Memory(values, torch.ones(CLIPS, FRAMES, dtype=torch.bool, device=device))
    tokens = captions(device)
    draws = [gold_steps(tokens.shape[1] - 1, probability, 1, step) for step in range(STEPS)]

    def fast(gold: list[bool]) -> Tensor:
        memory = Memory(ours.read(values), encoded.mask)
        return ours.scheduled(memory, tokens[:, :-1], gold)

    def slow(gold: list[bool]) -> Tensor:
        return plain.scheduled(encoded, tokens[:, :-1], gold)

    def stepping(module: Any, logits: Callable[[list[bool]], Tensor]) -> Callable[[], None]:
        turn = cycle(draws)

        def run() -> None:
            module.zero_grad()
            cross_entropy(logits(next(turn)), tokens[:, 1:], TOKENS.pad, 0.1).backward()

        return run

    label = f"scheduled sampling at {probability:g} ({name}; B {CLIPS}, {WORDS} words)"
    repeats = STEPS * arguments.repeats
    return compare(label, stepping(plain, slow), stepping(ours, fast), target, repeats)


def captions(device: str) -> Tensor:
    """(B, 22): random words between begin and end."""
    tokens = torch.randint(4, TOKENS.size, (CLIPS, WORDS + 2), device=device)
    tokens[:, 0], tokens[:, -1] = TOKENS.begin, TOKENS.end
    return tokens


if __name__ == "__main__":
    main()
