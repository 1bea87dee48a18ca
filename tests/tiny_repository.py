"""A repository with trained models that have random weights, sounds, and their stored features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from tiny_captioners import make_captioner
from tiny_retrievers import save_features

from pipeline.config.encoders import LogmelEncoderConfig, PannsEncoderConfig, SentenceEncoderConfig
from pipeline.config.plans import EncodingPlan, ExtractionPlan, RetrieverPlan
from pipeline.config.retrievers import BiEncoderConfig, PannsTowerConfig
from pipeline.config.sides import SoundTowerSide, StoredSoundSide, StoredTextSide
from pipeline.config.training import RetrievalTrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.encoders.tagging import save_tagging
from pipeline.features.extraction import extract
from pipeline.features.store import FeatureStore, caption_ids, open_stores
from pipeline.trained.encoding import encode
from pipeline.trained.readers import new_text
from pipeline.trained.retriever import build_retriever, load_retriever

CPU = torch.device("cpu")
RATE, MELS, MINILM = 16000, 32, 384
SECONDS = (0.6, 2.3, 1.1, 1.7, 0.9)
PARAMS = """
datasets: {toy: {layout: clotho, root: toy}}
encoders:
  logmel: {module: logmel}
  panns: {module: panns, weights: tagging}
tagging: {dataset: toy, encoders: [panns]}
text_encoders: {minilm: {module: sentence}}
sound_towers: {cnn10: {module: panns, model: cnn10, weights: scratch, input: logmel}}
retrievers:
  tower: {datasets: [toy], sound: [cnn10], text: minilm}
  flat: {datasets: [toy], sound: [logmel], text: minilm}
  far: {datasets: [toy], sound: [logmel], text: minilm}
encoded: [tower]
training: {words: {}}
captioners:
  heard: {architecture: seq2seq, dataset: toy, training: words, features: [logmel]}
  encoded: {architecture: seq2seq, dataset: toy, training: words, features: [tower/frames]}
  other: {architecture: seq2seq, dataset: toy, training: words, features: [tower/sound]}
  edtc: {architecture: seq2seq, dataset: toy, training: words, features: [panns]}
decoding: {beams: 4, batch: 2, max_length: 12}
systems:
  alone: {captioners: [heard]}
  three: {captioners: [heard, encoded, other], combine: probs}
  narrow: {captioners: [heard, encoded, other], combine: probs, set: {decoding.beams: 1}}
  edtc: {captioners: [edtc]}
retrieval_systems:
  towers: {retrievers: [tower]}
  mixed: {retrievers: [tower, flat, far]}
  retrieval-ensemble: {retrievers: [tower, flat]}
  captioned: {captions_of: alone, text: minilm}
evaluation: {spice: false, sbert: null}
"""
LOGMEL = LogmelEncoderConfig(
    module="logmel", sample_rate=RATE, n_fft=512, hop=320, mels=MELS, fmax=8000.0
)
PANNS = PannsEncoderConfig(
    module="panns", model="cnn10", channels=4, weights="tagging", sample_rate=RATE, n_fft=512,
    fmax=8000.0,
)  # fmt: skip
TRAINED = "data/models/encoders/panns/model.safetensors"  # as the stages plan it
FEATURES = {"heard": "logmel", "encoded": "tower/frames", "other": "tower/sound", "edtc": "panns"}


def make_repository(root: Path) -> None:
    """Sweeps, three retrievers, three captioners, and stored features of the dataset ``toy``."""
    (root / "params.yaml").write_text(PARAMS)
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "sounds").mkdir()
    clips = []
    for number, seconds in enumerate(SECONDS):
        time = np.arange(int(RATE * seconds)) / RATE
        sweep = 0.3 * np.sin(2 * np.pi * (300 + 900 * number * time) * time)
        soundfile.write(root / f"sounds/{number}.wav", sweep, RATE)
        clips.append(Clip(str(number), "evaluation", f"sounds/{number}.wav", seconds, ("a tone",)))
    (root / TRAINED).parent.mkdir(parents=True)
    torch.manual_seed(3)
    save_tagging(tagging_model(PANNS, 2), root / TRAINED, PANNS, ["bell", "dog"])
    manifest = Manifest("toy", str(root), tuple(clips))
    manifest.save(root / "data/corpora/toy.json")
    tower = PannsTowerConfig(
        module="panns", model="cnn10", channels=4, weights="scratch", input="logmel"
    )
    _save_retriever(root, "tower", tower, BiEncoderConfig(width=8))
    _save_retriever(root, "flat", None, BiEncoderConfig(width=12))
    apart = BiEncoderConfig(width=8, loss="exp_distance", similarity="dot", shared=3)
    _save_retriever(root, "far", None, apart)
    _store_features(root, manifest)
    for seed, (name, feature) in enumerate(FEATURES.items()):
        store = FeatureStore.open(root / f"data/features/toy/{feature}.h5")
        decoder = "gru" if name == "encoded" else "transformer"
        captioner = make_captioner(name, feature, store.width, decoder, seed=seed)
        folder = root / "data/models/captioners" / name / "1"
        folder.mkdir(parents=True)
        captioner.save(folder, "step,epoch\n1,1\n")


def _save_retriever(
    root: Path, name: str, tower: PannsTowerConfig | None, biencoder: BiEncoderConfig
) -> None:
    features = ("logmel",)
    plan = RetrieverPlan(
        name=name, inputs={}, code={}, datasets=("toy",),
        sound=SoundTowerSide(features=features, tower=tower, input=LOGMEL, weights=None)
        if tower else StoredSoundSide(features=features),
        text=StoredTextSide(
            features=("minilm",), encoder=SentenceEncoderConfig(module="sentence")
        ),
        biencoder=biencoder, training=RetrievalTrainingConfig(), start=None,
    )  # fmt: skip
    torch.manual_seed(5 + len(name))
    text = new_text(plan, [], (MINILM,), CPU)
    folder = root / "data/models/retrievers" / name / "1"
    folder.mkdir(parents=True)
    retriever = build_retriever(plan, (MELS,), text, CPU, pretrained=True)
    retriever.save(folder, "step,epoch\n1,1\n")


def _store_features(root: Path, manifest: Manifest) -> None:
    """As the stages extract and encode do."""
    folder, partial = root / "data/features/toy", root / "partial"
    for name, settings, trained in (("logmel", LOGMEL, None), ("panns", PANNS, TRAINED)):
        plan = ExtractionPlan(
            name=name, inputs={}, code={}, dataset="toy", encoder=settings, spec_augment=None,
            weights=trained,
        )  # fmt: skip
        plan.save(root / f"data/plans/extraction/toy-{name}.json")
        encoder = build_sound_encoder(settings, root / trained if trained else None, "cpu")
        extract(manifest, root, encoder, "0", plan, partial, folder / f"{name}.h5")
    ids = caption_ids(manifest.clips)
    save_features(folder / "minilm.h5", ids, MINILM)
    again = EncodingPlan(name="tower", inputs={}, code={}, dataset="toy", frames=True)
    sound, text = open_stores(folder, ["logmel"]), open_stores(folder, ["minilm"])
    retriever = load_retriever(root / "data/models/retrievers/tower/1", "cpu")
    encode(again, manifest, sound, text, retriever, "0", partial, folder / "tower")
