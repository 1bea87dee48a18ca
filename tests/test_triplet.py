"""Losses of triplets against loops over pairs, and the bi-encoder that is trained with them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.retrievers import BiEncoderConfig
from pipeline.errors import EarwitnessError
from pipeline.losses.exp_distance import exp_distance_loss
from pipeline.losses.negatives import draw_negatives
from pipeline.losses.triplet import triplet_loss
from pipeline.models.biencoder import BiEncoder, Pairs, StoredMeans
from pipeline.tensors import Padded

CLIPS = torch.tensor([4, 7, 4, 2, 7, 9, 4])


def sides(seed: int = 0, pairs: int = len(CLIPS), width: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    both = torch.randn(2, pairs, width, generator=draw, dtype=torch.float32)
    return both[0].requires_grad_(), both[1].requires_grad_()


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def chosen(
    scores: list[list[float]], kind: str, clips: Tensor, seed: int
) -> tuple[list[int], list[int]]:
    """Impostors' places, caption of each sound and sound of each caption."""
    if kind == "hardest":
        rows = range(len(scores))
        others = [[j for j in rows if clips[j] != clips[i]] for i in rows]
        texts = [max(own, key=lambda j, i=i: scores[i][j]) for i, own in enumerate(others)]
        sounds = [max(own, key=lambda j, i=i: scores[j][i]) for i, own in enumerate(others)]
        return texts, sounds
    torch.manual_seed(seed)
    drawn = draw_negatives(torch.tensor(scores), clips, "random")
    return drawn.text.tolist(), drawn.sound.tolist()


@pytest.mark.parametrize("kind", ["random", "hardest"])
@pytest.mark.parametrize("margin", [1.0, 0.2])
def test_triplet_is_a_loop_over_pairs(kind: Any, margin: float) -> None:
    audio, text = sides()
    a, t = audio.tolist(), text.tolist()
    scores = [[dot(x, y) for y in t] for x in a]
    texts, sounds = chosen(scores, kind, CLIPS, seed=3)
    torch.manual_seed(3)
    found = triplet_loss(audio, text, CLIPS, margin=margin, negatives=kind)
    pairs = range(len(CLIPS))
    to_text = [max(0.0, margin - scores[i][i] + scores[i][texts[i]]) for i in pairs]
    to_sound = [max(0.0, margin - scores[i][i] + scores[sounds[i]][i]) for i in pairs]
    assert found.audio_to_text.item() == pytest.approx(sum(to_text) / len(CLIPS), rel=1e-5)
    assert found.text_to_audio.item() == pytest.approx(sum(to_sound) / len(CLIPS), rel=1e-5)


@pytest.mark.parametrize("kind", ["random", "hardest"])
def test_exp_distance_is_binary_cross_entropy_over_a_loop(kind: Any) -> None:
    audio, text = sides(1)
    a, t = audio.tolist(), text.tolist()
    likely = [[math.exp(-math.dist(x, y)) for y in t] for x in a]  # CMU 6.2.5
    texts, sounds = chosen(likely, kind, CLIPS, seed=4)
    torch.manual_seed(4)
    found = exp_distance_loss(audio, text, CLIPS, negatives=kind)
    pairs = range(len(CLIPS))
    for value, others in (
        (found.audio_to_text, [likely[i][texts[i]] for i in pairs]),
        (found.text_to_audio, [likely[sounds[i]][i] for i in pairs]),
    ):
        p = torch.tensor([likely[i][i] for i in pairs] + others)
        y = torch.tensor([1.0] * len(CLIPS) + [0.0] * len(CLIPS))
        torch.testing.assert_close(value, F.binary_cross_entropy(p, y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [triplet_loss, exp_distance_loss])
@pytest.mark.parametrize("kind", ["random", "hardest"])
def test_gradients_are_those_of_the_loss(loss: Any, kind: Any) -> None:
    """By differences, in the direction of the gradient, the draws held still."""
    audio, text = sides(2)

    def value(step: float) -> Tensor:
        torch.manual_seed(0)
        moved = [own.detach() + step * grad for own, grad in zip((audio, text), grads, strict=True)]
        return sum(loss(*moved, CLIPS, negatives=kind))  # type: ignore[return-value]

    torch.manual_seed(0)
    grads = torch.autograd.grad(sum(loss(audio, text, CLIPS, negatives=kind)), (audio, text))
    slope = (value(1e-3) - value(-1e-3)) / 2e-3
    assert float(slope) == pytest.approx(sum(float(g.square().sum()) for g in grads), rel=0.02)


def test_negatives_are_other_clips_each_alike() -> None:
    clips = torch.tensor([0, 0, 1, 2, 3])
    torch.manual_seed(0)
    counts = torch.zeros(2, 5, 5)
    for _ in range(2000):
        drawn = draw_negatives(torch.zeros(5, 5), clips, "random")
        for side, own in enumerate((drawn.text, drawn.sound)):
            counts[side, torch.arange(5), own] += 1
    same = clips[:, None] == clips
    assert (counts[:, same] == 0).all() and drawn.valid.all()
    expected = (2000 / (~same).sum(1, keepdim=True)).expand(5, 5)[~same]
    assert ((counts[:, ~same] - expected).abs() < 5 * expected.sqrt()).all()


@pytest.mark.parametrize("loss", [triplet_loss, exp_distance_loss])
def test_pairs_without_negatives_and_equal_sides_break_nothing(loss: Any) -> None:
    audio, text = sides(pairs=3)
    alone = loss(audio, text, torch.tensor([5, 5, 5]))
    assert [value.item() for value in alone] == [0, 0]
    point = torch.ones(4, 6, requires_grad=True)
    sum(loss(point, torch.ones(4, 6), torch.arange(4))).backward()
    assert point.grad is not None and point.grad.isfinite().all()


def test_the_losses_are_float32_under_autocast() -> None:
    audio, text = sides(3)
    for loss in (triplet_loss, exp_distance_loss):
        plain = loss(audio, text, CLIPS, negatives="hardest")
        with torch.autocast("cpu", torch.bfloat16):
            assert loss(audio, text, CLIPS, negatives="hardest") == plain


def frozen(settings: BiEncoderConfig, text: int = 5) -> tuple[BiEncoder, Pairs]:
    torch.manual_seed(0)
    norms = (settings.project in ("both", "sound"), settings.project in ("both", "text"))
    model = BiEncoder(StoredMeans([5], norms[0]), StoredMeans([text], norms[1]), settings)
    lengths = [3, 7, 1, 4, 2, 6, 5]
    values = torch.randn(2, 7, 7, 5)
    sound = Padded(values[0], torch.tensor(lengths))
    return model, Pairs((sound,), (Padded(values[1, ..., :text], torch.tensor(lengths)),), CLIPS)


@pytest.mark.parametrize("loss", ["triplet", "exp_distance"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("shared", [0, 9])
def test_a_bi_encoder_without_projections_compares_means(
    loss: Any, similarity: Any, shared: int
) -> None:
    """Means as they are, one linear layer of both sides where there is one, then the loss."""
    settings = BiEncoderConfig(
        loss=loss, similarity=similarity, shared=shared, project="none", negatives="hardest"
    )
    model, batch = frozen(settings)
    assert model.width == (shared or 5)
    common = []
    for padded in (*batch.sound, *batch.text):
        rows = zip(padded.values, padded.lengths.tolist(), strict=True)
        own = torch.stack([values[:length].mean(0) for values, length in rows])
        if shared:
            assert isinstance(model.shared, nn.Linear)
            own = own @ model.shared.weight.T + model.shared.bias
        common.append(own / own.norm(dim=1, keepdim=True) if similarity == "cosine" else own)
    torch.testing.assert_close(model.embed_sound(batch.sound), common[0])
    torch.testing.assert_close(model.embed_text(batch.text), common[1])
    plain = {"triplet": triplet_loss, "exp_distance": exp_distance_loss}[loss]
    expected = plain(*common, CLIPS, negatives="hardest")
    found = model.loss(batch)
    torch.testing.assert_close(found.total, sum(expected))
    assert found.temperature is None and not model.log_scale.requires_grad


def test_sides_of_different_widths_need_a_projection() -> None:
    with pytest.raises(EarwitnessError, match="makes sound 5 wide and text 4"):
        frozen(BiEncoderConfig(project="none"), text=4)
    with pytest.raises(EarwitnessError, match="makes sound 16 wide and text 5"):
        frozen(BiEncoderConfig(project="sound", width=16))
