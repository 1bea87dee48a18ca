"""The one file of WavCaps' retrieval code (Mei et al. 2023): a sound side and a text side.

retrieval/pretrain.py and train.py of XinhaoMei/WavCaps save it: ``model`` holds the tensors of
``ASE`` (models/ase_model.py), beside the settings and the optimizer's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from pipeline.encoders import checkpoints
from pipeline.errors import EarwitnessError

AUDIO = "audio_encoder.audio_enc."  # begins the names of the sound network's tensors
# only for training: the temperature, and older versions' momentum encoders and queues
TRAINING = (
    "temp",
    *("audio_encoder_m.", "audio_proj_m.", "text_encoder_m.", "text_proj_m."),
    *("audio_queue", "text_queue"),
)


class Projection(nn.Sequential):
    """A side's last layers: linear, ReLU, linear."""

    def __init__(self, before: int, inner: int, after: int) -> None:
        super().__init__(nn.Linear(before, inner), nn.ReLU(), nn.Linear(inner, after))
        self.width = after


class Checkpoint(NamedTuple):
    """The tensors, under the file's names."""

    state: Mapping[str, Tensor]
    source: Path

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, which determines a size of the model.

        Raises:
            EarwitnessError: the file has no such tensor.
        """
        if name not in self.state:
            raise self.lacks(name)
        return tuple(self.state[name].shape)

    def lacks(self, name: str) -> EarwitnessError:
        """The error that the file has no such tensor."""
        return EarwitnessError(
            f"{self.source}: {name} is missing; give a .pt of WavCaps' retrieval code, with"
            " CNN14 or HTSAT and BERT"
        )

    def projection(self, name: str, before: int) -> Projection:
        """With the file's sizes; the weights are loaded later."""
        inner, after = (self.shape(f"{name}.{layer}.weight")[0] for layer in (0, 2))
        return Projection(before, inner, after)

    def without(self, prefix: str) -> dict[str, Tensor]:
        """The tensors, with ``prefix`` removed from their names."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.state.items()}

    def load(self, side: nn.Module, state: Mapping[str, Tensor], unused: Sequence[str]) -> None:
        """Loads one side's tensors.

        Args:
            state: all tensors of the file, under that side's names.
            unused: prefixes of names that this side lacks.

        Raises:
            EarwitnessError: a tensor is missing, unknown or of another shape; it is named.
        """
        checkpoints.load_state(side, state, self.source, (*unused, *TRAINING))


def read_checkpoint(location: Path) -> Checkpoint:
    """The file at ``location``; only tensors and plain values are unpickled.

    Raises:
        EarwitnessError: it holds other objects.
    """
    return Checkpoint(checkpoints.read_state(location), location)
