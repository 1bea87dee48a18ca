"""CMU's variants as whole runs: trained, killed, ranked and refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from retrieval_toy import WIDTHS, make_data, make_plan, sound, words
from test_retrieval_training import Killed, contents, kill_at, train
from test_word2vec import VECTORS, binary
from tiny import TINY

from pipeline.config.encoders import LogmelEncoderConfig, Word2VecEncoderConfig
from pipeline.config.params import Params, parse_params
from pipeline.config.plans import CaptionedSystem, RankingPlan, RetrieverPlan
from pipeline.config.retrievers import BiEncoderConfig, CrnnTowerConfig
from pipeline.config.sides import SoundTowerSide
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.decoding.predict import Caption
from pipeline.decoding.predictions import write_predictions
from pipeline.encoders.registry import build_text_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.metrics.tables import ScoreFolders
from pipeline.state_dicts import read_weights
from pipeline.trained.ranking import queries_of, rank
from pipeline.trained.retriever import load_retriever
from pipeline.training.checkpoints import Progress

# retriever → biencoder; the toy's captions are 12 wide
KINDS: dict[str, dict[str, Any]] = {
    "triplet": {"loss": "triplet", "similarity": "dot", "project": "sound", "width": 12},
    "distance": {
        "loss": "exp_distance", "similarity": "dot", "width": 20, "shared": 9,
        "negatives": "hardest",
    },
}  # fmt: skip


def plan_of(kind: str, **training: Any) -> RetrieverPlan:
    settings = {"schedule": "plateau", "plateau_epochs": 1, "warmup_epochs": 0, **training}
    if kind == "triplet":
        plan = make_plan(kind, features=("one",), **settings)
        tower = CrnnTowerConfig(
            module="crnn", input="one", convolutions=False, width=16, beside=("two",)
        )
        logmel = LogmelEncoderConfig(module="logmel")
        side = SoundTowerSide(features=("one", "two"), tower=tower, input=logmel, weights=None)
        plan = plan.model_copy(update={"sound": side})
    else:
        plan = make_plan(kind, **settings)
    return plan.model_copy(update={"biencoder": BiEncoderConfig(**KINDS[kind])})


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("repository")
    return root, make_data(root)


@pytest.fixture(scope="module")
def trained(toy: tuple[Path, Manifest]) -> dict[str, tuple[Path, Progress]]:
    return {
        kind: train(toy[0], plan_of(kind), f"data/models/retrievers/{kind}/1") for kind in KINDS
    }


def plain_similarity(root: Path, manifest: Manifest, kind: str) -> np.ndarray:
    """(M, N) pair by pair; of ``distance`` from the files' values and the saved weights alone."""
    clips = manifest.split("evaluation")
    names = [clip.clip_id for clip in clips]
    folder = root / "data/models/retrievers" / kind / "1"
    weights = {
        n: v.double().numpy() for n, v in read_weights(folder / "model.safetensors", "").items()
    }
    store = words(root)
    text = {name: entry(store, name) for clip in clips for name in rows_of(clip)}
    if kind == "triplet":  # the recurrence has its own tests
        retriever = load_retriever(folder, "cpu")
        stored = retriever.sound.stored(sound(root, "one", "two"), names)
        audio = retriever.embed_sound(stored).double().numpy()
        caption = [own.astype(np.float64).mean(0) for own in text.values()]  # as they are
        return np.array([[float(a @ c) for a in audio] for c in caption])

    def normed(values: np.ndarray) -> np.ndarray:
        mean = values.astype(np.float64).mean(0)
        return (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5)

    def common(side: str, values: np.ndarray) -> np.ndarray:
        out = weights[f"{side}_projection.weight"] @ values + weights[f"{side}_projection.bias"]
        return weights["shared.weight"] @ out + weights["shared.bias"]

    stores = sound(root, "one", "two")
    audio = [common("sound", np.concatenate([normed(entry(s, n)) for s in stores])) for n in names]
    caption = [common("text", normed(own)) for own in text.values()]
    return np.array([[-math.dist(a, c) for a in audio] for c in caption])


def entry(store: FeatureStore, name: str) -> np.ndarray:
    return store.entry(store.ids.index(name))


def rows_of(clip: Any) -> list[str]:
    return [f"{clip.clip_id}#{k}" for k in range(len(clip.captions))]


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_finds_the_clips_and_ranks_as_it_was_trained(
    toy: tuple[Path, Manifest],
    trained: dict[str, tuple[Path, Progress]],
    kind: str,
    tmp_path: Path,
) -> None:
    root, manifest = toy
    ranking = RankingPlan(
        name="toy", inputs={}, code={}, split="evaluation", systems={"one": (kind,)},
        seeds={"one": (1,)},
    )  # fmt: skip
    found, _ = rank(
        ranking, manifest, retrievers=root / "data/models/retrievers",
        features=root / "data/features/toy", predictions=tmp_path,
        folders=ScoreFolders(*(tmp_path / name for name in "mir")), device="cpu",
    )  # fmt: skip
    similarity = plain_similarity(root, manifest, kind)
    owner = queries_of(manifest.split("evaluation")).clip_of.tolist()
    ranks = [int((row >= row[own]).sum()) for row, own in zip(similarity, owner, strict=True)]
    expected = sum(1 / r for r in ranks if r <= 10) / len(ranks)
    assert found["one"]["t2a_map10"] == pytest.approx(expected, abs=1e-6)
    assert found["one"]["t2a_map10"] > 4 * found["yardstick_chance"]["t2a_map10"]
    assert trained[kind][1].best_score > 0.2


@pytest.mark.parametrize("kind", list(KINDS))
def test_resumed_runs_end_with_the_same_bytes(
    toy: tuple[Path, Manifest],
    trained: dict[str, tuple[Path, Progress]],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Impostors are drawn by torch's generator, whose state is in the checkpoint."""
    output = f"data/models/retrievers/again-{kind}"
    for checkpoints, steps in ((4, 0), (3, 2)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, checkpoints, steps)
            train(toy[0], plan_of(kind), output)
        torch.manual_seed(99)  # as a new process would not have it either
    folder, progress = train(toy[0], plan_of(kind), output)
    assert contents(folder) == contents(trained[kind][0])
    assert progress == trained[kind][1]


def test_the_plateau_lowers_the_rate_of_a_run(
    trained: dict[str, tuple[Path, Progress]],
) -> None:
    """The curve's rates are those of its own scores so far."""
    for _, progress in trained.values():
        best, waited, rate = -1.0, 0, 5e-3
        for row in progress.curves:
            score = row["validation_map10"]
            best, waited = (score, 0) if score > best else (best, waited + 1)
            if waited > 1:
                rate, waited = rate / 10, 0
            assert row["learning_rate"] == pytest.approx(rate)


def test_a_query_of_unknown_words_is_one_line(
    trained: dict[str, tuple[Path, Progress]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = {word: values * 4 for word, values in VECTORS.items()}
    (tmp_path / "vectors.bin").write_bytes(binary(wide))
    encoder = build_text_encoder(
        Word2VecEncoderConfig(module="word2vec", weights=str(tmp_path / "vectors.bin"))
    )
    assert encoder.width == WIDTHS["words"]
    monkeypatch.setattr("pipeline.trained.readers.build_text_encoder", lambda *_: encoder)
    retriever = load_retriever(trained["triplet"][0], "cpu")
    found = retriever.embed_text(retriever.text.queries(["a dog barks"]))[0]
    expected = (np.array(wide["dog"]) + np.array(wide["barks"])) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    with pytest.raises(EarwitnessError, match="no word of 'the flugelhorn' is known to words"):
        retriever.text.queries(["the flugelhorn"])


def test_captions_of_a_system_are_searched_as_texts(tmp_path: Path) -> None:
    """Against plain cosines of means of the words' vectors."""
    draw = np.random.default_rng(0)
    names = ["dog", "bell", "engine", "bird", "river", "crowd", "rain", "loudly", "softly"]
    vectors = {word: tuple(draw.normal(size=6).tolist()) for word in names}
    (tmp_path / "vectors.bin").write_bytes(binary(vectors))
    settings = Word2VecEncoderConfig(
        module="word2vec", weights=str(tmp_path / "vectors.bin"), pooling="tokens"
    )

    def sentence() -> str:
        return " ".join(draw.choice(names, draw.integers(2, 6)))

    clips = [
        Clip(f"c{n}", "evaluation", f"{n}.wav", 1.0, tuple(sentence() for _ in range(1 + n % 3)))
        for n in range(12)
    ]
    heard = {clip.clip_id: sentence() for clip in clips}
    written = [Caption(heard[clip.clip_id], -1.0, ()) for clip in clips]
    (tmp_path / "predictions").mkdir()
    ids = [clip.clip_id for clip in clips]
    write_predictions(tmp_path / "predictions/neat.csv", ids, {1: written})
    queries = queries_of(clips)
    packed = build_text_encoder(settings).encode(queries.captions, np.float16)
    (tmp_path / "features").mkdir()
    header = Header("w2v", {}, "0", 0.0)
    write_store(
        tmp_path / "features/w2v.h5", header, queries.ids, packed.lengths, 6, [packed.values]
    )
    captioned = CaptionedSystem(captions_of="neat", text="w2v", encoder=settings)
    found, _ = rank(
        RankingPlan(name="t", inputs={}, code={}, split="evaluation", systems={},
                    captioned={"by-captions": captioned}, seeds={"by-captions": (1,)}),
        Manifest("t", "audio", tuple(clips)), retrievers=tmp_path, features=tmp_path / "features",
        folders=ScoreFolders(*(tmp_path / name for name in "mir")),
        predictions=tmp_path / "predictions", device="cpu",
    )  # fmt: skip

    def embedded(caption: str) -> np.ndarray:
        mean = np.mean([vectors[word] for word in caption.split()], axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    ranks = []
    for caption, own in zip(queries.captions, queries.clip_of.tolist(), strict=True):
        row = [float(embedded(caption) @ embedded(heard[name])) for name in ids]
        ranks.append(sum(score >= row[own] - 1e-6 for score in row))
    for k in (1, 5, 10):
        expected = sum(r <= k for r in ranks) / len(ranks)
        assert found["by-captions"][f"t2a_r{k}"] == pytest.approx(expected, abs=1e-6)


def params_with(**sections: Any) -> Params:
    return parse_params({**TINY, **sections})


def test_parameters_that_do_not_hold_together_are_one_line() -> None:
    crnn = {"module": "crnn", "input": "logmel"}
    towers = {**TINY["sound_towers"], "crnn": crnn}
    by_captions = {"captions_of": "edtc", "text": "minilm"}
    for sections, message in (
        ({"biencoder": {"loss": "triplet", "mask_same_clip": False}}, "mask_same_clip: true"),
        ({"sound_towers": {**towers, "crnn": {**crnn, "weights": "hub"}}}, "weights: scratch"),
        (
            {"sound_towers": {**towers, "crnn": {**crnn, "beside": ["pans"]}}},
            r"sound_towers.crnn.beside: 'pans' is not in encoders; did you mean 'panns'",
        ),
        (
            {
                "sound_towers": {**towers, "crnn": {**crnn, "beside": ["panns"]}},
                "retrievers": {
                    **TINY["retrievers"],
                    "crnn-minilm": {
                        "datasets": ["soundscapes"],
                        "sound": ["crnn"],
                        "text": "minilm",
                    },
                },
                "encoded": ["cnn10-minilm", "crnn-minilm"],
                "captioners": {
                    **TINY["captioners"],
                    "plain": {**TINY["captioners"]["plain"], "features": ["crnn-minilm/frames"]},
                },
            },
            r"plain\.features: retriever 'crnn-minilm' has no frames.*; name crnn-minilm/sound",
        ),
        ({"text_encoders": {"w": {"module": "word2vec"}}}, "text_encoders.w.weights: missing"),
        ({"retrieval_systems": {"a": {"captions_of": "edtc"}}}, "captions_of and text, which"),
        (
            {"retrieval_systems": {"a": {**by_captions, "captions_of": "etc"}}},
            r"a.captions_of: 'etc' is not in systems; did you mean 'edtc'",
        ),
        (
            {
                "retrieval_systems": {"a": {"captions_of": "edtc", "text": "minilm"}},
                "test_sets": [],
            },
            "no captions of soundscapes; add it to test_sets",
        ),
        ({"retrieval_systems": {"a": {}}}, "give either retrievers"),
    ):
        with pytest.raises(EarwitnessError, match=message) as raised:
            params_with(**sections)
        assert "\n" not in str(raised.value)
