"""Plans of what is decoded, ranked and scored."""

from __future__ import annotations

from pipeline.config.params import with_settings
from pipeline.config.plans import CaptionedSystem, DecodingPlan, EvaluationPlan, Plan, RankingPlan
from pipeline.planning.captioners import modules, resolved
from pipeline.planning.context import Context, captions, corpus, device
from pipeline.planning.lookup import (
    base_captioner,
    retrieval_seeds,
    system_seeds,
    text_features,
)
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
    clips = context.manifests[dataset].recordings(params.evaluation.split)
    inputs = {corpus(dataset): clips.fingerprint("clip_id")}
    entries: list[str] = []
    seeds = system_seeds(params)[name]
    text_memory = None
    for member in system.captioners:
        captioner, found = base_captioner(params, member), resolved(context, member)
        inputs |= context.models("captioners", member, seeds)
        inputs |= context.features(dataset, found.features)
        entries += modules(found)
        remembers = "text_memory" in captioner.sections and own.text_memory.method != "none"
        if remembers and found.text:
            where, text_memory = captioner.dataset, own.text_memory
            inputs[corpus(where)] = captions(context.manifests[where])
            inputs |= context.features(where, [found.text])
    if (retriever := own.rerank.retriever) is not None:
        sound, text = sound_side(context, params, retriever), text_side(params, retriever)
        inputs |= context.models("retrievers", retriever, seeds)
        inputs |= context.features(dataset, sound.features)
        entries += tower_modules(sound, text)
        if text.kind != "tower":  # it reads the hypotheses
            entries.append(f"encoders.{text.encoder.module}")
    return DecodingPlan(
        name=name,
        inputs=inputs,
        code=context.code("decode", entries),
        hardware=device(own),
        dataset=dataset,
        split=params.evaluation.split,
        captioners=system.captioners,
        combine=system.combine,
        decoding=own.decoding,
        seeds=seeds,
        text_memory=text_memory,
        rerank=own.rerank if retriever is not None else None,
    )


def _evaluation_plan(context: Context, dataset: str) -> EvaluationPlan:
    params = context.params
    members = [member for system in params.systems.values() for member in system.captioners]
    read = [name for member in members for name in resolved(context, member).features]
    features = dict.fromkeys(name for name in read if name not in text_features(params))
    return EvaluationPlan(
        name=dataset,
        inputs={
            corpus(dataset): captions(context.manifests[dataset]),
            **context.features(dataset, features),
        },
        code=context.code("evaluate"),
        hardware=device(params),
        systems=tuple(params.systems),
        seeds=system_seeds(params),
        seed=params.seeds[0],
        encoders=tuple(features),
        evaluation=params.evaluation,
    )


def _ranking_plan(context: Context, dataset: str) -> RankingPlan:
    params = context.params
    members = dict.fromkeys(m for s in params.retrieval_systems.values() for m in s.retrievers)
    seeds = retrieval_seeds(params)
    inputs = {corpus(dataset): captions(context.manifests[dataset])}
    entries: list[str] = []
    for member in members:
        systems = (name for name, s in params.retrieval_systems.items() if member in s.retrievers)
        used = sorted({seed for system in systems for seed in seeds[system]})
        inputs |= context.models("retrievers", member, used)
        sound, text = sound_side(context, params, member), text_side(params, member)
        inputs |= context.features(dataset, (*sound.features, *text.features))
        entries += tower_modules(sound, text)
    captioned = {
        name: CaptionedSystem(
            captions_of=s.captions_of, text=s.text, encoder=params.text_encoders[s.text]
        )
        for name, s in params.retrieval_systems.items()
        if s.captions_of is not None and s.text is not None
    }
    for system in captioned.values():  # what they wrote is a dependency of the stage itself
        inputs |= context.features(dataset, [system.text])
        entries.append(f"encoders.{system.encoder.module}")
    return RankingPlan(
        name=dataset,
        inputs=inputs,
        code=context.code("rank", entries),
        hardware=device(params),
        split=params.evaluation.split,
        ties=params.evaluation.ties,
        resamples=params.evaluation.resamples,
        systems={n: s.retrievers for n, s in params.retrieval_systems.items() if s.retrievers},
        spaces=tuple(member for member in members if member in params.spaces),
        seeds=seeds,
        seed=params.seeds[0],
        captioned=captioned,
    )
