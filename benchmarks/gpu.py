"""The heavy work on a GPU, each against the obvious way on the same card.

Extraction by PANNs' CNN14 and HTSAT at their published sizes, of 10-second files, against the
encoder's own forward passes on batches that are decoded before. Training steps at the papers'
sizes, in bf16 and compiled, against float32 without compilation; what bf16 alone does is printed.
Beam search of a batch against a clip at a time. Weights are random, and sound is noise.

    python -m benchmarks.gpu [--only extraction …] [--clips 1024]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks import ensemble, scheduled_sampling, scst, translator
from benchmarks.extraction import decoded, plan_of
from benchmarks.timing import Row, compare, print_table, seconds
from pipeline.config.encoders import EncoderConfig, HtsatEncoderConfig, PannsEncoderConfig
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.device import autocast, compiled
from pipeline.encoders.registry import build_sound_encoder
from pipeline.features.extraction import extract
from pipeline.features.forward import forward
from pipeline.features.windows import PassSettings
from pipeline.tensors import Batch, Padded, TokenIds
from pipeline.training.optimizers import build_optimizer
from tests.plans import build, captioner_plan

SECONDS, CLIPS = 10.0, 1024
STEP_CLIPS, WORDS = 32, 20
TOKENS = TokenIds(size=4368, begin=1, pad=0, end=2)  # Clotho's
CUDA = torch.device("cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument(
        "--captioners", nargs="*", choices=list(CAPTIONERS), default=list(CAPTIONERS)
    )
    parser.add_argument("--clips", type=int, default=CLIPS, help="files to extract")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA here: nothing is measured")
    cores = len(os.sched_getaffinity(0))
    print(f"{torch.cuda.get_device_name()}, {cores} cores, torch {torch.__version__}\n")
    rows = []
    for name in arguments.only:
        begun = time.perf_counter()
        rows += PARTS[name](arguments)
        print(f"({name}: {time.perf_counter() - begun:.0f} s)", flush=True)
    print_table(rows)


def extraction(arguments: argparse.Namespace) -> list[Row]:
    """Whole extraction against the forward passes alone; prints clips a second of both."""
    panns = PannsEncoderConfig(module="panns", model="cnn14", weights="none")
    htsat = HtsatEncoderConfig(module="htsat", weights="none")
    with TemporaryDirectory() as name:
        manifest = write_clips(Path(name), arguments.clips)
        return [_extraction(config, manifest, Path(name)) for config in (panns, htsat)]


def _extraction(config: EncoderConfig, manifest: Manifest, folder: Path) -> Row:
    encoder = build_sound_encoder(config, None, CUDA)
    settings = PassSettings(config.window_seconds, config.batch_seconds)
    begun = time.perf_counter()
    batches = decoded(manifest, encoder.sample_rate, settings)
    alone_seconds = time.perf_counter() - begun

    def whole() -> None:
        extract(manifest, folder, encoder, "", plan_of(config), folder / "partial", folder / "x.h5")

    def alone() -> None:
        for batch in batches:
            forward(batch, encoder, settings)

    row = compare(
        f"extraction of {config.module} / encoder alone", whole, alone, 1.15, 3, at_most=True
    )
    count = len(manifest.clips)
    print(
        f"{config.module}: {count / row.slow:.0f} clips a second, the encoder alone "
        f"{count / row.fast:.0f}, decoding alone by one core {count / alone_seconds:.0f}"
    )
    return row


def write_clips(root: Path, count: int) -> Manifest:
    """Noise of 44.1 kHz as 16-bit FLAC, as Clotho's and WavCaps' files are stored."""
    rate = 44100

    def write(number: int) -> Clip:
        random = np.random.default_rng(number)
        soundfile.write(root / f"{number}.flac", random.normal(0, 0.1, int(SECONDS * rate)), rate)
        return Clip(str(number), "development", f"{number}.flac", SECONDS, ())

    with ThreadPoolExecutor() as pool:
        return Manifest("noise", str(root), tuple(pool.map(write, range(count))))


def steps(arguments: argparse.Namespace) -> list[Row]:
    """A training step of each captioner at its paper's size."""
    return [step(name) for name in arguments.captioners]


def step(name: str) -> Row:
    """In bf16 and compiled (``hardware.compile: on``), against float32 without; prints memory."""
    torch.manual_seed(1)
    entry, sections, shapes, text = CAPTIONERS[name]
    plan = captioner_plan(entry, sections, TrainingConfig())
    model = build(plan, [width for _, width in shapes], TOKENS, text).to(CUDA).train()
    optimizer = build_optimizer(model, plan.training)
    batch = random_batch(shapes, text)

    def stepping(precision: str, mode: str) -> Callable[[], None]:
        loss = compiled(model.loss, mode)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast(precision, CUDA):
                total = loss(batch).total
            total.backward()
            optimizer.step()

        return run

    plain, ours = stepping("float32", "off"), stepping("auto", "on")
    print(f"{name}: the first step without compilation {seconds(plain):.2f} s", flush=True)
    first = seconds(ours)
    print(f"{name}: the first step compiled {first:.1f} s", flush=True)
    row = compare(f"training step of {name}, B {STEP_CLIPS}", plain, ours, 1.0, 20)
    bf16 = compare("", plain, stepping("auto", "off"), 1.0, 10)
    memory = {}
    for label, run in (("float32", plain), ("bf16, compiled", ours)):
        torch.cuda.reset_peak_memory_stats()
        run()
        memory[label] = torch.cuda.max_memory_allocated() / 1e9
    print(
        f"{name}: compiled in {first:.0f} s; bf16 alone {bf16.ratio:.2f} ×; peak memory "
        + ", ".join(f"{label} {size:.2f} GB" for label, size in memory.items()),
        flush=True,
    )
    return row


def random_batch(shapes: Sequence[tuple[int, int]], text: int | None) -> Batch:
    """B clips with features of ``(frames, width)`` each, and captions of 20 words."""
    features = tuple(_padded(frames, width) for frames, width in shapes)
    tokens = torch.randint(4, TOKENS.size, (STEP_CLIPS, WORDS + 2), device=CUDA)
    tokens[:, 0], tokens[:, -1] = TOKENS.begin, TOKENS.end
    words = _padded(WORDS, text) if text else None
    return Batch(features, tokens, words, torch.arange(STEP_CLIPS, device=CUDA))


def _padded(frames: int, width: int) -> Padded:
    values = torch.randn(STEP_CLIPS, frames, width, device=CUDA)
    return Padded(values, torch.full((STEP_CLIPS,), frames, device=CUDA))


def decoding(arguments: argparse.Namespace) -> list[Row]:
    """Beam search with two captioners of SJTU's size, of a batch against a clip at a time."""
    with torch.no_grad():
        return ensemble.measure(3)


def sampling(arguments: argparse.Namespace) -> list[Row]:
    """Scheduled sampling's decoder, ours against the published step-by-step way."""
    arguments = argparse.Namespace(repeats=1)
    mode = scheduled_sampling.TRANSFORMER
    return [scheduled_sampling.measure("Transformer 2 × 256", mode, 0.85, 5.0, arguments)]


def recurrent(arguments: argparse.Namespace) -> list[Row]:
    """TRANSLATOR compiled against its loop, at EDTC's size."""
    settings = translator.TranslatorConfig(dropout=0.0)
    return translator.measure("paper size", 768, 32, settings, 3)


def self_critical(arguments: argparse.Namespace) -> list[Row]:
    """A whole SCST step, its reward on the CPU included."""
    return scst.measure("cuda")


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "extraction": extraction,
    "steps": steps,
    "decoding": decoding,
    "sampling": sampling,
    "translator": recurrent,
    "scst": self_critical,
}
# captioner → its entry, its sections, (T, D) of each feature, D of the text features
CAPTIONERS: dict[
    str, tuple[dict[str, Any], dict[str, Any], tuple[tuple[int, int], ...], int | None]
] = {
    "edtc": (
        {"architecture": "edtc", "features": ("cnn14", "htsat", "convnext"), "text": "instructor"},
        {"bart": {"pretrained": None}},
        ((31, 2048), (32, 768), (31, 768)),
        768,
    ),
    "transformer": (
        {"architecture": "seq2seq", "features": ("frames",)},
        {},
        ((31, 2048),),
        None,
    ),
    "gru": (
        {"architecture": "seq2seq", "features": ("frames",)},
        {"seq2seq": {"decoder": "gru", "decoder_layers": 1, "width": 512}},
        ((31, 2048),),
        None,
    ),
}

if __name__ == "__main__":
    main()
