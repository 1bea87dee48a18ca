"""The triplet loss against the published loop over pairs: ``python -m benchmarks.triplet``.

Both draw a random negative caption and sound of other clips, and run the loss forward and backward,
on a batch of 32 pairs, as the baseline's, and one of 128; the width is 300.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import compare, print_table
from pipeline.losses.triplet import triplet_loss

WIDTH, CAPTIONS = 300, 5
TARGETS = {32: 2.0, 128: 8.0}  # times faster, for each batch size
draw = np.random.default_rng(1)


def looped(audio: Tensor, text: Tensor, clips: list[int], margin: float = 1.0) -> Tensor:
    """As the challenge's baseline: draws until the clip is another, then one dot product each."""
    pairs = len(clips)
    loss = torch.tensor(0.0)
    for i in range(pairs):
        a = t = i
        while clips[a] == clips[i]:
            a = int(draw.integers(pairs))
        while clips[t] == clips[i] or a == t:
            t = int(draw.integers(pairs))
        matched = torch.dot(audio[i], text[i])
        for other in (torch.dot(audio[a], text[i]), torch.dot(audio[i], text[t])):
            term = other - matched + margin
            if bool(term > 0):
                loss = loss + term
    return loss / pairs


def check(audio: Tensor, text: Tensor, clips: Tensor) -> None:
    """Both have the same expectation: a mean over all possible negatives."""
    found = torch.stack([torch.stack(triplet_loss(audio, text, clips)).sum() for _ in range(300)])
    slow = torch.stack([looped(audio, text, clips.tolist()) for _ in range(60)])
    error = (found.std().square() / 300 + slow.std().square() / 60).sqrt()
    assert (found.mean() - slow.mean()).abs() < 5 * error, (found.mean(), slow.mean())


def main() -> None:
    torch.manual_seed(1)
    rows = []
    for pairs, target in TARGETS.items():
        both = torch.randn(2, pairs, WIDTH) / WIDTH**0.5
        clips = torch.randint(pairs // CAPTIONS, (pairs,))
        check(both[0], both[1], clips)
        both.requires_grad_()
        names = clips.tolist()

        def slow(both: Tensor = both, names: list[int] = names) -> None:
            looped(both[0], both[1], names).backward()  # type: ignore[no-untyped-call]

        def fast(both: Tensor = both, clips: Tensor = clips) -> None:
            torch.stack(triplet_loss(both[0], both[1], clips)).sum().backward()  # type: ignore[no-untyped-call]

        rows.append(compare(f"triplet loss, {pairs} × {WIDTH}", slow, fast, target, repeats=21))
    print_table(rows)


if __name__ == "__main__":
    main()
