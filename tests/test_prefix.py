"""WSAC's captioner: noise and shift against their definitions, each with the other off."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config.plans import CaptionerPlan
from pipeline.config.prefix import PrefixConfig
from pipeline.config.section import parse_section
from pipeline.config.training import TrainingConfig
from pipeline.errors import EarwitnessError
from pipeline.models.captioners.prefix import Prefix
from pipeline.models.layers.modality_gap import centre, spread
from pipeline.tensors import Batch, Padded, TokenIds
from tests.plans import build, captioner_plan, rebuild

WIDTH, IDS = 12, TokenIds(30, 0, 1, 2)
COUNTS = torch.tensor([3, 1, 2, 5, 1, 4])


def plan_of(**settings: Any) -> CaptionerPlan:
    small = {"layers": 1, "heads": 2, "width": 16, "mapping_width": 8, "dropout": 0.0}
    return captioner_plan(
        {"architecture": "prefix", "features": ("clap",), "text": "clap-text"},
        {"prefix": {**small, **settings}},
        TrainingConfig(label_smoothing=0.0),
        name="wsac",
    )


def model_of(**settings: Any) -> Any:
    torch.manual_seed(0)
    return build(plan_of(**settings), [WIDTH], IDS, WIDTH)


class Rows:
    """A bank of one frame an entry."""

    def __init__(self, values: Tensor, views: int = 1) -> None:
        self.values, self.views = values, views

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, entries: Tensor) -> Padded:
        return Padded(self.values[entries][:, None], torch.ones(len(entries), dtype=torch.int64))


def rows(count: int, seed: int, mean: float = 0.0) -> Tensor:
    """Of any length, around a mean."""
    return mean + torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def unit(values: Tensor) -> Tensor:
    return values / values.norm(dim=-1, keepdim=True)


SOUND, TEXT = rows(9, 1, mean=1.0), rows(int(COUNTS.sum()), 2, mean=-0.5)
GAP = unit(SOUND).mean(0) - unit(TEXT).mean(0)


def calibrated(**settings: Any) -> Prefix:
    model = model_of(**settings)
    model.calibrate(Rows(SOUND), Rows(TEXT), COUNTS)
    return model


def test_without_noise_and_shift_embeddings_are_unchanged() -> None:
    assert torch.equal(calibrated().bridged(unit(TEXT)), unit(TEXT))


def test_noise_alone_is_z_plus_gaussian_noise_of_sigma() -> None:
    model, embeddings = calibrated(noise=0.114), unit(rows(5000, 3))
    torch.manual_seed(5)
    added = model.bridged(embeddings) - embeddings
    torch.manual_seed(5)
    torch.testing.assert_close(added, 0.114 * torch.randn(5000, WIDTH), atol=1e-6, rtol=0)
    assert float(added.std()) == pytest.approx(0.114, rel=0.01)
    assert float(added.mean(0).abs().max()) < 0.01
    assert not torch.equal(added, model.bridged(embeddings) - embeddings)  # drawn anew


def test_shift_alone_is_z_plus_the_means_gap() -> None:
    """The published code leaves it out where there is no noise."""
    found = calibrated(shift=True).bridged(unit(TEXT))
    torch.testing.assert_close(found, unit(TEXT) + GAP)
    torch.testing.assert_close(found.mean(0), unit(SOUND).mean(0))  # what it is for


def test_both_together_are_the_sum_of_both() -> None:
    model = calibrated(shift=True, noise=0.2)
    torch.manual_seed(5)
    found = model.bridged(unit(TEXT))
    torch.manual_seed(5)
    expected = unit(TEXT) + 0.2 * torch.randn(TEXT.shape) + GAP
    torch.testing.assert_close(found, expected)
    torch.manual_seed(5)
    again = calibrated(shift=True, noise=0.2, renormalise=True)
    torch.manual_seed(5)
    torch.testing.assert_close(again.bridged(unit(TEXT)), unit(expected))


def test_sigma_is_the_mean_largest_difference_of_a_clips_captions() -> None:
    """By loops over the pairs of each clip's captions; clips of one caption have none."""
    first, means = 0, []
    for count in COUNTS.tolist():
        own = unit(TEXT[first : first + count]).numpy()
        first += count
        if count > 1:
            means.append(np.mean([np.abs(a - b).max() for a, b in combinations(own, 2)]))
    assert spread(Rows(TEXT), COUNTS) == pytest.approx(np.mean(means), rel=1e-5)
    assert float(calibrated(noise="captions").noise) == pytest.approx(np.mean(means), rel=1e-5)
    assert spread(Rows(TEXT), COUNTS, clips=1) == pytest.approx(means[0], rel=1e-5)
    with pytest.raises(EarwitnessError, match=r"clips with several captions.*give σ"):
        spread(Rows(TEXT), torch.ones(len(TEXT), dtype=torch.int64))


def test_the_centre_is_of_clean_views_alone() -> None:
    doubled = torch.stack([SOUND, torch.full_like(SOUND, 7.0)], 1).flatten(0, 1)
    torch.testing.assert_close(centre(Rows(doubled, views=2)), unit(SOUND).mean(0))


def batch_of(**changes: Any) -> Batch:
    tokens = torch.tensor([[0, 5, 6, 2, 1], [0, 7, 2, 1, 1], [0, 8, 9, 10, 2]])
    ones = torch.ones(3, dtype=torch.int64)
    text, sound = Padded(TEXT[:3, None], ones), Padded(SOUND[:3, None], ones)
    values: dict[str, Any] = {"features": (sound,), "tokens": tokens, "text": text, "clips": ones}
    return Batch(**{**values, **changes})


def loss_by_hand(model: Prefix, embeddings: Tensor, tokens: Tensor) -> float:
    """The mean of −log p of each token but the padding, one at a time (eq. 1)."""
    lost = []
    for embedding, row in zip(embeddings, tokens.tolist(), strict=True):
        memory = model.prefix(embedding[None])
        written = [token for token in row if token != IDS.pad]
        for at in range(1, len(written)):
            read = torch.tensor([written[:at]])
            log_probs = model.logits(memory, read)[0, -1].log_softmax(-1)
            lost.append(-float(log_probs[written[at]]))
    return float(np.mean(lost))


@torch.no_grad()
def test_the_loss_reads_the_captions_own_embedding_and_no_padding() -> None:
    model, batch = calibrated(prefix_length=2, shift=True).eval(), batch_of()
    expected = loss_by_hand(model, unit(TEXT[:3]) + GAP, batch.tokens)
    assert float(model.loss(batch).total) == pytest.approx(expected, rel=1e-5)
    silent = batch_of(features=())
    assert float(model.loss(silent).total) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_the_upper_bound_reads_the_sound() -> None:
    model, batch = calibrated(supervised=True).eval(), batch_of(text=None)
    expected = loss_by_hand(model, unit(SOUND[:3]), batch.tokens)
    assert float(model.loss(batch).total) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_sound_gets_no_noise_and_no_shift() -> None:
    """Noise and shift are of training alone; frames are averaged to one unit vector."""
    model = calibrated(noise=0.5, shift=True)
    frames = torch.stack([SOUND[:2], SOUND[2:4]], 1)  # (2, 2, W)
    memory = model.encode([Padded(frames, torch.tensor([2, 1]))])
    expected = unit(torch.stack([frames[0].mean(0), frames[1, 0]]))
    torch.testing.assert_close(memory.values, model.prefix(expected).values)
    assert memory.mask.shape == (2, 1) and memory.mask.all()


def test_it_is_rebuilt_from_its_configuration() -> None:
    """Where its plan names weights that a network would be asked for, too."""
    model = calibrated(noise="captions", shift=True).eval()
    assert model.configuration["noise"] == pytest.approx(spread(Rows(TEXT), COUNTS))
    again = rebuild(plan_of(pretrained="no/such-gpt"), [WIDTH], model).eval()
    again.load_state_dict(model.inference_state_dict())
    batch = batch_of()
    memory = [m.encode(batch.features) for m in (model, again)]
    both = [m.logits(own, batch.tokens) for m, own in zip((model, again), memory, strict=True)]
    assert torch.equal(*both)


def test_errors_say_what_to_change() -> None:
    with pytest.raises(EarwitnessError, match=r"clap is 12 wide, but clap-text is 10; .*one space"):
        build(plan_of(), [WIDTH], IDS, 10)
    with pytest.raises(EarwitnessError, match=r"prefix.shift needs.*sound_dataset"):
        model_of(shift=True).calibrate(None, Rows(TEXT), COUNTS)
    for wrong in ({"noise": 0.1}, {"shift": True}):
        with pytest.raises(EarwitnessError, match="supervised: true trains on sound"):
            parse_section(PrefixConfig, {"supervised": True, **wrong}, "params.yaml")
    with pytest.raises(EarwitnessError, match="noise"):
        parse_section(PrefixConfig, {"noise": "caption"}, "params.yaml")
