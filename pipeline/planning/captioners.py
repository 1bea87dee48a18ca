"""Plans of captioners, by cross-entropy and by rewards."""

from __future__ import annotations

from pipeline.config import EdtcCaptioner, Params, Scst, Seq2SeqCaptioner, with_settings
from pipeline.corpora.checks import check_captions, check_reward_weights
from pipeline.errors import EarwitnessError
from pipeline.planning.context import Context, captions, weights
from pipeline.plans import CaptionerPlan, FinetuningPlan, Plan

SPLITS = ("development", "validation")


def captioner_plans(context: Context) -> dict[str, Plan]:
    """Captioner name → plan to train it, finetuned ones too."""
    params = context.params
    plans: dict[str, Plan] = {}
    for name, captioner in params.captioners.items():
        own = with_settings(params, captioner.set, f"params.yaml: captioners.{name}.set")
        words = isinstance(captioner, Seq2SeqCaptioner)
        min_count = own.seq2seq.min_count if words else 1
        check_captions(context.manifests[captioner.dataset], SPLITS, min_count)
        plans[name] = _captioner_plan(context, own, name, captioner)
    for name, finetuned in params.finetuned.items():
        own = with_settings(params, finetuned.set, f"params.yaml: finetuned.{name}.set")
        plans[name] = _finetuning_plan(context, own, name, finetuned.captioner)
    return plans


def _captioner_plan(
    context: Context, params: Params, name: str, captioner: EdtcCaptioner | Seq2SeqCaptioner
) -> CaptionerPlan:
    """``params``: with the captioner's own settings."""
    edtc = captioner if isinstance(captioner, EdtcCaptioner) else None
    text = edtc.text if edtc and edtc.twin else None
    return CaptionerPlan(
        name=name,
        inputs=_inputs(context, captioner, [text] if text else []),
        code=context.code(["training.captioning", f"models.{captioner.architecture}"]),
        architecture=captioner.architecture,
        dataset=captioner.dataset,
        features=captioner.features,
        text=text,
        input=params.features if edtc else None,
        fuser=params.fuser if edtc and edtc.fuser else None,
        translator=params.translator if edtc and edtc.translator else None,
        twin=params.twin if edtc and edtc.twin else None,
        bart=params.bart if edtc else None,
        seq2seq=None if edtc else params.seq2seq,
        training=params.training[captioner.training],
    )


def _finetuning_plan(context: Context, params: Params, name: str, base: str) -> FinetuningPlan:
    captioner = params.captioners[base]
    check_reward_weights(params.scst, f"finetuned.{name}")
    _check_split(context.params, params.scst, name, base)
    inputs = _inputs(context, captioner, [])
    if params.scst.rewards.sbert and params.scst.sbert:
        inputs["sbert weights"] = weights(params.scst.sbert)
    return FinetuningPlan(
        name=name,
        inputs=inputs,
        code=context.code(["training.finetuning", f"models.{captioner.architecture}"]),
        captioner=base,
        dataset=captioner.dataset,
        features=captioner.features,
        scst=params.scst,
    )


def _check_split(params: Params, scst: Scst, name: str, base: str) -> None:
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


def _inputs(
    context: Context, captioner: EdtcCaptioner | Seq2SeqCaptioner, text: list[str]
) -> dict[str, str]:
    inputs = {"clips": captions(context.manifests[captioner.dataset].clips)}
    for encoder in (*captioner.features, *text):
        inputs[encoder] = context.fingerprint(captioner.dataset, encoder)
    return inputs
