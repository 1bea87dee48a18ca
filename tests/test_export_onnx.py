"""The towers of a retrieval system as ONNX, run by onnxruntime alone, against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from shared_repository import make_shared_repository
from tiny_repository import RATE
from tokenizers import Tokenizer
from torch import nn

import earwitness
from earwitness.exporting import graphs, towers
from earwitness.exporting.reading import open_export
from pipeline.config.encoders import (
    FbankEncoderConfig,
    Word2VecEncoderConfig,
)
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import RetrieverPlan
from pipeline.config.retrievers import (
    AstTowerConfig,
    BiEncoderConfig,
    TextTowerConfig,
)
from pipeline.config.sides import SoundTowerSide, StoredTextSide, TextTowerSide
from pipeline.config.training import RetrievalTrainingConfig
from pipeline.corpora.manifest import Clip
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore
from pipeline.trained.readers import new_text
from pipeline.trained.retriever import TrainedRetriever, build_retriever

CAPTIONS = ("a dog barks", "two bells ring", "rain falls on the roof", "an engine idles nearby")
FBANK = FbankEncoderConfig(module="fbank", mels=32)


def run(path: Path, **inputs: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, inputs)
    return np.asarray(found)


def tokens(path: Path, texts: list[str]) -> dict[str, NDArray[np.int64]]:
    """By the tokenizer that lies beside the graph, and nothing of this package."""
    encoded = Tokenizer.from_file(str(path)).encode_batch(texts)
    return {
        "input_ids": np.array([each.ids for each in encoded], np.int64),
        "attention_mask": np.array([each.attention_mask for each in encoded], np.int64),
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The repository, and its system `towers` as ONNX."""
    top = tmp_path_factory.mktemp("onnx")
    (top / "outside").mkdir()
    root = top / "repository"
    make_shared_repository(root, top / "outside")
    earwitness.export("towers", top / "towers", root=root, onnx=True)
    return root, top / "towers"


def test_a_search_without_torch_is_the_same(exported: tuple[Path, Path]) -> None:
    """Real sounds of several lengths, in one batch and alone, and texts of several lengths."""
    root, folder = exported
    place = folder / "onnx"
    (about,) = json.loads((place / "onnx_manifest.json").read_text())["retrievers"]
    system = earwitness.RetrievalSystem.load("towers", root=root, device="cpu")
    sounds = [root / f"sounds/{number}.wav" for number in range(5)]
    store = FeatureStore.open(root / "data/features/toy/logmel.h5")
    entries = [store.entry(number) for number in range(5)]
    counts = np.array([len(entry) for entry in entries])
    padded = np.zeros((5, counts.max(), store.width), np.float32)
    for row, entry in zip(padded, entries, strict=True):
        row[: len(entry)] = entry
    path = place / about["sound"]["file"]
    found = run(path, features_0=padded, lengths_0=counts)
    np.testing.assert_allclose(found, system.embed_audio(sounds), atol=1e-4)
    alone = run(path, features_0=padded[3:4, : counts[3]], lengths_0=counts[3:4])
    np.testing.assert_allclose(alone, found[3:4], atol=1e-4)
    texts = ["a low tone", "a dog barks at a bell in the rain, and somebody laughs", "rain"]
    given = tokens(place / about["text"]["tokenizer"], texts)
    text = run(place / about["text"]["file"], **given)
    np.testing.assert_allclose(text, system.embed_text(texts), atol=1e-4)
    values, lengths = about["sound"]["inputs"]
    assert values["encoder"]["sample_rate"] == RATE and values["feature"] == "logmel"
    assert (values["name"], lengths["name"]) == ("features_0", "lengths_0")
    assert "of length 1 (the cosine)" in about["similarity"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert "onnx/tower/sound.onnx" in open_export(folder).manifest.files


def retriever(tower: Any, stored: Any, width: int, **text: Any) -> TrainedRetriever:
    small = TextTowerConfig(
        weights="scratch", vocabulary=120, layers=1, heads=2, width=16, feed_forward=16,
        max_tokens=12, **text,
    )  # fmt: skip
    plan = RetrieverPlan(
        name="mine", inputs={}, code={}, datasets=("toy",),
        sound=SoundTowerSide(features=("own",), tower=tower, input=stored, weights=None),
        text=TextTowerSide(tower=small), biencoder=BiEncoderConfig(width=8),
        hardware=HardwareConfig(device="cpu"), training=RetrievalTrainingConfig(), start=None,
    )  # fmt: skip
    torch.manual_seed(0)
    clips = [[Clip("c", "development", "c.wav", 1.0, CAPTIONS)]]
    cpu = torch.device("cpu")
    made = build_retriever(plan, (width,), new_text(plan, clips, (), cpu), cpu, pretrained=False)
    made.model.eval()
    return made


AST = AstTowerConfig(
    module="ast", input="own", weights="scratch", max_frames=64, width=16, layers=1, heads=2,
    feed_forward=16,
)  # fmt: skip


def test_a_transformer_and_a_text_tower_are_graphs_too(tmp_path: Path) -> None:
    """Lengths and batches that the graphs were not made with."""
    width = FBANK.mels
    made = retriever(AST, FBANK, width)
    about = towers.write_retriever(made, towers.SystemParts(), tmp_path / "mine")
    assert about["sound"]["least_frames"] <= 57
    draw = np.random.default_rng(0)
    for clips, frames in ((1, 61), (4, 75), (2, 200)):
        values = draw.normal(0, 0.2, (clips, frames, width)).astype(np.float16)
        lengths = [frames, *draw.integers(1, frames + 1, clips - 1)]
        arrays = [row[:own] for row, own in zip(values, lengths, strict=True)]
        expected = made.embed_sound(made.sound.arrays([arrays])).numpy()
        padded = np.zeros_like(values, np.float32)
        for row, own in zip(padded, arrays, strict=True):
            row[: len(own)] = own
        given = {"features_0": padded, "lengths_0": np.array(lengths)}
        found = run(tmp_path / "mine/sound.onnx", **given)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    texts = ["a dog barks", " An engine IDLES nearby, and rain falls on the roof of it all ..."]
    given = tokens(tmp_path / "mine/tokenizer.json", texts)
    assert given["input_ids"].shape[1] == 12 == about["text"]["longest"]
    found = run(tmp_path / "mine/text.onnx", **given)
    np.testing.assert_allclose(found, made.embed_text(made.text.queries(texts)).numpy(), atol=1e-4)


class Careless(graphs.SoundGraph):
    """Its graph has the number of frames of the example in it, as one that is traced has."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        values, lengths = inputs
        frames = 150 if torch.compiler.is_exporting() else values.shape[1]
        return values.sum(1) / frames + 0 * lengths[:, None]


def test_a_graph_that_gives_something_else_is_not_kept(tmp_path: Path) -> None:
    made, names, path = Careless(), ["features_0", "lengths_0"], tmp_path / "x.onnx"
    graphs.write_graph(made, towers._features((4,), 2, 150), names, path, "mine")
    same, other = (towers._features((4,), 2, frames) for frames in (150, 60))
    assert graphs.check_graph(made, [same, other], names, path, "mine", 100) == 150
    with pytest.raises(EarwitnessError, match=r"mine cannot be .* × 60: it is .* from torch's"):
        graphs.check_graph(made, [same, other], names, path, "mine", 50)


def test_a_text_encoder_that_is_no_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    made = retriever(AST, FBANK, 32)
    side = StoredTextSide(
        features=("words",), encoder=Word2VecEncoderConfig(module="word2vec", weights="./x.bin")
    )
    plan = made.plan.model_copy(update={"text": side})
    cpu = torch.device("cpu")
    other = TrainedRetriever(plan, made.model, made.sound, new_text(plan, [], (8,), cpu))
    with pytest.raises(EarwitnessError, match=r"text encoder \(word2vec\) cannot be written as ON"):
        towers.write_retriever(other, towers.SystemParts(), tmp_path / "mine")
