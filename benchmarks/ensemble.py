"""Ensemble beam search: ours against decoding clip by clip, in clips a second.

    python -m benchmarks.ensemble [--threads 1]

Two Transformer captioners of the paper's size, beam 3 (SJTU 3), on the memory of 10-second clips,
with random weights that give captions different lengths, as real ones have. The obvious way is the
published code's: one clip at a time, where each member reads the whole prefix of its K hypotheses
again at every step. The second row is one clip at a time with our search and its cache.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.plain_beam import plain_beam
from benchmarks.timing import Row, compare, print_table
from pipeline.config.seq2seq import Seq2SeqConfig
from pipeline.decoding.ensemble import EnsembleStepper
from pipeline.decoding.search import search
from pipeline.models.decoders.transformer import TransformerDecoder
from pipeline.tensors import Memory, TokenIds

MEMBERS = 2  # SJTU 3: "x2" in Table 3
BEAMS = 3  # SJTU 3
CLIPS, ALONE = 128, 16  # decoded by ours; one by one, whose time is scaled to all
FRAMES = 31  # 10 s of CNN14
WORDS = 20  # SJTU's code
MIN_WORDS = 3
TOKENS = TokenIds(size=4368, begin=1, pad=0, end=2)  # Clotho's
SPREAD, ENDING = 4.0, 2.8  # of the output's weights: captions differ, and end after some ten words
TARGET = 5.0


def main() -> None:
    """Prints the rows; about a minute on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    print_table(measure(arguments.repeats))


def measure(repeats: int) -> list[Row]:
    """Ours against each of the others; prints clips a second, and whether captions are equal."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = [random_model(seed).to(device) for seed in range(MEMBERS)]
    memory = tuple(random_memory(model, device) for model in models)
    some = range(0, CLIPS, CLIPS // ALONE)
    stepper = EnsembleStepper([model.stepper() for model in models], "log_probs")

    def ours(clips: tuple[Memory, ...] = memory) -> Tensor:
        found = search(stepper, clips, beams=BEAMS, min_length=MIN_WORDS, max_length=WORDS)
        return found.tokens[:, 0]

    def cached() -> list[Tensor]:
        return [ours(one_clip(memory, clip))[0] for clip in some]

    def uncached() -> list[Tensor]:
        return [uncached_beam(models, one_clip(memory, clip)) for clip in some]

    report(ours(), uncached(), some)
    name = f"ensemble of {MEMBERS}, beam {BEAMS}: a clip at a time"
    rows = [
        compare(f"{name}, no cache", uncached, ours, TARGET, repeats),
        compare(f"{name}, our cache", cached, ours, 3.0, repeats),
    ]
    rows = [replace(row, slow=row.slow * CLIPS / ALONE) for row in rows]
    slowest, slow, fast = (CLIPS / time for time in (rows[0].slow, rows[1].slow, rows[0].fast))
    print(f"clips a second: {slowest:.1f} without a cache, {slow:.1f} with, {fast:.1f} in batches")
    return rows


def random_model(seed: int) -> TransformerDecoder:
    """One whose captions end after some ten words."""
    torch.manual_seed(seed)
    model = TransformerDecoder(512, Seq2SeqConfig(), TOKENS).eval()
    model.classifier.weight.mul_(SPREAD)
    # one channel of the last layer is constant: it serves as the bias that the classifier lacks
    model.stack()[-1].final_norm.weight[0] = 0
    model.stack()[-1].final_norm.bias[0] = 1
    model.classifier.weight[:, 0] = 0
    model.classifier.weight[TOKENS.end, 0] = ENDING
    return model


def random_memory(model: TransformerDecoder, device: str) -> Memory:
    """Of all clips, of 15 to 31 frames."""
    lengths = torch.randint(FRAMES // 2, FRAMES + 1, (CLIPS, 1))
    mask = torch.arange(FRAMES) < lengths
    values = torch.randn(CLIPS, FRAMES, 512) + torch.randn(CLIPS, 1, 512)
    return Memory(model.read(values.to(device)), mask.to(device))


def one_clip(memory: tuple[Memory, ...], clip: int) -> tuple[Memory, ...]:
    rows = slice(clip, clip + 1)
    return tuple(Memory(each.values[rows], each.mask[rows]) for each in memory)


def uncached_beam(models: list[TransformerDecoder], memory: tuple[Memory, ...]) -> Tensor:
    """(L,): one clip's best caption, every prefix read again by each member."""

    def log_probs(tokens: Tensor) -> Tensor:
        each = []
        for model, clip in zip(models, memory, strict=True):
            repeated = Memory(*(part.expand(len(tokens), -1, *part.shape[2:]) for part in clip))
            each.append(model.logits(repeated, tokens)[:, -1].log_softmax(-1))
        return torch.stack(each).mean(0)

    return plain_beam(
        log_probs,
        TOKENS,
        beams=BEAMS,
        min_length=MIN_WORDS,
        max_length=WORDS,
        device=memory[0].values.device,
    )


def report(ours: Tensor, alone: list[Tensor], some: range) -> None:
    """Prints how many of the captions are equal, and their lengths."""
    rows = [[token for token in row.tolist() if token != TOKENS.pad] for row in ours]
    same = sum(rows[clip] == row.tolist() for clip, row in zip(some, alone, strict=True))
    words = [len(row) - 2 for row in rows]
    print(
        f"{same} of {len(alone)} captions equal those without a cache; {min(words)} to "
        f"{max(words)} words, mean {sum(words) / len(words):.1f}"
    )


if __name__ == "__main__":
    main()
