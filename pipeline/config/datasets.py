"""Sections ``datasets``: one class a layout."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import Names, OneOrSeveral, Outside, Seed
from pipeline.config.section import Section
from pipeline.config.spectrogram import Seconds
from pipeline.limits import LONGEST_MINUTES

# public captions that can be fetched → split → its table, in the dataset's root
CAPTION_TABLES = {
    "clotho": {
        "development": "clotho_captions_development.csv",
        "validation": "clotho_captions_validation.csv",
        "evaluation": "clotho_captions_evaluation.csv",
    },
    "audiocaps": {
        "development": "audiocaps_train.csv",
        "validation": "audiocaps_val.csv",
        "evaluation": "audiocaps_test.csv",
    },
    "audiocaps2": {
        "development": "audiocaps2_train.csv",
        "validation": "audiocaps2_val.csv",
        "evaluation": "audiocaps2_test.csv",
    },
}
# WavCaps' sources → their tables, and where the sound of one may lie, in the dataset's root
WAVCAPS_TABLES = {
    "FreeSound": "json_files/FreeSound/fsd_final.json",
    "BBC_Sound_Effects": "json_files/BBC_Sound_Effects/bbc_final.json",
    "SoundBible": "json_files/SoundBible/sb_final.json",
    "AudioSet_SL": "json_files/AudioSet_SL/as_final.json",
}
WAVCAPS_FOLDERS = (
    "{0}",
    "{0}_flac",
    "Audio/{0}",
    "mnt/fast/nobackup/scratch4weeks/xm00178/WavCaps/data/waveforms/{0}_flac",
)
CaptionSource = Literal["clotho", "audiocaps", "audiocaps2"]
WavCapsSource = Literal["FreeSound", "BBC_Sound_Effects", "SoundBible", "AudioSet_SL"]


class BaseDatasetConfig(Section):
    """``reads``: what `prepare` reads below ``root``, files and whole folders; it runs again where
    any of it changes. A layout that does not say is watched whole. ``synthetic``: a program makes
    its sound.
    """

    reads: ClassVar[tuple[str, ...]] = (".",)
    synthetic: ClassVar[bool] = False


class SoundscapesDatasetConfig(BaseDatasetConfig):
    """The synthesised default corpus; see pipeline/corpora/soundscapes.py."""

    reads: ClassVar = ()  # nothing: it is made here
    synthetic: ClassVar = True
    layout: Literal["soundscapes"]
    seed: Seed = 7  # the corpus is the same to the byte for a seed
    development: int = Field(1200, ge=1)  # clips in each split
    validation: int = Field(120, ge=1)
    evaluation: int = Field(200, ge=1)
    sample_rate: int = Field(16000, ge=8000, le=384_000)  # Hz
    seconds: tuple[Seconds, Seconds] = (4.0, 8.0)  # a clip's duration is drawn between these
    max_events: int = Field(3, ge=1)  # foreground events a clip, at most
    bad_audio: Literal["refuse", "skip"] = "refuse"

    @model_validator(mode="after")
    def _in_order(self) -> SoundscapesDatasetConfig:
        shortest, longest = self.seconds
        if shortest > longest:
            raise ValueError(f"seconds: {shortest:g} is above {longest:g}; give the shortest first")
        return self


class ClothoDatasetConfig(BaseDatasetConfig):
    """Any folder in Clotho's layout: ``<split>/*`` and ``clotho_captions_<split>.csv``."""

    reads: ClassVar = (
        *("development", "validation", "evaluation", "events.csv"),
        *("clotho_captions_development.csv", "clotho_captions_validation.csv"),
        "clotho_captions_evaluation.csv",
    )
    layout: Literal["clotho"]
    root: str  # folder, relative to the repository or absolute, or as docs/storage.md says
    bad_audio: Literal["refuse", "skip"] = "skip"  # a file that cannot be decoded: stop, or list it
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)  # a longer file is not decoded
    fetch: bool = False  # download Clotho v2.1 from Zenodo into root when it is not there


class FolderDatasetConfig(BaseDatasetConfig):
    """Any folder of sound: in Clotho's layout, or with one table of captions, split by a seed."""

    layout: Literal["folder"]
    root: str
    seed: Seed = 1  # of the split of one table
    validation: float = Field(0.1, gt=0, lt=0.5)  # of its clips, by chance about so many
    evaluation: float = Field(0.1, gt=0, lt=0.5)
    bad_audio: Literal["refuse", "skip"] = "skip"
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)


class WebDatasetDatasetConfig(BaseDatasetConfig):
    """Tar shards, each clip a sound file with its captions beside it in JSON or text."""

    layout: Literal["webdataset"]
    root: str  # shards, such as s3://bucket/train-{000000..000099}.tar; see docs/storage.md
    seed: Seed = 1  # of the split, where nothing says it
    validation: float = Field(0.1, gt=0, lt=0.5)  # of the clips, by chance about so many
    evaluation: float = Field(0.1, gt=0, lt=0.5)
    bad_audio: Literal["refuse", "skip"] = "skip"
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)


class AudioCapsDatasetConfig(BaseDatasetConfig):
    """AudioCaps' CSV layout: ``<split>.csv`` and ``<split>/<name>.wav``."""

    reads: ClassVar = (
        *("train", "val", "test", "train.csv", "val.csv", "test.csv"),
        *("audiocaps_train.csv", "audiocaps_val.csv", "audiocaps_test.csv"),
        *("audiocaps2_train.csv", "audiocaps2_val.csv", "audiocaps2_test.csv"),
    )
    layout: Literal["audiocaps"]
    root: str
    bad_audio: Literal["refuse", "skip"] = "skip"
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)


class MacsDatasetConfig(BaseDatasetConfig):
    """MACS (Martin & Mesaros 2021): ``MACS.yaml`` beside the sound of TAU Urban Acoustic Scenes."""

    reads: ClassVar = ("MACS.yaml", "audio", "TAU-urban-acoustic-scenes-2019-development/audio")
    layout: Literal["macs"]
    root: str
    bad_audio: Literal["refuse", "skip"] = "skip"
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)
    fetch: bool = False  # download its captions and sound from Zenodo into root when not there


class WavCapsDatasetConfig(BaseDatasetConfig):
    """WavCaps (Mei et al. 2023): ``json_files/`` as published, and the sound beside it."""

    reads: ClassVar = (
        "json_files",
        *(pattern.format(source) for source in WAVCAPS_TABLES for pattern in WAVCAPS_FOLDERS),
    )
    layout: Literal["wavcaps"]
    root: str
    # which of its four parts
    sources: Annotated[tuple[WavCapsSource, ...], OneOrSeveral] = Field(
        ("FreeSound", "BBC_Sound_Effects", "SoundBible", "AudioSet_SL"), min_length=1
    )
    # lists of ids below root, JSON or CSV, to leave out; by default all of AudioCaps and Clotho
    exclude: Annotated[Names | None, Outside("root")] = (
        "json_files/blacklist/blacklist_exclude_all_ac.json",
    )
    validation_share: float = Field(0.01, gt=0, lt=1)  # of the clips, which are all of development
    seed: Seed = 1  # of that share
    bad_audio: Literal["refuse", "skip"] = "skip"
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)  # the longest clip has 12 hours


class CaptionsDatasetConfig(BaseDatasetConfig):
    """Captions without sound, one or more CSV files a split: for text-only training (WSAC)."""

    reads: ClassVar = ()  # but for these tables
    layout: Literal["captions"]
    root: str
    # public captions, downloaded into root where they are not there; all their splits
    fetch: Annotated[tuple[CaptionSource, ...], OneOrSeveral] = ()
    # files below root, with file_name (or AudioCaps' youtube_id), and caption or caption_1 …
    development: Annotated[Names | None, Outside("root")] = None
    validation: Annotated[Names | None, Outside("root")] = None
    evaluation: Annotated[Names | None, Outside("root")] = None

    @model_validator(mode="after")
    def _something_to_learn(self) -> CaptionsDatasetConfig:
        if not self.development and not self.fetch:
            raise ValueError("development: names no table; name one, or set fetch: [clotho]")
        return self


class BlindDatasetConfig(BaseDatasetConfig):
    """Recordings without captions, such as a challenge's blind test: to caption, or to search."""

    layout: Literal["blind"]
    root: str  # its sound may lie anywhere below
    # CSV below root with file_name: which sound, and in this order
    table: Annotated[str | None, Outside("root")] = None
    # CSV below root with caption: what the sound is searched for
    queries: Annotated[str | None, Outside("root")] = None
    # one of Clotho's sets for DCASE, downloaded into root when it is not there
    fetch: Literal["clotho_test", "clotho_analysis", "clotho_retrieval"] | None = None
    bad_audio: Literal["refuse", "skip"] = "refuse"  # a submission needs every clip
    longest_minutes: float = Field(LONGEST_MINUTES, gt=0)


class DescriptionsDatasetConfig(BaseDatasetConfig):
    """Captions of kinds of sound, a row a kind: for text-only training without a network."""

    reads: ClassVar = ()  # but for its table
    layout: Literal["descriptions"]
    root: str = "pipeline/corpora"
    table: Annotated[str, Outside("root")] = "descriptions.csv"  # label, caption_1, caption_2 …
    seed: Seed = 1  # which captions are held out
    validation_share: float = Field(0.1, gt=0, le=1)  # of the labels: one of whose captions is


DatasetConfig = Annotated[
    SoundscapesDatasetConfig
    | ClothoDatasetConfig
    | FolderDatasetConfig
    | WebDatasetDatasetConfig
    | AudioCapsDatasetConfig
    | MacsDatasetConfig
    | WavCapsDatasetConfig
    | BlindDatasetConfig
    | CaptionsDatasetConfig
    | DescriptionsDatasetConfig,
    Field(discriminator="layout"),
]
