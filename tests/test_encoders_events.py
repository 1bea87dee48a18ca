"""Sound-event vectors against the taggers that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_sounds import sound
from panns_networks import randomise, save_checkpoint
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from pipeline.config.encoders import EncoderConfig, EventsEncoderConfig
from pipeline.config.params import parse_params
from pipeline.encoders.conv_blocks import panns_models
from pipeline.encoders.registry import build_sound_encoder, tagging_model, weights_digest
from pipeline.encoders.tagging import save_tagging
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

FRONT = {"sample_rate": 16000, "n_fft": 512, "mels": 32, "fmax": 8000}
TRUNKS: dict[str, dict[str, Any]] = {
    "panns": {"module": "panns", "model": "cnn10", "channels": 4, **FRONT},
    "vggish": {"module": "vggish", "channels": 2, "hidden": 16, "width": 8},
    "convnext": {"module": "convnext", "depths": (1, 1), "widths": (8, 8), **FRONT},
}
EVENTS = EventsEncoderConfig(module="events", weights="tagging:tagged")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def tagged(folder: Path, trunk: str) -> tuple[Any, Path]:
    """A tagging model with random weights in its head, and its file."""
    settings = TypeAdapter(EncoderConfig).validate_python({**TRUNKS[trunk], "weights": "tagging"})
    model = tagging_model(settings, classes=5).eval()
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.add_(torch.randn_like(weight))
    save_tagging(model, folder / "model.safetensors", settings, list("abcde"))
    return model, folder / "model.safetensors"


@pytest.mark.parametrize("trunk", TRUNKS)
@torch.inference_mode()
def test_a_frames_events_are_the_taggers_of_that_frame_alone(tmp_path: Path, trunk: str) -> None:
    """What the whole tagger answers where its trunk gives one frame, as a probability."""
    model, path = tagged(tmp_path, trunk)
    events = build_sound_encoder(EVENTS, path)
    waveform, lengths = sound(40000, 26000)
    values, frames = events(waveform, lengths)
    encoded = model.encoder(waveform, lengths)
    assert torch.equal(frames, encoded.lengths) and values.shape == (2, encoded.values.shape[1], 5)
    assert (events.width, events.frame_seconds) == (5, model.encoder.frame_seconds)
    for row in range(2):
        for frame in range(int(frames[row])):
            one = Padded(encoded.values[row : row + 1, frame : frame + 1], torch.tensor([1]))
            model.trunk = lambda *_, one=one: one
            logits = model.classify(waveform, lengths)
            torch.testing.assert_close(values[row, frame], torch.sigmoid(logits[0]))
    assert weights_digest(EVENTS, path) == weights_digest(EVENTS, path)


@torch.inference_mode()
def test_panns_events_are_its_segmentwise_output(tmp_path: Path) -> None:
    network = panns_models().Cnn14_DecisionLevelMax(32000, 1024, 320, 64, 50, 14000, 7)
    network = randomise(network)
    path = save_checkpoint(network, tmp_path / "Cnn14_DecisionLevelMax.pth")
    events = build_sound_encoder(EventsEncoderConfig(module="events", weights=str(path)), None)
    waveform, lengths = sound(64000, 40000)
    values, frames = events(waveform, lengths)
    assert events.width == 7 and events.frame_seconds == pytest.approx(0.32)
    for row, length in enumerate(lengths.tolist()):
        reference = network(waveform[row : row + 1, :length])
        count = int(frames[row])
        # its framewise_output is nearest-interpolated 32-fold
        segments = reference["framewise_output"][0, : count * 32 : 32]
        torch.testing.assert_close(values[row, :count], segments, atol=1e-5, rtol=1e-4)
        peak = reference["clipwise_output"][0]
        torch.testing.assert_close(values[row, :count].amax(0), peak, atol=1e-5, rtol=1e-4)


def test_weights_without_a_head_or_with_another_are_refused(tmp_path: Path) -> None:
    _, path = tagged(tmp_path, "panns")
    state = load_file(path)
    save_file({k: v for k, v in state.items() if not k.startswith("head.")}, path)
    with pytest.raises(EarwitnessError, match="no tagger's head"):
        build_sound_encoder(EVENTS, path)
    with pytest.raises(EarwitnessError, match="Cnn14_DecisionLevelMax"):
        build_sound_encoder(EventsEncoderConfig(module="events", weights=str(path)), None)
    with pytest.raises(EarwitnessError, match="no trained weights"):
        build_sound_encoder(EVENTS, tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            {"module": "events", "weights": "tagging:pans"},
            "encoders.e.weights: 'pans' is not in tagging.encoders; did you mean 'panns'?",
        ),
        ({"module": "panns", "weights": "tagging:panns"}, "is for encoders of module events"),
    ],
)
def test_a_tagger_that_is_not_trained_is_refused(encoder: dict[str, Any], message: str) -> None:
    values = {
        "datasets": {"d": {"layout": "soundscapes"}},
        "encoders": {"panns": {"module": "panns", "weights": "tagging"}, "e": encoder},
        "tagging": {"dataset": "d", "encoders": ["panns"]},
    }
    with pytest.raises(EarwitnessError) as caught:
        parse_params(values)
    assert message in str(caught.value)
