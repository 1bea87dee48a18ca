"""A typed, frozen model of every section of ``params.yaml``.

Each field's comment names its source: a paper's section, table or equation, or "ours". An unknown
key is refused with the nearest known one.
"""

from __future__ import annotations

from pipeline.config.captioner_base import CaptionerBase
from pipeline.config.captioners import (
    Bart,
    Captioner,
    EdtcCaptioner,
    FeatureInput,
    Finetuned,
    Fuser,
    Seq2Seq,
    Seq2SeqCaptioner,
    Translator,
    Twin,
)
from pipeline.config.cmu import BartCaptioner, Cmu
from pipeline.config.crnn import Crnn
from pipeline.config.datasets import (
    AudioCapsDataset,
    CaptionsDataset,
    ClothoDataset,
    Dataset,
    MacsDataset,
    SoundscapesDataset,
)
from pipeline.config.encoders import (
    ClapEncoder,
    ClapTextEncoder,
    ConvNextEncoder,
    Encoder,
    EventsEncoder,
    FbankEncoder,
    HtsatEncoder,
    InstructorEncoder,
    LogmelEncoder,
    PannsEncoder,
    SentenceEncoder,
    SoundEncoder,
    SpecAugment,
    Tagging,
    TextEncoder,
    TextEncoderBase,
    VggishEncoder,
    WaveformEncoder,
    Word2VecEncoder,
    YamnetEncoder,
)
from pipeline.config.evaluation import (
    Decoding,
    Evaluation,
    System,
)
from pipeline.config.params import (
    Params,
    load_params,
    parse_params,
    with_settings,
)
from pipeline.config.reads import Reads
from pipeline.config.retrievers import (
    Adapted,
    AstTower,
    BiEncoder,
    CrnnTower,
    PannsTower,
    RetrievalSystem,
    Retriever,
    SoundTower,
    SoundTowerBase,
    TextTower,
    WavegramTower,
)
from pipeline.config.rlssr import Reconstruction, Rlssr, RlssrCaptioner
from pipeline.config.section import (
    Section,
    known,
    nearest,
    parse_section,
)
from pipeline.config.tokens import Subwords, Words
from pipeline.config.training import (
    Optimisation,
    RetrievalTraining,
    Rewards,
    Scst,
    Training,
)
from pipeline.config.wsac import Prefix, PrefixCaptioner, TextMemory

__all__ = [
    "Adapted",
    "AstTower",
    "AudioCapsDataset",
    "Bart",
    "BartCaptioner",
    "BiEncoder",
    "Captioner",
    "CaptionerBase",
    "CaptionsDataset",
    "ClapEncoder",
    "ClapTextEncoder",
    "ClothoDataset",
    "Cmu",
    "ConvNextEncoder",
    "Crnn",
    "CrnnTower",
    "Dataset",
    "Decoding",
    "EdtcCaptioner",
    "Encoder",
    "Evaluation",
    "EventsEncoder",
    "FbankEncoder",
    "FeatureInput",
    "Finetuned",
    "Fuser",
    "HtsatEncoder",
    "InstructorEncoder",
    "LogmelEncoder",
    "MacsDataset",
    "Optimisation",
    "PannsEncoder",
    "PannsTower",
    "Params",
    "Prefix",
    "PrefixCaptioner",
    "Reads",
    "Reconstruction",
    "RetrievalSystem",
    "RetrievalTraining",
    "Retriever",
    "Rewards",
    "Rlssr",
    "RlssrCaptioner",
    "Scst",
    "Section",
    "SentenceEncoder",
    "Seq2Seq",
    "Seq2SeqCaptioner",
    "SoundEncoder",
    "SoundTower",
    "SoundTowerBase",
    "SoundscapesDataset",
    "SpecAugment",
    "Subwords",
    "System",
    "Tagging",
    "TextEncoder",
    "TextEncoderBase",
    "TextMemory",
    "TextTower",
    "Training",
    "Translator",
    "Twin",
    "VggishEncoder",
    "WaveformEncoder",
    "WavegramTower",
    "Word2VecEncoder",
    "Words",
    "YamnetEncoder",
    "known",
    "load_params",
    "nearest",
    "parse_params",
    "parse_section",
    "with_settings",
]
