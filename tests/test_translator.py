"""TRANSLATOR against the plain step-by-step loop; the twin against two separate modules."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.edtc import TranslatorConfig
from pipeline.errors import EarwitnessError
from pipeline.models.layers.recurrence import walk
from pipeline.models.layers.stacked import StackedConvolution
from pipeline.models.layers.translator import Translator, TwinTranslator
from tests.reference_translator import copied, pairs

WIDTH, FRAMES, BATCH = 24, 11, 3
SETTINGS = TranslatorConfig(
    encoder_layers=3, decoder_layers=2, kernel=7, heads=4, feed_forward=40, dropout=0.0
)


def scatter(module: nn.Module, copies: int = 1) -> None:
    """Makes biases and gains matter: initial values of 0 and 1 would hide a lost term."""
    with torch.no_grad():
        for parameter in module.parameters():
            branches = parameter.view(copies, -1)
            branches += 0.2 * torch.randn_like(branches[:1])


def assert_same(mine: Tensor, theirs: Tensor, tolerance: float) -> None:
    scale = max(1.0, theirs.abs().max().item())
    assert (mine - theirs).abs().max().item() <= tolerance * scale


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize(
    ("layers", "kernel"), [((3, 2), 7), ((1, 1), 45), ((2, 1), 3), ((1, 2), 4)]
)
def test_equals_the_plain_loop(
    layers: tuple[int, int], kernel: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(1)
    settings = SETTINGS.model_copy(
        update={"encoder_layers": layers[0], "decoder_layers": layers[1], "kernel": kernel}
    )
    translator = Translator(WIDTH, settings).to(dtype)
    scatter(translator)
    reference = copied(translator, WIDTH, settings)
    values = torch.randn(BATCH, FRAMES, WIDTH, dtype=dtype, requires_grad=True)
    theirs_in = values.detach().clone().requires_grad_()

    mine = translator(values)
    output, hidden = reference(theirs_in)
    assert_same(mine.output, output, tolerance)
    assert_same(mine.hidden, hidden, tolerance)

    weights = torch.randn_like(output), torch.randn_like(hidden)
    for out, last in (mine, (output, hidden)):
        ((out * weights[0]).sum() + (last * weights[1]).sum()).backward()
    assert values.grad is not None and theirs_in.grad is not None
    assert_same(values.grad, theirs_in.grad, 10 * tolerance)
    compared = pairs(translator, reference, grad=True)
    assert len(compared) == len(list(translator.parameters()))
    for my_gradient, their_gradient in compared:
        assert_same(my_gradient, their_gradient, 10 * tolerance)


def test_paper_size_equals_the_plain_loop() -> None:
    torch.manual_seed(1)
    settings = TranslatorConfig(dropout=0.0, encoder_layers=1, decoder_layers=1)
    translator = Translator(96, settings)
    reference = copied(translator, 96, settings)
    values = torch.randn(2, 32, 96)
    with torch.no_grad():
        mine, theirs = translator(values), reference(values)
    assert_same(mine.output, theirs[0], 1e-5)
    assert_same(mine.hidden, theirs[1], 1e-5)


def test_recurrence_passes_gradcheck() -> None:
    torch.manual_seed(1)
    steps, copies, batch, heads, d = 4, 2, 2, 2, 3
    width = heads * d
    shapes = [
        (steps, copies, batch, width),
        (copies, width, width),
        (copies, width, width),
        (copies, width),
        (copies * batch * heads, 5, d),
        (copies * batch * heads, 5, d),
    ]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(walk, inputs)


def test_compiled_loops_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each traced whole by dynamo; the code generator, which needs a compiler, is left out."""
    monkeypatch.setattr("pipeline.models.layers.recurrence._COMPILED", {})
    compiler = torch.compile
    monkeypatch.setattr(
        "torch.compile",
        lambda f, **options: compiler(f, backend="aot_eager", fullgraph=True, **options),
    )
    torch.manual_seed(1)
    shapes = [(4, 2, 2, 6), (2, 6, 6), (2, 6, 6), (2, 6), (8, 5, 3), (8, 5, 3)]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    results = []
    for compiled in (False, True):
        x, attended = walk(*inputs, compiled=compiled)
        gradients = torch.autograd.grad((x * attended).sum(), inputs)
        results.append([x, attended, *gradients])
    for plain, fused in zip(*results, strict=True):
        assert_same(fused, plain, 1e-5)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_a_compiled_step_gives_the_same_gradients() -> None:
    """As the trainer compiles a whole step on CUDA: its loops stay apart (see ``walk``)."""
    torch.manual_seed(1)
    settings = SETTINGS.model_copy(update={"encoder_layers": 1, "decoder_layers": 1})
    twin = TwinTranslator(WIDTH, settings, momentum=0.9)
    sound, words = torch.randn(2, 2, 5, WIDTH)

    def step() -> Tensor:
        audio, text = twin.both(sound, words)
        return (audio.output * text.output).sum() + (audio.hidden * text.hidden).sum()

    gradients = []
    for each in (step, torch.compile(step, backend="eager", dynamic=True)):
        gradients.append(torch.autograd.grad(each(), list(twin.parameters()), allow_unused=True))
    for plain, fused in zip(*gradients, strict=True):
        assert (plain is None) == (fused is None)
        if plain is not None:
            assert_same(fused, plain, 1e-5)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6, 7, 45, 64, 99])
@pytest.mark.parametrize("frames", [1, 2, 31, 32])
def test_convolution_equals_torch(kernel: int, frames: int) -> None:
    torch.manual_seed(1)
    layer = StackedConvolution(2, 6, 4, kernel).double()
    nn.init.normal_(layer.bias)
    values = torch.randn(2, 3, frames, 6, dtype=torch.float64)
    for copy_, (mine, taps, bias) in enumerate(
        zip(layer(values), layer.weight, layer.bias.view(2, 4), strict=True)
    ):
        theirs = F.conv1d(values[copy_].mT, taps.permute(2, 1, 0), bias, padding=kernel // 2).mT[
            :, :frames
        ]
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(EarwitnessError, match=r"translator.heads: 5 does not divide"):
        Translator(24, SETTINGS.model_copy(update={"heads": 5}))


def test_a_step_sees_all_steps_before_it_through_the_hidden_state() -> None:
    """Cut off from the input behind the convolution, every step still reaches the last output."""
    torch.manual_seed(1)
    settings = SETTINGS.model_copy(update={"encoder_layers": 1, "decoder_layers": 1, "kernel": 1})
    translator = Translator(WIDTH, settings).double()
    scatter(translator)
    seen: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0]

    layer = next(iter(translator.encoder))
    handle = layer.convolution.register_forward_hook(cut)
    layer_output, _ = layer(torch.randn(1, 1, 6, WIDTH, dtype=torch.float64))
    handle.remove()
    layer_output[0, 0, -1].sum().backward()
    assert seen[0].grad is not None
    assert (seen[0].grad[0, 0].abs().sum(-1) > 0).all()


# --- twin -------------------------------------------------------------------------------------


def test_twin_trains_as_two_separate_modules_do() -> None:
    """Three optimizer steps with eq. 4 between, against the loop over two modules' weights."""
    torch.manual_seed(1)
    settings = SETTINGS.model_copy(update={"encoder_layers": 2, "decoder_layers": 1})
    twin = TwinTranslator(WIDTH, settings, momentum=0.9).double()
    scatter(twin, copies=2)
    audio = copied(twin, WIDTH, settings)
    text = copy.deepcopy(audio)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-2, eps=1e-5)
    optimizers = [
        torch.optim.AdamW(module.parameters(), lr=1e-2, eps=1e-5) for module in (audio, text)
    ]
    for _ in range(3):
        sound, words = torch.randn(2, BATCH, FRAMES, WIDTH, dtype=torch.float64)
        target = torch.randn_like(sound)
        optimizer.zero_grad()
        mine = twin.both(sound, words)
        loss = (mine[0].output * target).sum() + (mine[0].hidden * mine[1].hidden).sum()
        (loss + (mine[1].output * target.flip(0)).sum()).backward()
        optimizer.step()
        twin.momentum_update()

        for each in optimizers:
            each.zero_grad()
        (out_a, hidden_a), (out_t, hidden_t) = audio(sound), text(words)
        loss = (out_a * target).sum() + (hidden_a * hidden_t).sum()
        (loss + (out_t * target.flip(0)).sum()).backward()
        torch.testing.assert_close(mine[1].output, out_t)
        for each in optimizers:
            each.step()
        with torch.no_grad():
            for w, w_sim in zip(audio.parameters(), text.parameters(), strict=True):
                w.copy_(0.9 * w + (1 - 0.9) * w_sim)
                w_sim.copy_(w)
    for branch, reference in enumerate((audio, text)):
        for my_weight, their_weight in pairs(twin, reference, branch):
            assert_same(my_weight, their_weight, 1e-9)


def test_only_the_audio_weights_serve_at_inference() -> None:
    torch.manual_seed(1)
    twin = TwinTranslator(WIDTH, SETTINGS, momentum=0.9)
    values = torch.randn(BATCH, FRAMES, WIDTH)
    with torch.no_grad():
        before = twin(values).output
        for parameter in twin.parameters():
            parameter.view(2, -1)[1] += 1
        torch.testing.assert_close(twin(values).output, before)


def test_momentum_update_leaves_the_optimizer_alone() -> None:
    torch.manual_seed(1)
    settings = SETTINGS.model_copy(update={"encoder_layers": 1, "decoder_layers": 1})
    twin = TwinTranslator(WIDTH, settings, momentum=0.95)
    optimizer = torch.optim.AdamW(twin.parameters())
    first, second = twin.both(*torch.randn(2, BATCH, FRAMES, WIDTH))
    (first.output.square().sum() + second.output.sum()).backward()
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict()["state"])
    weights = [parameter.detach().clone() for parameter in twin.parameters()]
    twin.momentum_update()
    after = optimizer.state_dict()["state"]
    for index, state in before.items():
        for name, value in state.items():
            assert torch.equal(after[index][name], value)
    for flat, changed in zip(weights, twin.parameters(), strict=True):
        old, new = flat.view(2, -1), changed.view(2, -1)
        torch.testing.assert_close(new[0], 0.95 * old[0] + 0.05 * old[1])
        assert torch.equal(new[0], new[1])
