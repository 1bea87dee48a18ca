"""Ensemble beam search: ours against decoding clip by clip, in clips a second.

    python -m benchmarks.ensemble [--threads 1]

Two Transformer captioners of the paper's size, beam 3 (SJTU 3), on the memory of 10-second clips,
with random weights that end captions at different lengths, as real ones do. The obvious way is the
published code's: one clip at a time, each member reading the whole prefix of its K hypotheses anew
at every step. Beside it, one clip at a time through our own search and its cache.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.timing import Row, compare, print_table
from pipeline.config.seq2seq import Seq2SeqConfig
from pipeline.decoding.ensemble import EnsembleStepper
from pipeline.decoding.search import search
from pipeline.models.decoders.transformer import TransformerDecoder
from pipeline.tensors import Memory, TokenIds

MEMBERS = 2  # SJTU 3: "x2" in Table 3
BEAMS = 3  # SJTU 3
CLIPS, ALONE = 128, 16  # decoded by ours; of them, one by one: their time is counted for all
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
    """Ours against both others; prints clips a second, and whether captions are the same."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = [random_model(seed).to(device) for seed in range(MEMBERS)]
    memory = tuple(random_memory(model, device) for model in models)
    some = range(0, CLIPS, CLIPS // ALONE)
    stepper = EnsembleStepper([model.stepper() for model in models], "log_probs")

    def ours(own: tuple[Memory, ...] = memory) -> Tensor:
        found = search(stepper, own, beams=BEAMS, min_length=MIN_WORDS, max_length=WORDS)
        return found.tokens[:, 0]

    def cached() -> list[Tensor]:
        return [ours(one_clip(memory, clip))[0] for clip in some]

    def uncached() -> list[Tensor]:
        return [plain_beam(models, one_clip(memory, clip)) for clip in some]

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
    # one channel of the last layer is made constant, and serves as the bias that there is not
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
    return tuple(Memory(own.values[rows], own.mask[rows]) for own in memory)


def plain_beam(models: list[TransformerDecoder], memory: tuple[Memory, ...]) -> Tensor:
    """(L,): one clip's best caption by the obvious loop; it stops as ours does."""
    device = memory[0].values.device
    tokens = torch.tensor([[TOKENS.begin]], device=device)
    totals = torch.zeros(1, device=device)
    finished: list[tuple[float, Tensor]] = []
    for step in range(1, WORDS + 2):
        alike = [Memory(*(part.expand(len(tokens), -1, *part.shape[2:]) for part in own))
                 for own in memory]  # fmt: skip
        each = [m.logits(own, tokens)[:, -1] for m, own in zip(models, alike, strict=True)]
        log_probs = torch.stack([logits.log_softmax(-1) for logits in each]).mean(0)
        log_probs[:, [TOKENS.begin, TOKENS.pad]] = float("-inf")
        if step <= MIN_WORDS:
            log_probs[:, TOKENS.end] = float("-inf")
        if step > WORDS:
            log_probs[:, torch.arange(TOKENS.size, device=device) != TOKENS.end] = float("-inf")
        best, order = (totals[:, None] + log_probs).flatten().topk(2 * BEAMS)
        live: list[tuple[float, Tensor]] = []
        for rank, (total, index) in enumerate(zip(best.tolist(), order.tolist(), strict=True)):
            parent, token = divmod(index, TOKENS.size)
            grown = torch.cat((tokens[parent], order.new_tensor([token])))
            if token != TOKENS.end:
                live.append((total, grown))
            elif rank < BEAMS:
                finished.append((total / step, grown))
        finished = sorted(finished, key=lambda pair: -pair[0])[:BEAMS]
        totals = torch.tensor([total for total, _ in live[:BEAMS]], device=device)
        tokens = torch.stack([grown for _, grown in live[:BEAMS]])
        if len(finished) == BEAMS and live[0][0] / step <= finished[-1][0]:
            break
    return finished[0][1]


def report(ours: Tensor, alone: list[Tensor], some: range) -> None:
    """Says how many of the captions are the same, and how long they are."""
    rows = [[token for token in row.tolist() if token != TOKENS.pad] for row in ours]
    same = sum(rows[clip] == row.tolist() for clip, row in zip(some, alone, strict=True))
    words = [len(row) - 2 for row in rows]
    print(
        f"{same} of {len(alone)} captions equal those without a cache; {min(words)} to "
        f"{max(words)} words, mean {sum(words) / len(words):.1f}"
    )


if __name__ == "__main__":
    main()
