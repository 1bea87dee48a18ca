"""Captions of files: those that the stages give for the same sound, stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_captioners import make_captioner

from earwitness.caption import caption_files
from pipeline.config.encoders import LogmelEncoderConfig, SentenceEncoderConfig
from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import EncodingPlan, ExtractionPlan, RetrieverPlan
from pipeline.config.retrievers import BiEncoderConfig, PannsTowerConfig
from pipeline.config.sides import SoundTowerSide, StoredTextSide
from pipeline.config.training import RetrievalTrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predictions import caption_clips
from pipeline.encoders import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.extraction import extract
from pipeline.features.store import FeatureStore
from pipeline.trained.captioner import load_captioner
from pipeline.trained.encoding import encode
from pipeline.trained.readers import new_text
from pipeline.trained.retriever import build_retriever, load_retriever
from tests.tiny_retrievers import save_features

RATE, MELS = 16000, 32
SECONDS = (0.6, 2.3, 1.1, 1.7, 0.9)
PARAMS = """
datasets: {toy: {layout: clotho, root: toy}}
encoders: {logmel: {module: logmel}}
text_encoders: {words: {module: sentence, weights: "package:none"}}
sound_towers: {cnn10: {module: panns, model: cnn10, weights: scratch, input: logmel}}
retrievers: {tower: {datasets: [toy], sound: [cnn10], text: words}}
encoded: [tower]
training: {words: {}}
captioners:
  heard: {architecture: seq2seq, dataset: toy, training: words, features: [logmel]}
  encoded: {architecture: seq2seq, dataset: toy, training: words, features: [tower/frames]}
  other: {architecture: seq2seq, dataset: toy, training: words, features: [tower/sound]}
decoding: {beams: 4, batch: 2, max_length: 12}
systems:
  alone: {captioners: [heard]}
  three: {captioners: [heard, encoded, other], combine: probs}
  narrow: {captioners: [heard, encoded, other], combine: probs, set: {decoding.beams: 1}}
  misspelt: {captioners: [heard, encoded, other], set: {decoding.beam: 1}}
"""
LOGMEL = LogmelEncoderConfig(
    module="logmel", sample_rate=RATE, n_fft=512, hop=320, mels=MELS, fmax=8000.0
)
FEATURES = {"heard": "logmel", "encoded": "tower/frames", "other": "tower/sound"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweeps, a retriever and three captioners with random weights, and stored features."""
    root = tmp_path_factory.mktemp("repository")
    (root / "params.yaml").write_text(PARAMS)
    clips = []
    for number, seconds in enumerate(SECONDS):
        time = np.arange(int(RATE * seconds)) / RATE
        sweep = 0.3 * np.sin(2 * np.pi * (300 + 900 * number * time) * time)
        (root / "sounds").mkdir(exist_ok=True)
        soundfile.write(root / f"sounds/{number}.wav", sweep, RATE)
        clips.append(Clip(str(number), "evaluation", f"sounds/{number}.wav", seconds, ("a tone",)))
    plan = ExtractionPlan(
        name="logmel", inputs={}, code="", dataset="toy", encoder=LOGMEL, spec_augment=None,
        weights=None,
    )  # fmt: skip
    plan.save(root / "data/plans/extraction/toy-logmel.json")
    save_tower(root)
    store_features(root, Manifest("toy", str(root), tuple(clips)), plan)
    for seed, (name, feature) in enumerate(FEATURES.items()):
        store = FeatureStore.open(root / f"data/features/toy/{feature}.h5")
        decoder = "gru" if name == "encoded" else "transformer"
        captioner = make_captioner(name, feature, store.width, decoder, seed=seed)
        folder = root / "data/models/captioners" / name
        folder.mkdir(parents=True)
        captioner.save(folder, "step,epoch\n1,1\n")
    return root


def save_tower(root: Path) -> None:
    plan = RetrieverPlan(
        name="tower", inputs={}, code="", datasets=("toy",),
        sound=SoundTowerSide(
            features=("logmel",),
            tower=PannsTowerConfig(
                module="panns", model="cnn10", channels=4, weights="scratch", input="logmel"
            ),
            input=LOGMEL, weights=None,
        ),
        text=StoredTextSide(
            features=("words",),
            encoder=SentenceEncoderConfig(module="sentence", weights="package:none"),
        ),
        biencoder=BiEncoderConfig(width=8), training=RetrievalTrainingConfig(device="cpu"),
        start=None,
    )  # fmt: skip
    torch.manual_seed(5)
    cpu = torch.device("cpu")
    text = new_text(plan, [], (6,), cpu)
    folder = root / "data/models/retrievers/tower"
    folder.mkdir(parents=True)
    retriever = build_retriever(plan, (MELS,), text, cpu, pretrained=True)
    retriever.save(folder, "step,epoch\n1,1\n")


def store_features(root: Path, manifest: Manifest, plan: ExtractionPlan) -> None:
    """As the stages extract and encode do."""
    folder, partial = root / "data/features/toy", root / "partial"
    encoder = build_sound_encoder(LOGMEL, None, "cpu")
    extract(manifest, root, encoder, "0", plan, partial, folder / "logmel.h5")
    save_features(folder / "words.h5", [f"{clip.clip_id}#0" for clip in manifest.clips], 6)
    again = EncodingPlan(name="tower", inputs={}, code="", dataset="toy", frames=True)
    sound, words = (FeatureStore.open(folder / f"{name}.h5") for name in ("logmel", "words"))
    retriever = load_retriever(root / "data/models/retrievers/tower", "cpu")
    encode(again, manifest, [sound], [words], retriever, "0", partial, folder / "tower")


def stored_captions(
    root: Path, members: tuple[str, ...], beams: int, combine: str = "probs"
) -> list[str]:
    """As the stage decode does."""
    captioners = tuple(load_captioner(root / "data/models/captioners" / name) for name in members)
    stores = [[FeatureStore.open(root / f"data/features/toy/{FEATURES[m]}.h5")] for m in members]
    decoding = DecodingConfig(beams=beams, batch=2, max_length=12)
    clips = [str(number) for number in range(len(SECONDS))]
    ensemble = Ensemble(captioners, combine)  # type: ignore[arg-type]
    return [c.text for c in caption_clips(ensemble, stores, clips, decoding, "stored")]


def captions(root: Path, system: str | None) -> list[str]:
    files = [root / f"sounds/{number}.wav" for number in range(len(SECONDS))]
    rows, failed = caption_files(files, system, root / "params.yaml", root / "data")
    assert [path for path, _ in rows] == files and failed == []
    return [text for _, text in rows]


def test_files_are_captioned_as_stored_sound_is(repository: Path) -> None:
    """By one captioner, by three on sound, a tower's frames and its space, and with other beams."""
    members = tuple(FEATURES)
    alone = stored_captions(repository, ("heard",), beams=4)
    three = stored_captions(repository, members, beams=4)
    narrow = stored_captions(repository, members, beams=1)
    assert captions(repository, None) == captions(repository, "alone") == alone
    assert captions(repository, "three") == three
    assert captions(repository, "narrow") == narrow
    assert len({tuple(alone), tuple(three), tuple(narrow)}) == 3
    assert len(set(three)) > 1


def test_what_cannot_be_heard_is_told_and_the_rest_captioned(repository: Path) -> None:
    broken = repository / "broken.wav"
    broken.write_text("no sound")
    files = [broken, repository / "sounds/1.wav", repository / "none.wav"]
    params, data = repository / "params.yaml", repository / "data"
    rows, failed = caption_files(files, "three", params, data)
    assert [path.name for path, _ in rows] == ["1.wav"] and len(failed) == 2
    assert "broken.wav" in failed[0] and "none.wav" in failed[1]
    assert caption_files([broken], "three", params, data)[0] == []


def test_what_a_person_can_mend(repository: Path, tmp_path: Path) -> None:
    file, data = [repository / "sounds/1.wav"], repository / "data"
    params = repository / "params.yaml"
    with pytest.raises(EarwitnessError, match="no system 'thre'; did you mean 'three'"):
        caption_files(file, "thre", params, data)
    with pytest.raises(EarwitnessError, match=r"systems\.misspelt\.set: no parameter decoding\.b"):
        caption_files(file, "misspelt", params, data)
    with pytest.raises(EarwitnessError, match="no captioner; run `dvc repro"):
        caption_files(file, "alone", params, tmp_path)
    narrower = data / "plans/extraction/toy-logmel.json"
    before = narrower.read_text()
    narrower.write_text(before.replace(f'"mels": {MELS}', '"mels": 16'))
    try:
        with pytest.raises(EarwitnessError, match="logmel: 16 wide, but captioner heard was train"):
            caption_files(file, "alone", params, data)
    finally:
        narrower.write_text(before)
