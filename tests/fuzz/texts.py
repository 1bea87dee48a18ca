"""Loaders of text: parameters, recipes, tables, plans, manifests, vocabularies."""

from __future__ import annotations

import shutil
from pathlib import Path

from earwitness import params_file, recipes
from earwitness.scoring import read_captions
from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.evaluation import DecodingConfig
from pipeline.config.params import load_params
from pipeline.config.plans import CaptionerPlan, DecodingPlan, EmbeddingPlan
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.checkpoints import trained_settings
from pipeline.files import write_json
from pipeline.metrics.tables import read_predictions
from pipeline.text import tokenizer
from pipeline.text.subword import train_subword
from pipeline.text.vocabulary import Vocabulary
from tests.conftest import REPOSITORY
from tests.fuzz.case import Loader
from tests.fuzz.harm import CSV, JSON, YAML
from tests.plans import captioner_plan

CLIPS = ("a", "b", "c")
SEEDS = (1, 2)
SCORE = (
    "file_name,candidate,caption_1,caption_2\na.wav,a dog,a dog barks,dogs\nb.wav,rain,it rains,\n"
)


def make_params(good: Path) -> None:
    (good / "default").mkdir()
    shutil.copy(REPOSITORY / "params.yaml", good / "default/params.yaml")


def load_parameters(home: Path) -> None:
    load_params(home / "params.yaml")
    params_file.read(home / "params.yaml")


def make_recipes(good: Path) -> None:
    shutil.copytree(REPOSITORY / "recipes", good / "all/recipes")


def load_recipes(home: Path) -> None:
    recipes.apply(home / "params.yaml", home / "recipes", "edtc", "clotho")
    load_params(home / "params.yaml")


def make_score(good: Path) -> None:
    (good / "table").mkdir()
    (good / "table/captions.csv").write_text(SCORE)


def make_predictions(good: Path) -> None:
    (good / "table").mkdir()
    rows = [
        f'{seed},{name},a dog barks,-1.5000,"[[""rain"", -2.0]]"'
        for seed in SEEDS
        for name in CLIPS
    ]
    text = "\n".join(["seed,clip_id,caption,log_prob,candidates", *rows, ""])
    (good / "table/predictions.csv").write_text(text)


def make_plans(good: Path) -> None:
    """One of three kinds each."""
    own: dict[str, object] = {"name": "x", "inputs": {"data/x": "0" * 64}, "code": {"a": "1"}}
    entry = {"architecture": "seq2seq", "features": ("panns",)}
    sections = {"seq2seq": {"decoder": "gru"}}
    plans = {
        "captioner": captioner_plan(entry, sections, TrainingConfig()),
        "decoding": DecodingPlan(
            **own, dataset="toy", split="evaluation", captioners=("a",), combine="probs",
            decoding=DecodingConfig(),
        ),
        "embedding": EmbeddingPlan(
            **own, dataset="toy", encoder=SentenceEncoderConfig(module="sentence")
        ),
    }  # fmt: skip
    for name, plan in plans.items():
        plan.save(good / name / f"{name}.json")


def load_plan(home: Path) -> object:
    kinds = {"captioner": CaptionerPlan, "decoding": DecodingPlan, "embedding": EmbeddingPlan}
    name = next((path.stem for path in home.iterdir()), "captioner")
    return kinds[name].load(home / f"{name}.json")


def make_manifest(good: Path) -> None:
    clips = [
        Clip(name, "development", f"{name}.wav", 1.5, ("a dog", "dogs"), ("dog",), "0" * 64)
        for name in CLIPS
    ]
    Manifest("toy", "data/toy", tuple(clips), (("d.wav", "empty"),)).save(
        good / "manifest/toy.json"
    )


def load_manifest(home: Path) -> None:
    """What planning and the stages do with one."""
    for clip in Manifest.load(home / "toy.json").sounding:
        assert isinstance(clip.clip_id, str) and isinstance(clip.path, str)
        assert clip.duration + 1 > 0 and all(isinstance(text, str) for text in clip.captions)


def make_sidecar(good: Path) -> None:
    write_json(good / "one/model.json", {"encoder": {"module": "panns", "mels": 64}, "classes": 3})


def make_tokenizers(good: Path) -> None:
    captions = ["a dog barks", "two bells ring", "rain falls on the roof"]
    for name in ("words", "subwords"):
        (good / name).mkdir()
    Vocabulary.train(captions, 1).save(good / "words")
    train_subword(captions, 100).save(good / "subwords")


def load_tokenizer(home: Path) -> None:
    loaded = tokenizer.load(home)
    ids = loaded.encode(["a dog barks loudly"], 10)
    assert all(0 <= index < loaded.size for index in ids[0]), "ids beyond the vocabulary"
    loaded.decode(ids)


LOADERS = (
    Loader("params.yaml", make_params, load_parameters, {"params.yaml": YAML}),
    Loader("recipes", make_recipes, load_recipes, {"*/edtc.yaml": YAML, "*/clotho.yaml": YAML}),
    Loader(
        "score's table",
        make_score,
        lambda home: read_captions(home / "captions.csv"),
        {"*.csv": CSV},
    ),
    Loader(
        "predictions",
        make_predictions,
        lambda home: read_predictions(home / "predictions.csv", CLIPS, SEEDS, "run it again"),
        {"*.csv": CSV},
    ),
    Loader("plans", make_plans, load_plan, {"*.json": JSON}),
    Loader("manifest", make_manifest, load_manifest, {"*.json": JSON}),
    Loader(
        "tagging settings",
        make_sidecar,
        lambda home: trained_settings(home / "model.safetensors"),
        {"*.json": JSON},
    ),
    Loader("tokenizers", make_tokenizers, load_tokenizer, {"*.json": JSON}),
)
