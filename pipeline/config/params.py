"""All of ``params.yaml``: its sections together, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.captioners import CaptionerConfig, CaptionerSections, FinetunedConfig
from pipeline.config.datasets import DatasetConfig
from pipeline.config.edtc import EdtcCaptionerConfig
from pipeline.config.encoders import PROBABILITIES, EncoderConfig, TaggingConfig, TextEncoderConfig
from pipeline.config.engine import RayConfig
from pipeline.config.evaluation import (
    DecodingConfig,
    EvaluationConfig,
    RerankConfig,
    SystemConfig,
)
from pipeline.config.feature_files import FeatureFilesConfig
from pipeline.config.fields import TEXT, Ref, Seeds
from pipeline.config.hardware import HardwareConfig
from pipeline.config.names import check_names
from pipeline.config.prefix import PrefixCaptionerConfig
from pipeline.config.report import ReportConfig
from pipeline.config.retrievers import (
    AdaptedConfig,
    BiEncoderConfig,
    RetrievalSystemConfig,
    RetrieverConfig,
    SoundTowerConfig,
    TextTowerConfig,
)
from pipeline.config.rlssr import RlssrCaptionerConfig
from pipeline.config.section import parse_section
from pipeline.config.spaces import SpaceConfig
from pipeline.config.training import RetrievalTrainingConfig, ScstConfig, TrainingConfig
from pipeline.errors import EarwitnessError
from pipeline.weights import Weights
from pipeline.yaml_files import read_yaml


class Params(CaptionerSections):
    """All of ``params.yaml``; what is said of a section stands behind it there."""

    seeds: Seeds = Field(
        (1,), description="each trains all models once; encoders and features are of the first"
    )
    hardware: HardwareConfig = Field(HardwareConfig(), description="of every job")
    engine: Literal["local", "ray"] = Field(
        "local", description="or ray: encoders' work on the workers of a cluster"
    )
    ray: RayConfig = Field(RayConfig(), description="the cluster, where engine is ray")
    tracking: Literal["none", "tensorboard", "mlflow", "wandb"] = Field(
        "none", description="of trainings: tensorboard, mlflow or wandb, into data/tracking"
    )

    datasets: dict[str, DatasetConfig] = Field(description="each becomes one manifest")
    encoders: dict[str, EncoderConfig] = Field(
        description="frozen; weights: hub, hub:owner/name, a path, or tagging (trained here)"
    )
    tagging: TaggingConfig = Field(
        TaggingConfig(), description="trains encoders on event labels; it needs no network"
    )
    text_encoders: dict[str, TextEncoderConfig] = Field(
        {}, description="frozen; of the twin, and of retrievers without a text tower"
    )
    feature_files: FeatureFilesConfig = Field(
        FeatureFilesConfig(), description="how features lie on the disk"
    )
    sound_towers: dict[str, SoundTowerConfig] = Field(
        {}, description="trained, over a stored log-mel or waveform"
    )
    text_towers: dict[str, TextTowerConfig] = Field({}, description="trained")
    biencoder: BiEncoderConfig = Field(BiEncoderConfig(), description="of every retriever")
    retrieval_training: RetrievalTrainingConfig = Field(
        RetrievalTrainingConfig(), description="contrastive"
    )
    encoded: Annotated[tuple[str, ...], Ref("spaces", "retrievers", "adapted")] = Field(
        (), description="those that become encoders: x/frames, x/sound and x/text are stored"
    )
    spaces: dict[str, SpaceConfig] = Field(
        {}, description="without training: a CLAP as it is, or a tagger's names as text"
    )
    retrievers: dict[str, RetrieverConfig] = Field(
        {}, description="of each side a tower, or frozen encoders"
    )
    adapted: dict[str, AdaptedConfig] = Field(
        {}, description="retrievers trained further, on other datasets"
    )
    captioners: dict[str, CaptionerConfig] = Field(
        {}, description="set: settings of one of them alone"
    )
    training: dict[str, TrainingConfig] = Field(
        {}, description="by cross-entropy; a captioner names one of these"
    )
    scst: ScstConfig = Field(ScstConfig(), description="training further, by rewards")
    finetuned: dict[str, FinetunedConfig] = Field({}, description="captioners trained further so")
    test_sets: Annotated[tuple[str, ...], Ref("datasets")] = Field(
        (), description="that the systems caption"
    )
    retrieval_test_sets: Annotated[tuple[str, ...], Ref("datasets")] = Field(
        (), description="that the retrieval systems rank"
    )
    decoding: DecodingConfig = Field(DecodingConfig(), description="of every system")
    rerank: RerankConfig = Field(
        RerankConfig(), description="chooses among a search's hypotheses, by a retriever"
    )
    systems: dict[str, SystemConfig] = Field(
        {}, description="one captioner, or an ensemble of several"
    )
    retrieval_systems: dict[str, RetrievalSystemConfig] = Field(
        {}, description="one retriever, or an ensemble of several"
    )
    evaluation: EvaluationConfig = Field(
        EvaluationConfig(), description="scores by other weights than the field's say so by name"
    )
    report: ReportConfig = Field(ReportConfig(), description="the page of a run")

    @model_validator(mode="before")
    @classmethod
    def _several(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "seed" in values:
            raise ValueError(f"seed: is a list now; write seeds: [{values['seed']}]")
        return values

    @model_validator(mode="after")
    def _encoded(self) -> Params:
        """A retriever's features are named x/frames, x/sound or x/text, where it has them."""
        retrievers = {**self.spaces, **self.retrievers, **self.adapted}
        bases = {adapted.retriever for adapted in self.adapted.values()}
        if not (bases <= self.retrievers.keys() and {*self.encoded} <= retrievers.keys()):
            return self  # the next validator says so
        for entry, captioner in self.captioners.items():
            fields = {"features": getattr(captioner, "features", ())}
            if isinstance(captioner, PrefixCaptionerConfig):
                fields["text"] = (captioner.text,)
            for field, names in fields.items():
                for name in names:
                    retriever, _, part = name.partition("/")
                    if retriever not in retrievers:
                        continue
                    where = f"captioners.{entry}.{field}"
                    if retriever not in self.encoded:
                        raise ValueError(
                            f"{where}: retriever '{retriever}' is not in encoded; add it"
                        )
                    if not part:
                        raise ValueError(
                            f"{where}: '{name}' is a retriever; name what is encoded with it: "
                            f"{name}/frames, {name}/sound or {name}/text"
                        )
                    base = (
                        self.adapted[retriever].retriever
                        if retriever in self.adapted
                        else retriever
                    )
                    own = self.spaces.get(base) or self.retrievers[base]
                    tower = self.sound_towers.get(own.sound[0])
                    if part == "frames" and (tower is None or getattr(tower, "beside", ())):
                        raise ValueError(
                            f"{where}: retriever '{retriever}' has no frames, as it trains no "
                            f"tower over one feature alone; name {retriever}/sound, or its encoders"
                        )
        return self

    @model_validator(mode="after")
    def _names(self) -> Params:
        check_names(self)
        if "retrieval" in self.datasets:
            raise ValueError("datasets: 'retrieval' is a folder of metrics; rename the dataset")
        if taken := [name for name in self.systems if name.startswith("yardstick_")]:
            raise ValueError(f"systems: '{taken[0]}' is called as yardsticks are; rename it")
        return self

    @model_validator(mode="after")
    def _tagged(self) -> Params:
        """Weights that the tagging stage is to train are trained."""
        if self.tagging.encoders and self.tagging.dataset is None:
            raise ValueError("tagging.dataset: missing; name one of datasets")
        for name, encoder in self.encoders.items():
            weights = encoder.weights
            if weights == Weights("tagging") and name not in self.tagging.encoders:
                raise ValueError(f"encoders.{name}.weights is tagging: add it to tagging.encoders")
            if weights.kind == "tagging" and weights.name and encoder.module != "events":
                raise ValueError(
                    f"encoders.{name}.weights: give tagging; {weights} is for encoders of "
                    "module events"
                )
        return self

    @model_validator(mode="after")
    def _spaces(self) -> Params:
        """A tag space reads class probabilities."""
        for name, space in self.spaces.items():
            if space.module != "tags":
                continue
            encoder = self.encoders[space.sound[0]]
            wanted = PROBABILITIES.get(encoder.module)
            if wanted is None:
                raise ValueError(
                    f"spaces.{name}.sound: '{space.sound[0]}' is of module {encoder.module}, which "
                    f"gives no class probabilities; name one of {', '.join(PROBABILITIES)}"
                )
            if getattr(encoder, "output", wanted) != wanted:
                raise ValueError(
                    f"encoders.{space.sound[0]}.output: spaces.{name} reads class probabilities; "
                    f"set it to {wanted}"
                )
        return self

    @model_validator(mode="after")
    def _retrievers(self) -> Params:
        """A tower stands alone."""
        for name, retriever in self.retrievers.items():
            if len(retriever.sound) > 1 and {*retriever.sound} & self.sound_towers.keys():
                raise ValueError(
                    f"retrievers.{name}.sound: a tower stands alone; name it, or encoders"
                )
        return self

    @model_validator(mode="after")
    def _captioners(self) -> Params:
        """What one architecture asks of the entries that it names."""
        for name, captioner in self.captioners.items():
            where = f"captioners.{name}"
            if isinstance(captioner, RlssrCaptionerConfig):
                tower = self.sound_towers[captioner.tower]
                if tower.module != "panns":  # whose maps over frequency RLSSR pools
                    raise ValueError(
                        f"{where}.tower: '{captioner.tower}' is of module {tower.module}; name one "
                        "of panns"
                    )
                stored = self.encoders[tower.input].module
                if stored != "logmel":
                    raise ValueError(
                        f"{where}.tower: sound_towers.{captioner.tower}.input '{tower.input}' is a "
                        f"{stored}; name a logmel"
                    )
            if isinstance(captioner, PrefixCaptionerConfig):
                texts = {*Ref(*TEXT).known(self)}
                if {*captioner.features} & texts - {captioner.text}:
                    raise ValueError(
                        f"{where}.features: captions are read as text ({captioner.text}) is"
                    )
        return self

    @model_validator(mode="after")
    def _systems(self) -> Params:
        """Members of an ensemble share a vocabulary: one kind of token, of one dataset."""
        for name, system in self.systems.items():
            bases = [
                self.captioners[self.finetuned[m].captioner if m in self.finetuned else m]
                for m in system.captioners
            ]
            kinds = [f"{base.architecture}, {base.dataset}" for base in bases]
            for other, kind in zip(system.captioners, kinds, strict=True):
                if kind != kinds[0]:
                    raise ValueError(
                        f"systems.{name}: captioners {system.captioners[0]} ({kinds[0]}) and "
                        f"{other} ({kind}) write in different vocabularies; name captioners of "
                        "one architecture and dataset"
                    )
        for name, retrieval in self.retrieval_systems.items():
            for dataset in self.retrieval_test_sets if retrieval.captions_of else ():
                if dataset not in self.test_sets:
                    raise ValueError(
                        f"retrieval_systems.{name}: no captions of {dataset}; add it to test_sets"
                    )
        return self

    @model_validator(mode="after")
    def _seeds(self) -> Params:
        """A system's seeds are some of those that its models are trained with."""
        for section in ("systems", "retrieval_systems"):
            for name, system in getattr(self, section).items():
                captions_of = getattr(system, "captions_of", None)
                base = self.systems[captions_of].seeds if captions_of else None
                there, of = base or self.seeds, f"systems.{captions_of}.seeds" if base else "seeds"
                if missing := [seed for seed in system.seeds or () if seed not in there]:
                    known = ", ".join(map(str, there))
                    raise ValueError(
                        f"{section}.{name}.seeds: {missing[0]} is not in {of} ({known}); add it "
                        "there, or leave it out"
                    )
        return self


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """The typed parameters.

    Raises:
        EarwitnessError: one line with the place, what is wrong and, for an unknown key, the
            nearest known one.
    """
    return parse_section(Params, values, source)


def load_params(path: Path) -> Params:
    """Reads ``params.yaml``.

    Raises:
        EarwitnessError: see :func:`pipeline.yaml_files.read_yaml` and :func:`parse_params`.
    """
    if not path.exists():
        raise EarwitnessError(f"{path}: not there; run from the repository's root")
    hint = "correct it, or write it anew: `earwitness recipe showcase soundscapes`"
    values = read_yaml(path, hint)
    if not isinstance(values, Mapping):
        raise EarwitnessError(f"{path}: has no sections; {hint}")
    params = parse_params(values, str(path))
    check_entries(params, str(path))
    return params


def check_entries(params: Params, source: str) -> None:
    """That each entry's own settings can be put over the shared ones, and fit them.

    Planning would say so as well, but only when it comes to that entry, after hours of others.

    Raises:
        EarwitnessError: naming the first that cannot.
    """
    for section in ("retrievers", "adapted", "captioners", "finetuned", "systems"):
        for name, entry in getattr(params, section).items():
            where = f"{source}: {section}.{name}"
            own = with_settings(params, entry.set, f"{where}.set") if entry.set else params
            if isinstance(entry, EdtcCaptionerConfig):
                parts = {"fuser": entry.fuser, "translator": entry.translator}
                for part in [part for part, used in parts.items() if used]:
                    heads, width = getattr(own, part).heads, own.features.width
                    if width % heads:
                        raise EarwitnessError(
                            f"{where}: features.width {width} is not a multiple of {part}.heads "
                            f"{heads}; change one"
                        )


def with_settings(params: Params, settings: Mapping[str, Any], source: str) -> Params:
    """``params`` with dotted settings such as ``{"training.epochs": 30}`` put over them."""
    values = params.model_dump(mode="json")
    for dotted, value in settings.items():
        if dotted in ("seed", "seeds"):
            raise EarwitnessError(
                f"{source}: {dotted} is of all models; beside set, give a model a seed_offset, "
                "such as 100, or a system its seeds"
            )
        at: Any = values
        *parents, last = dotted.split(".")
        for parent in parents:
            at = at.get(parent) if isinstance(at, dict) else None
        if not isinstance(at, dict) or last not in at:
            raise EarwitnessError(f"{source}: no parameter {dotted}")
        at[last] = value
    return parse_params(values, source)
