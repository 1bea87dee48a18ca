"""Plans of retrievers, and of the features that a trained one writes."""

from __future__ import annotations

from pipeline.config.hardware import HardwareConfig
from pipeline.config.params import Params, with_settings
from pipeline.config.plans import EncodingPlan, Plan, RetrieverPlan, SpacePlan
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.config.sides import (
    CentredTextSide,
    EncoderSoundSide,
    SoundSide,
    SoundTowerSide,
    StoredSoundSide,
    StoredTextSide,
    TextSide,
    TextTowerSide,
)
from pipeline.config.spaces import ClapSpaceConfig, SpaceConfig, TagsConfig, TagSpaceConfig
from pipeline.errors import EarwitnessError
from pipeline.planning.checks import check_captions
from pipeline.planning.context import Context, captions, corpus, device
from pipeline.planning.features import encoder_modules
from pipeline.planning.lookup import (
    base_retriever,
    has_frames,
    retriever_seeds,
    stored_as,
    tower_inputs,
)
from pipeline.planning.seeds import seeded


def retriever_plans(context: Context) -> dict[str, Plan]:
    """Space → plan to make it; ``<retriever>/<seed>`` → plan to train it; see
    :func:`pipeline.planning.seeds.seeded`.
    """
    params, asked = context.params, retriever_seeds(context.params)
    plans: dict[str, Plan] = {name: _space_plan(context, name) for name in params.spaces}
    for name, retriever in params.retrievers.items():
        own = with_settings(params, retriever.set, f"params.yaml: retrievers.{name}.set")
        plan = _retriever_plan(context, own, name, retriever.datasets, None)
        plans |= seeded(plan, retriever.seed_offset, params.seeds, asked[name])
    for name in params.adapted:
        _adapted_plan(context, name)  # what is wrong with it is said before anything is trained
    return plans


def adapted_plans(context: Context) -> dict[str, Plan]:
    """``<adapted>/<seed>`` → plan to train it further, from what is trained with that seed."""
    params, asked = context.params, retriever_seeds(context.params)
    plans: dict[str, Plan] = {}
    for name, adapted in params.adapted.items():
        plan = _adapted_plan(context, name)
        start = {
            seed: context.models("retrievers", adapted.retriever, [seed]) for seed in asked[name]
        }
        plans |= seeded(plan, adapted.seed_offset, params.seeds, asked[name], start)
    return plans


def encoding_plans(context: Context) -> dict[str, Plan]:
    """``<dataset>-<retriever>`` → plan to encode a dataset, by the retriever of the first seed, or
    by a space.
    """
    return {
        f"{dataset}-{name}": _encoding_plan(context, name, dataset)
        for name in context.params.encoded
        for dataset in context.params.datasets
    }


def sound_side(context: Context, params: Params, name: str) -> SoundSide:
    """The sound side of a retriever, by ``params``, which may have its own settings."""
    base = base_retriever(params, name)
    if isinstance(base, ClapSpaceConfig | TagSpaceConfig):
        return _space_side(context, base)
    names = base.sound
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
    base = base_retriever(params, name)
    text = base.text
    if isinstance(base, TagSpaceConfig):
        return CentredTextSide(features=(text,), encoder=params.text_encoders[text])
    if text in params.text_towers:
        return TextTowerSide(tower=params.text_towers[text])
    return StoredTextSide(features=(text,), encoder=params.text_encoders[text])


def tower_modules(sound: SoundSide, text: TextSide) -> list[str]:
    """The modules of the sides' trained towers."""
    of_sound = [f"models.towers.{sound.tower.module}"] if sound.kind == "tower" else []
    return [*of_sound, *(["models.towers.text"] if text.kind == "tower" else [])]


def _space_side(context: Context, space: SpaceConfig) -> EncoderSoundSide:
    """The sound side of a space."""
    (encoder,) = space.sound
    tags = None
    if isinstance(space, TagSpaceConfig):
        tags = TagsConfig(**space.model_dump(include={*TagsConfig.model_fields}))
    return EncoderSoundSide(
        features=(encoder,),
        encoder=context.params.encoders[encoder],
        weights=context.encoder_weights(encoder),
        tags=tags,
    )


def _space_plan(context: Context, name: str) -> SpacePlan:
    params, space = context.params, context.params.spaces[name]
    sound, text = _space_side(context, space), text_side(params, name)
    assert not isinstance(text, TextTowerSide)  # a space's text is of an encoder
    dataset = next(iter(params.datasets))  # all have the same widths
    (of_sound,), (of_text,) = sound.features, text.features
    widths = context.width(dataset, of_sound), context.width(dataset, of_text)
    if sound.tags is None and widths[0] != widths[1]:
        raise EarwitnessError(
            f"spaces.{name}: {of_sound} is {widths[0]} wide and {of_text} {widths[1]}; name the "
            "sound and the text of one CLAP"
        )
    return SpacePlan(
        name=name,
        inputs=context.trained(sound.weights),
        code=context.code("make_space", encoder_modules(params, of_sound)),
        hardware=HardwareConfig(**device(params).model_dump()),
        sound=sound,
        text=text,
        biencoder=BiEncoderConfig(project="none", learn_temperature=False),
        widths=widths,
    )


def _adapted_plan(context: Context, name: str) -> RetrieverPlan:
    params, adapted = context.params, context.params.adapted[name]
    settings = {**params.retrievers[adapted.retriever].set, **adapted.set}
    own = with_settings(params, settings, f"params.yaml: adapted.{name}.set")
    return _retriever_plan(context, own, name, adapted.datasets, adapted.retriever)


def _retriever_plan(
    context: Context, params: Params, name: str, datasets: tuple[str, ...], start: str | None
) -> RetrieverPlan:
    """``params``: with the retriever's own settings."""
    sound, text = sound_side(context, params, name), text_side(params, name)
    inputs = {}
    for dataset in datasets:
        check_captions(context.manifests[dataset], ("development", "validation"))
        inputs[corpus(dataset)] = captions(context.manifests[dataset])
        inputs |= context.features(dataset, (*sound.features, *text.features))
    if sound.kind == "tower":
        inputs |= context.trained(sound.weights)
    return RetrieverPlan(
        name=name,
        inputs=inputs,
        code=context.code("train_retriever", tower_modules(sound, text)),
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
    clips = context.manifests[dataset].columns
    inputs = context.features(dataset, (*sound.features, *text.features))
    inputs[corpus(dataset)] = clips.fingerprint("clip_id", "captions")
    inputs |= context.models("retrievers", name, params.seeds[:1])
    return EncodingPlan(
        name=name,
        inputs=inputs,
        code=context.code("encode", tower_modules(sound, text)),
        hardware=device(context.params),
        dataset=dataset,
        frames=has_frames(params, name),
        seed=None if name in params.spaces else params.seeds[0],
        store=stored_as(params, f"{name}/frames"),
    )
