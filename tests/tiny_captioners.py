"""Captioners over words, with random weights that make captions differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.config.training import TrainingConfig
from pipeline.tensors import TokenIds
from pipeline.text.vocabulary import Vocabulary
from pipeline.trained.captioner import TrainedCaptioner
from tests.plans import build, captioner_plan

CAPTIONS = ("a dog barks", "two bells ring", "rain falls on the roof", "an engine idles")


def make_captioner(
    name: str,
    feature: str,
    width: int,
    decoder: str = "transformer",
    captions: Sequence[str] = CAPTIONS,
    seed: int = 0,
) -> TrainedCaptioner:
    """On the CPU, in evaluation mode.

    Args:
        width: W of the feature.
        captions: that the vocabulary is made of.
    """
    sizes = {
        "encoder_layers": 1, "encoder_width": 8, "width": 16, "heads": 2, "feed_forward": 32,
        "decoder": decoder, "decoder_layers": 1,
    }  # fmt: skip
    entry = {"architecture": "seq2seq", "features": (feature,)}
    plan = captioner_plan(entry, {"seq2seq": sizes}, TrainingConfig(), name=name)
    torch.manual_seed(seed)
    vocabulary = Vocabulary.train(captions, 1)
    tokens = TokenIds(vocabulary.size, vocabulary.begin, vocabulary.pad, vocabulary.end)
    model = build(plan, [width], tokens).eval()
    with torch.no_grad():
        for weight in model.decoder.classifier.parameters():
            weight.mul_(3)
    return TrainedCaptioner(plan, model, vocabulary, (width,))
