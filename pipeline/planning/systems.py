"""Plans of what is decoded, ranked and scored."""

from __future__ import annotations

from pipeline.config.params import with_settings
from pipeline.config.plans import CaptionedSystem, DecodingPlan, EvaluationPlan, Plan, RankingPlan
from pipeline.planning.captioners import resolved
from pipeline.planning.context import (
    Context,
    architecture,
    captions,
    device,
    digest,
    weights,
)
from pipeline.planning.lookup import base_captioner, text_features
from pipeline.planning.retrievers import sound_side, text_side, tower_modules


def system_plans(context: Context) -> dict[str, Plan]:
    """``<dataset>-<system>`` → plan to decode it, ``<dataset>`` → plan to score all of them,
    ``rank-<dataset>`` → plan to rank it with all retrieval systems.
    """
    params = context.params
    plans: dict[str, Plan] = {}
    for dataset in params.test_sets:
        for name in params.systems:
            plans[f"{dataset}-{name}"] = _decoding_plan(context, dataset, name)
        plans[dataset] = _evaluation_plan(context, dataset)
    for dataset in params.retrieval_test_sets:
        plans[f"rank-{dataset}"] = _ranking_plan(context, dataset)
    return plans


def _decoding_plan(context: Context, dataset: str, name: str) -> DecodingPlan:
    params, system = context.params, context.params.systems[name]
    own = with_settings(params, system.set, f"params.yaml: systems.{name}.set")
    clips = context.manifests[dataset].split(params.evaluation.split)
    inputs = {"clips": digest([clip.clip_id for clip in clips])}
    modules = ["decoding.predictions", "trained.captioner"]
    text_memory = None
    for member in system.captioners:
        captioner, found = base_captioner(params, member), resolved(context, member)
        inputs[f"captioner {member}"] = weights(str(context.models / "captioners" / member))
        modules.append(architecture(captioner.architecture))
        for encoder in found.features:
            inputs[encoder] = context.fingerprint(dataset, encoder)
        remembers = "text_memory" in captioner.sections and own.text_memory.method != "none"
        if remembers and found.text:
            where, text_memory = captioner.dataset, own.text_memory
            inputs[f"text memory {where}"] = captions(context.manifests[where].clips)
            read = context.fingerprint(where, found.text)
            inputs[f"text memory {where}: {found.text}"] = read
    return DecodingPlan(
        name=name,
        inputs=inputs,
        code=context.code(modules),
        hardware=device(own),
        dataset=dataset,
        split=params.evaluation.split,
        captioners=system.captioners,
        combine=system.combine,
        decoding=own.decoding,
        seed=own.seed,
        text_memory=text_memory,
    )


def _evaluation_plan(context: Context, dataset: str) -> EvaluationPlan:
    params = context.params
    members = [member for system in params.systems.values() for member in system.captioners]
    heard = {
        encoder: context.fingerprint(dataset, encoder)
        for member in members
        for encoder in resolved(context, member).features
        if encoder not in text_features(params)
    }
    modules = ["metrics.evaluate", "metrics.yardsticks", "metrics.tables"]
    return EvaluationPlan(
        name=dataset,
        inputs={**heard, "clips": captions(context.manifests[dataset].clips)},
        code=context.code(modules),
        hardware=device(params),
        systems=tuple(params.systems),
        encoders=tuple(heard),
        evaluation=params.evaluation,
    )


def _ranking_plan(context: Context, dataset: str) -> RankingPlan:
    params = context.params
    members = dict.fromkeys(m for s in params.retrieval_systems.values() for m in s.retrievers)
    inputs = {"clips": captions(context.manifests[dataset].clips)}
    modules = ["trained.ranking"]
    for member in members:
        inputs[f"retriever {member}"] = weights(str(context.models / "retrievers" / member))
        sound, text = sound_side(context, params, member), text_side(params, member)
        modules += tower_modules(sound, text)
        for feature in (*sound.features, *text.features):
            inputs[feature] = context.fingerprint(dataset, feature)
    captioned = {
        name: CaptionedSystem(
            captions_of=s.captions_of, text=s.text, encoder=params.text_encoders[s.text]
        )
        for name, s in params.retrieval_systems.items()
        if s.captions_of is not None and s.text is not None
    }
    for system in captioned.values():  # what they wrote is a dependency of the stage itself
        inputs[system.text] = context.fingerprint(dataset, system.text)
        modules.append(f"encoders.{system.encoder.module}")
    return RankingPlan(
        name=dataset,
        inputs=inputs,
        code=context.code(dict.fromkeys(modules)),
        hardware=device(params),
        split=params.evaluation.split,
        systems={n: s.retrievers for n, s in params.retrieval_systems.items() if s.retrievers},
        captioned=captioned,
    )
