"""A toy that every kind of captioner can learn, trained a little and ready to be finetuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import CaptionerPlan, FinetuningPlan
from pipeline.config.retrievers import PannsTowerConfig, TowerSetupConfig
from pipeline.config.training import ScstConfig, TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.features.store import FeatureStore, Header, caption_id, write_store
from pipeline.training.cross_entropy import train_captioner
from tests.learning import until_learned
from tests.plans import captioner_plan

KINDS = ("dog barks", "bell rings", "engine idles", "bird sings", "rain falls")
FRAMES = ("a {}", "a {} outside", "somewhere a {} again")
SIZES = {"development": 60, "validation": 15}
WIDTHS = {"one": 12, "two": 20}
MELS, SPACE = 16, 12  # of the log-mel, and of the space that clap and clap-text share
NAMES = ("edtc", "transformer", "gru", "rlssr", "cmu", "crnn", "prefix")
SCST = {
    "epochs": 8, "batch": 20, "learning_rate": 2e-3, "validations_per_epoch": 2, "samples": 3,
    "dropout": False,
}  # fmt: skip
SMALL: dict[str, Any] = {"width": 32, "heads": 4, "feed_forward": 64}
LOGMEL = LogmelEncoderConfig(
    module="logmel", sample_rate=16000, n_fft=512, hop=320, mels=MELS, fmax=8000.0
)


def bart(**sizes: Any) -> dict[str, Any]:
    own = {"pretrained": None, "vocabulary": 80, "encoder_layers": 1, "decoder_layers": 1}
    return {**own, **SMALL, "max_tokens": 14, **sizes}


def sections(name: str) -> dict[str, Any]:
    """The sections of the parameters that this captioner reads."""
    if name == "edtc":
        fuser = {"layers": 1, "heads": 4, "reduced": 16, "feed_forward": 64}
        return {"features": {"frames": 6, "width": 32}, "fuser": fuser, "bart": bart()}
    if name == "cmu":
        return {"bart": bart(), "cmu": {"memory": "last_two"}}
    if name == "crnn":
        crnn = {"channels": (4, 8, 8, 8, 8), "width": 16, "dropout": 0.1}
        return {"bart": bart(width=64), "cmu": {"encoder": "crnn", "crnn": crnn}}
    if name == "rlssr":
        own = {
            **SMALL, "encoder_layers": 1, "decoder_layers": 1, "max_words": 8, "dropout": 0.0,
            "reconstruction": {"weight": 0.1},
        }  # fmt: skip
        return {"rlssr": own}
    if name == "prefix":
        own = {
            "vocabulary": 80, "mapping_width": 32, "layers": 1, "heads": 4, "width": 32,
            "max_tokens": 14, "noise": 0.2, "validation": "text",
        }  # fmt: skip
        return {"prefix": own}
    return {
        "seq2seq": {
            **SMALL, "encoder_layers": 1, "encoder_width": 16, "encoder_dropout": 0.1,
            "decoder": name, "decoder_layers": 1, "dropout": 0.1, "max_words": 8,
        }
    }  # fmt: skip


ENTRIES: dict[str, dict[str, Any]] = {
    "edtc": {
        "architecture": "edtc", "features": ("one", "two"), "translator": False, "twin": False,
    },
    "transformer": {"architecture": "seq2seq", "features": ("one",)},
    "gru": {"architecture": "seq2seq", "features": ("one",)},
    "rlssr": {"architecture": "rlssr", "tower": "cnn10"},
    "cmu": {"architecture": "cmu", "features": ("one", "two")},
    "crnn": {"architecture": "cmu", "features": ("one", "two")},
    "prefix": {"architecture": "prefix", "features": ("clap",), "text": "clap-text"},
}  # fmt: skip


def make_base(name: str) -> CaptionerPlan:
    training = {
        **until_learned(), "batch": 20, "learning_rate": 3e-3, "validations_per_epoch": 1,
        "average_epochs": 1,  # the last weights: the first to write all well are little sure of it
        "label_smoothing": 0.2,  # which leaves something to be gained
    }  # fmt: skip
    own = TrainingConfig(**training, optimizer="adam", schedule="constant")
    tower = PannsTowerConfig(
        module="panns", model="cnn10", channels=4, weights="scratch", input="logmel"
    )
    setup = TowerSetupConfig(settings=tower, input=LOGMEL, weights=None)
    return captioner_plan(ENTRIES[name], sections(name), own, name=name, tower=setup)


def make_plan(base: str = "edtc", name: str = "tuned", **scst: Any) -> FinetuningPlan:
    return FinetuningPlan(
        name=name,
        inputs={},
        code={},
        captioner=base,
        dataset="toy",
        features=make_base(base).features,
        hardware=HardwareConfig(device="cpu"),
        scst=ScstConfig(**{**SCST, **scst}),
    )


def make_data(root: Path) -> Manifest:
    """A manifest and its feature files, one with two views; a clip's kind is their direction."""
    draw = np.random.default_rng(0)
    clips = [
        Clip(
            f"{split}-{n}",
            split,
            f"{n}.wav",
            1.0,
            tuple(frame.format(KINDS[n % len(KINDS)]) for frame in FRAMES),
        )
        for split, count in SIZES.items()
        for n in range(count)
    ]
    manifest = Manifest("toy", "audio", tuple(clips))
    manifest.save(root / "data/corpora/toy.json")
    kinds = np.array([int(clip.clip_id.split("-")[1]) % len(KINDS) for clip in clips])
    ids = [clip.clip_id for clip in clips]

    def write(
        name: str, names: list[str], lengths: np.ndarray, values: np.ndarray, views: int = 1
    ) -> None:
        path = root / f"data/features/toy/{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = Header(name, {}, "0", 0.1, views)
        width = values.shape[1]
        write_store(path, header, names, lengths, width, [values.astype(np.float16)])

    for (name, width), views in zip(WIDTHS.items(), (2, 1), strict=True):
        directions = draw.normal(size=(len(KINDS), width))
        lengths = draw.integers(3, 8, len(clips) * views)
        values = directions[np.repeat(np.repeat(kinds, views), lengths)]
        write(name, ids, lengths, values + 0.3 * draw.normal(size=values.shape), views)
    textures = 30 * draw.normal(size=(len(KINDS), MELS)) - 40
    lengths = draw.integers(17, 40, len(clips))
    values = textures[kinds.repeat(lengths)]
    write("logmel", ids, lengths, values + 5 * draw.normal(size=values.shape))
    directions = draw.normal(size=(len(KINDS), SPACE))
    captions = [caption_id(name, k) for name in ids for k in range(len(FRAMES))]
    for name, names, own in (
        ("clap", ids, kinds),
        ("clap-text", captions, kinds.repeat(len(FRAMES))),
    ):
        values = directions[own] + 0.3 * draw.normal(size=(len(names), SPACE))
        write(name, names, np.ones(len(names), np.int64), values)
    return manifest


def stores(root: Path, base: str = "edtc") -> list[FeatureStore]:
    return [
        FeatureStore.open(root / f"data/features/toy/{name}.h5")
        for name in make_base(base).features
    ]


def train_base(root: Path, manifest: Manifest, name: str) -> None:
    """A little cross-entropy, as the stage ``caption`` would."""
    plan = make_base(name)
    sounds = stores(root, name) if plan.model.reads.sound else []
    text = FeatureStore.open(root / f"data/features/toy/{plan.text}.h5") if plan.text else None
    output = root / "data/models/captioners" / name / "1"
    train_captioner(plan, manifest, sounds, text, output, root / "checkpoints")
