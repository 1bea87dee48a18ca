"""FUSER's and TRANSLATOR's weights: what the layers themselves give is computed from them again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny_captioners import make_captioner
from torch import Tensor, nn

from pipeline.decoding.encoder_weights import contributions, efb_attention, encoder_weights
from pipeline.models.layers.fuser import ChannelFusion, EncoderFusion
from pipeline.models.layers.translator import EncoderLayer, TranslatorDecoderLayer
from pipeline.tensors import Padded
from pipeline.text.subword import train_subword
from pipeline.trained.captioner import TrainedCaptioner
from tests.plans import build
from tests.test_edtc import ALL, STORED, TOKENS, make_plan

T = 8  # frames, of make_plan


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(3)
    yield


def captioner(
    features: tuple[str, ...] = ALL, heads: int = 1, layers: int = 1, **parts: object
) -> TrainedCaptioner:
    """With weights that are far from even, and one head and layer, whose mean is itself."""
    plan = make_plan(features, twin=None, **parts)  # type: ignore[arg-type]
    text = plan.model_dump_json().replace('"heads":4', f'"heads":{heads}')
    text = text.replace('"encoder_layers":2', f'"encoder_layers":{layers}')
    plan = type(plan).model_validate_json(text)
    widths = [STORED[name] for name in features]
    model = build(plan, widths, TOKENS, None).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return TrainedCaptioner(plan, model, train_subword(["a dog"] * 3, 270), tuple(widths))


def sound(features: tuple[str, ...] = ALL) -> tuple[Padded, ...]:
    lengths = torch.tensor([11])
    return tuple(Padded(torch.randn(1, 11, STORED[name]), lengths) for name in features)


def seen(model: nn.Module, kind: type) -> list[tuple[nn.Module, list[Tensor], list[Tensor]]]:
    """The first module of a kind, what each of its parts read, and what each gave."""
    module = next(each for each in model.modules() if isinstance(each, kind))
    found = []
    for _name, part in module.named_children():
        read: list[Tensor] = []
        gave: list[Tensor] = []
        part.register_forward_pre_hook(lambda _m, i, read=read: read.append(i[0]))
        part.register_forward_hook(lambda _m, _i, o, gave=gave: gave.append(o))
        found.append((part, read, gave))
    return [(module, [], []), *found]


def test_efb_attends_so_that_its_output_comes_out() -> None:
    one = captioner()
    watched = {part: (read, gave) for part, read, gave in seen(one.model, EncoderFusion)}
    encoder_weights(one, heard := sound())
    module = next(iter(watched))
    assert isinstance(module, EncoderFusion)
    queries, pairs = watched[module.query][1][0], watched[module.keys_values][1][0]
    weights = efb_attention(queries, pairs, 1)[:, :, 0]  # (E, E − 1, T, T)
    values = pairs[:, :, 0].chunk(2, -1)[1]
    torch.testing.assert_close(
        (weights @ values).sum(1), watched[module.output][0][0][:, 0], atol=1e-4, rtol=1e-3
    )
    found = encoder_weights(one, heard)
    assert found is not None and found.read is not None
    expected = torch.zeros(3, T)
    for encoder in range(3):
        for row, other in enumerate(module.others[encoder].tolist()):
            expected[other] += weights[encoder, row].mean(0) / 2  # two others look at each
    torch.testing.assert_close(found.read, expected, atol=1e-5, rtol=1e-4)
    assert found.read.std() > 0.01


def test_cfbs_parts_add_up_to_its_convolution() -> None:
    one = captioner()
    watched = seen(one.model, ChannelFusion)
    module = watched[0][0]
    assert isinstance(module, ChannelFusion)
    read, gave = next((r, g) for part, r, g in watched if part is module.convolution)
    encoder_weights(one, sound())
    given, out = read[0], gave[0]
    parts = contributions(module, given)
    bias = module.convolution(torch.zeros_like(given))
    torch.testing.assert_close(parts.sum(0), (out - bias)[0, 0], atol=1e-4, rtol=1e-3)


def test_an_encoder_that_cfb_does_not_read_has_no_share() -> None:
    one = captioner()
    with torch.no_grad():
        for module in one.model.modules():
            if isinstance(module, ChannelFusion):
                width = module.norm.normalized_shape[0]
                silence(module, slice(width, 2 * width))
    found = encoder_weights(one, sound())
    assert found is not None and found.share is not None
    assert found.share[1].abs().max() < 1e-6
    torch.testing.assert_close(found.share.sum(0), torch.ones(T))
    assert found.share[0].min() > 0.01 < found.share[2].min()


def silence(module: ChannelFusion, channels: slice) -> None:
    """Makes the convolution's answer to some input channels nothing."""
    weight = module.convolution.weight
    axis = next(i for i, n in enumerate(weight.shape) if n == 3 * module.norm.normalized_shape[0])
    weight.data.index_fill_(axis, torch.arange(channels.start, channels.stop), 0)


@pytest.mark.parametrize("kind", [EncoderLayer, TranslatorDecoderLayer])
def test_gab_attends_so_that_its_hidden_state_comes_out(kind: type) -> None:
    one = captioner()
    watched = seen(one.model, kind)
    module = watched[0][0]
    gave = {part: given for part, _, given in watched[1:]}
    found = encoder_weights(one, sound())
    assert found is not None
    weights = found.encoder if kind is EncoderLayer else found.decoder
    assert weights is not None and weights.shape == (T, T) and weights.std() > 0.005
    values = gave[module.keys_values][0].chunk(2, -1)[1]  # type: ignore[index]
    hidden = module.output(weights @ values)  # type: ignore[operator]
    torch.testing.assert_close(
        hidden,
        gave[module.output][0],
        atol=1e-4,
        rtol=1e-3,  # type: ignore[index]
    )


def test_several_heads_and_layers_are_their_mean() -> None:
    found = encoder_weights(captioner(heads=4, layers=2), sound())
    assert found is not None
    for weights in (found.encoder, found.decoder):
        assert weights is not None
        torch.testing.assert_close(weights.sum(1), torch.ones(T))


def test_a_captioner_without_such_layers_has_none_and_no_hook_is_left() -> None:
    words = make_captioner("words", "logmel", 32)
    heard = (Padded(torch.randn(1, 9, 32), torch.tensor([9])),)
    assert encoder_weights(words, heard) is None
    one = captioner(("htsat",), fuser=False)
    found = encoder_weights(one, sound(("htsat",)))
    assert found is not None and found.share is None and found.encoder is not None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in one.model.modules())
