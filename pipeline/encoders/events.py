"""Sound-event vectors: what a tagger hears at each time step (CMU 7; Eren & Sert 2021).

The tagger is PANNs' Cnn14_DecisionLevelMax, which CMU took, or an encoder of any kind that the
tagging stage trained (``weights: tagging:ENCODER``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.encoders import (
    EncoderConfig,
    EventsEncoderConfig,
    PannsEncoderConfig,
)
from pipeline.config.section import Section, parse_section
from pipeline.encoders import checkpoints
from pipeline.encoders.base import Masks, SoundEncoder, SpectrogramEncoder
from pipeline.encoders.conv_blocks import zero_past
from pipeline.encoders.panns import PannsEncoder
from pipeline.encoders.sources import Hub
from pipeline.encoders.tagging import TaggingModel
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

HUB = Hub(
    url="https://zenodo.org/record/3987831/files/Cnn14_DecisionLevelMax_mAP%3D0.385.pth?download=1"
)
SPAN = 3  # frames that PANNs' decision level pools together
UNUSED = ("spectrogram_extractor.", "logmel_extractor.")


class Trained(Section):
    """What the tagging stage wrote beside its weights."""

    encoder: EncoderConfig


class EventsEncoder(SoundEncoder):
    """The probability of each of C events in each frame of the encoder that was tagged."""

    augments = True

    def __init__(self, encoder: SpectrogramEncoder, classes: int) -> None:
        super().__init__()
        self.width = classes
        self.sample_rate, self.frame_seconds = encoder.sample_rate, encoder.frame_seconds

    @abstractmethod
    def frames(self, waveform: Tensor, lengths: Tensor, masks: Masks | None) -> Padded:
        """(B, T, D) of the encoder; see :meth:`SoundEncoder.forward`."""

    @abstractmethod
    def logits(self, frames: Padded) -> Tensor:
        """(B, T, D) frames → (B, T, C)."""

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        frames = self.frames(waveform, lengths, masks)
        return Padded(self.logits(frames).float().sigmoid(), frames.lengths)


class TaggedEvents(EventsEncoder):
    """Of the tagging stage: what its model says of a clip that is this one frame."""

    def __init__(self, model: TaggingModel, classes: int) -> None:
        super().__init__(model.encoder, classes)
        self.model = model

    def frames(self, waveform: Tensor, lengths: Tensor, masks: Masks | None) -> Padded:
        out: Padded = self.model.encoder(waveform, lengths, masks)
        return out

    def logits(self, frames: Padded) -> Tensor:
        out: Tensor = self.model.head(2 * frames.values)  # of one frame both mean and maximum
        return out


class PannsEvents(EventsEncoder):
    """Of Cnn14_DecisionLevelMax: its ``segmentwise_output``, every 0.32 s (Kong et al. 2020)."""

    def __init__(self, settings: PannsEncoderConfig, classes: int) -> None:
        encoder = PannsEncoder(settings)
        super().__init__(encoder, classes)
        self.encoder = encoder
        self.fc1 = nn.Linear(encoder.width, encoder.width)
        self.fc_audioset = nn.Linear(encoder.width, classes)

    def frames(self, waveform: Tensor, lengths: Tensor, masks: Masks | None) -> Padded:
        out: Padded = self.encoder(waveform, lengths, masks)
        return out

    def logits(self, frames: Padded) -> Tensor:
        # frames are means of ReLUs: zeros past a clip's end are the pools' own padding
        values = zero_past(frames.values.transpose(1, 2), frames.lengths)
        near = SPAN, 1, SPAN // 2  # kernel, stride and padding
        values = F.max_pool1d(values, *near) + F.avg_pool1d(values, *near)
        out: Tensor = self.fc_audioset(F.relu(self.fc1(values.transpose(1, 2))))
        return out


def build(
    settings: EventsEncoderConfig,
    location: Path,
    trunk: Callable[[EncoderConfig], SpectrogramEncoder],
) -> EventsEncoder:
    """The encoder with its tagger's weights.

    Args:
        trunk: the untrained network of an encoder that the tagging stage can train.

    Raises:
        EarwitnessError: the weights are not a tagger's.
    """
    state = checkpoints.read_state(location)
    if settings.weights.kind == "tagging":
        return _tagged(state, location, trunk)
    if "fc_audioset.bias" not in state:
        raise EarwitnessError(
            f"{location}: not PANNs' Cnn14_DecisionLevelMax; give that, or tagging:ENCODER"
        )
    encoder = PannsEvents(PannsEncoderConfig(module="panns"), len(state["fc_audioset.bias"]))
    checkpoints.check_filters(state.get("logmel_extractor.melW"), encoder.encoder.logmel, location)
    heads = {k: v for k, v in state.items() if k.startswith(("fc1.", "fc_audioset."))}
    rest = {k: v for k, v in state.items() if k not in heads}
    checkpoints.load_state(encoder.encoder, rest, location, UNUSED)
    checkpoints.load_state(encoder, {**heads, **_named(encoder.encoder)}, location)
    return encoder


def _named(encoder: nn.Module) -> dict[str, Tensor]:
    return {f"encoder.{name}": value for name, value in encoder.state_dict().items()}


def _tagged(
    state: Mapping[str, Tensor],
    location: Path,
    trunk: Callable[[EncoderConfig], SpectrogramEncoder],
) -> TaggedEvents:
    """What the tagging stage wrote: the trunk, as its settings beside it say, and the head."""
    about = {"encoder": checkpoints.trained_settings(location)}
    settings = parse_section(Trained, about, str(location.with_suffix(".json"))).encoder
    named = [name for name in state if name.startswith(checkpoints.HEAD)]
    head = {name.removeprefix(checkpoints.HEAD): state[name] for name in named}
    if "2.bias" not in head:
        raise EarwitnessError(f"{location}: has no tagger's head; run `dvc repro -f tagging`")
    classes = len(head["2.bias"])
    model = TaggingModel(trunk(settings), classes)
    checkpoints.load_state(model.encoder, state, location, (checkpoints.HEAD,))
    checkpoints.load_state(model.head, head, location)
    return TaggedEvents(model, classes)
