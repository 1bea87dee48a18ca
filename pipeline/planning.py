"""Resolves ``params.yaml`` into one plan a job; see pipeline/plans.py for what a plan is.

Light: no model library is imported here, so that planning costs a second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import EdtcCaptioner, Params, with_settings
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import sha256
from pipeline.plans import (
    CaptionerPlan,
    DecodingPlan,
    EmbeddingPlan,
    EvaluationPlan,
    ExtractionPlan,
    Plan,
    TaggingPlan,
)
from pipeline.provenance import code_digest

# registries import every entry; a job names the one that it uses
REGISTRIES = frozenset({"encoders", "models", "corpora"})


def tagging_plans(
    params: Params, manifests: Mapping[str, Manifest], package: Path
) -> dict[str, Plan]:
    """Encoder name → plan to train it on event labels."""
    plans: dict[str, Plan] = {}
    for name in params.tagging.encoders:
        encoder = params.encoders[name]
        clips = manifests[params.tagging.dataset or ""].clips
        modules = ["training.tagging", f"encoders.{encoder.module}"]
        plans[name] = TaggingPlan(
            name=name,
            inputs={"clips": _digest([[*_sound(c), c.split, c.events] for c in clips])},
            code=code_digest(modules, package, REGISTRIES),
            encoder=encoder,
            tagging=params.tagging.model_copy(update={"encoders": (name,)}),
        )
    return plans


def extraction_plans(
    params: Params, manifests: Mapping[str, Manifest], package: Path, trained: Path
) -> dict[str, Plan]:
    """``<dataset>-<encoder>`` → plan to encode it, for sound and for text.

    Args:
        trained: folder where the tagging stage left the encoders that it trained.
    """
    plans: dict[str, Plan] = {}
    for dataset, manifest in manifests.items():
        sounds = _digest([manifest.root, [_sound(clip) for clip in manifest.clips]])
        for name, encoder in params.encoders.items():
            weights = trained / name / "model.safetensors" if encoder.weights == "tagging" else None
            modules = ["features.extraction", f"encoders.{encoder.module}"]
            plans[f"{dataset}-{name}"] = ExtractionPlan(
                name=name,
                inputs={"clips": sounds, "weights": _weights(encoder.weights, weights)},
                code=code_digest(modules, package, REGISTRIES),
                dataset=dataset,
                encoder=encoder,
                spec_augment=params.spec_augment if encoder.views else None,
                weights=str(weights) if weights else None,
            )
        captions = _digest([[clip.clip_id, clip.captions] for clip in manifest.clips])
        for name, text in params.text_encoders.items():
            modules = ["features.embedding", f"encoders.{text.module}"]
            plans[f"{dataset}-{name}"] = EmbeddingPlan(
                name=name,
                inputs={"captions": captions, "weights": _weights(text.weights, None)},
                code=code_digest(modules, package, REGISTRIES),
                dataset=dataset,
                encoder=text,
            )
    return plans


def captioner_plans(
    params: Params, manifests: Mapping[str, Manifest], package: Path, index: Path
) -> dict[str, Plan]:
    """Captioner name → plan to train it.

    Args:
        index: folder of the features' fingerprints, ``<dataset>/<encoder>.json``.
    """
    plans: dict[str, Plan] = {}
    for name, captioner in params.captioners.items():
        own = with_settings(params, captioner.set, f"params.yaml: captioners.{name}.set")
        clips = manifests[captioner.dataset].clips
        inputs = {"clips": _digest([[c.clip_id, c.split, c.captions] for c in clips])}
        text = [captioner.text] if captioner.twin and captioner.text else []
        for encoder in (*captioner.features, *text):
            inputs[encoder] = _fingerprint(index / captioner.dataset / f"{encoder}.json")
        plans[name] = _captioner_plan(name, captioner, own, inputs, package)
    return plans


def system_plans(
    params: Params, manifests: Mapping[str, Manifest], package: Path, index: Path, trained: Path
) -> dict[str, Plan]:
    """``<dataset>-<system>`` → plan to decode it, ``<dataset>`` → plan to score all of them.

    Args:
        index: folder of the features' fingerprints. trained: folder of the captioners.
    """
    plans: dict[str, Plan] = {}
    for dataset in params.test_sets:
        clips = manifests[dataset].split(params.evaluation.split)
        heard: dict[str, str] = {}
        for name, system in params.systems.items():
            inputs = {"clips": _digest([clip.clip_id for clip in clips])}
            plan = _decoding_plan(name, dataset, params, inputs, package, index, trained)
            plans[f"{dataset}-{name}"] = plan
            for captioner in system.captioners:
                for encoder in params.captioners[captioner].features:
                    heard[encoder] = _fingerprint(index / dataset / f"{encoder}.json")
        captions = _digest([[c.clip_id, c.split, c.captions] for c in manifests[dataset].clips])
        plans[dataset] = EvaluationPlan(
            name=dataset,
            inputs={**heard, "clips": captions},
            code=code_digest(["metrics.evaluate", "metrics.yardsticks", "metrics.report"], package),
            systems=tuple(params.systems),
            encoders=tuple(heard),
            evaluation=params.evaluation,
        )
    return plans


def _decoding_plan(
    name: str,
    dataset: str,
    params: Params,
    inputs: dict[str, str],
    package: Path,
    index: Path,
    trained: Path,
) -> DecodingPlan:
    captioners = params.systems[name].captioners
    modules = ["decoding.predictions", "training.bundle"]
    for captioner in captioners:
        inputs[f"captioner {captioner}"] = _weights(str(trained / captioner), None)
        modules.append(f"models.{params.captioners[captioner].architecture}")
        for encoder in params.captioners[captioner].features:
            inputs[encoder] = _fingerprint(index / dataset / f"{encoder}.json")
    return DecodingPlan(
        name=name,
        inputs=inputs,
        code=code_digest(modules, package, REGISTRIES),
        dataset=dataset,
        split=params.evaluation.split,
        captioners=captioners,
        decoding=params.decoding,
    )


def _captioner_plan(
    name: str, captioner: EdtcCaptioner, params: Params, inputs: dict[str, str], package: Path
) -> CaptionerPlan:
    modules = ["training.captioning", f"models.{captioner.architecture}"]
    return CaptionerPlan(
        name=name,
        inputs=inputs,
        code=code_digest(modules, package, REGISTRIES),
        architecture=captioner.architecture,
        dataset=captioner.dataset,
        features=captioner.features,
        text=captioner.text if captioner.twin else None,
        input=params.features,
        fuser=params.fuser if captioner.fuser else None,
        translator=params.translator if captioner.translator else None,
        twin=params.twin if captioner.twin else None,
        bart=params.bart,
        training=params.training,
    )


def _sound(clip: Clip) -> list[Any]:
    return [clip.clip_id, clip.path, clip.duration, clip.digest]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def _fingerprint(path: Path) -> str:
    if not path.is_file():
        raise EarwitnessError(f"{path}: features not made yet; run `dvc repro extract embed`")
    return sha256(path)


def _weights(named: str, trained: Path | None) -> str:
    """Digest of the weights' files where they are here, else their name."""
    path = trained or Path(named)
    if trained and not trained.is_file():
        raise EarwitnessError(f"{trained}: weights not trained yet; run `dvc repro tagging`")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if not all(file.is_file() for file in files):
        return named
    return _digest([[str(file.relative_to(path)), sha256(file)] for file in files])
