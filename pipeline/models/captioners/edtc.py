"""EDTC: frozen encoders' features → FUSER → TRANSLATOR → BART (EDTC 3, Figure 1).

Every row of its ablation (Table 2) is this class with some of the modules left out: what a plan
does not name is not built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.config.plans import CaptionerPlan
from pipeline.errors import EarwitnessError
from pipeline.losses.contrastive import clip_loss, infonce_loss
from pipeline.losses.cross_entropy import cross_entropy
from pipeline.models.captioners.base import Captioner
from pipeline.models.decoders.bart import Bart
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.layers.feature_input import Input
from pipeline.models.layers.fuser import Fuser
from pipeline.models.layers.translator import Translator, TwinTranslator
from pipeline.tensors import Batch, Memory, Padded, TokenIds


class CaptionerOutput(NamedTuple):
    logits: Tensor  # (B, L − 1, V), position l predicting token l + 1
    audio_hidden: Tensor | None  # (B, D) TRANSLATOR's last hidden state
    text_hidden: Tensor | None  # (B, D) the text branch's, where the batch has text


class EdtcLosses(NamedTuple):
    """Scalars of one batch."""

    total: Tensor  # L, eq. 8
    cross_entropy: Tensor  # L_ce, eq. 1
    contrastive: Tensor | None  # L_cl, eq. 7, before its weight


class Edtc(Captioner):
    """The captioner of one plan.

    Args:
        plan: null modules in it are not built.
        widths: W of each of the E stored features.
        text_width: W of the stored text features; None builds what inference needs: of a twin, the
            audio branch alone (see :meth:`inference_state_dict`).
        bart: the text decoder, with its own encoder.

    Raises:
        EarwitnessError: sizes that do not fit each other.
    """

    def __init__(
        self, plan: CaptionerPlan, widths: Sequence[int], text_width: int | None, bart: Bart
    ) -> None:
        super().__init__()
        if len(widths) != len(plan.features):
            raise EarwitnessError(
                f"{plan.name}: {len(widths)} stored features, but the plan names "
                f"{len(plan.features)} ({', '.join(plan.features)}); run `dvc repro plan`"
            )
        if len(widths) > 1 and plan.fuser is None:
            raise EarwitnessError(f"{plan.name}: several features need fuser: true")
        assert plan.input is not None
        self.plan = plan
        width = plan.input.width
        self.inputs = nn.ModuleList(Input(stored, plan.input) for stored in widths)
        self.fuser = Fuser(len(widths), width, plan.fuser) if plan.fuser else None
        self.translator = _translator(plan, twin=text_width is not None)
        self.text_input: Input | None = None
        if isinstance(self.translator, TwinTranslator) and text_width is not None:
            self.text_input = Input(text_width, plan.input, masked=False)
        fits = bart.input_width == width
        self.adapter = None if fits else nn.Linear(width, bart.input_width)
        self.bart = bart
        self.tokens = TokenIds(bart.vocabulary, bart.begin, bart.pad, bart.end)

    @classmethod
    def from_plan(
        cls,
        plan: CaptionerPlan,
        widths: Sequence[int],
        text_width: int | None,
        tokens: TokenIds,
    ) -> Edtc:
        assert plan.bart is not None and plan.input is not None
        bart = Bart.from_settings(
            plan.bart,
            tokens.size,
            input_width=plan.input.width,
            begin=tokens.begin,
            pad=tokens.pad,
            end=tokens.end,
        )
        return cls(plan, widths, text_width, bart)

    @classmethod
    def from_form(cls, plan: CaptionerPlan, widths: Sequence[int], form: dict[str, Any]) -> Edtc:
        return cls(plan, widths, None, Bart.from_configuration(form["bart"]))

    def form(self) -> dict[str, Any]:
        return {"bart": self.bart.configuration()}

    def encode(self, features: Sequence[Padded]) -> Memory:
        """E × (B, T, W) stored features → what BART's decoder attends to; W alone is used."""
        values = self._fused(features)
        if self.translator is not None:
            values = self.translator(values).output
        return self._memory(values)

    def forward(self, batch: Batch) -> CaptionerOutput:
        """Teacher-forced logits, and the twin's last hidden states where the batch has text."""
        values = self._fused(batch.features)
        audio_hidden = text_hidden = None
        if self.text_input is not None and batch.text is not None:
            assert isinstance(self.translator, TwinTranslator)
            audio, text = self.translator.both(values, self.text_input(batch.text))
            values, audio_hidden, text_hidden = audio.output, audio.hidden, text.hidden
        elif self.translator is not None:
            values, audio_hidden = self.translator(values)
        logits = self.logits(self._memory(values), batch.tokens[:, :-1])
        return CaptionerOutput(logits, audio_hidden, text_hidden)

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        return self.bart.logits(memory, tokens)

    def loss(self, batch: Batch) -> EdtcLosses:
        """L = L_ce + weight · L_cl (eq. 8), L_cl being the twin's."""
        twin, smoothing = self.plan.twin, self.plan.training.label_smoothing
        if twin is not None and (self.text_input is None or batch.text is None):
            raise EarwitnessError(
                f"{self.plan.name}: the twin needs the captions' text features; name a text "
                "encoder, or set twin: false"
            )
        output = self(batch)
        loss = cross_entropy(output.logits, batch.tokens[:, 1:], self.bart.pad, smoothing)
        if twin is None:
            return EdtcLosses(loss, loss, None)
        if twin.loss == "clip":
            contrastive = clip_loss(
                output.audio_hidden,
                output.text_hidden,
                twin.temperature,
                batch.clips,
                twin.normalise,
            )
        else:
            contrastive = infonce_loss(
                output.audio_hidden, output.text_hidden, twin.infonce_temperature, batch.clips
            )
        return EdtcLosses(loss + twin.weight * contrastive, loss, contrastive)

    def after_step(self) -> None:
        """The twin's momentum update (eq. 4); call it after each step of the optimizer."""
        if isinstance(self.translator, TwinTranslator):
            self.translator.momentum_update()

    def stepper(self) -> Stepper:
        """One decoding step of BART's decoder, over the memory of :meth:`encode`."""
        return self.bart.stepper()

    def inference_state_dict(self) -> dict[str, Tensor]:
        """The weights that captioning needs: no text input, and of the twin W alone.

        They fit the captioner that is built with no ``text_width``.
        """
        state = {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("text_input.")
        }
        if isinstance(self.translator, TwinTranslator):
            for name, _ in self.translator.named_parameters(prefix="translator"):
                state[name] = state[name][: state[name].shape[0] // 2]
        return state

    def _fused(self, features: Sequence[Padded]) -> Tensor:
        """E × (B, T, W) → (B, frames, width)."""
        values = [read(each) for read, each in zip(self.inputs, features, strict=True)]
        return values[0] if self.fuser is None else self.fuser(torch.stack(values))

    def _memory(self, values: Tensor) -> Memory:
        """(B, T, D), all frames valid, through BART's encoder."""
        if self.adapter is not None:
            values = self.adapter(values)
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return self.bart.encode(values, mask)


def _translator(plan: CaptionerPlan, twin: bool) -> Translator | None:
    assert plan.input is not None
    if plan.translator is None:
        if plan.twin is not None:
            raise EarwitnessError(f"{plan.name}: twin: true needs translator: true (EDTC 4.5)")
        return None
    compiled = plan.hardware.compile != "off"
    if plan.twin is None or not twin:
        return Translator(plan.input.width, plan.translator, compiled=compiled)
    return TwinTranslator(plan.input.width, plan.translator, plan.twin.momentum, compiled)
