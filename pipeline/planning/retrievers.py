"""Plans of retrievers, and of the features that a trained one writes."""

from __future__ import annotations

from pipeline.config.params import Params, with_settings
from pipeline.config.plans import EncodingPlan, Plan, RetrieverPlan
from pipeline.config.sides import (
    SoundSide,
    SoundTowerSide,
    StoredSoundSide,
    StoredTextSide,
    TextSide,
    TextTowerSide,
)
from pipeline.planning.checks import check_captions
from pipeline.planning.context import Context, captions, corpus, device, digest
from pipeline.planning.lookup import base_retriever, has_frames, tower_inputs


def retriever_plans(context: Context) -> dict[str, Plan]:
    """Retriever → plan to train it, adapted ones too; ``encoding/<dataset>-<retriever>`` → plan
    to encode a dataset with it.
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
    return plans


def sound_side(context: Context, params: Params, name: str) -> SoundSide:
    """The sound side of a retriever, by ``params``, which may have its own settings."""
    names = base_retriever(params, name).sound
    tower = params.sound_towers.get(names[0])
    if tower is None:
        return StoredSoundSide(features=names)
    return SoundTowerSide(
        features=tower_inputs(tower),
        tower=tower,
        input=params.encoders[tower.input],
        weights=context.tower_weights(tower),
    )


def text_side(params: Params, name: str) -> TextSide:
    """The text side of a retriever, by ``params``, which may have its own settings."""
    text = base_retriever(params, name).text
    if text in params.text_towers:
        return TextTowerSide(tower=params.text_towers[text])
    return StoredTextSide(features=(text,), encoder=params.text_encoders[text])


def tower_modules(sound: SoundSide, text: TextSide) -> list[str]:
    """The modules of the sides' trained towers."""
    of_sound = [f"models.towers.{sound.tower.module}"] if sound.kind == "tower" else []
    return [*of_sound, *(["models.towers.text"] if text.kind == "tower" else [])]


def _retriever_plan(
    context: Context, params: Params, name: str, datasets: tuple[str, ...], start: str | None
) -> RetrieverPlan:
    """``params``: with the retriever's own settings."""
    sound, text = sound_side(context, params, name), text_side(params, name)
    inputs = {}
    for dataset in datasets:
        check_captions(context.manifests[dataset], ("development", "validation"))
        inputs[corpus(dataset)] = captions(context.manifests[dataset].clips)
        inputs |= context.features(dataset, (*sound.features, *text.features))
    if sound.kind == "tower":
        inputs |= context.trained(sound.weights)
    return RetrieverPlan(
        name=name,
        inputs=inputs,
        code=context.code("train_retriever", tower_modules(sound, text)),
        seed=params.seed,
        hardware=params.hardware,
        datasets=datasets,
        sound=sound,
        text=text,
        biencoder=params.biencoder,
        training=params.retrieval_training,
        start=start,
    )


def _encoding_plan(context: Context, name: str, dataset: str) -> EncodingPlan:
    params = context.params
    sound, text = sound_side(context, params, name), text_side(params, name)
    clips = context.manifests[dataset].clips
    inputs = context.features(dataset, (*sound.features, *text.features))
    inputs[corpus(dataset)] = digest([[clip.clip_id, clip.captions] for clip in clips])
    return EncodingPlan(
        name=name,
        inputs=inputs,
        code=context.code("encode", tower_modules(sound, text)),
        hardware=device(context.params),
        dataset=dataset,
        frames=has_frames(params, name),
    )
