"""Plans of what makes features: tagging, extraction and embedding."""

from __future__ import annotations

from pipeline.config.params import Params
from pipeline.config.plans import EmbeddingPlan, ExtractionPlan, Plan, TaggingPlan
from pipeline.engine.cluster import check_ray
from pipeline.planning.checks import check_reranking, check_tag_names, check_weights
from pipeline.planning.context import SOUND, Context, corpus, device, digest
from pipeline.planning.lookup import stored_as
from pipeline.tracking.registry import check_tracker


def tagging_plans(context: Context) -> dict[str, Plan]:
    """Encoder name → plan to train it on event labels.

    This is the first phase: missing weights are reported before anything is trained.
    """
    params = context.params
    check_tracker(params.tracking)
    if params.engine == "ray":
        check_ray()
    check_weights(params, context.root)
    check_tag_names(params, context.root)
    check_reranking(params)
    plans: dict[str, Plan] = {}
    for name in params.tagging.encoders:
        encoder = params.encoders[name]
        dataset = params.tagging.dataset or ""
        clips = context.manifests[dataset].columns
        plans[name] = TaggingPlan(
            name=name,
            inputs={corpus(dataset): clips.fingerprint(*SOUND, "split", "events")},
            code=context.code("tagging", [f"encoders.{encoder.module}"]),
            seed=params.seeds[0],
            hardware=params.hardware.model_copy(update={"processes": 1}),  # it always is
            encoder=encoder,
            tagging=params.tagging.model_copy(update={"encoders": (name,)}),
        )
    return plans


def encoder_modules(params: Params, name: str) -> list[str]:
    """The module of a frozen encoder, and of the one whose events it gives."""
    tagger = params.encoders[name].weights.tagger(name) or name
    return [f"encoders.{params.encoders[each].module}" for each in dict.fromkeys((name, tagger))]


def extraction_plans(context: Context) -> dict[str, Plan]:
    """``<dataset>-<encoder>`` → plan to encode it, for sound and for text."""
    params = context.params
    plans: dict[str, Plan] = {}
    for dataset, manifest in context.manifests.items():
        clips = manifest.sounding if manifest.blind else manifest.columns  # queries change no sound
        sounds = digest([manifest.root, clips.fingerprint(*SOUND)])
        for name, encoder in params.encoders.items():
            trained = context.encoder_weights(name)
            plans[f"{dataset}-{name}"] = ExtractionPlan(
                name=name,
                inputs={corpus(dataset): sounds, **context.trained(trained)},
                code=context.code("extract", encoder_modules(params, name)),
                hardware=device(params),
                dataset=dataset,
                encoder=encoder,
                spec_augment=params.spec_augment if encoder.views else None,
                weights=trained,
                store=stored_as(params, name),
            )
        captions = manifest.columns.fingerprint("clip_id", "captions")
        for name, text in params.text_encoders.items():
            plans[f"{dataset}-{name}"] = EmbeddingPlan(
                name=name,
                inputs={corpus(dataset): captions},
                code=context.code("embed", [f"encoders.{text.module}"]),
                hardware=device(params),
                dataset=dataset,
                encoder=text,
                store=stored_as(params, name),
            )
    return plans
