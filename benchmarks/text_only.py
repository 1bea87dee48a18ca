"""A text-only epoch (WSAC) from stored embeddings against encoding each batch's captions again.

The obvious way, that of the published codes, runs the frozen text encoder in every training step;
ours runs it once, and a batch gathers the stored float16. Batches, model and step are the same;
only the source of the embeddings differs. The encoder is the real MiniLM; the paper's BERT is ten
times as large. The time to encode once is printed too, and after how many epochs it is saved.

Run it as ``python -m benchmarks.text_only``; some minutes on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Row, compare, print_table, seconds
from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.plans import CaptionerPlan, EmbeddingPlan
from pipeline.config.prefix import PrefixConfig, PrefixModelConfig
from pipeline.config.tokens import SubwordsConfig
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.synthesis import grammar
from pipeline.corpora.synthesis.scenes import draw_scene
from pipeline.encoders.sentence import HUB, SentenceTextEncoder, build
from pipeline.encoders.sources import locate
from pipeline.features.embedding import embed
from pipeline.features.store import FeatureStore
from pipeline.models.captioners.base import Inputs
from pipeline.tensors import Bank, Padded, TokenIds
from pipeline.trained.captioner import planned_captioner
from pipeline.training.caption_batches import CaptionBatches
from pipeline.training.cross_entropy import make_batches, make_tokenizer
from pipeline.training.optimizers import build_optimizer

CLIPS, CAPTIONS = 400, 5
MINILM = SentenceEncoderConfig(module="sentence", pooling="mean")
# the decoder of recipes/small.yaml, and WSAC's own (4.2)
SMALL = PrefixConfig(vocabulary=600, mapping_width=128, layers=2, width=128, max_tokens=48)
PAPER = PrefixConfig()
PART = 32  # clips, that the paper's size is timed on
TARGETS = {"small": 2.0, "the paper's size": 1.05}  # times faster, for each decoder


class Encoding:
    """A bank that encodes its captions again at every access."""

    views = 1

    def __init__(self, encoder: SentenceTextEncoder, captions: Sequence[str]) -> None:
        self.encoder, self.captions = encoder, captions

    def __len__(self) -> int:
        return len(self.captions)

    @torch.no_grad()
    def batch(self, entries: Tensor) -> Padded:
        values, mask = self.encoder.embed([self.captions[entry] for entry in entries.tolist()])
        return Padded(values, mask.sum(1))


def corpus() -> Manifest:
    """Clips with captions as in `soundscapes`, without sound."""
    draw = np.random.default_rng(7)
    scenes = [draw_scene(draw, (4.0, 8.0), 3) for _ in range(CLIPS)]
    texts = [grammar.captions(draw, scene, CAPTIONS) for scene in scenes]
    clips = [Clip(str(number), "development", "", 0.0, each) for number, each in enumerate(texts)]
    return Manifest("words", "", tuple(clips))


def stored(manifest: Manifest, encoder: SentenceTextEncoder, folder: Path) -> FeatureStore:
    """What the stage ``embed`` makes."""
    plan = EmbeddingPlan(name="minilm", inputs={}, code={}, dataset="words", encoder=MINILM)
    embed(manifest, encoder, "", plan, folder / "partial", folder / "minilm.h5")
    return FeatureStore.open(folder / "minilm.h5")


class Run:
    """One captioner, and its epoch over batches of one bank or the other."""

    def __init__(self, settings: PrefixConfig, clips: Sequence[Clip], text: FeatureStore) -> None:
        subwords = SubwordsConfig(
            vocabulary=settings.vocabulary,
            pretrained=None,
            section="prefix",
            longest=settings.max_tokens,
        )
        plan = CaptionerPlan(
            name="wsac", inputs={}, code={}, dataset="words", features=("minilm",), text="minilm",
            model=PrefixModelConfig(tokens=subwords, prefix=settings),
            training=TrainingConfig(batch=64, label_smoothing=0.0),
        )  # fmt: skip
        captions = [caption for clip in clips for caption in clip.captions]
        tokenizer = make_tokenizer(subwords, captions)
        tokens = TokenIds(tokenizer.size, tokenizer.begin, tokenizer.pad, tokenizer.end)
        torch.manual_seed(1)
        inputs = Inputs(plan.features, (text.width,), plan.text, text.width)
        self.model = planned_captioner(plan, inputs, tokens)
        self.optimizer = build_optimizer(self.model, plan.training)
        cpu = torch.device("cpu")
        self.batches: CaptionBatches = make_batches(plan, clips, [], text, tokenizer, cpu)

    def epoch(self, text: Bank) -> None:
        """Trains on every caption once."""
        self.batches.text = text
        for batch in self.batches.epoch(0):
            self.optimizer.zero_grad()
            self.model.loss(batch).total.backward()
            self.optimizer.step()


def check(run: Run, text: Bank, encoding: Encoding) -> None:
    """Both give the same embeddings, to float16."""
    entries = run.batches.order(0)[:64]
    both = [bank.batch(entries) for bank in (text, encoding)]
    torch.testing.assert_close(both[0].values, both[1].values, atol=1e-3, rtol=1e-2)
    assert torch.equal(both[0].lengths, both[1].lengths)


def measure(
    name: str, settings: PrefixConfig, clips: Sequence[Clip], store: FeatureStore, encoder: Any
) -> Row:
    run = Run(settings, clips, store)
    captions = [caption for clip in clips for caption in clip.captions]
    text, encoding = run.batches.text, Encoding(encoder, captions)
    assert text is not None
    check(run, text, encoding)
    return compare(
        f"text-only epoch, {name}, {len(captions):,} captions",
        lambda: run.epoch(encoding),
        lambda: run.epoch(text),
        TARGETS[name],
        repeats=3,
    )


def main() -> None:
    torch.set_num_threads(1)
    encoder = build(MINILM, locate(MINILM.weights, "minilm", HUB), "cpu")
    manifest = corpus()
    with TemporaryDirectory() as name:
        folder = Path(name)
        encoder.encode(manifest.clips[0].captions)  # the first call is slow
        made: list[FeatureStore] = []
        once = seconds(lambda: made.append(stored(manifest, encoder, folder)))
        (store,) = made
        small = measure("small", SMALL, manifest.clips, store, encoder)
        paper = measure("the paper's size", PAPER, manifest.clips[:PART], store, encoder)
    epochs = once / (small.slow - small.fast)
    print(
        f"to embed {CLIPS * CAPTIONS:,} captions once: {once:.1f} s, saved in {epochs:.1f} epochs\n"
    )
    print_table([small, paper])


if __name__ == "__main__":
    main()
