"""Loaders of whole models: trained here, of transformers, of sentence-transformers, of FENSE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers import models as token_models
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
)

from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.retrievers import TextTowerConfig
from pipeline.config.sides import TextTowerSide
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip
from pipeline.encoders import sentence
from pipeline.metrics import fluency
from pipeline.models.pretrained import load_pretrained
from pipeline.tensors import TokenIds
from pipeline.text import subword
from pipeline.trained.captioner import TrainedCaptioner, load_captioner
from pipeline.trained.readers import new_text
from pipeline.trained.retriever import build_retriever, load_retriever
from tests.fuzz.case import Loader
from tests.fuzz.formats import SAFETENSORS, TORCH
from tests.fuzz.harm import JSON, TEXT
from tests.plans import build, captioner_plan
from tests.tiny_captioners import CAPTIONS, make_captioner
from tests.tiny_retrievers import save_retriever

WORDS = ("<s>", "<pad>", "</s>", "<unk>", "a", "dog", "barks", "[CLS]", "[SEP]", "[PAD]", "[UNK]")


def make_captioners(good: Path) -> None:
    for decoder in ("transformer", "gru"):
        (good / decoder).mkdir()
        make_captioner("x", "panns", 6, decoder).save(good / decoder, "step\n1\n")

    sizes = {
        "layers": 1, "heads": 2, "width": 16, "mapping_width": 8, "vocabulary": 64,
    }  # fmt: skip
    save_captioner(good / "prefix", "prefix", {"prefix": sizes})
    small = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "feed_forward": 16}
    sections = {
        "features": {"frames": 4, "width": 16},
        "fuser": {"layers": 1, "heads": 2, "reduced": 8, "feed_forward": 16},
        "translator": small,
        "bart": {**small, "pretrained": None, "vocabulary": 64, "width": 16},
    }
    save_captioner(good / "edtc", "edtc", sections)


def save_captioner(folder: Path, architecture: str, sections: dict[str, Any]) -> None:
    """With a subword tokenizer, and random weights."""
    entry = {"architecture": architecture, "features": ("panns",), "text": "minilm"}
    plan = captioner_plan(entry, sections, TrainingConfig())
    tokenizer = subword.train_subword(CAPTIONS, 64)
    tokens = TokenIds(tokenizer.size, tokenizer.begin, tokenizer.pad, tokenizer.end)
    folder.mkdir()
    model = build(plan, [6], tokens, 6).eval()
    TrainedCaptioner(plan, model, tokenizer, (6,)).save(folder, "step\n1\n")


def load_trained_captioner(home: Path) -> None:
    trained = load_captioner(home, "cpu")
    ids = trained.tokenizer.encode(["a dog barks"], 8)
    assert trained.model.tokens.size == trained.tokenizer.size
    assert max(ids[0]) < trained.tokenizer.size
    finite = all(bool(value.isfinite().all()) for value in trained.model.parameters())
    assert finite, "weights that are not finite"


def make_retrievers(good: Path) -> None:
    save_retriever(good, "x", ["panns", "logmel"], [6, 4], 5, 8)
    (good / "data/models/retrievers/x/1").rename(good / "x")
    for folder in ("data/models/retrievers/x", "data/models/retrievers", "data/models", "data"):
        (good / folder).rmdir()
    sizes = {"layers": 1, "heads": 2, "width": 16, "feed_forward": 8, "vocabulary": 64}
    plan = load_retriever(good / "x", "cpu").plan.model_copy(
        update={"text": TextTowerSide(tower=TextTowerConfig(weights="scratch", **sizes))}
    )
    clips = [Clip(str(i), "development", "", 0, (text,)) for i, text in enumerate(CAPTIONS)]
    cpu = torch.device("cpu")
    reader = new_text(plan, [clips], (), cpu)
    (good / "tower").mkdir()
    built = build_retriever(plan, (6, 4), reader, cpu, pretrained=True)
    built.save(good / "tower", "step\n1\n")


def make_tokenizer(folder: Path) -> None:
    inner = Tokenizer(token_models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    inner.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", eos_token="</s>"
    ).save_pretrained(folder)


def make_bart(good: Path) -> None:
    torch.manual_seed(0)
    sizes = dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    config = BartConfig(
        vocab_size=len(WORDS), d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=16, **sizes,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(good / "bart")
    make_tokenizer(good / "bart")


def load_bart(home: Path) -> None:
    load_pretrained(BartForConditionalGeneration, str(home), "bart")
    subword.pretrained(str(home)).encode(["a dog barks"], 8)


def tiny_bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=80,
    )  # fmt: skip
    return BertModel(config)


def make_sentence(good: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    parts = good.parent / "parts"
    tiny_bert().save_pretrained(parts)
    make_tokenizer(parts)
    modules = [Transformer(str(parts)), Pooling(64, "mean"), Dense(64, 4, bias=False)]
    SentenceTransformer(modules=modules, device="cpu").save(str(good / "one"))


def load_sentence(home: Path) -> None:
    encoder = sentence.build(SentenceEncoderConfig(module="sentence", batch=2), home, "cpu")
    encoder.encode(["a dog barks", "a dog"])


def make_detector(good: Path) -> None:
    model = fluency.ErrorDetector(tiny_bert(), len(fluency.ERRORS))
    (good / "one").mkdir()
    saved = {"model_type": "none", "num_classes": 6, "state_dict": model.state_dict()}
    torch.save(saved, good / "one/x.ckpt")
    (good / "one/vocab.txt").write_text("\n".join(WORDS))


def load_detector(home: Path) -> None:
    detector = fluency.load(str(home), "cpu")
    found = fluency.error_probabilities(detector, ["a dog barks"])
    assert 0 <= found[0] <= 1, "no probability"


TRAINED = {"model.safetensors": SAFETENSORS, "*.json": JSON}
LOADERS = (
    Loader("trained captioners", make_captioners, load_trained_captioner, TRAINED),
    Loader(
        "trained retrievers", make_retrievers, lambda home: load_retriever(home, "cpu"), TRAINED
    ),
    Loader("pretrained folders", make_bart, load_bart, TRAINED),
    Loader("sentence encoders", make_sentence, load_sentence, {**TRAINED, "*/*.json": JSON}),
    Loader("fluency detectors", make_detector, load_detector, {"*.ckpt": TORCH, "*.txt": TEXT}),
)
