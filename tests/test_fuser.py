"""FUSER against a plain version that goes through the features one at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.edtc import FuserConfig
from pipeline.errors import EarwitnessError
from pipeline.models.layers.fuser import (
    ChannelFusion,
    EncoderFusion,
    FeedForward,
    Fuser,
    PrivateExtract,
    SharedExtract,
)
from pipeline.models.layers.stacked import StackedConvolution, StackedLinear, StackedNorm

WIDTH, FRAMES, BATCH = 16, 10, 4
SETTINGS = FuserConfig(layers=2, heads=4, kernel=7, reduced=6, feed_forward=24, dropout=0.0)


def fuser(encoders: int, layers: int = 2) -> Fuser:
    torch.manual_seed(1)
    module = Fuser(encoders, WIDTH, SETTINGS.model_copy(update={"layers": layers})).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


# --- the plain version: one feature, one clip's worth of equations at a time ---------------------


def linear(values: Tensor, layer: StackedLinear, i: int) -> Tensor:
    bias = layer.bias.view(layer.weight.shape[0], -1)
    return values @ layer.weight[i] + bias[i]


def norm(values: Tensor, layer: StackedNorm, i: int) -> Tensor:
    row = slice(i * WIDTH, (i + 1) * WIDTH)
    return F.layer_norm(values, (WIDTH,), layer.weight[row], layer.bias[row])


def convolve(values: Tensor, layer: StackedConvolution, i: int) -> Tensor:
    bias = layer.bias.view(layer.weight.shape[0], -1)[i]
    weight = layer.weight[i].permute(2, 1, 0)
    return F.conv1d(values.mT, weight, bias, padding="same").mT


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    d = WIDTH // heads
    parts = []
    for h in range(heads):
        at = slice(h * d, (h + 1) * d)
        weights = (q[..., at] @ k[..., at].mT / math.sqrt(d)).softmax(-1)
        parts.append(weights @ v[..., at])
    return torch.cat(parts, dim=-1)


def plain_efb(block: EncoderFusion, features: list[Tensor]) -> list[Tensor]:
    out = []
    for i, x in enumerate(features):
        total = torch.zeros_like(x)
        others = [y for j, y in enumerate(features) if j != i] or [x]
        for other in others:
            keys, values = linear(other, block.keys_values, i).split(WIDTH, dim=-1)
            total = total + attention(linear(x, block.query, i), keys, values, block.heads)
        out.append(norm(x + linear(total, block.output, i), block.norm, i))
    return out


def plain_sfeb(block: SharedExtract, x: Tensor) -> Tensor:
    q, k, v = block.channel(x).split(WIDTH, dim=-1)
    channel = block.channel_output(attention(q, k, v, block.heads))
    clips = []
    for clip in x:
        q, k, v = block.dimension(block.reduce(clip)).split(SETTINGS.reduced, dim=-1)
        attended = torch.zeros_like(v)
        for r in range(SETTINGS.reduced):
            scores = torch.stack(
                [(q[:, r] * k[:, s]).sum() / math.sqrt(FRAMES) for s in range(SETTINGS.reduced)]
            )
            weights = scores.softmax(0)
            attended[:, r] = sum(weights[s] * v[:, s] for s in range(SETTINGS.reduced))
        clips.append(block.raise_(attended))
    return channel + torch.stack(clips)


def plain_pfeb(block: PrivateExtract, x: Tensor, i: int) -> Tensor:
    at = slice(i * WIDTH, (i + 1) * WIDTH)
    x = convolve(x, block.convolutions[0], i)
    for layer, convolution in zip(block.norms, list(block.convolutions)[1:], strict=True):
        mean, deviation = x.mean((0, 1)), x.var((0, 1), correction=0)
        x = (x - mean) / torch.sqrt(deviation + layer.eps)
        x = convolve(F.gelu(x * layer.weight[at] + layer.bias[at]), convolution, i)
    return x


def plain_cfb(block: ChannelFusion, features: list[Tensor], fused: Tensor | None) -> Tensor:
    out = convolve(torch.cat(features, dim=-1), block.convolution, 0)
    return block.norm(out if fused is None else fused + out)


def plain_ffn(block: FeedForward, x: Tensor) -> Tensor:
    return block.norm(x + block.down(F.gelu(block.up(x))))


def plain(module: Fuser, features: list[Tensor]) -> Tensor:
    first = module.input_layer
    features = plain_efb(first.encoder_fusion, features)
    fused = plain_cfb(first.channel_fusion, features, None)
    features = [plain_ffn(first.feed_forward, x) for x in features]
    fused = plain_ffn(first.feed_forward, fused)
    for layer in module.layers:
        features = [
            norm(x + plain_sfeb(layer.shared, x) + plain_pfeb(layer.private, x, i), layer.norm, i)
            for i, x in enumerate(features)
        ]
        fused = plain_cfb(layer.channel_fusion, features, fused)
        features = [plain_ffn(layer.feed_forward, x) for x in features]
        fused = plain_ffn(layer.feed_forward, fused)
    return fused


# --- tests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("encoders", [1, 2, 3, 4])
def test_equals_the_plain_version(encoders: int, layers: int) -> None:
    module = fuser(encoders, layers)
    features = torch.randn(encoders, BATCH, FRAMES, WIDTH, dtype=torch.float64)
    mine_in = features.clone().requires_grad_()
    theirs_in = features.clone().requires_grad_()
    mine, theirs = module(mine_in), plain(module, list(theirs_in))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
    weight = torch.randn_like(mine)
    names, parameters = zip(*module.named_parameters(), strict=True)
    my_gradients = torch.autograd.grad((mine * weight).sum(), (mine_in, *parameters))
    gradients = torch.autograd.grad((theirs * weight).sum(), (theirs_in, *parameters))
    for name, one, other in zip(("input", *names), my_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9, msg=name)


def test_every_parameter_has_a_gradient() -> None:
    module = fuser(3)
    out = module(torch.randn(3, BATCH, FRAMES, WIDTH, dtype=torch.float64))
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_the_same_feature_three_times_is_not_one_feature() -> None:
    """EDTC 3.2.2: three EFBs and PFEBs of their own read one feature differently."""
    feature = torch.randn(1, BATCH, FRAMES, WIDTH, dtype=torch.float64)
    module = fuser(3).eval()
    efb = module.input_layer.encoder_fusion(feature.expand(3, -1, -1, -1))
    assert (efb[0] - efb[1]).abs().max() > 0.1
    private = module.layers[0].private(feature.expand(3, -1, -1, -1))
    assert (private[0] - private[2]).abs().max() > 0.1


def test_shared_blocks_treat_every_feature_alike() -> None:
    module = fuser(3).eval()
    feature = torch.randn(1, BATCH, FRAMES, WIDTH, dtype=torch.float64)
    out = module.layers[0].shared(feature.expand(3, -1, -1, -1))
    torch.testing.assert_close(out[0], out[2])


def test_clips_do_not_meet_in_evaluation() -> None:
    module = fuser(3).eval()
    features = torch.randn(3, BATCH, FRAMES, WIDTH, dtype=torch.float64)
    together = module(features)
    for clip in range(BATCH):
        alone = module(features[:, clip : clip + 1])
        torch.testing.assert_close(together[clip : clip + 1], alone)


def test_frames_may_differ_from_those_trained_on() -> None:
    module = fuser(2).eval()
    for frames in (1, 5, 40):
        features = torch.randn(2, 2, frames, WIDTH, dtype=torch.float64)
        assert module(features).shape == (2, frames, WIDTH)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(EarwitnessError, match=r"fuser.heads: 5 does not divide"):
        Fuser(3, 16, SETTINGS.model_copy(update={"heads": 5}))
