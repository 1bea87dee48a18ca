"""Sections ``sound_towers``, ``text_towers``, ``biencoder``, ``retrievers`` and ``adapted``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.crnn import CrnnConfig
from pipeline.config.encoders import TAGGED, EncoderConfig
from pipeline.config.fields import Changes, Names, Ref, SeedOffset, Seeds, When, check_heads
from pipeline.config.section import Section
from pipeline.config.spectrogram import Fft, Hertz, Hop, Mels, check_spectrogram
from pipeline.losses.registry import MARGIN, NEGATIVES, LossName
from pipeline.weights import Weights


class BaseTowerConfig(Section):
    """Reads a stored log-mel or waveform and is trained.

    ``weights``: where training starts: ``hub``, ``hub:owner/name``, a path, ``tagging:ENCODER``
    (what the tagging stage trained for that encoder), or ``scratch``.
    """

    weights: Annotated[Weights, TAGGED] = Weights("hub")
    # a logmel, a waveform or an fbank; its front end is the tower's
    input: Annotated[str, Ref("encoders")]


class PannsTowerConfig(BaseTowerConfig):
    """PANNs' CNN14 or CNN10 over a stored log-mel (SJTU 2.2)."""

    module: Literal["panns"]
    model: Literal["cnn14", "cnn10"] = "cnn14"
    channels: int = Field(64, ge=4)  # of the first block, doubled by each next (PANNs: 64)
    # lets weights start from that were trained on another log-mel: PANNs' is of 32 kHz, RLSSR's of
    # 44.1 kHz (RLSSR 4.1, 4.2)
    any_front_end: bool = False


class WavegramTowerConfig(BaseTowerConfig):
    """PANNs' Wavegram-Logmel-CNN14 over a stored waveform (SJTU 2.2)."""

    module: Literal["wavegram"]
    channels: int = Field(64, ge=4)  # PANNs
    n_fft: Fft = 1024  # PANNs; of the log-mel that it makes of the waveform
    hop: Hop = 320  # PANNs
    mels: Mels = 64  # PANNs
    fmin: Hertz = 50.0  # PANNs
    fmax: Hertz = 14000.0  # PANNs

    @model_validator(mode="after")
    def _bands(self) -> WavegramTowerConfig:
        check_spectrogram(self)
        return self


class AstTowerConfig(BaseTowerConfig):
    """The Audio Spectrogram Transformer over a stored fbank (Gong et al. 2021)."""

    module: Literal["ast"]
    patch: int = Field(16, ge=2)  # AST
    stride: int = Field(16, ge=1)  # SJTU 2.2, footnote 1; AST itself: 10
    max_frames: int = Field(1024, ge=16)  # AST: 10.24 s; longer clips are cut into windows
    width: int = Field(768, ge=8)  # AST (DeiT-base)
    layers: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    feed_forward: int = Field(3072, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _untagged(self) -> AstTowerConfig:
        if self.weights.kind == "tagging":
            raise ValueError("weights: tagging cannot train an ast; give hub, a path or scratch")
        check_heads(self.width, self.heads)
        if self.max_frames < self.patch:
            raise ValueError(f"max_frames {self.max_frames} is below patch {self.patch}")
        return self


class CrnnTowerConfig(BaseTowerConfig, CrnnConfig):
    """DCASE 2022's CRNN over any stored feature, a log-mel or frames (CMU 5.2, 6.2.2)."""

    module: Literal["crnn"]
    weights: Weights = Weights("scratch")  # there are none to start with
    # more, such as sound-event vectors (CMU 7): resized to the frames that the recurrence reads,
    # and put beside them
    beside: Annotated[tuple[str, ...], Ref("encoders")] = ()

    @model_validator(mode="after")
    def _from_scratch(self) -> CrnnTowerConfig:
        if self.weights.kind != "scratch":
            raise ValueError("a crnn tower has no weights to start with; set weights: scratch")
        return self


SoundTowerConfig = Annotated[
    PannsTowerConfig | WavegramTowerConfig | AstTowerConfig | CrnnTowerConfig,
    Field(discriminator="module"),
]


class TowerSetupConfig(Section):
    """All that a sound tower is built from."""

    settings: SoundTowerConfig
    input: EncoderConfig  # of the stored feature that it reads
    weights: str | None  # the file that the tagging stage trains, where the tower starts there


SCRATCH = When("weights", "scratch")


class TextTowerConfig(Section):
    """Any transformers text model; ``scratch`` builds a BERT of the sizes below.

    ``weights``: ``hub:owner/name``, ``package:NAME``, a path, or ``scratch``.
    """

    weights: Weights = Weights("hub", "google-bert/bert-base-uncased")  # SJTU 2.2
    pooling: Literal["cls", "mean"] = "cls"  # SJTU's code
    max_tokens: int = Field(30, ge=3)  # SJTU's code
    vocabulary: Annotated[int, SCRATCH] = Field(3000, ge=64)
    layers: Annotated[int, SCRATCH] = Field(2, ge=1)
    heads: Annotated[int, SCRATCH] = Field(4, ge=1)
    width: Annotated[int, SCRATCH] = Field(128, ge=8)
    feed_forward: Annotated[int, SCRATCH] = Field(512, ge=1)
    dropout: Annotated[float, SCRATCH] = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads(self) -> TextTowerConfig:
        if self.weights.kind == "scratch":
            check_heads(self.width, self.heads)
        return self


class BiEncoderConfig(Section):
    width: int = Field(1024, ge=8)  # of the common space, SJTU's code
    temperature: float = Field(0.07, gt=0)  # τ at the start, SJTU's code
    learn_temperature: bool = True  # SJTU 2.2
    mask_same_clip: bool = True  # captions of one clip are no negatives; SJTU's code: they are
    # what follows is of CMU's variants; SJTU: a projection each, cosine, InfoNCE
    loss: LossName = "infonce"  # CMU 5.2: triplet; 6.2.5: exp_distance
    similarity: Literal["cosine", "dot"] = "cosine"  # cosine: embeddings are unit vectors
    project: Literal["both", "sound", "text", "none"] = "both"  # sides with a projection to `width`
    shared: int = Field(0, ge=0)  # width of one more linear layer, of both sides (CMU 6.2.3: 1024)
    margin: Annotated[float, When("loss", *MARGIN)] = Field(1.0, ge=0)  # the baseline's code
    # one a side: from the batch's other clips at random (CMU 5.2), or the most similar
    negatives: Annotated[Literal["random", "hardest"], When("loss", *NEGATIVES)] = "random"

    @model_validator(mode="after")
    def _masked(self) -> BiEncoderConfig:
        if self.loss != "infonce" and not self.mask_same_clip:
            raise ValueError(
                f"loss: {self.loss} never takes a negative of the same clip; set "
                "mask_same_clip: true"
            )
        return self


class RetrieverConfig(Section):
    """A bi-encoder (SJTU 2.2, Table 2): one trained tower, or frozen stored features, a side."""

    sections: ClassVar = ("biencoder", "retrieval_training")
    datasets: Annotated[Names, Ref("datasets")] = Field(min_length=1)  # mixed
    # one tower, or encoders, frozen
    sound: Annotated[Names, Ref("sound_towers", "encoders")] = Field(min_length=1)
    text: Annotated[str, Ref("text_towers", "text_encoders")]
    seed_offset: Annotated[SeedOffset, When("seed_offset")] = 0  # added to each of `seeds`
    set: Changes = Field(default_factory=dict)  # dotted settings of this one alone


class AdaptedConfig(Section):
    """A trained retriever, trained further on other datasets (SJTU 2.3)."""

    retriever: Annotated[str, Ref("retrievers")]
    datasets: Annotated[Names, Ref("datasets")] = Field(min_length=1)
    seed_offset: Annotated[SeedOffset, When("seed_offset")] = 0
    set: Changes = Field(default_factory=dict)


class RetrievalSystemConfig(Section):
    """What is ranked and scored: one retriever, or several, whose similarities are averaged; or a
    captioning system, whose captions are compared with the query as texts (CMU 3.2).
    """

    retrievers: Annotated[Names, Ref("spaces", "retrievers", "adapted")] = ()
    captions_of: Annotated[str | None, Ref("systems")] = None
    # what compares, by the cosine of means
    text: Annotated[str | None, Ref("text_encoders")] = None
    # those of `seeds` that it is ranked with; null: all, or those of captions_of
    seeds: Annotated[Seeds | None, When("seeds")] = None

    @model_validator(mode="after")
    def _one_kind(self) -> RetrievalSystemConfig:
        if bool(self.retrievers) == bool(self.captions_of):
            raise ValueError("give either retrievers, one or more, or captions_of and text")
        if (self.captions_of is None) != (self.text is None):
            raise ValueError("captions_of and text, which compares captions, go together")
        return self
