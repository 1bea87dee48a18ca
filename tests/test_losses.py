"""Losses against plain loops over the equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.losses.contrastive import Scale, clip_loss, infonce_loss, two_way_infonce
from pipeline.losses.cross_entropy import cross_entropy

CLIPS = [4, 7, 4, 1, 7, 4]


def pair(width: int = 8) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    audio, text = torch.randn(2, len(CLIPS), width, dtype=torch.float64)
    return audio.requires_grad_(), text.requires_grad_()


def one_way(score: list[list[float]], clips: list[int] | None) -> float:
    """−1/N Σ_i log(exp s_ii / Σ_j exp s_ij), j = i or of another clip (eq. 5 with its minus)."""
    total = 0.0
    for i, row in enumerate(score):
        kept = [s for j, s in enumerate(row) if j == i or clips is None or clips[j] != clips[i]]
        total -= math.log(math.exp(row[i]) / sum(math.exp(s) for s in kept))
    return total / len(score)


def scores(audio: Tensor, text: Tensor, scale: Scale, temperature: float) -> list[list[float]]:
    rows = []
    for a in audio.tolist():
        row = []
        for t in text.tolist():
            dot = sum(x * y for x, y in zip(a, t, strict=True))
            if scale == "width":
                dot /= math.sqrt(len(a))
            if scale == "cosine":
                dot /= math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in t))
            row.append(dot / temperature)
        rows.append(row)
    return rows


@pytest.mark.parametrize("clips", [None, CLIPS])
@pytest.mark.parametrize("scale", ["none", "width", "cosine"])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_clip_loss_is_equations_5_to_7(
    clips: list[int] | None, scale: Scale, temperature: float
) -> None:
    audio, text = pair()
    score = scores(audio, text, scale, temperature)
    across = [list(column) for column in zip(*score, strict=True)]
    expected = (one_way(score, clips) + one_way(across, clips)) / 2
    given = None if clips is None else torch.tensor(clips)
    loss = clip_loss(audio, text, temperature, given, scale)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert audio.grad is not None and audio.grad.isfinite().all() and (audio.grad != 0).any()


@pytest.mark.parametrize("clips", [None, CLIPS])
def test_infonce_is_audio_to_text_alone(clips: list[int] | None) -> None:
    audio, text = pair()
    given = None if clips is None else torch.tensor(clips)
    expected = one_way(scores(audio, text, "cosine", 0.07), clips)
    assert infonce_loss(audio, text, clips=given).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("clips", [None, CLIPS])
def test_two_way_infonce_is_both_sums_of_equation_6(clips: list[int] | None) -> None:
    audio, text = (side / side.norm(dim=1, keepdim=True) for side in pair())
    scale = torch.tensor(1 / 0.2, requires_grad=True)
    score = scores(audio, text, "none", 0.2)
    across = [list(column) for column in zip(*score, strict=True)]
    given = None if clips is None else torch.tensor(clips)
    found = two_way_infonce(audio, text, scale, given)
    assert found.audio_to_text.item() == pytest.approx(one_way(score, clips), rel=1e-5)
    assert found.text_to_audio.item() == pytest.approx(one_way(across, clips), rel=1e-5)
    (gradient,) = torch.autograd.grad(found.audio_to_text + found.text_to_audio, scale)
    ends = [
        sum(
            one_way(way, clips)
            for way in (
                scores(audio, text, "none", 1 / s),
                [list(c) for c in zip(*scores(audio, text, "none", 1 / s), strict=True)],
            )
        )
        for s in (4.999, 5.001)
    ]
    assert gradient.item() == pytest.approx((ends[1] - ends[0]) / 0.002, rel=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert two_way_infonce(audio, text, scale, given) == found


def test_clip_loss_falls_as_pairs_draw_together() -> None:
    audio, text = pair()
    apart = clip_loss(audio, text, normalise="width")
    gradient = torch.autograd.grad(apart, (audio, text))
    with torch.no_grad():
        audio, text = audio - 0.5 * gradient[0], text - 0.5 * gradient[1]
    assert clip_loss(audio, text, normalise="width") < apart


def test_captions_of_one_clip_do_not_repel() -> None:
    """A batch of one clip's captions alone has no negatives: loss and gradient are zero."""
    audio, text = pair()
    loss = clip_loss(audio, text, clips=torch.zeros(len(CLIPS), dtype=torch.int64))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert audio.grad is not None and audio.grad.abs().max() < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_leaves_padding_out(smoothing: float) -> None:
    torch.manual_seed(1)
    pad, vocabulary = 1, 7
    tokens = torch.tensor([[3, 4, 2, 1, 1], [5, 2, 1, 1, 1], [6, 0, 3, 4, 2]])
    logits = torch.randn(3, 5, vocabulary, dtype=torch.float64)
    total, count = 0.0, 0
    for row, targets in zip(logits, tokens, strict=True):
        for values, target in zip(row, targets.tolist(), strict=True):
            if target == pad:
                continue
            logs = (values - torch.logsumexp(values, 0)).tolist()
            total -= (1 - smoothing) * logs[target] + smoothing * sum(logs) / vocabulary
            count += 1
    loss = cross_entropy(logits, tokens, pad, smoothing)
    assert loss.item() == pytest.approx(total / count, rel=1e-5)
    changed = logits.clone()
    changed[tokens == pad] = 50 * torch.randn(vocabulary, dtype=torch.float64)
    assert cross_entropy(changed, tokens, pad, smoothing).item() == pytest.approx(loss.item())
