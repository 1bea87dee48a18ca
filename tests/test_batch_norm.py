"""Batch statistics of valid frames, and the gradients of every CNN that is trained with them.

The reference is torch's own batch norm in float64 over the valid frames, packed without padding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.crnn import CrnnConfig
from pipeline.config.encoders import ConvNextEncoderConfig, PannsEncoderConfig, VggishEncoderConfig
from pipeline.encoders import cnn, conv_blocks, convnext, vggish, wavegram
from pipeline.encoders.conv_blocks import masked_norm
from pipeline.encoders.registry import tagging_model
from pipeline.encoders.wavegram import WavegramEncoder
from pipeline.models.layers import crnn
from pipeline.models.layers.crnn import Crnn
from pipeline.tensors import Padded

FRONT_END = {"sample_rate": 16000, "n_fft": 512, "hop": 320, "mels": 32, "fmax": 8000.0}
FRAMES = torch.tensor([500, 260, 400, 480])
SAMPLES = 16000 * torch.tensor([6, 4, 5, 6])


def packed_norm(norm: Any, values: Tensor, lengths: Tensor) -> Tensor:
    """(B, C, T) or (B, C, T, M): ``F.batch_norm`` of the valid frames, in float64."""
    valid = torch.arange(values.shape[2]) < lengths[:, None]
    frames = values.transpose(1, 2)
    weight, bias = norm.weight.double(), norm.bias.double()
    normed = F.batch_norm(frames[valid].double(), None, None, weight, bias, True, eps=norm.eps)
    found = torch.zeros_like(frames, dtype=torch.float64)
    found[valid] = normed
    return found.transpose(1, 2)


@pytest.mark.parametrize("bands", [None, 5])
def test_batch_norm_in_training_counts_valid_frames_alone(bands: int | None) -> None:
    """Against a BatchNorm1d of the valid frames concatenated: values, gradients, statistics."""
    torch.manual_seed(0)
    lengths = torch.tensor([7, 3, 5])
    shape = (3, 4, 7) if bands is None else (3, 4, 7, bands)
    values = (50 * torch.randn(shape) - 20).requires_grad_()
    ours = nn.BatchNorm1d(4) if bands is None else nn.BatchNorm2d(4)
    theirs = nn.BatchNorm1d(4)
    for norm in (ours, theirs):
        nn.init.constant_(norm.weight, 1.7)
        nn.init.constant_(norm.bias, 0.3)
    valid = torch.arange(7) < lengths[:, None]
    packed = values.transpose(1, 2)[valid]  # (frames, C) or (frames, C, bands)
    if bands is not None:
        packed = packed.transpose(1, 2).reshape(-1, 4)
    expected = theirs(packed)
    found = masked_norm(ours, values, lengths).transpose(1, 2)[valid]
    if bands is not None:
        found = found.transpose(1, 2).reshape(-1, 4)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    weigh = torch.randn(expected.shape)
    (theirs_grad,) = torch.autograd.grad((expected * weigh).sum(), values, retain_graph=True)
    (ours_grad,) = torch.autograd.grad((found * weigh).sum(), values)
    torch.testing.assert_close(ours_grad, theirs_grad, atol=1e-5, rtol=1e-4)


def test_a_variance_keeps_its_digits_beside_a_large_mean() -> None:
    """As a log-mel's, in dB: at E[x²] - E[x]² float32 has nothing left of them."""
    torch.manual_seed(0)
    values = torch.randn(8, 4, 1500, 32) * torch.tensor([0.1, 1, 5, 20]).view(1, 4, 1, 1) - 60
    lengths = torch.tensor([1500, 900, 1200, 1500, 1, 750, 1499, 1000])
    norm = nn.BatchNorm2d(4, momentum=1.0)
    masked_norm(norm, values, lengths)
    valid = torch.arange(1500) < lengths[:, None]
    expected = values.double().transpose(1, 2)[valid].transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(norm.running_var.double(), expected, rtol=2e-6, atol=0)


def logmel(frames: Tensor, width: int) -> Padded:
    """(B, T, width) like a log-mel in dB: a mean for each band far from zero, zero past clips."""
    level = torch.linspace(-30, -70, width)
    values = level + 6 * torch.randn(len(frames), int(frames.max()), width)
    valid = torch.arange(values.shape[1]) < frames[:, None]
    return Padded(values * valid[..., None], frames)


def tagged(settings: Any) -> nn.Module:
    """The encoder that the tagging stage trains; its CNN10 is the towers' and RLSSR's too."""
    return tagging_model(settings, classes=5).encoder


def panns_maps(network: Any, dtype: torch.dtype) -> Tensor:
    sound = logmel(FRAMES, 32)
    return network.maps(sound.values.to(dtype), sound.lengths)[0]


def vggish_frames(network: Any, dtype: torch.dtype) -> Tensor:
    sound = logmel(FRAMES, 64)
    return network.trunk(sound.values.to(dtype) / 10, 96 * (sound.lengths // 96)).values


def wavegram_frames(network: Any, dtype: torch.dtype) -> Tensor:
    waveform = 0.1 * torch.randn(len(SAMPLES), int(SAMPLES.max()))
    waveform *= torch.arange(waveform.shape[1]) < SAMPLES[:, None]
    return network(waveform.to(dtype), SAMPLES).values


def convnext_frames(network: Any, dtype: torch.dtype) -> Tensor:
    sound = logmel(FRAMES, 32)
    return network.trunk(sound.values.to(dtype), sound.lengths).values


def crnn_frames(network: Any, dtype: torch.dtype) -> Tensor:
    sound = logmel(FRAMES.repeat(8), 64)  # its norms lose most where the batch is large
    return network(Padded(sound.values.to(dtype), sound.lengths)).values


PANNS = PannsEncoderConfig(
    module="panns", model="cnn10", channels=4, weights="tagging", **FRONT_END
)
WAVEGRAM = PannsEncoderConfig(
    module="panns", model="wavegram_logmel_cnn14", channels=4, weights="tagging", **FRONT_END
)
CONVNEXT = ConvNextEncoderConfig(
    module="convnext", depths=(1, 1, 1), widths=(8, 12, 16), weights="tagging", **FRONT_END
)
VGGISH = VggishEncoderConfig(
    module="vggish", channels=4, hidden=16, width=8, weights="tagging", normalise=True
)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, torch.dtype], Tensor]]] = {
    "CNN10 of tagging, towers and RLSSR": (lambda: tagged(PANNS), panns_maps),
    "Wavegram": (lambda: WavegramEncoder(WAVEGRAM), wavegram_frames),
    "ConvNeXt": (lambda: tagged(CONVNEXT), convnext_frames),
    "VGGish": (lambda: tagged(VGGISH), vggish_frames),
    "CRNN": (lambda: Crnn(64, [], CrnnConfig(channels=(4, 6, 6, 8, 8), width=6)), crnn_frames),
}


def gradients(network: nn.Module, frames: Callable[[Any, torch.dtype], Tensor]) -> Tensor:
    """Of a weighted sum of its frames, by all of its weights, with one seed: one flat vector."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    torch.manual_seed(7)
    found = frames(network, parameters[0].dtype)
    torch.manual_seed(8)
    loss = (found * torch.randn(found.shape)).sum()
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([each.flatten().double() for each in found])


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_a_trained_cnn_are_float64s(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, frames = NETWORKS[name]
    monkeypatch.setattr(F, "dropout", lambda x, *_, **__: x)  # its draws depend on the type
    errors = []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        network = make().train()
        exact = copy.deepcopy(network).double()
        found = gradients(network, frames)
        with monkeypatch.context() as patch:
            for module in (conv_blocks, cnn, convnext, crnn, vggish, wavegram):
                patch.setattr(module, "masked_norm", packed_norm)
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            expected = gradients(exact, frames)
        errors.append(float((found - expected).abs().max() / expected.abs().max()))
    # the middle one: now and then a ReLU's input is so near zero that its sign differs
    assert sorted(errors)[1] < 5e-5, errors
