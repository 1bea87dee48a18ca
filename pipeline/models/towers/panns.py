"""PANNs' CNN14 and CNN10 over a stored log-mel, trained (SJTU 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.encoders import LogmelEncoderConfig, PannsEncoderConfig
from pipeline.config.retrievers import PannsTowerConfig
from pipeline.encoders import checkpoints, panns
from pipeline.encoders.base import peak_and_mean
from pipeline.encoders.cnn import frequency_mean
from pipeline.encoders.spectrogram import FLOOR_DB, front_end
from pipeline.encoders.wavegram import WavegramEncoder
from pipeline.errors import EarwitnessError
from pipeline.models.towers.base import SoundTower, TowerOutput
from pipeline.tensors import Padded

READS = "logmel"


class PannsPooling(SoundTower):
    """A tower whose embedding is pooled as in PANNs.

    In training, batch norms count valid frames alone; see encoders/conv_blocks.py.
    """

    def __init__(self, encoder: panns.PannsEncoder | WavegramEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.width = self.embedding_width = encoder.width
        self.fc1 = nn.Linear(encoder.width, encoder.width)
        nn.init.xavier_uniform_(self.fc1.weight)  # as PANNs
        nn.init.zeros_(self.fc1.bias)

    def pooled(self, frames: Padded) -> Tensor:
        """The maximum plus the mean of a clip's frames, through PANNs' ``fc1``."""
        pooled = F.dropout(peak_and_mean(frames), p=0.5, training=self.training)
        return F.dropout(F.relu(self.fc1(pooled)), p=0.5, training=self.training)

    def load(
        self, settings: PannsEncoderConfig, location: Path, *, any_front_end: bool = False
    ) -> None:
        """Loads PANNs' published weights, SJTU's, or the tagging stage's.

        The tagging stage trains no ``fc1``, which stays random then.

        Raises:
            EarwitnessError: the weights are not this tower's.
        """
        logmel = None if any_front_end else self.encoder.logmel
        state = checkpoints.load_trained(
            self.encoder, logmel, settings, location, panns.UNUSED, prefixes=panns.PREFIXES
        )
        if settings.weights.kind != "tagging":
            pooling = {name: value for name, value in state.items() if name.startswith("fc1.")}
            checkpoints.load_state(nn.ModuleDict({"fc1": self.fc1}), pooling, location)


class CnnTower(PannsPooling):
    """Frames of :class:`pipeline.encoders.panns.PannsEncoder`, every 32 or 16 stored frames."""

    encoder: panns.PannsEncoder

    def __init__(self, settings: PannsEncoderConfig) -> None:
        super().__init__(panns.PannsEncoder(settings))
        self.reduction = self.encoder.reduction

    def forward(self, stored: Sequence[Padded]) -> TowerOutput:
        (logmel,) = stored
        frames = frequency_mean(*self.maps(logmel))
        return TowerOutput(frames, self.pooled(frames))

    def maps(self, stored: Padded) -> tuple[Tensor, Tensor]:
        """(B, T, M) → (B, D, T', M'), before the mean over frequency, and (B,) valid frames."""
        shortest = self.encoder.reduction
        values = stored.values.float().masked_fill(~stored.mask[..., None], FLOOR_DB)
        values = F.pad(values, (0, 0, 0, max(0, shortest - values.shape[1])), value=FLOOR_DB)
        return self.encoder.maps(values, stored.lengths.clamp(min=shortest))


def build(
    settings: PannsTowerConfig,
    input: LogmelEncoderConfig,
    location: Path | None,
    widths: Sequence[int],
) -> CnnTower:
    """The tower; see :func:`pipeline.models.towers.registry.build_sound_tower`."""
    network = PannsEncoderConfig(
        **settings.model_dump(include={"module", "model", "channels", "weights"}),
        **front_end(input),
    )
    tower = CnnTower(network)
    if location is not None:
        if input.win_length not in (None, input.n_fft) and not settings.any_front_end:
            raise EarwitnessError(
                f"{location}: trained with a window of n_fft {input.n_fft}, not of win_length "
                f"{input.win_length}; set it to null, or the tower's any_front_end: true"
            )
        tower.load(network, location, any_front_end=settings.any_front_end)
    return tower
