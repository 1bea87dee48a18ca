"""EDTC composed: every row of Table 2, the twin's bookkeeping, and what inference keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.config.plans import CaptionerPlan
from pipeline.config.section import parse_section
from pipeline.config.training import TrainingConfig
from pipeline.errors import EarwitnessError
from pipeline.losses.contrastive import clip_loss, infonce_loss
from pipeline.losses.cross_entropy import cross_entropy
from pipeline.models.captioners.edtc import Edtc, EdtcLosses
from pipeline.models.layers.translator import TwinTranslator
from pipeline.tensors import Batch, Padded, TokenIds
from tests.learning import learn
from tests.plans import build, captioner_plan, rebuild

STORED = {"cnn14": 20, "htsat": 12, "convnext": 16}
TEXT_WIDTH, VOCABULARY = 10, 40
TOKENS = TokenIds(VOCABULARY, begin=0, pad=1, end=2)
ALL = ("cnn14", "htsat", "convnext")

# EDTC Table 2, row by row: features, FUSER, TRANSLATOR, twin
TABLE_2: dict[str, tuple[tuple[str, ...], bool, bool, str | None]] = {
    "CNN14 + BART": (("cnn14",), False, False, None),
    "HTSAT + BART": (("htsat",), False, False, None),
    "ConvNeXt + BART": (("convnext",), False, False, None),
    "Encoders + FUSER + BART": (ALL, True, False, None),
    "HTSAT + FUSER + BART": (("htsat",) * 3, True, False, None),
    "Encoders + FUSER + TRANSLATOR + BART": (ALL, True, True, None),
    "HTSAT + TRANSLATOR + BART": (("htsat",), False, True, None),
    "HTSAT + (Sim) TRANSLATOR + BART": (("htsat",), False, True, "clip"),
    "Encoders + FUSER + (Sim) TRANSLATOR + BART": (ALL, True, True, "clip"),
    "the same with InfoNCE (4.5)": (ALL, True, True, "infonce"),
}


def make_plan(
    features: tuple[str, ...] = ALL,
    fuser: bool = True,
    translator: bool = True,
    twin: str | None = "clip",
    bart: dict[str, Any] | None = None,
    dropout: float = 0.1,
    weight: float = 1.0,
    **training: Any,
) -> CaptionerPlan:
    small = {"heads": 4, "feed_forward": 24, "dropout": dropout}
    return captioner_plan(
        {
            "architecture": "edtc", "features": features, "text": "instructor" if twin else None,
            "fuser": fuser, "translator": translator, "twin": twin is not None,
        },
        {
            "features": {"frames": 8, "width": 16},
            "fuser": {**small, "layers": 2, "reduced": 6},
            "translator": {**small, "encoder_layers": 2, "decoder_layers": 1},
            "twin": {"loss": twin or "clip", "weight": weight},
            "bart": {
                "pretrained": None, "encoder_layers": 1, "decoder_layers": 1, "heads": 2,
                "width": 16, "feed_forward": 24, "vocabulary": 64, "dropout": dropout,
                **(bart or {}),
            },
        },
        TrainingConfig(**training),
        name="edtc",
    )  # fmt: skip


def without_dropout(*parts: Any, **more: Any) -> CaptionerPlan:
    return make_plan(*parts, dropout=0.0, label_smoothing=0.0, **more)


def make(plan: CaptionerPlan, text: bool = True) -> Edtc:
    torch.manual_seed(1)
    widths = [STORED[name] for name in plan.features]
    model = build(plan, widths, TOKENS, TEXT_WIDTH if text else None)
    assert isinstance(model, Edtc)
    return model


def make_batch(plan: CaptionerPlan, text: bool = True) -> Batch:
    torch.manual_seed(2)
    lengths = torch.tensor([9, 5, 12])
    features = tuple(Padded(torch.randn(3, 12, STORED[name]), lengths) for name in plan.features)
    tokens = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1], [0, 9, 10, 2, 1]])
    words = Padded(torch.randn(3, 6, TEXT_WIDTH), torch.tensor([6, 2, 4]))
    return Batch(features, tokens, words if text else None, torch.tensor([0, 1, 0]))


@pytest.mark.parametrize("row", list(TABLE_2))
def test_every_row_of_table_2_trains(row: str) -> None:
    features, fuser, translator, twin = TABLE_2[row]
    plan = make_plan(features, fuser, translator, twin)
    model, batch = make(plan).train(), make_batch(plan)
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    expected = {"inputs", "bart"}
    expected |= {"fuser"} if fuser else set()
    expected |= {"translator"} if translator else set()
    expected |= {"text_input"} if twin else set()
    assert names == expected

    losses = model.loss(batch)
    losses.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("k_proj.bias"):  # a softmax does not see it
            assert parameter.grad.abs().sum() > 0, name
    if twin:
        assert isinstance(model.translator, TwinTranslator)
        for name, parameter in model.translator.named_parameters():
            assert parameter.grad is not None
            audio, text = parameter.grad.view(2, -1).abs().sum(1).tolist()
            # the text branch's one loss is on the last hidden state, which no decoder layer's own
            # steps enter (see pipeline/models/layers/translator.py)
            reached = name.startswith("encoder.") or ".cross." in name
            last = name.startswith("encoder.1.feed_forward") or name.startswith("encoder.1.final")
            assert audio > 0 and (text > 0) == (reached or last), name


@pytest.mark.parametrize("row", list(TABLE_2))
def test_every_row_of_table_2_learns_a_batch(row: str) -> None:
    features, fuser, translator, twin = TABLE_2[row]
    plan = without_dropout(features, fuser, translator, twin)
    model, batch = make(plan).train(), make_batch(plan)
    first = model.loss(batch)

    def learned(losses: EdtcLosses) -> bool:
        entropy = losses.cross_entropy < 0.3 * first.cross_entropy
        if losses.contrastive is None or first.contrastive is None:
            return bool(entropy)
        return bool(entropy and losses.contrastive < 0.6 * first.contrastive)

    learn(model, batch, until=learned, at_most=300)


@pytest.mark.parametrize("loss", ["clip", "infonce"])
def test_the_loss_is_equation_8(loss: str) -> None:
    plan = make_plan(twin=loss, weight=0.5)
    model, batch = make(plan).eval(), make_batch(plan)
    with torch.no_grad():
        output, losses = model(batch), model.loss(batch)
        expected = cross_entropy(output.logits, batch.tokens[:, 1:], 1, 0.1)
        hidden = output.audio_hidden, output.text_hidden
        contrastive = (
            clip_loss(*hidden, clips=batch.clips, normalise="width")
            if loss == "clip"
            else infonce_loss(*hidden, clips=batch.clips)
        )
    assert output.logits.shape == (3, 4, VOCABULARY)
    torch.testing.assert_close(losses.total, expected + 0.5 * contrastive)


def test_after_step_makes_the_branches_equal() -> None:
    plan = make_plan()
    model, batch = make(plan).train(), make_batch(plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.loss(batch).total.backward()
    optimizer.step()
    assert model.translator is not None
    branches = [parameter.view(2, -1) for parameter in model.translator.parameters()]
    before = [branch.detach().clone() for branch in branches]
    assert any(not torch.equal(one, other) for one, other in before)
    model.after_step()
    for old, new in zip(before, branches, strict=True):
        torch.testing.assert_close(new[0], 0.95 * old[0] + 0.05 * old[1])
        assert torch.equal(new[0], new[1])


def test_inference_keeps_one_branch_and_gives_the_same() -> None:
    plan = make_plan()
    model, batch = make(plan).train(), make_batch(plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model.loss(batch).total.backward()
        optimizer.step()
        model.after_step()
    small = rebuild(plan, [STORED[name] for name in plan.features], model)
    assert isinstance(small, Edtc) and small.tokens == TOKENS
    small.load_state_dict(model.inference_state_dict())
    model.eval(), small.eval()
    with torch.no_grad():
        torch.testing.assert_close(small.encode(batch.features), model.encode(batch.features))
        with_text, without = model(batch), small(batch._replace(text=None))
    torch.testing.assert_close(without.logits, with_text.logits)
    assert without.text_hidden is None
    mine, theirs = (sum(p.numel() for p in m.parameters()) for m in (small, model))
    assert mine < theirs


def test_encode_and_stepper_agree_with_the_teacher_forced_logits() -> None:
    plan = make_plan()
    model, batch = make(plan).eval(), make_batch(plan)
    with torch.no_grad():
        logits = model(batch).logits.log_softmax(-1)
        stepper = model.stepper()
        state = stepper.start(model.encode(batch.features), 1, 4)
        for position in range(4):
            step, state = stepper.step(batch.tokens[:, position : position + 1], state)
            valid = batch.tokens[:, position] != 1
            torch.testing.assert_close(step[valid, 0], logits[valid, position], rtol=0, atol=1e-4)


def test_padding_of_the_features_has_no_effect() -> None:
    plan = make_plan()
    model, batch = make(plan).eval(), make_batch(plan)
    spoiled = tuple(
        Padded(each.values.masked_fill(~each.mask[..., None], 99.0), each.lengths)
        for each in batch.features
    )
    with torch.no_grad():
        one, other = model.encode(batch.features), model.encode(spoiled)
    torch.testing.assert_close(one.values, other.values)


def test_a_bart_of_another_width_gets_a_linear_layer() -> None:
    plan = make_plan(bart={"width": 24})
    projecting = make(plan)
    assert isinstance(projecting.bart.project, nn.Linear)
    assert projecting.loss(make_batch(plan)).total.isfinite()


def test_bfloat16_autocast_is_near_float32() -> None:
    """On the CPU's autocast, whose rules of what is cast are CUDA's."""
    plan = without_dropout()
    model, batch = make(plan).train(), make_batch(plan)
    plain = model.loss(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.loss(batch)
    assert mixed.total.dtype == torch.float32
    torch.testing.assert_close(mixed.total, plain.total, rtol=0.02, atol=0)
    mixed.total.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    ("null", "widths", "message"),
    [
        (None, [20, 12], r"edtc: 2 stored features, but the plan names 3 .*dvc repro plan"),
        ("fuser", [20, 12, 16], r"edtc: several features need fuser: true"),
        ("translator", [20, 12, 16], r"edtc: twin: true needs translator: true"),
    ],
)
def test_what_does_not_fit_is_refused(null: str | None, widths: list[int], message: str) -> None:
    plan = make_plan()
    if null:
        plan = plan.model_copy(update={"model": plan.model.model_copy(update={null: None})})
    with pytest.raises(EarwitnessError, match=message):
        build(plan, widths, TOKENS, TEXT_WIDTH)


def test_an_unknown_architecture_and_a_twin_without_text_are_refused() -> None:
    plan = make_plan()
    values = plan.model_dump()
    values["model"]["architecture"] = "lstm"
    with pytest.raises(EarwitnessError, match=r"model: .*'lstm'.*: 'edtc', 'seq2seq'"):
        parse_section(CaptionerPlan, values, "edtc.json")
    with pytest.raises(EarwitnessError, match="needs the captions' text features"):
        make(plan).loss(make_batch(plan, text=False))
