"""Text encoders against sentence-transformers' encode."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from pipeline.config.encoders import InstructorEncoderConfig, SentenceEncoderConfig
from pipeline.encoders.registry import build_text_encoder
from pipeline.encoders.sources import Hub, locate
from pipeline.errors import EarwitnessError

CAPTIONS = [
    "a dog barks",
    "rain falls on a tin roof while thunder rolls in the distance and a car drives past",
    "birds",
    "a man speaks, then laughs",
    "birds",
]
INSTRUCTION = "represent the caption :"
WORDS = ["<pad>", "</s>", "<unk>", *sorted({*INSTRUCTION.split(), *" ".join(CAPTIONS).split()})]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformer:
    folder = locate(SentenceEncoderConfig(module="sentence").weights, "minilm", Hub())
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def instructor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random INSTRUCTOR: a T5 encoder, mean pooling, a dense layer; its own tokenizer."""
    torch.manual_seed(0)
    parts = tmp_path_factory.mktemp("t5")
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(parts)
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
    ).save_pretrained(parts)
    modules = [Transformer(str(parts)), Pooling(16, "mean"), Dense(16, 10, bias=False)]
    folder = tmp_path_factory.mktemp("instructor")
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def test_tokens_are_sentence_transformers(minilm: SentenceTransformer) -> None:
    encoder = build_text_encoder(SentenceEncoderConfig(module="sentence", batch=2))
    values, lengths = encoder.encode(CAPTIONS)
    expected = minilm.encode(CAPTIONS, output_value="token_embeddings")
    assert lengths.tolist() == [len(tokens) for tokens in expected] and encoder.width == 384
    np.testing.assert_allclose(values, torch.cat(list(expected)).numpy(), atol=2e-5)


def test_means_are_sentence_transformers(minilm: SentenceTransformer) -> None:
    settings = SentenceEncoderConfig(module="sentence", pooling="mean", batch=2)
    values, lengths = build_text_encoder(settings).encode(CAPTIONS)
    assert lengths.tolist() == [1] * 5
    np.testing.assert_allclose(values, minilm.encode(CAPTIONS), atol=2e-5)


def test_float16_and_no_captions() -> None:
    encoder = build_text_encoder(SentenceEncoderConfig(module="sentence"))
    half = encoder.encode(CAPTIONS, np.float16)
    assert half.values.dtype == np.float16
    np.testing.assert_allclose(half.values, encoder.encode(CAPTIONS).values, atol=1e-3, rtol=1e-3)
    empty = encoder.encode([])
    assert empty.values.shape == (0, 384) and empty.lengths.shape == (0,)


def test_instructor_keeps_the_captions_tokens_alone(instructor: Path) -> None:
    settings = InstructorEncoderConfig(
        module="instructor", weights=str(instructor), instruction=INSTRUCTION + " ", batch=2
    )
    encoder = build_text_encoder(settings)
    values, lengths = encoder.encode(CAPTIONS)
    words = [len(caption.split()) for caption in CAPTIONS]
    assert lengths.tolist() == [count + 1 for count in words]  # and its </s>
    library = SentenceTransformer(str(instructor), device="cpu")
    whole = library.encode(CAPTIONS, prompt=INSTRUCTION + " ", output_value="token_embeddings")
    skipped = len(INSTRUCTION.split())
    expected = torch.cat([tokens[skipped:] for tokens in whole])
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)
    plain = library.encode(CAPTIONS, output_value="token_embeddings")
    assert np.abs(values - torch.cat(list(plain)).numpy()).max() > 1e-3  # the instruction counts


def test_instructor_mean_leaves_the_instruction_out(instructor: Path) -> None:
    settings = InstructorEncoderConfig(
        module="instructor",
        weights=str(instructor),
        instruction=INSTRUCTION + " ",
        pooling="mean",
    )
    encoder = build_text_encoder(settings)
    values, lengths = encoder.encode(CAPTIONS)
    assert encoder.width == 10 and lengths.tolist() == [1] * 5
    library = SentenceTransformer(str(instructor), device="cpu")
    library.set_pooling_include_prompt(False)
    np.testing.assert_allclose(
        values, library.encode(CAPTIONS, prompt=INSTRUCTION + " "), atol=1e-5
    )
    by_hand = build_text_encoder(settings.model_copy(update={"pooling": "tokens"}))
    tokens, counts = by_hand.encode(CAPTIONS)
    sums = np.add.reduceat(tokens, np.cumsum(counts) - counts)
    means = (sums / counts[:, None]).astype(np.float32)
    dense = library[2]
    with torch.inference_mode():
        expected = dense.activation_function(dense.linear(torch.from_numpy(means)))
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)


def test_a_missing_package_and_a_folder_without_a_model_are_refused(tmp_path: Path) -> None:
    for weights in ("package:no_such_model", "package:../etc", str(tmp_path)):
        with pytest.raises(EarwitnessError) as raised:
            build_text_encoder(SentenceEncoderConfig(module="sentence", weights=weights))
        assert "\n" not in str(raised.value)


def test_a_folder_whose_parts_do_not_fit_is_one_line(instructor: Path, tmp_path: Path) -> None:
    """Each of them loads; only a caption shows that they make no encoder."""
    folder = tmp_path / "model"
    shutil.copytree(instructor, folder)
    settings = InstructorEncoderConfig(module="instructor", weights=str(folder))
    build_text_encoder(settings)
    modules = json.loads((folder / "modules.json").read_text())
    for wrong in ([modules[0], modules[2]], modules[1:]):
        (folder / "modules.json").write_text(json.dumps(wrong))
        with pytest.raises(EarwitnessError, match=f"{folder}: cannot ") as raised:
            build_text_encoder(settings)
        assert "\n" not in str(raised.value)


def test_a_pipe_in_a_models_folder_is_refused(instructor: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(instructor, folder)
    (folder / "modules.json").unlink()
    os.mkfifo(folder / "modules.json")
    with pytest.raises(EarwitnessError, match=r"modules\.json: not a regular file"):
        build_text_encoder(InstructorEncoderConfig(module="instructor", weights=str(folder)))
