"""Captioners over words, with random weights that make captions differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.config.captioners import Seq2SeqConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.training import TrainingConfig
from pipeline.models.captioners import build_captioner
from pipeline.tensors import TokenIds
from pipeline.text.vocabulary import Vocabulary
from pipeline.trained.captioner import TrainedCaptioner

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
    plan = CaptionerPlan(
        name=name, inputs={}, code="", architecture="seq2seq", dataset="toy", features=(feature,),
        text=None, input=None, fuser=None, translator=None, twin=None, bart=None,
        seq2seq=Seq2SeqConfig(
            encoder_layers=1, encoder_width=8, width=16, heads=2, feed_forward=32, decoder=decoder,
            decoder_layers=1,
        ),
        training=TrainingConfig(),
    )  # fmt: skip
    torch.manual_seed(seed)
    vocabulary = Vocabulary.train(captions, 1)
    tokens = TokenIds(vocabulary.size, vocabulary.begin, vocabulary.pad, vocabulary.end)
    model: Any = build_captioner(plan, [width], None, tokens).eval()
    with torch.no_grad():
        for weight in model.decoder.classifier.parameters():
            weight.mul_(3)
    return TrainedCaptioner(plan, model, vocabulary, (width,))
