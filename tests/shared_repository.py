"""The tiny repository, with one system of every kind that can be exported."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx_models import tagger
from tiny_captioners import CAPTIONS
from tiny_repository import make_repository

from pipeline.config.encoders import OnnxEncoderConfig, SentenceEncoderConfig
from pipeline.config.plans import SpacePlan
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.config.section import parse_section
from pipeline.config.sides import CentredTextSide, EncoderSoundSide
from pipeline.config.spaces import TagsConfig
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Manifest
from pipeline.features.store import FeatureStore
from pipeline.tensors import TokenIds
from pipeline.text.subword import train_subword
from pipeline.trained.captioner import TrainedCaptioner
from pipeline.trained.spaces import make_space
from tests.plans import build, captioner_plan

SPLITS = ("development", "development", "development", "validation", "evaluation")
CLASSES = ("Bark", "Rain", "Horn", "Sheep")
EDTC: dict[str, Any] = {
    "bart": {
        "pretrained": None, "vocabulary": 120, "encoder_layers": 1, "decoder_layers": 1, "heads": 2,
        "width": 16, "feed_forward": 16, "max_tokens": 16,
    },
    "features": {"frames": 8, "width": 16},
    "fuser": {"layers": 1, "heads": 2, "reduced": 8, "feed_forward": 16},
    "translator": {"encoder_layers": 1, "decoder_layers": 1, "kernel": 3, "heads": 2,
                   "feed_forward": 16},
}  # fmt: skip
PREFIX = {"prefix": {"vocabulary": 120, "layers": 1, "heads": 2, "width": 16, "mapping_width": 8,
                     "max_tokens": 12}}  # fmt: skip
ENTRIES = {
    "fused": {"architecture": "edtc", "features": ["logmel", "panns"], "twin": False},
    "wsac": {"architecture": "prefix", "features": ["tower/sound"], "text": "tower/text"},
}
MORE = {
    "encoders:": "  tagger: {module: onnx, weights: %s, output: probabilities, labels: %s}",
    "captioners:": (
        "  fused: {architecture: edtc, dataset: toy, training: words, features: [logmel, panns],"
        " twin: false}\n"
        "  wsac: {architecture: prefix, dataset: toy, training: words, features: [tower/sound],"
        " text: tower/text}"
    ),
    "systems:": (
        "  fused: {captioners: [fused]}\n  wsac: {captioners: [wsac]}\n"
        "  reranked: {captioners: [heard], set: {rerank.retriever: tags, rerank.weight: 9.0}}"
    ),
    "retrieval_systems:": "  tags: {retrievers: [tags]}\n  flat: {retrievers: [flat]}",
    "evaluation:": None,
}
CAPTIONING = ("alone", "three", "fused", "wsac", "reranked")
SEARCHING = ("towers", "flat", "mixed", "tags")


def make_shared_repository(root: Path, outside: Path) -> None:
    """``outside``: an empty folder for a tagger and the names of its classes."""
    root.mkdir(exist_ok=True)
    make_repository(root)
    manifest = Manifest.load(root / "data/corpora/toy.json")
    pairs = zip(manifest.clips, SPLITS, strict=True)
    clips = tuple(replace(clip, split=split) for clip, split in pairs)
    replace(manifest, clips=clips).save(root / "data/corpora/toy.json")
    tagger(outside / "tagger.onnx", outputs=["probabilities"])
    (outside / "names.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    _add_params(root, outside)
    for seed, name in enumerate(ENTRIES):
        _save_captioner(root, name, seed)
    _save_space(root, outside)
    _save_results(root)


def _add_params(root: Path, outside: Path) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    tagger = MORE["encoders:"] % (outside / "tagger.onnx", outside / "names.txt")  # type: ignore[operator]
    for section, lines in {**MORE, "encoders:": tagger}.items():
        if lines is not None:
            text = text.replace(f"\n{section}\n", f"\n{section}\n{lines}\n")
    text += (
        "spaces: {tags: {module: tags, sound: [tagger], text: minilm}}\n"
        "text_memory: {method: projection, temperature: 0.1}\n"
        "test_sets: [toy]\n"
        f"prefix: {json.dumps(PREFIX['prefix'])}\n"
    )
    text += "".join(f"{section}: {json.dumps(values)}\n" for section, values in EDTC.items())
    (root / "params.yaml").write_text(text, encoding="utf-8")


def _save_captioner(root: Path, name: str, seed: int) -> None:
    sections = EDTC if name == "fused" else PREFIX
    plan = captioner_plan(ENTRIES[name], sections, TrainingConfig(), name=name)
    widths = [
        FeatureStore.open(root / f"data/features/toy/{feature}.h5").width
        for feature in plan.features
    ]
    tokenizer = train_subword(CAPTIONS, 120)
    tokens = TokenIds(tokenizer.size, tokenizer.begin, tokenizer.pad, tokenizer.end)
    torch.manual_seed(seed)
    model = build(plan, widths, tokens, widths[0] if plan.text else None).eval()
    folder = root / "data/models/captioners" / name / "1"
    folder.mkdir(parents=True)
    TrainedCaptioner(plan, model, tokenizer, tuple(widths)).save(folder, "step,epoch\n1,1\n")


def _save_space(root: Path, outside: Path) -> None:
    sound = {"module": "onnx", "weights": str(outside / "tagger.onnx"), "output": "probabilities"}
    sound["labels"] = str(outside / "names.txt")
    plan = SpacePlan(
        name="tags", inputs={str(outside / "tagger.onnx"): "0"}, code={},
        sound=EncoderSoundSide(
            features=("tagger",), encoder=parse_section(OnnxEncoderConfig, sound, "tagger"),
            weights=None, tags=TagsConfig(),
        ),
        text=CentredTextSide(
            features=("minilm",), encoder=SentenceEncoderConfig(module="sentence", pooling="mean")
        ),
        biencoder=BiEncoderConfig(project="none", learn_temperature=False),
        widths=(len(CLASSES), 384),
    )  # fmt: skip
    folder = root / "data/models/retrievers/tags"
    folder.mkdir(parents=True)
    make_space(plan, "cpu").save(folder, None)


def _save_results(root: Path) -> None:
    """Captions of 40 held-out clips, less and less probable, and 40 scores."""
    draw = np.random.default_rng(0)
    words = ["a dog barks", "two bells ring"] * 20
    rows = [(1, f"c{n}", text, -0.5 - n / 4, "[]") for n, text in enumerate(words)]
    header = ("seed", "clip_id", "caption", "log_prob", "candidates")
    write_rows(root / "data/predictions/toy/alone.csv", header, rows)
    scores = draw.beta(2, 3, 40)
    metrics = [(1, f"c{n}", "x", own, own / 2) for n, own in enumerate(scores)]
    header = ("seed", "clip_id", "caption", "cider_d", "bleu_4")
    write_rows(root / "data/scores/toy/alone.csv", header, metrics)
    path = root / "metrics/toy/alone.json"
    path.parent.mkdir(parents=True)
    values = {"N": 40, "cider_d": round(float(scores.mean()), 6), "bleu_4": 0.9}
    path.write_text(json.dumps(values), encoding="utf-8")


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
