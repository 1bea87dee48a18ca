"""Resizing against torch's own pooling and interpolation a clip at a time; masks against counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.edtc import FeatureInputConfig
from pipeline.models.layers.feature_input import Input, resize_frames, span_mask
from pipeline.tensors import Padded


def resized_alone(values: Tensor, size: int) -> Tensor:
    """(T, W) → (size, W) by torch, one clip."""
    rows = values.T[None]
    if values.shape[0] >= size:
        return F.adaptive_avg_pool1d(rows, size)[0].T
    return F.interpolate(rows, size, mode="linear", align_corners=False)[0].T


def padded(lengths: list[int], width: int = 5) -> Padded:
    torch.manual_seed(1)
    values = torch.full((len(lengths), max(lengths), width), torch.nan)
    for row, length in zip(values, lengths, strict=True):
        row[:length] = torch.randn(length, width)
    return Padded(values.nan_to_num(99.0), torch.tensor(lengths))


@pytest.mark.parametrize("frames", [1, 2, 7, 32])
def test_each_clip_is_resized_by_its_own_length(frames: int) -> None:
    clips = padded([1, 2, 3, 6, 7, 8, 31, 32, 33, 64, 100])
    together = resize_frames(clips, frames)
    for mine, values, length in zip(together, clips.values, clips.lengths, strict=True):
        alone = resized_alone(values[: int(length)], frames)
        torch.testing.assert_close(mine, alone, rtol=0, atol=1e-5)


def test_an_empty_feature_is_zeros_and_half_precision_is_read() -> None:
    values = Padded(torch.ones(2, 3, 4, dtype=torch.float16), torch.tensor([0, 3]))
    resized = resize_frames(values, 8)
    assert resized.dtype == torch.float32
    assert torch.equal(resized[0], torch.zeros(8, 4)) and torch.equal(resized[1], torch.ones(8, 4))


@pytest.mark.parametrize("stored", [4, 16, 40])
def test_the_width_is_resized_by_the_same_principle(stored: int) -> None:
    settings = FeatureInputConfig(frames=6, width=16, normalise=False)
    clips = padded([6, 6], stored)
    out = Input(stored, settings)(clips)
    for mine, values in zip(out, clips.values, strict=True):
        torch.testing.assert_close(mine, resized_alone(values.T, 16).T, rtol=0, atol=1e-5)
    assert not list(Input(stored, settings).parameters())


def test_a_learned_projection_reaches_every_channel() -> None:
    module = Input(5, FeatureInputConfig(frames=4, width=8, resize="project"))
    module(padded([3, 9])).square().sum().backward()
    assert module.width is not None and module.width.weight.grad is not None
    assert (module.width.weight.grad != 0).all()


def test_normalised_values_do_not_depend_on_the_stored_scale() -> None:
    module = Input(16, FeatureInputConfig(frames=4, width=16))
    clips = padded([7, 9], 16)
    scaled = Padded(clips.values * 1000, clips.lengths)
    torch.testing.assert_close(module(clips), module(scaled), rtol=1e-3, atol=1e-3)


def test_spans_are_one_run_no_longer_than_asked_and_everywhere() -> None:
    torch.manual_seed(1)
    mask = span_mask(4000, 20, 1, 0.25, torch.device("cpu"))
    lengths = mask.sum(1)
    assert set(lengths.tolist()) == set(range(6))  # each of 0 … 5 frames is drawn
    starts = mask & ~F.pad(mask, (1, 0))[:, :-1]
    assert int(starts.sum(1).max()) == 1
    assert mask.any(0).all()
    counts = torch.bincount(lengths, minlength=6) / 4000
    assert (counts - 1 / 6).abs().max() < 0.03


def test_masks_zero_whole_frames_and_channels_in_training_alone() -> None:
    settings = FeatureInputConfig(
        frames=20, width=16, time_masks=2, time_width=0.2, channel_masks=1, channel_width=0.25
    )
    module = Input(16, settings)
    clips = padded([25] * 200, 16)
    torch.manual_seed(1)
    masked = module(clips)
    plain = module.eval()(clips)
    rows, columns = (masked == 0).all(2), (masked == 0).all(1)
    assert ((masked == 0) == (rows[:, :, None] | columns[:, None])).all()
    assert rows.any() and columns.any()
    assert int(rows.sum(1).max()) <= 8 and int(columns.sum(1).max()) <= 4
    assert len({tuple(row.tolist()) for row in rows}) > 50  # each clip has its own
    torch.testing.assert_close(masked[masked != 0], plain[masked != 0])
    assert (plain != 0).all()
    torch.manual_seed(1)
    assert torch.equal(module.train()(clips), masked)


def test_text_is_not_masked() -> None:
    settings = FeatureInputConfig(frames=4, width=16, time_masks=3, time_width=1.0)
    module = Input(16, settings, masked=False)
    assert (module(padded([5, 5], 16)) != 0).all()
