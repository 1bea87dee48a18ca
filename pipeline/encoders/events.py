"""Sound-event vectors: a tagger's probabilities at each time step (CMU 7; Eren & Sert 2021).

The tagger is PANNs' Cnn14_DecisionLevelMax, as in CMU, or any encoder that the tagging stage
trained (``weights: tagging:ENCODER``).
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
from pipeline.download import Checksum
from pipeline.encoders import checkpoints
from pipeline.encoders.base import Masks, SoundEncoder, SpectrogramEncoder
from pipeline.encoders.conv_blocks import zero_past
from pipeline.encoders.labels import check_labels
from pipeline.encoders.panns import ZENODO, PannsEncoder
from pipeline.encoders.sources import Hub, HubFile
from pipeline.encoders.tagging import TaggingModel
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

_NAME = "Cnn14_DecisionLevelMax_mAP%3D0.385.pth"  # 327,428,481 bytes
# the server was seen to give other bytes under this address (513,950,654 of them)
_SHA256 = "dd3b4043a87d4ec13df8082c0fcfee3fb5084151808e47e060987a95eabdd142"
HUB = Hub(file=HubFile(f"{ZENODO}{_NAME}?download=1", Checksum("sha256", _SHA256)))
SPAN = 3  # frames that PANNs' decision level pools together
UNUSED = ("spectrogram_extractor.", "logmel_extractor.")


class Trained(Section):
    """The JSON that the tagging stage writes beside its weights."""

    encoder: EncoderConfig


class EventsEncoder(SoundEncoder):
    """The probability of each of C events in each frame of the tagger's encoder."""

    augments = True

    def __init__(self, encoder: SpectrogramEncoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, classes
        self.sample_rate, self.frame_seconds = encoder.sample_rate, encoder.frame_seconds

    @abstractmethod
    def logits(self, frames: Padded) -> Tensor:
        """(B, T, D) frames → (B, T, C)."""

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        frames = self.encoder(waveform, lengths, masks)
        return Padded(self.logits(frames).float().sigmoid(), frames.lengths)


class TaggedEvents(EventsEncoder):
    """The tagging stage's model, applied to each frame as if it were a whole clip."""

    def __init__(self, model: TaggingModel, classes: int) -> None:
        super().__init__(model.encoder, classes)
        self.head = model.head

    def logits(self, frames: Padded) -> Tensor:
        out: Tensor = self.head(2 * frames.values)  # one frame is both the mean and the maximum
        return out


class PannsEvents(EventsEncoder):
    """Cnn14_DecisionLevelMax's ``segmentwise_output``, every 0.32 s (Kong et al. 2020)."""

    def __init__(self, settings: PannsEncoderConfig, classes: int) -> None:
        encoder = PannsEncoder(settings)
        super().__init__(encoder, classes)
        self.fc1 = nn.Linear(encoder.width, encoder.width)
        self.fc_audioset = nn.Linear(encoder.width, classes)

    def logits(self, frames: Padded) -> Tensor:
        # frames are means of ReLUs, so zeros past a clip's end act as the pools' padding
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
    encoder = _built(settings, location, trunk)
    check_labels(settings.labels, encoder.width, location)
    return encoder


def _built(
    settings: EventsEncoderConfig,
    location: Path,
    trunk: Callable[[EncoderConfig], SpectrogramEncoder],
) -> EventsEncoder:
    state = checkpoints.read_state(location)
    if settings.weights.kind == "tagging":
        return _tagged(state, location, trunk)
    if "fc_audioset.bias" not in state:
        raise EarwitnessError(
            f"{location}: not PANNs' Cnn14_DecisionLevelMax; give that, or tagging:ENCODER"
        )
    encoder = PannsEvents(PannsEncoderConfig(module="panns"), len(state["fc_audioset.bias"]))
    checkpoints.check_filters(state.get("logmel_extractor.melW"), encoder.encoder.logmel, location)
    head = {name: state[name] for name in state if name.startswith(("fc1.", "fc_audioset."))}
    rest = {name: state[name] for name in state if name not in head}
    checkpoints.load_state(encoder.encoder, rest, location, UNUSED)
    layers = nn.ModuleDict({"fc1": encoder.fc1, "fc_audioset": encoder.fc_audioset})
    checkpoints.load_state(layers, head, location)
    return encoder


def _tagged(
    state: Mapping[str, Tensor],
    location: Path,
    trunk: Callable[[EncoderConfig], SpectrogramEncoder],
) -> TaggedEvents:
    """The trunk and the head that the tagging stage trained, by its settings."""
    about = {"encoder": checkpoints.trained_settings(location)}
    settings = parse_section(Trained, about, str(location.with_suffix(".json"))).encoder
    named = [name for name in state if name.startswith(checkpoints.HEAD)]
    head = {name.removeprefix(checkpoints.HEAD): state[name] for name in named}
    if "2.bias" not in head:
        raise EarwitnessError(f"{location}: holds no tagger's head; run `dvc repro -f tagging`")
    classes = len(head["2.bias"])
    model = TaggingModel(trunk(settings), classes)
    checkpoints.load_state(model.encoder, state, location, (checkpoints.HEAD,))
    checkpoints.load_state(model.head, head, location)
    return TaggedEvents(model, classes)
