"""Plans of captioners, by cross-entropy and by rewards."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.captioner_base import Resolved
from pipeline.config.captioners import CaptionerModel
from pipeline.config.params import Params, with_settings
from pipeline.config.plans import CaptionerPlan, FinetuningPlan, Plan
from pipeline.config.retrievers import TowerSetupConfig
from pipeline.planning.checks import check_captioner, check_finetuning
from pipeline.planning.context import Context, architecture, captions, weights


def captioner_plans(context: Context) -> dict[str, Plan]:
    """Captioner name → plan to train it, finetuned ones too."""
    params = context.params
    trained = {name: _captioner_plan(context, name) for name in params.captioners}
    return {**trained, **{name: _finetuning_plan(context, name) for name in params.finetuned}}


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
            weights=str(trained) if trained else None,
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
        code=context.code(["training.cross_entropy", architecture(captioner.architecture)]),
        seed=params.seed,
        hardware=params.hardware,
        dataset=captioner.dataset,
        features=found.features,
        text=found.text,
        sound_dataset=found.sound_dataset,
        model=found.model,
        training=training,
    )


def _inputs(context: Context, dataset: str, found: Resolved[CaptionerModel]) -> dict[str, str]:
    """Digests of captions, features and weights; of another dataset's sound under its name."""
    inputs = {"clips": captions(context.manifests[dataset].clips)}
    if found.text:
        inputs[found.text] = context.fingerprint(dataset, found.text)
    if found.model.reads.sound:
        heard = found.sound_dataset or dataset
        start = "" if heard == dataset else f"{heard}: "
        inputs[f"{start}clips"] = captions(context.manifests[heard].clips)
        for encoder in found.features:
            inputs[f"{start}{encoder}"] = context.fingerprint(heard, encoder)
    if found.tower:
        trained = Path(found.tower.weights) if found.tower.weights else None
        inputs["sound weights"] = weights(found.tower.settings.weights, trained)
    return inputs


def _finetuning_plan(context: Context, name: str) -> FinetuningPlan:
    finetuned = context.params.finetuned[name]
    params = with_settings(context.params, finetuned.set, f"params.yaml: finetuned.{name}.set")
    captioner, scst = params.captioners[finetuned.captioner], params.scst
    found = resolved(context, name)
    own = own_params(context, finetuned.captioner).training[captioner.training]
    check_finetuning(context, name, found, own, scst)
    inputs = {"clips": captions(context.manifests[captioner.dataset].clips)}
    for encoder in found.features:
        inputs[encoder] = context.fingerprint(captioner.dataset, encoder)
    if scst.rewards.sbert and scst.sbert:
        inputs["sbert weights"] = weights(scst.sbert)
    return FinetuningPlan(
        name=name,
        inputs=inputs,
        code=context.code(["training.finetuning", architecture(captioner.architecture)]),
        seed=params.seed,
        hardware=params.hardware,
        captioner=finetuned.captioner,
        dataset=captioner.dataset,
        features=found.features,
        scst=scst,
    )
