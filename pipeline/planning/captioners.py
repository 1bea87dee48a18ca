"""Plans of captioners, by cross-entropy and by rewards."""

from __future__ import annotations

from pipeline.config.captioners import CaptionerConfig, EdtcCaptionerConfig
from pipeline.config.cmu import CmuCaptionerConfig
from pipeline.config.params import Params, with_settings
from pipeline.config.plans import CaptionerPlan, FinetuningPlan, Plan
from pipeline.config.prefix import PrefixCaptionerConfig
from pipeline.config.rlssr import RlssrCaptionerConfig
from pipeline.config.training import ScstConfig
from pipeline.corpora.splits import training_clips
from pipeline.errors import EarwitnessError
from pipeline.planning.checks import check_captions, check_reward_weights, check_sound
from pipeline.planning.context import Context, architecture, captions, weights
from pipeline.planning.lookup import captioner_features, text_features

SPLITS = ("development", "validation")


def captioner_plans(context: Context) -> dict[str, Plan]:
    """Captioner name → plan to train it, finetuned ones too."""
    params = context.params
    plans: dict[str, Plan] = {}
    for name, captioner in params.captioners.items():
        own = with_settings(params, captioner.set, f"params.yaml: captioners.{name}.set")
        counts = {"seq2seq": own.seq2seq.min_count, "rlssr": own.rlssr.min_count}
        min_count = counts.get(captioner.architecture, 1)
        manifest = context.manifests[captioner.dataset]
        check_captions(manifest, SPLITS, min_count)
        training_clips(manifest, own.training[captioner.training])  # a split may be missing
        plans[name] = _captioner_plan(context, own, name, captioner)
    for name, finetuned in params.finetuned.items():
        own = with_settings(params, finetuned.set, f"params.yaml: finetuned.{name}.set")
        plans[name] = _finetuning_plan(context, own, name, finetuned.captioner)
    return plans


def _captioner_plan(
    context: Context, params: Params, name: str, captioner: CaptionerConfig
) -> CaptionerPlan:
    """``params``: with the captioner's own settings."""
    edtc = captioner if isinstance(captioner, EdtcCaptionerConfig) else None
    text = edtc.text if edtc and edtc.twin else None
    if isinstance(captioner, PrefixCaptionerConfig):
        return _prefix_plan(context, params, name, captioner)
    rlssr = captioner if isinstance(captioner, RlssrCaptionerConfig) else None
    tower = params.sound_towers[rlssr.tower] if rlssr else None
    trained = context.tower_weights(tower) if tower else None
    features = captioner_features(params, name)
    inputs = _inputs(context, captioner.dataset, (*features, *([text] if text else [])))
    if tower:
        inputs["sound weights"] = weights(tower.weights, trained)
    return CaptionerPlan(
        name=name,
        inputs=inputs,
        code=context.code(["training.cross_entropy", architecture(captioner.architecture)]),
        architecture=captioner.architecture,
        dataset=captioner.dataset,
        features=features,
        text=text,
        input=params.features if edtc else None,
        fuser=params.fuser if edtc and edtc.fuser else None,
        translator=params.translator if edtc and edtc.translator else None,
        twin=params.twin if edtc and edtc.twin else None,
        bart=params.bart
        if isinstance(captioner, EdtcCaptionerConfig | CmuCaptionerConfig)
        else None,
        cmu=params.cmu if isinstance(captioner, CmuCaptionerConfig) else None,
        seq2seq=params.seq2seq if captioner.architecture == "seq2seq" else None,
        rlssr=params.rlssr if rlssr else None,
        sound=tower,
        sound_input=params.encoders[tower.input] if tower else None,
        weights=str(trained) if trained else None,
        spec_augment=params.spec_augment if rlssr and params.rlssr.spec_augment else None,
        training=params.training[captioner.training],
    )


def _prefix_plan(
    context: Context, params: Params, name: str, captioner: PrefixCaptionerConfig
) -> CaptionerPlan:
    """Its captions are of one dataset; its sound, where it reads any, may be another's."""
    heard = captioner.sound_dataset or captioner.dataset
    if params.prefix.supervised and heard != captioner.dataset:
        raise EarwitnessError(
            f"captioners.{name}: prefix.supervised: true pairs captions with their own sound; "
            "leave sound_dataset out"
        )
    training_clips(context.manifests[heard], params.training[captioner.training])
    _check_space(context, name, captioner, heard)
    inputs = _inputs(context, captioner.dataset, (captioner.text,))
    if params.prefix.reads.any_sound:
        if captioner.features[0] not in text_features(params):
            check_sound(context.manifests[heard], f"captioners.{name}", params.prefix)
        own = _inputs(context, heard, captioner.features)
        inputs |= own if heard == captioner.dataset else {f"{heard}: {k}": own[k] for k in own}
    return CaptionerPlan(
        name=name,
        inputs=inputs,
        code=context.code(["training.cross_entropy", architecture(captioner.architecture)]),
        architecture=captioner.architecture,
        dataset=captioner.dataset,
        features=captioner.features,
        text=captioner.text,
        training=params.training[captioner.training],
        prefix=params.prefix,
        sound_dataset=captioner.sound_dataset,
    )


def _check_space(context: Context, name: str, captioner: PrefixCaptionerConfig, heard: str) -> None:
    """Sound is to be read in the place of text, sooner or later.

    Raises:
        EarwitnessError: both are not of one width, so not of one space.
    """
    sound = context.width(heard, captioner.features[0])
    text = context.width(captioner.dataset, captioner.text)
    if sound != text:
        raise EarwitnessError(
            f"captioners.{name}: {captioner.features[0]} is {sound} wide, but {captioner.text} is "
            f"{text}; name the sound and the text of one space, such as one CLAP's"
        )


def _finetuning_plan(context: Context, params: Params, name: str, base: str) -> FinetuningPlan:
    captioner = params.captioners[base]
    check_reward_weights(params.scst, f"finetuned.{name}")
    _check_split(context.params, params.scst, name, base)
    _check_pairs(context, captioner, f"finetuned.{name}", base)
    inputs = _inputs(context, captioner.dataset, captioner_features(params, base))
    if params.scst.rewards.sbert and params.scst.sbert:
        inputs["sbert weights"] = weights(params.scst.sbert)
    return FinetuningPlan(
        name=name,
        inputs=inputs,
        code=context.code(["training.finetuning", architecture(captioner.architecture)]),
        captioner=base,
        dataset=captioner.dataset,
        features=captioner_features(params, base),
        scst=params.scst,
    )


def _check_split(params: Params, scst: ScstConfig, name: str, base: str) -> None:
    """Finetuning is chosen on the clips that its captioner was chosen on.

    Raises:
        EarwitnessError: it would be chosen on clips that were trained on.
    """
    captioner = params.captioners[base]
    own = with_settings(params, captioner.set, f"params.yaml: captioners.{base}.set")
    share = own.training[captioner.training].validation_share
    if share != scst.validation_share:
        raise EarwitnessError(
            f"finetuned.{name}: {base} is trained with validation_share {share or 'null'}, scst "
            f"has {scst.validation_share or 'null'}; set scst.validation_share to the same"
        )


def _check_pairs(context: Context, captioner: CaptionerConfig, where: str, base: str) -> None:
    """Rewards compare what is written of a clip's sound with the captions of that clip.

    Raises:
        EarwitnessError: a captioner of text alone has no such pairs.
    """
    if not isinstance(captioner, PrefixCaptionerConfig) or captioner.features[0] == captioner.text:
        return
    heard = captioner.sound_dataset or captioner.dataset
    if heard == captioner.dataset and context.manifests[heard].sounding:
        return
    lacks = "no sound" if heard == captioner.dataset else f"sound of {heard} alone"
    raise EarwitnessError(
        f"{where}: rewards need clips with sound and captions, and {base} has captions of "
        f"{captioner.dataset} and {lacks}; name a captioner of a dataset with both"
    )


def _inputs(context: Context, dataset: str, features: tuple[str, ...]) -> dict[str, str]:
    inputs = {"clips": captions(context.manifests[dataset].clips)}
    for encoder in features:
        inputs[encoder] = context.fingerprint(dataset, encoder)
    return inputs
