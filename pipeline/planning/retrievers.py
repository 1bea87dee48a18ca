"""Plans of retrievers, and of the features that a trained one writes."""

from __future__ import annotations

from pipeline.config.params import Params, with_settings
from pipeline.config.plans import EncodingPlan, Plan, RepresentationPlan, RetrieverPlan
from pipeline.planning.checks import check_captions
from pipeline.planning.context import Context, captions, digest, weights
from pipeline.planning.lookup import base_retriever


def retriever_plans(context: Context) -> dict[str, Plan]:
    """Retriever → plan to train it, adapted ones too; ``encoding/<dataset>-<retriever>`` → plan
    to write its frames.
    """
    params = context.params
    plans: dict[str, Plan] = {}
    for name, retriever in params.retrievers.items():
        own = with_settings(params, retriever.set, f"params.yaml: retrievers.{name}.set")
        plans[name] = _retriever_plan(context, own, name, retriever.datasets, None)
    for name, adapted in params.adapted.items():
        settings = {**params.retrievers[adapted.retriever].set, **adapted.set}
        own = with_settings(params, settings, f"params.yaml: adapted.{name}.set")
        plans[name] = _retriever_plan(context, own, name, adapted.datasets, adapted.retriever)
    for name in params.encoded:
        for dataset in params.datasets:
            plans[f"encoding/{dataset}-{name}"] = _encoding_plan(context, name, dataset)
    for name in params.represented:
        for dataset in params.datasets:
            plan = _representation_plan(context, name, dataset)
            plans[f"representing/{dataset}-{name}"] = plan
    return plans


def tower_modules(params: Params, name: str) -> list[str]:
    """The modules of a retriever's trained towers."""
    retriever = base_retriever(params, name)
    modules = [f"models.towers.{params.sound_towers[s].module}" for s in _towers(params, name)]
    return [*modules, *(["models.towers.text"] if retriever.text in params.text_towers else [])]


def sound_features(params: Params, name: str) -> tuple[str, ...]:
    """The stored sound features that a retriever reads."""
    towers = [params.sound_towers[tower] for tower in _towers(params, name)]
    return tuple(i for tower in towers for i in tower.inputs) or base_retriever(params, name).sound


def _towers(params: Params, name: str) -> tuple[str, ...]:
    return tuple(s for s in base_retriever(params, name).sound if s in params.sound_towers)


def _retriever_plan(
    context: Context, params: Params, name: str, datasets: tuple[str, ...], start: str | None
) -> RetrieverPlan:
    """``params``: with the retriever's own settings."""
    retriever = base_retriever(params, name)
    tower = next((params.sound_towers[s] for s in _towers(params, name)), None)
    text = params.text_towers.get(retriever.text)
    features = sound_features(params, name)
    stored = (*features, *(() if text else (retriever.text,)))
    inputs = {}
    for dataset in datasets:
        check_captions(context.manifests[dataset], ("development", "validation"))
        inputs[f"{dataset}: clips"] = captions(context.manifests[dataset].clips)
        for encoder in stored:
            inputs[f"{dataset}: {encoder}"] = context.fingerprint(dataset, encoder)
    trained = context.tower_weights(tower) if tower else None
    if tower is not None:
        inputs["sound weights"] = weights(tower.weights, trained)
    if text is not None:
        inputs["text weights"] = weights(text.weights)
    return RetrieverPlan(
        name=name,
        inputs=inputs,
        code=context.code(["training.contrastive", *tower_modules(params, name)]),
        datasets=datasets,
        features=features,
        sound=tower,
        input=params.encoders[tower.input] if tower else None,
        weights=str(trained) if trained else None,
        text=text,
        text_features=None if text else retriever.text,
        text_encoder=None if text else params.text_encoders[retriever.text],
        biencoder=params.biencoder,
        training=params.retrieval_training,
        start=start,
    )


def _encoding_plan(context: Context, name: str, dataset: str) -> EncodingPlan:
    (feature,) = sound_features(context.params, name)
    modules = ["trained.encoding", *tower_modules(context.params, name)]
    return EncodingPlan(
        name=name,
        inputs={feature: context.fingerprint(dataset, feature)},
        code=context.code(modules),
        dataset=dataset,
        feature=feature,
    )


def _representation_plan(context: Context, name: str, dataset: str) -> RepresentationPlan:
    params = context.params
    text = base_retriever(params, name).text
    stored = None if text in params.text_towers else text
    features = sound_features(params, name)
    manifest = context.manifests[dataset]
    inputs = {
        encoder: context.fingerprint(dataset, encoder)
        for encoder in (*features, *([stored] if stored else []))
    }
    inputs["clips"] = digest([[clip.clip_id, clip.captions] for clip in manifest.clips])
    return RepresentationPlan(
        name=name,
        inputs=inputs,
        code=context.code(["trained.representing", *tower_modules(params, name)]),
        dataset=dataset,
        features=features,
        text_features=stored,
    )
