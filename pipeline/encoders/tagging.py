"""A sound encoder's trunk, untrained, with a clip-level head: what the tagging stage trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.config.encoders import EncoderConfig
from pipeline.encoders.base import SpectrogramEncoder, peak_and_mean
from pipeline.encoders.checkpoints import HEAD
from pipeline.files import replacing, write_json
from pipeline.tensors import Padded


class TaggingModel(nn.Module):
    """Logits of C events from a clip.

    Pooling is PANNs', maximum plus mean over the valid frames, so that frames learn the events.
    """

    def __init__(self, encoder: SpectrogramEncoder, classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.LayerNorm(encoder.width), nn.Dropout(dropout), nn.Linear(encoder.width, classes)
        )

    def frontend(self, waveform: Tensor, lengths: Tensor) -> Padded:
        """(B, samples), (B,) → (B, T, M) log-mel; without parameters, so it is computed once."""
        return self.encoder.frontend(waveform, lengths)

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        """(B, T, M), (B,) → (B, T', D) frames."""
        return self.encoder.trunk(logmel, lengths)

    def classify(self, logmel: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, M) log-mel of :meth:`frontend`, (B,) valid frames → (B, C) logits."""
        logits: Tensor = self.head(peak_and_mean(self.trunk(logmel, lengths)))
        return logits

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """(B, samples) float32, (B,) int64 → (B, C) logits."""
        return self.classify(*self.frontend(waveform, lengths))


def save_tagging(
    model: TaggingModel, path: Path, settings: EncoderConfig, classes: Sequence[str]
) -> None:
    """Writes ``path`` (safetensors) and, beside it, a JSON of the settings and the classes.

    ``build_sound_encoder`` with ``weights: tagging`` reads both back.
    """
    state = {name: value.contiguous() for name, value in model.encoder.state_dict().items()}
    state |= {f"{HEAD}{name}": value for name, value in model.head.state_dict().items()}
    about = {"encoder": settings.model_dump(mode="json"), "classes": list(classes)}
    write_json(path.with_suffix(".json"), about)
    with replacing(path) as temporary:
        save_file({name: value.detach().cpu() for name, value in state.items()}, temporary)
