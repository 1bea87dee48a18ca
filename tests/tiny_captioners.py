"""Captioners over words, with random weights that make captions differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.config import Seq2Seq, Training
from pipeline.models import build_captioner
from pipeline.models.captioner import TokenIds
from pipeline.plans import CaptionerPlan
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.bundle import Captioner

CAPTIONS = ("a dog barks", "two bells ring", "rain falls on the roof", "an engine idles")


def make_captioner(
    name: str,
    feature: str,
    width: int,
    decoder: str = "transformer",
    captions: Sequence[str] = CAPTIONS,
    seed: int = 0,
) -> Captioner:
    """On the CPU, in evaluation mode.

    Args:
        width: W of the feature.
        captions: that the vocabulary is made of.
    """
    plan = CaptionerPlan(
        name=name, inputs={}, code="", architecture="seq2seq", dataset="toy", features=(feature,),
        text=None, input=None, fuser=None, translator=None, twin=None, bart=None,
        seq2seq=Seq2Seq(
            encoder_layers=1, encoder_width=8, width=16, heads=2, feed_forward=32, decoder=decoder,
            decoder_layers=1,
        ),
        training=Training(device="cpu"),
    )  # fmt: skip
    torch.manual_seed(seed)
    vocabulary = Vocabulary.train(captions, 1)
    tokens = TokenIds(vocabulary.size, vocabulary.begin, vocabulary.pad, vocabulary.end)
    model: Any = build_captioner(plan, [width], None, tokens).eval()
    with torch.no_grad():
        for weight in model.decoder.classifier.parameters():
            weight.mul_(3)
    return Captioner(plan, model, vocabulary, (width,))
