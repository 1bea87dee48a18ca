"""DCASE 2022's CRNN against torch's own layers, and what stands beside its input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.crnn import CrnnConfig
from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.retrievers import CrnnTowerConfig
from pipeline.errors import EarwitnessError
from pipeline.models.layers.bigru import BiRecurrence
from pipeline.models.layers.crnn import Crnn, lp_pool
from pipeline.models.towers.registry import build_sound_tower
from pipeline.tensors import Padded

CHANNELS = (3, 5, 4, 6, 7)
LENGTHS = [41, 9, 22, 4]


def padded(lengths: list[int], width: int, seed: int = 0) -> Padded:
    """Padded with a loud constant that nothing may hear."""
    torch.manual_seed(seed)
    values = torch.full((len(lengths), max(lengths), width), 7.0)
    for row, length in enumerate(lengths):
        values[row, :length] = torch.randn(length, width)
    return Padded(values, torch.tensor(lengths))


def randomised(**settings: object) -> Crnn:
    torch.manual_seed(1)
    network = Crnn(64, [], CrnnConfig(channels=CHANNELS, width=5, **settings))  # type: ignore[arg-type]
    for norm in network.norms:
        assert isinstance(norm, nn.BatchNorm2d)
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(tensor, 1.0, 0.3)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return network.eval()


def theirs(network: Crnn) -> nn.Sequential:
    """The baseline's convolutions, in torch's own modules, with the same weights."""
    layers: list[nn.Module] = []
    inputs = 1
    for block, outputs in enumerate(CHANNELS):
        layers += [
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.LeakyReLU(0.1),
        ]
        layers[-3].load_state_dict(network.norms[block].state_dict())
        layers[-2].load_state_dict(network.convolutions[block].state_dict())
        if block in (0, 2):
            layers.append(nn.LPPool2d(4, (2, 4)))
        if block == 4:
            layers.append(nn.LPPool2d(4, (1, 4)))
        inputs = outputs
    return nn.Sequential(*layers)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_clip_is_what_torchs_own_layers_make_of_it(cell: str) -> None:
    """Step by step, one clip at a time: the baseline's code has no padding then."""
    network = randomised(cell=cell)
    batch = padded(LENGTHS, 64)
    kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
    recurrence = kind(7, 5, batch_first=True, bidirectional=True)
    own = network.recurrence.state_dict()
    reverse = {"forwards.0.": "", "backwards.0.": "_reverse"}
    names = {f"{name[len(p) :]}{s}": v for p, s in reverse.items() for name, v in own.items()
             if name.startswith(p)}  # fmt: skip
    recurrence.load_state_dict(names)
    convolutions = theirs(network).eval()
    with torch.no_grad():
        found = network(batch)
        for row, length in enumerate(LENGTHS):
            x = convolutions(batch.values[row : row + 1, :length][:, None])
            x = x.transpose(1, 2).flatten(-2)  # (1, T', C · M')
            expected = recurrence(x)[0][0]
            assert int(found.lengths[row]) == len(expected) == length // 4
            torch.testing.assert_close(found.values[row, : len(expected)], expected)


def test_the_mean_of_stretched_frames_is_their_mean() -> None:
    """The baseline interpolates to the stored frames before it averages: ours need no stretch."""
    torch.manual_seed(0)
    tower = build_sound_tower(
        CrnnTowerConfig(module="crnn", input="logmel"),
        LogmelEncoderConfig(module="logmel"),
        None,
        widths=[64],
    ).eval()
    with torch.no_grad():
        frames, embedding = tower([Padded(torch.randn(1, 40, 64), torch.tensor([40]))])
    assert frames.values.shape[1] == 10
    stretched = F.interpolate(frames.values.transpose(1, 2), 40, mode="linear")
    torch.testing.assert_close(embedding, stretched.mean(-1))


def test_power_pooling_is_its_definition_and_safe_at_zero() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 9)
    found = lp_pool(x, 3.0, (2, 4))
    assert found.shape == (2, 3, 2, 2)
    for t in range(2):
        for m in range(2):
            window = x[:, :, 2 * t : 2 * t + 2, 4 * m : 4 * m + 4].double()
            expected = (window.abs() ** 3).sum((2, 3)) ** (1 / 3)
            torch.testing.assert_close(found[:, :, t, m].double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(lp_pool(x, 4.0, (2, 4)), nn.LPPool2d(4, (2, 4))(x))
    half = torch.zeros(1, 1, 4, 4)
    half[0, 0, 0, 0] = 2.0
    half.requires_grad_()
    lp_pool(half, 4.0, (2, 4)).sum().backward()
    assert half.grad is not None and half.grad.isfinite().all()
    assert half.grad[0, 0, 0, 0] == pytest.approx(1.0)


def test_batch_norms_count_valid_frames_alone() -> None:
    """In training a padded batch moves the first norm's statistics as its frames alone do."""
    network = randomised(dropout=0.0).train()
    norm = network.norms[0]
    assert isinstance(norm, nn.BatchNorm2d)
    expected = nn.BatchNorm2d(1)
    expected.load_state_dict(norm.state_dict())
    batch = padded(LENGTHS, 64)
    network(batch)
    expected(batch.values[batch.mask][None, None])
    torch.testing.assert_close(norm.running_mean, expected.running_mean)
    torch.testing.assert_close(norm.running_var, expected.running_var, rtol=1e-4, atol=1e-5)


def test_features_beside_are_resized_to_the_frames_and_reach_every_clip_alone() -> None:
    """20 stored frames make 5; 10 event vectors shrink to them by pairs, 5 stay as they are."""
    network = Crnn(64, [2, 3], CrnnConfig(channels=CHANNELS, width=4)).eval()
    read: list[Padded] = []

    def spy(module: nn.Module, inputs: tuple[Padded]) -> None:
        read.append(inputs[0])

    assert isinstance(network.recurrence, BiRecurrence)
    network.recurrence.register_forward_pre_hook(spy)
    first = padded([20, 40], 64)
    events, others = padded([10, 20], 2, seed=2), padded([5, 3], 3, seed=3)
    with torch.no_grad():
        frames = network(first, [events, others])
    assert frames.lengths.tolist() == [5, 10]
    beside = read[0].values[0, :5, 7:]
    torch.testing.assert_close(beside[:, :2], events.values[0, :10].view(5, 2, 2).mean(1))
    torch.testing.assert_close(beside[:, 2:], others.values[0, :5])
    grown = F.interpolate(others.values[1:2, :3].transpose(1, 2), 10, mode="linear")[0].T
    torch.testing.assert_close(read[0].values[1, :, 9:], grown)

    def alone(row: int) -> Tensor:
        one = [Padded(p.values[row : row + 1, : int(p.lengths[row])], p.lengths[row : row + 1])
               for p in (first, events, others)]  # fmt: skip
        with torch.no_grad():
            return network(one[0], one[1:]).values[0]  # type: ignore[no-any-return]

    for row in range(2):
        count = int(frames.lengths[row])
        torch.testing.assert_close(frames.values[row, :count], alone(row))


def test_without_convolutions_the_recurrence_reads_the_features() -> None:
    network = Crnn(6, [], CrnnConfig(convolutions=False, width=5)).eval()
    batch = padded([7, 3], 6)
    with torch.no_grad():
        frames = network(batch)
        expected = network.recurrence(batch)
    assert network.reduction == 1 and frames.lengths.tolist() == [7, 3]
    torch.testing.assert_close(frames.values[batch.mask], expected[batch.mask])


def test_too_few_bands_are_one_line() -> None:
    with pytest.raises(EarwitnessError, match=r"needs? 64 values a frame .* has 40; set convol"):
        Crnn(40, [], CrnnConfig())
