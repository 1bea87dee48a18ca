"""All of ``params.yaml``: its sections together, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config.captioners import (
    Bart,
    Captioner,
    EdtcCaptioner,
    FeatureInput,
    Finetuned,
    Fuser,
    Seq2Seq,
    Translator,
    Twin,
)
from pipeline.config.cmu import Cmu
from pipeline.config.datasets import Dataset
from pipeline.config.encoders import Encoder, SpecAugment, Tagging, TextEncoder
from pipeline.config.evaluation import Decoding, Evaluation, System
from pipeline.config.retrievers import (
    Adapted,
    BiEncoder,
    RetrievalSystem,
    Retriever,
    SoundTower,
    TextTower,
)
from pipeline.config.rlssr import Rlssr, RlssrCaptioner
from pipeline.config.section import Section, known, parse_section
from pipeline.config.training import RetrievalTraining, Scst, Training
from pipeline.config.wsac import Prefix, PrefixCaptioner, TextMemory
from pipeline.errors import EarwitnessError

SIDES = ("sound", "text")  # of a retriever's space


class Params(Section):
    """All of ``params.yaml``."""

    datasets: dict[str, Dataset]
    encoders: dict[str, Encoder]
    text_encoders: dict[str, TextEncoder] = Field(default_factory=dict)
    tagging: Tagging = Tagging()
    spec_augment: SpecAugment = SpecAugment()
    sound_towers: dict[str, SoundTower] = Field(default_factory=dict)
    text_towers: dict[str, TextTower] = Field(default_factory=dict)
    biencoder: BiEncoder = BiEncoder()
    retrieval_training: RetrievalTraining = RetrievalTraining()
    retrievers: dict[str, Retriever] = Field(default_factory=dict)
    adapted: dict[str, Adapted] = Field(default_factory=dict)
    encoded: tuple[str, ...] = ()  # retrievers that become encoders: their frames are stored
    represented: tuple[str, ...] = ()  # retrievers as CLAP: <name>-sound and <name>-text are stored
    features: FeatureInput = FeatureInput()
    fuser: Fuser = Fuser()
    translator: Translator = Translator()
    twin: Twin = Twin()
    bart: Bart = Bart()
    seq2seq: Seq2Seq = Seq2Seq()
    cmu: Cmu = Cmu()
    rlssr: Rlssr = Rlssr()
    prefix: Prefix = Prefix()
    training: dict[str, Training] = Field(default_factory=dict)
    captioners: dict[str, Captioner] = Field(default_factory=dict)
    scst: Scst = Scst()
    finetuned: dict[str, Finetuned] = Field(default_factory=dict)
    decoding: Decoding = Decoding()
    memory: TextMemory = TextMemory()
    systems: dict[str, System] = Field(default_factory=dict)
    retrieval_systems: dict[str, RetrievalSystem] = Field(default_factory=dict)
    test_sets: tuple[str, ...] = ()  # that `systems` caption
    retrieval_test_sets: tuple[str, ...] = ()  # that `retrieval_systems` rank
    evaluation: Evaluation = Evaluation()

    @property
    def recoded(self) -> dict[str, str]:
        """Features that a trained retriever makes of others, and the retriever of each."""
        spaces = {f"{name}-{side}": name for name in self.represented for side in SIDES}
        return {**dict(zip(self.encoded, self.encoded, strict=True)), **spaces}

    @property
    def embedded(self) -> set[str]:
        """Features of captions: of text encoders, and of retrievers' text sides."""
        return {*self.text_encoders, *(f"{name}-text" for name in self.represented)}

    @property
    def all_retrievers(self) -> dict[str, Retriever | Adapted]:
        """Of both kinds, by name."""
        return {**self.retrievers, **self.adapted}

    @property
    def all_captioners(self) -> dict[str, Captioner | Finetuned]:
        """Of both kinds, by name."""
        return {**self.captioners, **self.finetuned}

    def base_retriever(self, name: str) -> Retriever:
        """The retriever that an adapted one began as; a retriever itself."""
        adapted = self.adapted.get(name)
        return self.retrievers[adapted.retriever if adapted else name]

    def base_captioner(self, name: str) -> Captioner:
        """The captioner that a finetuned one began as; a captioner itself."""
        finetuned = self.finetuned.get(name)
        return self.captioners[finetuned.captioner if finetuned else name]

    def heard(self, name: str) -> tuple[str, ...]:
        """The stored sound features that a captioner reads, a finetuned one too, in order."""
        captioner = self.base_captioner(name)
        if isinstance(captioner, RlssrCaptioner):
            return (self.sound_towers[captioner.tower].input,)
        return captioner.features

    @model_validator(mode="after")
    def _names(self) -> Params:
        """Every name that one section uses of another is there, and means one thing."""
        _distinct(("encoders", "text_encoders", "sound_towers", "text_towers"), self)
        _distinct(("encoders", "retrievers", "adapted"), self)
        _distinct(("captioners", "finetuned"), self)
        taken = {*self.encoders, *self.text_encoders} & self.recoded.keys()
        if twice := sorted(taken - {*self.encoded}):
            raise ValueError(f"represented: '{twice[0]}' is an encoder too; rename it")
        if "retrieval" in self.datasets:
            raise ValueError("datasets: 'retrieval' is a folder of metrics; rename the dataset")
        self._check_encoders()
        self._check_retrievers()
        self._check_captioners()
        for name, system in self.systems.items():
            members = self.all_captioners
            known(f"systems.{name}.captioners", system.captioners, "captioners", members)
            self._check_vocabularies(name, system)
        for name, retrieval in self.retrieval_systems.items():
            where = f"retrieval_systems.{name}.retrievers"
            known(where, retrieval.retrievers, "retrievers", self.all_retrievers)
            self._check_captioned(f"retrieval_systems.{name}", retrieval)
        known("test_sets", self.test_sets, "datasets", self.datasets)
        known("retrieval_test_sets", self.retrieval_test_sets, "datasets", self.datasets)
        return self

    def _check_encoders(self) -> None:
        known("tagging.encoders", self.tagging.encoders, "encoders", self.encoders)
        if self.tagging.encoders:
            known("tagging.dataset", [self.tagging.dataset or ""], "datasets", self.datasets)
        for name, encoder in self.encoders.items():
            if encoder.weights == "tagging" and name not in self.tagging.encoders:
                raise ValueError(f"encoders.{name}.weights is tagging: add it to tagging.encoders")
            tagged = encoder.weights.startswith("tagging:")
            if tagged and encoder.module != "events":
                raise ValueError(f"encoders.{name}.weights: give tagging; {encoder.weights} is for"
                                 " encoders of module events")  # fmt: skip
            if tagged:
                trained = [encoder.weights.removeprefix("tagging:")]
                known(
                    f"encoders.{name}.weights", trained, "tagging.encoders", self.tagging.encoders
                )

    def _check_retrievers(self) -> None:
        for name, tower in self.sound_towers.items():
            where = f"sound_towers.{name}"
            known(f"{where}.input", tower.inputs, "encoders", self.encoders)
            if tower.weights.startswith("tagging:"):
                trained = [tower.weights.removeprefix("tagging:")]
                known(f"{where}.weights", trained, "tagging.encoders", self.tagging.encoders)
        for name, retriever in self.retrievers.items():
            where = f"retrievers.{name}"
            known(f"{where}.datasets", retriever.datasets, "datasets", self.datasets)
            trained_sound = set(retriever.sound) & self.sound_towers.keys()
            if trained_sound and len(retriever.sound) > 1:
                raise ValueError(f"{where}.sound: a tower stands alone; name it, or encoders")
            sounds = {**self.sound_towers, **self.encoders}
            known(f"{where}.sound", retriever.sound, "sound_towers or encoders", sounds)
            texts = {**self.text_towers, **self.text_encoders}
            known(f"{where}.text", [retriever.text], "text_towers or text_encoders", texts)
        for name, adapted in self.adapted.items():
            where = f"adapted.{name}"
            known(f"{where}.retriever", [adapted.retriever], "retrievers", self.retrievers)
            known(f"{where}.datasets", adapted.datasets, "datasets", self.datasets)
        known("encoded", self.encoded, "retrievers or adapted", self.all_retrievers)
        known("represented", self.represented, "retrievers or adapted", self.all_retrievers)
        for name in self.encoded:
            if not set(self.base_retriever(name).sound) & self.sound_towers.keys():
                raise ValueError(
                    f"encoded: '{name}' trains projections alone; name its encoder instead"
                )
            for own in set(self.base_retriever(name).sound) & self.sound_towers.keys():
                if len(self.sound_towers[own].inputs) > 1:
                    raise ValueError(
                        f"encoded: '{name}' reads features beside its tower's input; take them out "
                        f"of sound_towers.{own}.beside"
                    )

    def _check_captioners(self) -> None:
        spaces = [f"{name}-sound" for name in self.represented]
        sounds = {**self.encoders, **dict.fromkeys((*self.encoded, *spaces))}
        for name, captioner in self.captioners.items():
            where = f"captioners.{name}"
            known(f"{where}.dataset", [captioner.dataset], "datasets", self.datasets)
            known(f"{where}.training", [captioner.training], "training", self.training)
            if isinstance(captioner, RlssrCaptioner):
                self._check_tower(f"{where}.tower", captioner.tower)
                continue
            texts = self.embedded if isinstance(captioner, PrefixCaptioner) else set()
            if not texts & {*captioner.features}:
                known(f"{where}.features", captioner.features, "encoders or encoded", sounds)
            if isinstance(captioner, PrefixCaptioner):
                self._check_prefix(where, captioner)
            if isinstance(captioner, EdtcCaptioner) and captioner.text is not None:
                known(f"{where}.text", [captioner.text], "text_encoders", self.text_encoders)
        for name, finetuned in self.finetuned.items():
            where = f"finetuned.{name}.captioner"
            known(where, [finetuned.captioner], "captioners", self.captioners)

    def _check_tower(self, where: str, name: str) -> None:
        """A captioner's own tower is a CNN, whose maps over frequency RLSSR pools."""
        known(where, [name], "sound_towers", self.sound_towers)
        tower = self.sound_towers[name]
        if tower.module != "panns":
            raise ValueError(f"{where}: '{name}' is of module {tower.module}; name one of panns")
        stored = self.encoders[tower.input].module
        if stored != "logmel":
            raise ValueError(
                f"{where}: sound_towers.{name}.input '{tower.input}' is a {stored}; name a logmel"
            )

    def _check_prefix(self, where: str, captioner: PrefixCaptioner) -> None:
        known(
            f"{where}.text", [captioner.text], "text_encoders or represented", sorted(self.embedded)
        )
        if captioner.features[0] in self.embedded - {captioner.text}:
            raise ValueError(f"{where}.features: captions are read as text ({captioner.text}) is")
        if captioner.sound_dataset is not None:
            named = [captioner.sound_dataset]
            known(f"{where}.sound_dataset", named, "datasets", self.datasets)

    def _check_captioned(self, where: str, system: RetrievalSystem) -> None:
        """Captions that a clip is found by are those of the ranked datasets."""
        if system.captions_of is None:
            return
        known(f"{where}.captions_of", [system.captions_of], "systems", self.systems)
        known(f"{where}.text", [system.text or ""], "text_encoders", self.text_encoders)
        for dataset in self.retrieval_test_sets:
            if dataset not in self.test_sets:
                raise ValueError(f"{where}: no captions of {dataset}; add it to test_sets")

    def _check_vocabularies(self, name: str, system: System) -> None:
        """Members of an ensemble share a vocabulary: one kind of token, of one dataset."""
        first, *others = system.captioners
        own = self.base_captioner(first)
        for other in others:
            base = self.base_captioner(other)
            if (base.architecture, base.dataset) != (own.architecture, own.dataset):
                raise ValueError(
                    f"systems.{name}: captioners {first} ({own.architecture}, {own.dataset}) and "
                    f"{other} ({base.architecture}, {base.dataset}) write in different "
                    "vocabularies; name captioners of one architecture and dataset"
                )


def _distinct(sections: Sequence[str], params: Params) -> None:
    """A name stands in one of the sections only."""
    seen: dict[str, str] = {}
    for section in sections:
        for name in getattr(params, section):
            if name in seen:
                raise ValueError(f"'{name}' is in both {seen[name]} and {section}; rename one")
            seen[name] = section


def parse_params(values: Any, source: str = "params.yaml") -> Params:
    """The typed parameters.

    Raises:
        EarwitnessError: one line with the place, what is wrong and, for an unknown key, the
            nearest known one.
    """
    return parse_section(Params, values, source)


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
