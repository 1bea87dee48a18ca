"""What a run knows of a system: the fields of its meta file that need nobody to write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from earwitness.repository import Repository
from earwitness.seed_scores import seed_scores
from earwitness.submission.measure import SECONDS, Costs
from earwitness.submission.rules import Kind
from earwitness.submission.running import MemberPlan
from earwitness.training_data import datasets_in, datasets_of
from pipeline.config.params import Params, with_settings
from pipeline.config.plans import CaptionerPlan, RetrieverPlan, SpacePlan
from pipeline.config.sides import EncoderSoundSide, SoundTowerSide
from pipeline.errors import EarwitnessError
from pipeline.files import read_json
from pipeline.weights import Weights

LOSSES = {
    "infonce": "InfoNCE, both ways",
    "triplet": "triplet",
    "exp_distance": "exponential distance",
}


def described(
    kind: Kind,
    name: str,
    seed: int,
    plans: Sequence[MemberPlan],
    costs: Costs | None,
    repository: Repository,
) -> dict[str, Any]:
    """``system`` and ``results`` of a meta file; what is not known is None.

    Args:
        seed: that the system's models were trained with.
        plans: of the system's members, and then of the retriever that reranks, if one does.
        costs: as they were measured; None: they were not.
    """
    params = repository.params()
    features = _features(plans, repository)
    captions = _captioning(name, plans, params) if kind == "captioning" else _retrieval(plans)
    rates = sorted({rate for rate in _rates(features, params) if rate})
    first = plans[0]
    training = None if isinstance(first, SpacePlan) else first.training
    described: dict[str, Any] = {
        "input_sampling_rate": ", ".join(f"{rate / 1000:g} kHz" for rate in rates) or None,
        "acoustic_features": ", ".join(features),
        "data_augmentation": ", ".join(_augmentation(plans, features, params)) or "none",
        "ensemble_num_systems": sum(isinstance(plan, type(first)) for plan in plans),
        "audio_modelling": ", ".join(_modules(plans, features, params)) or None,
        "optimizer": training.optimizer if training else "none",
        "learning_rate": training.learning_rate if training else "none",
        "gradient_clipping": (training.gradient_clip or "none") if training else "none",
        **captions,
    }
    return {
        "system": {
            "description": described,
            "complexity": _complexity(costs),
            "external_datasets": _outside(plans, features, params, repository),
            "source_code": None,
        },
        "results": results(kind, name, seed, params, repository),
    }


def _captioning(name: str, plans: Sequence[MemberPlan], params: Params) -> dict[str, Any]:
    own = params.systems.get(name)
    where = f"systems.{name}.set"
    settings = with_settings(params, own.set, where) if own else params
    decoding, chooser = settings.decoding, settings.rerank.retriever
    members = [plan for plan in plans if isinstance(plan, CaptionerPlan)]
    rewarded = any(plan.name in params.finetuned for plan in members)
    beams = f"{decoding.method}, {decoding.beams} beams"
    texts = [params.text_encoders[text].module for text in _texts(members, params)]
    return {
        "word_embeddings": ", ".join(dict.fromkeys(["learned", *texts])),
        "machine_learning_method": "encoder-decoder",
        "learning_scheme": "supervised learning"
        + (", then self-critical sequence training" if rewarded else ""),
        "word_modelling": ", ".join(dict.fromkeys(_decoder(plan) for plan in members)),
        "loss_function": "cross-entropy" + (", then rewards" if rewarded else ""),
        "metric_monitored": "CIDEr-D of the validation split",
        "decoding": ("greedy" if decoding.method == "greedy" else beams)
        + (f", reranked by {chooser}" if chooser else ""),
    }


def _texts(plans: Iterable[MemberPlan], params: Params) -> list[str]:
    """The text encoders that captioners learn with."""
    named = dict.fromkeys(plan.text for plan in plans if isinstance(plan, CaptionerPlan))
    return [name for name in named if name in params.text_encoders]


def _decoder(plan: CaptionerPlan) -> str:
    own = getattr(plan.model, "seq2seq", None)
    return f"{plan.model.architecture} ({own.decoder})" if own else plan.model.architecture


def _retrieval(plans: Sequence[MemberPlan]) -> dict[str, Any]:
    members = [plan for plan in plans if isinstance(plan, RetrieverPlan | SpacePlan)]
    if not members:  # captions are compared
        return {
            "text_features": "a frozen sentence encoder",
            "machine_learning_method": "captions of the sound compared with the query",
            "learning_scheme": "supervised learning",
            "text_modelling": "a frozen sentence encoder",
            "loss_function": "cross-entropy",
            "metric_monitored": "CIDEr-D of the validation split",
        }
    texts = [_text_side(plan)[0] for plan in members]
    losses = [LOSSES[plan.biencoder.loss] for plan in members if isinstance(plan, RetrieverPlan)]
    named = ", ".join(dict.fromkeys(texts))
    return {
        "text_features": named,
        "machine_learning_method": "bi-encoder",
        "learning_scheme": "supervised learning" if losses else "none of ours",
        "text_modelling": named,
        "loss_function": ", ".join(dict.fromkeys(losses)) or "none",
        "metric_monitored": "mAP@10 of the validation split" if losses else "none",
    }


def _text_side(plan: RetrieverPlan | SpacePlan) -> tuple[str, Weights]:
    """What its text goes through, and the weights that this starts from."""
    if plan.text.kind == "tower":
        return "a trained text tower", plan.text.tower.weights
    return plan.text.encoder.module, plan.text.encoder.weights


def _features(plans: Iterable[MemberPlan], repository: Repository) -> list[str]:
    """The frozen encoders' features that the members read, through retrievers too."""
    found: list[str] = []
    for plan in plans:
        named = plan.features if isinstance(plan, CaptionerPlan) else plan.sound.features
        for feature in named:
            maker, _, part = feature.partition("/")
            found += _read_by(maker, repository) if part else [feature]
    return [*dict.fromkeys(found)]


def _read_by(retriever: str, repository: Repository) -> list[str]:
    path = repository.encoder(retriever) / "plan.json"
    plan = read_json(path, "run `dvc repro train_retriever`")
    try:
        return [str(name) for name in plan["sound"]["features"]]
    except (KeyError, TypeError):
        raise EarwitnessError(f"{path}: not a retriever's plan; run `dvc repro`") from None


def _rates(features: Iterable[str], params: Params) -> list[int | None]:
    known = [params.encoders[name] for name in features if name in params.encoders]
    return [getattr(encoder, "sample_rate", None) for encoder in known]


def _modules(plans: Iterable[MemberPlan], features: Iterable[str], params: Params) -> list[str]:
    """``panns (cnn10)`` of each encoder, and of each trained tower."""
    sides = [plan.sound for plan in plans if isinstance(plan, RetrieverPlan)]
    networks: list[Any] = [params.encoders[name] for name in features if name in params.encoders]
    networks += [side.tower for side in sides if isinstance(side, SoundTowerSide)]
    named = [(network.module, getattr(network, "model", None)) for network in networks]
    return [*dict.fromkeys(f"{module} ({model})" if model else module for module, model in named)]


def _augmentation(
    plans: Iterable[MemberPlan], features: Iterable[str], params: Params
) -> list[str]:
    used = []
    if any(params.encoders[name].views for name in features if name in params.encoders):
        used.append("SpecAugment")
    for plan in plans:
        shape = getattr(getattr(plan, "model", None), "input", None)
        if shape is not None and (shape.time_masks or shape.channel_masks):
            used.append("masks over stored frames")
    return [*dict.fromkeys(used)]


def _complexity(costs: Costs | None) -> dict[str, Any]:
    if costs is None:
        return {"total_parameters": None, "macs": None}
    joules = costs.joules
    return {
        "total_parameters": costs.total,
        "parameters": costs.parameters,
        "macs": costs.macs,
        "macs_clip_seconds": SECONDS,
        "macs_not_counted": [*costs.uncounted],
        "inference_seconds_per_clip": float(f"{costs.seconds:.4g}"),
        "inference_joules_per_clip": None if joules is None else float(f"{joules:.4g}"),
        "inference_machine": costs.machine,
        "training_hours": None,  # no stage writes it down
        "training_kwh": None,
    }


def _outside(
    plans: Sequence[MemberPlan], features: Sequence[str], params: Params, repository: Repository
) -> list[dict[str, Any]]:
    """Datasets but the challenge's Clotho, and weights that somebody else trained."""
    datasets: list[str] = []
    for plan in plans:
        datasets += datasets_in(plan.model_dump(mode="json"))
        for feature in plan.features if isinstance(plan, CaptionerPlan) else ():
            maker, _, part = feature.partition("/")
            datasets += datasets_of(repository.encoder(maker)) if part else []
    encoders = {name: params.encoders[name] for name in features if name in params.encoders}
    if any(encoder.weights.kind == "tagging" for encoder in encoders.values()):
        datasets += [params.tagging.dataset] if params.tagging.dataset else []
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(datasets):
        layout = params.datasets[name].layout if name in params.datasets else None
        if layout != "clotho":
            found.append({"name": name, "used_for": "training", "layout": layout})
    for name, encoder in encoders.items():
        found += _pretrained(name, encoder.weights, "sound features")
    for plan in plans:
        if isinstance(plan, RetrieverPlan | SpacePlan):
            tower = plan.sound.tower if isinstance(plan.sound, SoundTowerSide) else None
            own = plan.sound.encoder if isinstance(plan.sound, EncoderSoundSide) else tower
            found += _pretrained(plan.sound.features[0], own.weights, "sound") if own else []
            found += _pretrained(*_text_side(plan), "text")
        elif whole := plan.model.tokens.kind == "subwords" and plan.model.tokens.pretrained:
            found.append({"name": whole, "used_for": "captions, pretrained"})
    for text in _texts(plans, params):
        found += _pretrained(text, params.text_encoders[text].weights, "text, in training")
    return [each for at, each in enumerate(found) if each not in found[:at]]


def _pretrained(name: str, weights: Weights, use: str) -> list[dict[str, Any]]:
    if weights.kind in ("tagging", "none", "scratch"):
        return []
    shown = weights.name.rpartition("/")[2] if weights.kind == "path" else str(weights)
    return [{"name": f"{name} ({shown})", "used_for": f"{use}, pretrained"}]


def results(
    kind: Kind, name: str, seed: int, params: Params, repository: Repository
) -> dict[str, Any]:
    """The scores of every test set that is not blind, as `evaluate` and `rank` wrote them."""
    captioned = kind == "captioning"
    sets = params.test_sets if captioned else params.retrieval_test_sets
    folder = "" if captioned else "retrieval/"
    found: dict[str, Any] = {}
    for dataset in sets:
        scores = seed_scores(repository.root, f"{folder}{dataset}/{name}", seed)
        if params.datasets[dataset].layout != "blind" and scores:
            found[f"{dataset}_{params.evaluation.split}"] = scores
    return found
