"""CED, Dasheng, EAT and M2D: one plain vision transformer over four log-mels.

| model | log-mel | patch | frame | longest | a rest of a patch |
|---|---|---|---|---|---|
| CED (Dinkel et al. 2023) | dB, 64 bands | 16 × 16 | 0.16 s | 10.12 s | is cut |
| Dasheng (Dinkel et al. 2024) | the same | 64 × 4 | 0.04 s | 10.08 s | is cut |
| EAT (Chen et al. 2024) | Kaldi's, 128 bands | 16 × 16 | 0.16 s | 10.24 s | zeros, to the longest |
| M2D (Niizumi et al. 2023) | ln, 80 bands | folder's name | | folder's name | zeros, to a patch |

A patch is bands × log-mel frames of 10 ms; a frame is what comes out. All hear 16 kHz, M2D also
32 kHz. ``vit_front_ends.py`` and ``vit_checkpoint.py`` name the files of the models' own code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.encoders import VitEncoderConfig
from pipeline.encoders.base import SpectrogramEncoder
from pipeline.encoders.sources import Hub
from pipeline.encoders.spectrogram import at_least
from pipeline.encoders.vit_checkpoint import Published, read_checkpoint
from pipeline.encoders.vit_front_ends import EatMel, M2dMel, XiaomiMel
from pipeline.encoders.vit_network import Vit, VitTokens
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

HUBS = {
    "ced": Hub(repository="mispeech/ced-base"),
    "dasheng": Hub(repository="mispeech/dasheng-base"),
    "eat": Hub(repository="worstchan/EAT-base_epoch30_finetune_AS2M"),
    "m2d": Hub(by_hand="a .pth of M2D's releases (github.com/nttcslab/m2d), in its folder"),
}


class VitKind(NamedTuple):
    """What the code of one model does that its tensors do not say."""

    front_end: type[XiaomiMel | EatMel | M2dMel]
    # what becomes of a clip that is no whole number of patches: the rest is cut, or zeros fill
    # the patch after normalisation, or the longest input before it, to which all tokens attend
    padding: Literal["cut", "patch", "longest"]
    pooling: Literal["mean", "class"]  # of the tokens, for an embedding and for the classifier


KINDS = {
    "ced": VitKind(XiaomiMel, "cut", "mean"),
    "dasheng": VitKind(XiaomiMel, "cut", "mean"),
    "eat": VitKind(EatMel, "longest", "class"),
    "m2d": VitKind(M2dMel, "patch", "mean"),
}


class VitHead(nn.Module):
    """The fine-tuned classifier: (B, D') → (B, C) logits."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """With the sizes of its tensors, which are loaded later."""
        super().__init__()
        classes, self.inputs = weights["linear.weight"].shape
        self.norm = nn.LayerNorm(self.inputs) if "norm.weight" in weights else nn.Identity()
        self.linear = nn.Linear(self.inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.norm(x))
        return out


class VitEncoder(SpectrogramEncoder):
    """``frames``: of each column of patches in time, the mean over frequency, without the class
    token. (M2D's own code joins the patches of a column, 5 × 768 wide.)

    ``embedding``: one frame a window, the mean of all tokens; for EAT the class token.
    ``probabilities``: one frame a window, the sigmoid of the classifier's logits.

    A window is padded as its model's own code does, alone and in a batch; tokens of a batch's
    padding are not attended to. A clip shorter than a patch of CED's or Dasheng's, which their code
    cannot take, is padded with silence to one.
    """

    scale: Tensor  # (M,) of the normalisation
    shift: Tensor  # (M,)

    def __init__(self, settings: VitEncoderConfig, published: Published) -> None:
        super().__init__()
        self.kind = KINDS[settings.model]
        self.sizes, self.sample_rate = published.sizes, published.sample_rate
        self.longest = round(published.seconds * self.sample_rate)  # samples of a window
        if settings.window_seconds * self.sample_rate > self.longest + 0.5:
            raise EarwitnessError(
                f"{settings.model}: window_seconds is at most {published.seconds:g} with these"
                " weights"
            )
        self.batch_seconds = settings.batch_seconds
        self.mel = self.kind.front_end(self.sample_rate)
        self.register_buffer("scale", published.scale.clone(), persistent=False)
        self.register_buffer("shift", published.shift.clone(), persistent=False)
        with torch.device("meta"):
            self.network = Vit(self.sizes)
            self.head = VitHead(published.head) if published.head else None
        self.network.load_state_dict(published.state, assign=True)
        if self.head is not None:
            self.head.load_state_dict(published.head, assign=True)
        self.frames_per_patch = self.sizes.patch[1]
        self.pooled = settings.output != "frames"
        self.width = self.sizes.width
        self.frame_seconds = self.frames_per_patch * self.mel.hop / self.sample_rate
        if self.pooled:
            self.frame_seconds = settings.window_seconds
        if self.head is not None:
            self.width = self.head.linear.out_features

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        if waveform.shape[1] > self.longest:
            raise EarwitnessError(
                f"a window of {waveform.shape[1]} samples is longer than the model's"
                f" {self.longest}; cut clips into windows first"
            )
        if self.kind.padding == "cut":
            patch = (self.frames_per_patch - 1) * self.mel.hop  # samples
            waveform, lengths = at_least(waveform, lengths, patch)
        frames: Padded = self.mel(waveform.float(), lengths)
        return frames

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        at_once = len(logmel)
        if self.kind.padding == "longest":  # however short they are, so few go through at once
            at_once = max(1, int(self.batch_seconds * self.sample_rate / self.longest))
        pairs = zip(logmel.split(at_once), lengths.split(at_once), strict=True)
        values, counts = zip(*(self._encode(*pair) for pair in pairs), strict=True)
        return Padded(torch.cat(values), torch.cat(counts))

    def _encode(self, logmel: Tensor, lengths: Tensor) -> Padded:
        values, attended, columns = self._patches(logmel, lengths)
        tokens = self.network(values, attended)
        if not self.pooled:
            return Padded(tokens.grid.mean(1), columns)
        pooled = self._pooled(tokens, columns)
        if self.head is not None:
            with torch.autocast(pooled.device.type, enabled=False):
                pooled = self.head(pooled.float()).sigmoid()
        return Padded(pooled[:, None], torch.ones_like(columns))

    def _patches(self, logmel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised frames of whole patches (B, T, M), and two (B,) counts of columns: those
        that are attended to, and those with sound in them.
        """
        most, size = self.sizes.columns, self.frames_per_patch
        if self.kind.padding == "longest":
            values = F.pad(logmel, (0, 0, 0, max(0, most * size - logmel.shape[1])))
            values = values[:, : most * size] * self.scale + self.shift
            columns = (-(lengths // -size)).clamp(max=most)
            return values, torch.full_like(columns, most), columns
        values = logmel * self.scale + self.shift
        values = values * Padded(values, lengths).mask[..., None]
        if self.kind.padding == "patch":
            columns = (-(lengths // -size)).clamp(max=most)
            values = F.pad(values, (0, 0, 0, -values.shape[1] % size))
        else:
            columns = (lengths // size).clamp(max=most)
        widest = min(most, values.shape[1] // size)
        return values[:, : widest * size], columns, columns

    def _pooled(self, tokens: VitTokens, columns: Tensor) -> Tensor:
        """(B, D), or (B, F × D) for a classifier of M2D's that reads each row of patches."""
        if self.kind.pooling == "class" and tokens.class_token is not None:
            return tokens.class_token
        count = tokens.grid.shape[2]
        valid = torch.arange(count, device=columns.device) < columns[:, None]
        rows = (tokens.grid * valid[:, None, :, None]).sum(2) / columns[:, None, None]  # (B, F, D)
        joined = self.head is not None and self.head.inputs != self.sizes.width
        return rows.flatten(1) if joined else rows.mean(1)


def build(settings: VitEncoderConfig, location: Path) -> VitEncoder:
    """The encoder with the weights of a published checkpoint."""
    wanted = settings.output == "probabilities"
    return VitEncoder(
        settings, read_checkpoint(settings.model, location, settings.heads, head=wanted)
    )
