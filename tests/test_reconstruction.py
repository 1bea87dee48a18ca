"""RLSSR's losses against their definitions, written out in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.losses.reconstruction import DISTANCES, pooled_sound, pooled_states

B, D, T, M, L = 3, 4, 5, 2, 6


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def test_sound_is_pooled_as_a_loop_does() -> None:
    """Mean and maximum over frequency, added; then the mean over a clip's own frames."""
    maps, lengths = torch.randn(B, D, T, M), torch.tensor([5, 1, 3])
    found = pooled_sound(maps, lengths)
    for clip in range(B):
        for channel in range(D):
            frames = []
            for frame in range(int(lengths[clip])):
                bands = maps[clip, channel, frame].tolist()
                frames.append(sum(bands) / M + max(bands))
            assert found[clip, channel].item() == pytest.approx(sum(frames) / len(frames), abs=1e-6)


def test_states_are_pooled_as_a_loop_does_and_a_linear_layer_may_come_first() -> None:
    states, valid = torch.randn(B, L, D), torch.rand(B, L) < 0.6
    valid[2] = False
    linear = torch.nn.Linear(D, 7)
    found = linear(pooled_states(states, valid))
    for clip in range(2):
        rows = [linear(states[clip, at]) for at in range(L) if valid[clip, at]]
        torch.testing.assert_close(found[clip], torch.stack(rows).mean(0))
    assert torch.equal(pooled_states(states, valid)[2], torch.zeros(D))


def test_padding_is_in_neither_pool() -> None:
    lengths, valid = torch.tensor([5, 1, 3]), torch.arange(L) < torch.tensor([[6], [2], [3]])
    maps, states = torch.randn(B, D, T, M), torch.randn(B, L, D)
    past = torch.arange(T) >= lengths[:, None]
    other = maps.masked_fill(past[:, None, :, None], math.nan)
    assert torch.equal(pooled_sound(other, lengths), pooled_sound(maps, lengths))
    other = states.masked_fill(~valid[..., None], math.inf).requires_grad_()
    found = pooled_states(other, valid)
    assert torch.equal(found, pooled_states(states, valid))
    found.sum().backward()
    assert other.grad is not None and bool((other.grad[~valid] == 0).all())


def defined(name: str, a: Tensor, b: Tensor) -> float:
    rows = list(zip(a.double().tolist(), b.double().tolist(), strict=True))
    if name == "cosine":
        cosines = [
            sum(x * y for x, y in zip(p, q, strict=True)) / math.hypot(*p) / math.hypot(*q)
            for p, q in rows
        ]
        return 1 - sum(cosines) / len(cosines)
    apart = [abs(x - y) for p, q in rows for x, y in zip(p, q, strict=True)]
    each = {
        "l1": lambda d: d,
        "l2": lambda d: d * d,
        "huber": lambda d: d * d / 2 if d < 1 else d - 0.5,
    }[name]
    return sum(each(d) for d in apart) / len(apart)


@pytest.mark.parametrize("name", DISTANCES)
def test_each_distance_is_its_definition(name: str) -> None:
    told, heard = 2 * torch.randn(B, D), torch.randn(B, D)
    found = DISTANCES[name](told, heard)
    assert found.item() == pytest.approx(defined(name, told, heard), rel=1e-5)
    assert DISTANCES[name](told, told).item() == pytest.approx(0, abs=1e-6)
