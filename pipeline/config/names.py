"""That every name in ``params.yaml`` is known where it is used, and means one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.config.edtc import EdtcCaptionerConfig
from pipeline.config.evaluation import SystemConfig
from pipeline.config.prefix import PrefixCaptionerConfig
from pipeline.config.retrievers import RetrievalSystemConfig
from pipeline.config.rlssr import RlssrCaptionerConfig
from pipeline.config.section import known
from pipeline.weights import Weights

if TYPE_CHECKING:
    from pipeline.config.params import Params


def check_names(params: Params) -> None:
    """Every name that one section uses of another is there, and means one thing.

    Raises:
        ValueError: naming the first that is not or does not.
    """
    _distinct(("encoders", "text_encoders", "sound_towers", "text_towers"), params)
    _distinct(("encoders", "retrievers", "adapted"), params)
    _distinct(("captioners", "finetuned"), params)
    if "retrieval" in params.datasets:
        raise ValueError("datasets: 'retrieval' is a folder of metrics; rename the dataset")
    _check_encoders(params)
    _check_retrievers(params)
    _check_captioners(params)
    for name, system in params.systems.items():
        members = params.all_captioners
        known(f"systems.{name}.captioners", system.captioners, "captioners", members)
        _check_vocabularies(params, name, system)
    for name, retrieval in params.retrieval_systems.items():
        where = f"retrieval_systems.{name}.retrievers"
        known(where, retrieval.retrievers, "retrievers", params.all_retrievers)
        _check_captioned(params, f"retrieval_systems.{name}", retrieval)
    known("test_sets", params.test_sets, "datasets", params.datasets)
    known("retrieval_test_sets", params.retrieval_test_sets, "datasets", params.datasets)


def _check_encoders(params: Params) -> None:
    known("tagging.encoders", params.tagging.encoders, "encoders", params.encoders)
    if params.tagging.encoders:
        known("tagging.dataset", [params.tagging.dataset or ""], "datasets", params.datasets)
    for name, encoder in params.encoders.items():
        tagger = encoder.weights.tagger(name)
        if encoder.weights == Weights("tagging") and name not in params.tagging.encoders:
            raise ValueError(f"encoders.{name}.weights is tagging: add it to tagging.encoders")
        if tagger and encoder.weights.name and encoder.module != "events":
            raise ValueError(f"encoders.{name}.weights: give tagging; {encoder.weights} is for"
                             " encoders of module events")  # fmt: skip
        if tagger:
            trained = params.tagging.encoders
            known(f"encoders.{name}.weights", [tagger], "tagging.encoders", trained)


def _check_retrievers(params: Params) -> None:
    for name, tower in params.sound_towers.items():
        where = f"sound_towers.{name}"
        known(f"{where}.input", tower.inputs, "encoders", params.encoders)
        tagger = tower.weights.tagger()
        if tagger is not None:
            known(f"{where}.weights", [tagger], "tagging.encoders", params.tagging.encoders)
    for name, retriever in params.retrievers.items():
        where = f"retrievers.{name}"
        known(f"{where}.datasets", retriever.datasets, "datasets", params.datasets)
        trained_sound = set(retriever.sound) & params.sound_towers.keys()
        if trained_sound and len(retriever.sound) > 1:
            raise ValueError(f"{where}.sound: a tower stands alone; name it, or encoders")
        sounds = {**params.sound_towers, **params.encoders}
        known(f"{where}.sound", retriever.sound, "sound_towers or encoders", sounds)
        texts = {**params.text_towers, **params.text_encoders}
        known(f"{where}.text", [retriever.text], "text_towers or text_encoders", texts)
    for name, adapted in params.adapted.items():
        where = f"adapted.{name}"
        known(f"{where}.retriever", [adapted.retriever], "retrievers", params.retrievers)
        known(f"{where}.datasets", adapted.datasets, "datasets", params.datasets)
    known("encoded", params.encoded, "retrievers or adapted", params.all_retrievers)


def _check_captioners(params: Params) -> None:
    for name, captioner in params.captioners.items():
        where = f"captioners.{name}"
        known(f"{where}.dataset", [captioner.dataset], "datasets", params.datasets)
        known(f"{where}.training", [captioner.training], "training", params.training)
        if isinstance(captioner, RlssrCaptionerConfig):
            _check_tower(params, f"{where}.tower", captioner.tower)
            continue
        texts = params.text_features if isinstance(captioner, PrefixCaptionerConfig) else ()
        if not {*texts} & {*captioner.features}:
            _check_parts(params, f"{where}.features", captioner.features)
            sounds = params.sound_features
            known(f"{where}.features", captioner.features, "encoders or encoded", sounds)
        if isinstance(captioner, PrefixCaptionerConfig):
            _check_prefix(params, where, captioner)
        if isinstance(captioner, EdtcCaptionerConfig) and captioner.text is not None:
            known(f"{where}.text", [captioner.text], "text_encoders", params.text_encoders)
    for name, finetuned in params.finetuned.items():
        where = f"finetuned.{name}.captioner"
        known(where, [finetuned.captioner], "captioners", params.captioners)


def _check_parts(params: Params, where: str, names: Sequence[str]) -> None:
    """A retriever's features are named <retriever>/frames, /sound or /text, where it has them."""
    for name in names:
        retriever, _, part = name.partition("/")
        if retriever not in params.all_retrievers:
            continue
        if retriever not in params.encoded:
            raise ValueError(f"{where}: retriever '{retriever}' is not in encoded; add it")
        if not part:
            raise ValueError(f"{where}: '{name}' is a retriever; name what is encoded with it:"
                             f" {name}/frames, {name}/sound or {name}/text")  # fmt: skip
        if part == "frames" and not params.has_frames(retriever):
            raise ValueError(
                f"{where}: retriever '{retriever}' has no frames, as it trains no tower over one "
                f"feature alone; name {retriever}/sound, or its encoders"
            )


def _check_tower(params: Params, where: str, name: str) -> None:
    """A captioner's own tower is a CNN, whose maps over frequency RLSSR pools."""
    known(where, [name], "sound_towers", params.sound_towers)
    tower = params.sound_towers[name]
    if tower.module != "panns":
        raise ValueError(f"{where}: '{name}' is of module {tower.module}; name one of panns")
    stored = params.encoders[tower.input].module
    if stored != "logmel":
        raise ValueError(
            f"{where}: sound_towers.{name}.input '{tower.input}' is a {stored}; name a logmel"
        )


def _check_prefix(params: Params, where: str, captioner: PrefixCaptionerConfig) -> None:
    _check_parts(params, f"{where}.text", [captioner.text])
    known(f"{where}.text", [captioner.text], "text_encoders or encoded", params.text_features)
    if captioner.features[0] in {*params.text_features} - {captioner.text}:
        raise ValueError(f"{where}.features: captions are read as text ({captioner.text}) is")
    if captioner.sound_dataset is not None:
        named = [captioner.sound_dataset]
        known(f"{where}.sound_dataset", named, "datasets", params.datasets)


def _check_captioned(params: Params, where: str, system: RetrievalSystemConfig) -> None:
    """Captions that a clip is found by are those of the ranked datasets."""
    if system.captions_of is None:
        return
    known(f"{where}.captions_of", [system.captions_of], "systems", params.systems)
    known(f"{where}.text", [system.text or ""], "text_encoders", params.text_encoders)
    for dataset in params.retrieval_test_sets:
        if dataset not in params.test_sets:
            raise ValueError(f"{where}: no captions of {dataset}; add it to test_sets")


def _check_vocabularies(params: Params, name: str, system: SystemConfig) -> None:
    """Members of an ensemble share a vocabulary: one kind of token, of one dataset."""
    first, *others = system.captioners
    own = params.base_captioner(first)
    for other in others:
        base = params.base_captioner(other)
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
            if "/" in name:
                raise ValueError(f"{section}: '{name}' has a slash; rename it")
            if name in seen:
                raise ValueError(f"'{name}' is in both {seen[name]} and {section}; rename one")
            seen[name] = section
