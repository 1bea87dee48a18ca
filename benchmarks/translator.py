"""TRANSLATOR, forward and backward, against the plain step-by-step loop on the same weights.

    python -m benchmarks.translator [--size both] [--clips 16] [--threads 2]

The plain loop convolves a layer's input once, not at every step, and calls torch's modules. The
twin rows run both branches: one batched pass of ours, two passes of the plain loop.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.timing import Row, compare, print_table
from pipeline.config.edtc import TranslatorConfig
from pipeline.models.layers.translator import Translation, TwinTranslator
from tests.reference_translator import copied

FRAMES = 32  # EDTC 3.1.1
TARGET = 2.0  # on a CPU; 5 on a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16, help="B at the paper's width")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", choices=["small", "paper", "both"], default="both")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    if arguments.size in ("small", "both"):
        small = TranslatorConfig(dropout=0.0, heads=4, feed_forward=768)
        rows += measure("small", 192, 32, small, arguments.repeats)
    if arguments.size in ("paper", "both"):
        paper = TranslatorConfig(dropout=0.0)
        rows += measure("paper size", 768, arguments.clips, paper, arguments.repeats)
    print_table(rows)


def measure(
    name: str, width: int, clips: int, settings: TranslatorConfig, repeats: int
) -> list[Row]:
    """One branch, and both, at one size; B ``clips``, T 32, D ``width``."""
    torch.manual_seed(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    target = 5.0 if device == "cuda" else TARGET
    ours = TwinTranslator(width, settings, momentum=0.95, compiled=device == "cuda").to(device)
    plain = copied(ours, width, settings).to(device)
    sound, words = torch.randn(2, clips, FRAMES, width, device=device)
    title = f"TRANSLATOR {name} (B {clips}, 32 × {width}, M 3, N 2)"

    def ours_one() -> None:
        _step(ours, [ours(sound)])

    def ours_both() -> None:
        _step(ours, ours.both(sound, words))

    def plain_one() -> None:
        _step(plain, [plain(sound)])

    def plain_both() -> None:
        _step(plain, [plain(sound), plain(words)])

    pairs: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        (title, plain_one, ours_one),
        (f"{title}, twin", plain_both, ours_both),
    ]
    return [compare(label, slow, fast, target, repeats) for label, slow, fast in pairs]


def _step(module: nn.Module, results: Sequence[Translation | tuple[Tensor, Tensor]]) -> None:
    """Gradients of everything from outputs and last hidden states."""
    module.zero_grad()
    losses = [output.square().mean() + hidden.square().mean() for output, hidden in results]
    torch.stack(losses).sum().backward()


if __name__ == "__main__":
    main()
