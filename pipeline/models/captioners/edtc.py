"""EDTC: frozen encoders' features → FUSER → TRANSLATOR → BART (EDTC 3, Figure 1).

Every row of the ablation (Table 2) is this class without some of its modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline import ranks
from pipeline.config.edtc import EdtcModelConfig
from pipeline.errors import EarwitnessError
from pipeline.losses.contrastive import clip_loss, infonce_loss
from pipeline.models.captioners.base import Captioner, Inputs, Learning, Saved
from pipeline.models.decoders.bart import Bart
from pipeline.models.decoders.stepper import Stepper
from pipeline.models.layers.feature_input import Input
from pipeline.models.layers.fuser import Fuser
from pipeline.models.layers.translator import Translator, TwinTranslator
from pipeline.tensors import Batch, Memory, Padded, TokenIds


class CaptionerOutput(NamedTuple):
    logits: Tensor  # (B, L − 1, V), position l predicting token l + 1
    audio_hidden: Tensor | None  # (B, D) TRANSLATOR's last hidden state
    text_hidden: Tensor | None  # (B, D) of the text branch, if the batch has text


class EdtcLosses(NamedTuple):
    """Scalars of one batch."""

    total: Tensor  # L, eq. 8
    cross_entropy: Tensor  # L_ce, eq. 1
    contrastive: Tensor | None  # L_cl, eq. 7, before its weight


class Edtc(Captioner):
    """Modules that are null in ``settings`` are not built.

    Without ``inputs.text_width`` it is built for inference: a twin has its audio branch alone (see
    :meth:`inference_state_dict`).
    """

    def __init__(
        self,
        settings: EdtcModelConfig,
        inputs: Inputs,
        tokens: TokenIds,
        learning: Learning,
        saved: Saved | None = None,
    ) -> None:
        super().__init__(tokens, learning)
        encoders, shape = len(inputs.widths), settings.input
        if encoders > 1 and settings.fuser is None:
            raise EarwitnessError("several features need fuser: true")
        bart = Bart.from_settings(
            settings.bart, tokens, input_width=shape.width, saved=saved and saved["bart"]
        )
        self.twin = settings.twin
        self.inputs = nn.ModuleList(Input(width, shape) for width in inputs.widths)
        self.fuser = Fuser(encoders, shape.width, settings.fuser) if settings.fuser else None
        self.translator = _translator(settings, inputs.text_width is not None, learning.compiled)
        self.text_input: Input | None = None
        if isinstance(self.translator, TwinTranslator) and inputs.text_width is not None:
            self.text_input = Input(inputs.text_width, shape, masked=False)
        self.bart, self.tokens = bart, bart.tokens
        self.configuration = {"bart": bart.configuration()}

    def encode(self, features: Sequence[Padded]) -> Memory:
        """E × (B, T, W) stored features → BART's memory; of a twin, weights W alone are used."""
        values = self._fused(features)
        if self.translator is not None:
            values = self.translator(values).output
        return self._memory(values)

    def forward(self, batch: Batch) -> CaptionerOutput:
        """Teacher-forced logits, and the twin's last hidden states if the batch has text."""
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
        """L = L_ce + weight · L_cl (eq. 8); L_cl is the twin's."""
        twin = self.twin
        if twin is not None and (self.text_input is None or batch.text is None):
            raise EarwitnessError(
                "edtc: the twin needs the captions' text features; name a text encoder, or set "
                "twin: false"
            )
        output = self(batch)
        loss = self.cross_entropy(output.logits, batch)
        if twin is None:
            return EdtcLosses(loss, loss, None)
        assert output.audio_hidden is not None and output.text_hidden is not None
        audio, text, clips = (
            ranks.gathered(each) for each in (output.audio_hidden, output.text_hidden, batch.clips)
        )
        if twin.loss == "clip":
            contrastive = clip_loss(audio, text, twin.temperature, clips, twin.normalise)
        else:
            contrastive = infonce_loss(audio, text, twin.infonce_temperature, clips)
        return EdtcLosses(loss + twin.weight * contrastive, loss, contrastive)

    def after_step(self) -> None:
        """The twin's momentum update (eq. 4)."""
        if isinstance(self.translator, TwinTranslator):
            self.translator.momentum_update()

    def stepper(self) -> Stepper:
        return self.bart.stepper()

    def inference_state_dict(self) -> dict[str, Tensor]:
        """The weights of a captioner without ``text_width``: no text input, of the twin W alone."""
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
        values = [layer(each) for layer, each in zip(self.inputs, features, strict=True)]
        return values[0] if self.fuser is None else self.fuser(torch.stack(values))

    def _memory(self, values: Tensor) -> Memory:
        """(B, T, D), all frames valid, through BART's encoder."""
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return self.bart.encode(values, mask)


def _translator(settings: EdtcModelConfig, twin: bool, compiled: bool) -> Translator | None:
    width = settings.input.width
    if settings.translator is None:
        if settings.twin is not None:
            raise EarwitnessError("twin: true needs translator: true (EDTC 4.5)")
        return None
    if settings.twin is None or not twin:
        return Translator(width, settings.translator, compiled=compiled)
    return TwinTranslator(width, settings.translator, settings.twin.momentum, compiled)
