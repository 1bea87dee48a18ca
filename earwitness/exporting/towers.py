"""A retrieval system's towers as ONNX: sound features to an embedding, tokens to an embedding.

Each graph is run by onnxruntime before it is kept, and has to give what torch gives, to 1e-4. What
cannot be a graph is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from torch import nn

from earwitness.exporting.graphs import (
    OUTPUT,
    Inputs,
    SentenceGraph,
    SoundGraph,
    TokenGraph,
    check_graph,
    write_graph,
)
from earwitness.exporting.parts import SystemParts
from earwitness.retrieval import RetrievalSystem
from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.plans import RetrieverPlan
from pipeline.config.sides import EncoderSoundSide
from pipeline.encoders.registry import build_text_encoder
from pipeline.errors import EarwitnessError
from pipeline.files import write_atomic, write_json
from pipeline.text.subword import BEGIN, END, TRAILING, SubwordTokenizer
from pipeline.trained.readers import StoredTextReader, TokenReader
from pipeline.trained.retriever import TrainedRetriever

ABOUT = "onnx_manifest.json"
# batches and frames that a graph is made by, and then tried with, the longest first; it must do
# those of 57 frames and more, and says which is the shortest that it does
EXAMPLE, MUST = (3, 150), 57
TRIED = ((1, 1100), (2, 333), (3, 150), (1, 150), (3, 57), (1, 57), (1, 40), (1, 9), (1, 1))
TEXTS = (["birds sing"] * 3, ["rain", "two people talk while an engine idles"], ["a dog barks"])
SPELT = [" Two  BELLS ring, twice…  ", "rain " * 300, "a dog (barks)."]  # as people write


@dataclass(frozen=True)
class TextGraph:
    """What makes a text tower's graph, and its inputs."""

    module: nn.Module
    tokenizer: str  # tokenizer.json
    longest: int | None  # tokens; None: any number
    encode: Callable[[Sequence[str]], Inputs]


def write_towers(system: RetrievalSystem, parts: SystemParts, folder: Path) -> None:
    """Writes ``<retriever>/sound.onnx``, ``text.onnx`` and ``tokenizer.json``, and what they mean.

    Raises:
        EarwitnessError: a tower cannot be a graph, or its graph does not give what torch gives.
    """
    about = [write_retriever(member, parts, folder / member.plan.name) for member in system.members]
    together = "the mean of the retrievers' similarities" if len(about) > 1 else "the retriever's"
    write_json(folder / ABOUT, {"format": 1, "similarity": together, "retrievers": about})


def write_retriever(
    retriever: TrainedRetriever, parts: SystemParts, folder: Path
) -> dict[str, Any]:
    """Both towers of one retriever, and what their inputs and outputs are."""
    folder.mkdir(parents=True)
    name, text = retriever.plan.name, _text(retriever)
    widths = retriever.sound.widths
    names = [
        f"{kind}_{number}" for number in range(len(widths)) for kind in ("features", "lengths")
    ]
    sound, ids = SoundGraph(retriever.model), ["input_ids", "attention_mask"]
    what = f"retriever {name}: its sound tower"
    write_graph(sound, _features(widths, *EXAMPLE), names, folder / "sound.onnx", what)
    tried = [_features(widths, *sizes) for sizes in TRIED]
    least = check_graph(sound, tried, names, folder / "sound.onnx", what, MUST)
    what = f"retriever {name}: its text tower"
    words = [text.encode(texts) for texts in TEXTS]
    _check_tokenizer(text, what)
    write_graph(text.module, words[0], ids, folder / "text.onnx", what)
    check_graph(text.module, words, ids, folder / "text.onnx", what)
    write_atomic(folder / "tokenizer.json", text.tokenizer)
    output = {"name": OUTPUT, "shape": ["batch", retriever.width], "type": "float32"}
    return {
        "name": name,
        "similarity": _similarity(retriever),
        "sound": {
            "file": f"{name}/sound.onnx",
            "inputs": [*_sound_inputs(retriever, parts)],
            "least_frames": least,
            "output": output,
        },
        "text": {
            "file": f"{name}/text.onnx",
            "tokenizer": f"{name}/tokenizer.json",
            "inputs": [
                {"name": each, "shape": ["batch", "tokens"], "type": "int64"} for each in ids
            ],
            "padding": "on the right, where attention_mask is 0",
            "longest": text.longest,
            "output": output,
        },
    }


def _similarity(retriever: TrainedRetriever) -> str:
    if retriever.plan.biencoder.loss == "exp_distance":
        return "minus the Euclidean distance of the embeddings"
    if retriever.plan.biencoder.similarity == "cosine":
        return "the dot product of the embeddings, which are of length 1 (the cosine)"
    return "the dot product of the embeddings"


def _sound_inputs(retriever: TrainedRetriever, parts: SystemParts) -> Iterator[dict[str, Any]]:
    """What each input holds: an encoder's frames, by settings that say rate and normalisation."""
    plan = retriever.plan
    for number, (name, width) in enumerate(
        zip(plan.sound.features, retriever.sound.widths, strict=True)
    ):
        settings: Any = None
        if isinstance(plan.sound, EncoderSoundSide):
            settings = plan.sound.encoder
        elif isinstance(plan, RetrieverPlan):
            made = {(own.dataset, own.name): own.encoder for own in parts.extraction.values()}
            settings = made.get((plan.datasets[0], name))
        kept = settings.model_dump(mode="json", exclude={"weights", "labels"}) if settings else None
        yield {
            "name": f"features_{number}",
            "shape": ["batch", "frames", width],
            "type": "float32",
            "feature": name,
            "encoder": kept,
            "normalisation": "none beyond the encoder's own: its frames as earwitness makes them",
        }
        yield {"name": f"lengths_{number}", "shape": ["batch"], "type": "int64", "valid": "frames"}


def _text(retriever: TrainedRetriever) -> TextGraph:
    reader, name = retriever.text, retriever.plan.name
    if isinstance(reader, TokenReader):
        own, longest = reader.tokenizer, reader.settings.max_tokens

        def encode(texts: Sequence[str]) -> Inputs:
            return _padded(own.encode(texts, longest), own.pad)

        backend = Backend.from_str(own.backend.to_str())  # type: ignore[attr-defined]
        if isinstance(own, SubwordTokenizer):
            _add_frame(backend, own)
        tokenizer = _whole(backend, longest, own.pad)
        return TextGraph(TokenGraph(retriever.model), tokenizer, longest, encode)
    assert isinstance(reader, StoredTextReader)
    settings = reader.side.encoder
    if not isinstance(settings, SentenceEncoderConfig) or settings.prompt:
        kind = "a prompt" if isinstance(settings, SentenceEncoderConfig) else settings.module
        raise EarwitnessError(
            f"retriever {name}: its text encoder ({kind}) cannot be written as ONNX; a text tower, "
            "or a sentence encoder without a prompt, can: leave out onnx"
        )
    encoder: Any = build_text_encoder(settings, "cpu")
    model = encoder.model

    def tokens(texts: Sequence[str]) -> Inputs:
        found = model.preprocess(list(texts))
        return {each: found[each].numpy() for each in ("input_ids", "attention_mask")}

    module = SentenceGraph(retriever.model, model, encoder.tokens)
    backend = Backend.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer = _whole(backend, model.max_seq_length, model.tokenizer.pad_token_id)
    return TextGraph(module, tokenizer, model.max_seq_length, tokens)


def _add_frame(backend: Backend, own: SubwordTokenizer) -> None:
    """What :meth:`SubwordTokenizer.encode` does around its backend, in the backend itself."""
    first = [
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
        normalizers.Replace(Regex(TRAILING), ""),
    ]
    last = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*first, *last])
    backend.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, own.begin), (END, own.end)]
    )


def _whole(backend: Backend, longest: int | None, pad: int) -> str:
    """``tokenizer.json`` that cuts and pads as the tower needs it."""
    backend.no_truncation()
    if longest is not None:
        backend.enable_truncation(longest)
    backend.enable_padding(pad_id=pad, pad_token=backend.id_to_token(pad))
    return str(backend.to_str())


def _check_tokenizer(text: TextGraph, what: str) -> None:
    """That ``tokenizer.json`` alone gives the ids that the system gives."""
    backend = Backend.from_str(text.tokenizer)
    for texts in (*TEXTS, SPELT):
        rows = [encoding.ids for encoding in backend.encode_batch(list(texts))]
        if not np.array_equal(np.array(rows), text.encode(texts)["input_ids"]):
            raise EarwitnessError(f"{what}: its tokenizer cannot be written; leave out onnx")


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Inputs:
    longest = max(map(len, rows))
    ids = np.array([[*row, *[pad] * (longest - len(row))] for row in rows], np.int64)
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(longest) < lengths[:, None]
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def _features(widths: Sequence[int], clips: int, frames: int) -> Inputs:
    """Random features of each width, of different lengths, the first the longest."""
    draw = np.random.default_rng(frames)
    found: Inputs = {}
    for number, width in enumerate(widths):
        longest = frames + number
        lengths = draw.integers(1, longest + 1, clips)
        lengths[0] = longest
        found[f"features_{number}"] = draw.random((clips, longest, width), np.float32)
        found[f"lengths_{number}"] = lengths
    return found
