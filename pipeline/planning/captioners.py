"""Plans of captioners, by cross-entropy and by rewards."""

from __future__ import annotations

from pipeline.config.captioner_base import Resolved
from pipeline.config.captioners import CaptionerModel
from pipeline.config.params import Params, with_settings
from pipeline.config.plans import CaptionerPlan, FinetuningPlan, Plan
from pipeline.config.retrievers import TowerSetupConfig
from pipeline.planning.checks import check_captioner, check_finetuning
from pipeline.planning.context import Context, architecture, captions, corpus
from pipeline.planning.lookup import captioner_seeds
from pipeline.planning.seeds import seeded


def captioner_plans(context: Context) -> dict[str, Plan]:
    """``<captioner>/<seed>`` → plan to train it; see :func:`pipeline.planning.seeds.seeded`."""
    params, asked = context.params, captioner_seeds(context.params)
    plans: dict[str, Plan] = {}
    for name, captioner in params.captioners.items():
        plan = _captioner_plan(context, name)
        plans |= seeded(plan, captioner.seed_offset, params.seeds, asked[name])
    for name in params.finetuned:
        _finetuning_plan(context, name)  # what is wrong with it is said before anything is trained
    return plans


def finetuning_plans(context: Context) -> dict[str, Plan]:
    """``<finetuned>/<seed>`` → plan to train it further, from what is trained with that seed."""
    params, asked = context.params, captioner_seeds(context.params)
    plans: dict[str, Plan] = {}
    for name, finetuned in params.finetuned.items():
        plan = _finetuning_plan(context, name)
        base = finetuned.captioner
        start = {seed: context.models("captioners", base, [seed]) for seed in asked[name]}
        plans |= seeded(plan, finetuned.seed_offset, params.seeds, asked[name], start)
    return plans


def own_params(context: Context, name: str) -> Params:
    """The parameters with a captioner's own settings."""
    settings = context.params.captioners[name].set
    return with_settings(context.params, settings, f"params.yaml: captioners.{name}.set")


def resolved(context: Context, name: str) -> Resolved[CaptionerModel]:
    """What the entry of a captioner comes to; of a finetuned one, that of its base."""
    finetuned = context.params.finetuned.get(name)
    params = own_params(context, base := finetuned.captioner if finetuned else name)

    def tower(named: str) -> TowerSetupConfig:
        settings = params.sound_towers[named]
        trained = context.tower_weights(settings)
        return TowerSetupConfig(
            settings=settings,
            input=params.encoders[settings.input],
            weights=trained,
        )

    return params.captioners[base].resolve(params, tower)


def _captioner_plan(context: Context, name: str) -> CaptionerPlan:
    params, found = own_params(context, name), resolved(context, name)
    captioner = params.captioners[name]
    training = params.training[captioner.training]
    check_captioner(context, name, found, training)
    return CaptionerPlan(
        name=name,
        inputs=_inputs(context, captioner.dataset, found),
        code=context.code("train_captioner", modules(found)),
        hardware=params.hardware,
        dataset=captioner.dataset,
        features=found.features,
        text=found.text,
        sound_dataset=found.sound_dataset,
        model=found.model,
        training=training,
    )


def _inputs(context: Context, dataset: str, found: Resolved[CaptionerModel]) -> dict[str, str]:
    """Digests of captions, features and weights that are trained here."""
    sound_dataset = found.sound_dataset or dataset
    read = (dataset, sound_dataset) if found.model.reads.sound else (dataset,)
    inputs = {corpus(each): captions(context.manifests[each]) for each in read}
    if found.text:
        inputs |= context.features(dataset, [found.text])
    if found.model.reads.sound:
        inputs |= context.features(sound_dataset, found.features)
    if found.tower:
        inputs |= context.trained(found.tower.weights)
    return inputs


def modules(found: Resolved[CaptionerModel]) -> list[str]:
    """The entries of registries that a captioner is built from."""
    tower = [f"models.towers.{found.tower.settings.module}"] if found.tower else []
    return [architecture(found.model.architecture), *tower]


def _finetuning_plan(context: Context, name: str) -> FinetuningPlan:
    finetuned = context.params.finetuned[name]
    params = with_settings(context.params, finetuned.set, f"params.yaml: finetuned.{name}.set")
    captioner, scst = params.captioners[finetuned.captioner], params.scst
    found = resolved(context, name)
    own = own_params(context, finetuned.captioner).training[captioner.training]
    check_finetuning(context, name, found, own, scst)
    dataset = captioner.dataset
    inputs = {corpus(dataset): captions(context.manifests[dataset])}
    inputs |= context.features(dataset, found.features)
    return FinetuningPlan(
        name=name,
        inputs=inputs,
        code=context.code("finetune", modules(found)),
        hardware=params.hardware,
        captioner=finetuned.captioner,
        dataset=captioner.dataset,
        features=found.features,
        scst=scst,
    )
