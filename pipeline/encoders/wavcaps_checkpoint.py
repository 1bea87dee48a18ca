"""The one file of WavCaps' retrieval code (Mei et al. 2023): a sound side and a text side.

It is what retrieval/pretrain.py and train.py of XinhaoMei/WavCaps save: ``model`` holds the tensors
of ``ASE`` (models/ase_model.py), beside the settings and the optimizer's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from pipeline.encoders import checkpoints
from pipeline.errors import EarwitnessError

AUDIO = "audio_encoder.audio_enc."  # of the names of the sound side's network
# of training alone: the temperature, and the momentum encoders and queues of older versions
TRAINING = (
    "temp",
    *("audio_encoder_m.", "audio_proj_m.", "text_encoder_m.", "text_proj_m."),
    *("audio_queue", "text_queue"),
)


class Projection(nn.Sequential):
    """A side's last layers: two linear ones, a ReLU between."""

    def __init__(self, before: int, inner: int, after: int) -> None:
        super().__init__(nn.Linear(before, inner), nn.ReLU(), nn.Linear(inner, after))
        self.width = after


class Checkpoint(NamedTuple):
    """The tensors under the file's own names."""

    state: Mapping[str, Tensor]
    source: Path

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor that says how large the model is.

        Raises:
            EarwitnessError: the file has no such tensor.
        """
        if name not in self.state:
            raise self.lacks(name)
        return tuple(self.state[name].shape)

    def lacks(self, name: str) -> EarwitnessError:
        """That the file has no such tensor."""
        return EarwitnessError(
            f"{self.source}: {name} is missing; give a .pt of WavCaps' retrieval code, with"
            " CNN14 or HTSAT and BERT"
        )

    def projection(self, name: str, before: int) -> Projection:
        """Of the width that the file has, still without its weights."""
        inner, after = (self.shape(f"{name}.{layer}.weight")[0] for layer in (0, 2))
        return Projection(before, inner, after)

    def layers(self, stem: str) -> int:
        """How many there are whose names are ``stem``, a number and more."""
        found = {n.removeprefix(stem).split(".")[0] for n in self.state if n.startswith(stem)}
        return len(found)

    def without(self, prefix: str) -> dict[str, Tensor]:
        """The tensors, less ``prefix`` where a name begins with it."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.state.items()}

    def load(self, side: nn.Module, state: Mapping[str, Tensor], unused: Sequence[str]) -> None:
        """Gives one side its tensors.

        Args:
            state: all of the file's, under that side's names.
            unused: beginnings of names that this side has no use for.

        Raises:
            EarwitnessError: naming the first tensor that is missing, left over or of another shape.
        """
        checkpoints.load_state(side, state, self.source, (*unused, *TRAINING))


def read_checkpoint(location: Path) -> Checkpoint:
    """The file at ``location``; nothing of it is unpickled but tensors and plain values.

    Raises:
        EarwitnessError: it holds other objects.
    """
    return Checkpoint(checkpoints.read_state(location), location)
