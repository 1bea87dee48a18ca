"""The bi-encoder of a plan: to be trained, or to be loaded into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.plans import RetrieverPlan
from pipeline.models.biencoder import BiEncoder, StoredMeans, has_projection
from pipeline.models.towers.base import SoundTower, TextTowerModel

if TYPE_CHECKING:  # it brings model libraries along that a frozen retriever does without
    from pipeline.models.towers.text_tokens import TextTokens


def build_biencoder(
    plan: RetrieverPlan,
    widths: Sequence[int],
    text_width: int | None,
    tokenizer: TextTokens | None,
) -> BiEncoder:
    """The bi-encoder that training starts with, towers with the weights that the plan names."""
    text: TextTowerModel | StoredMeans
    if plan.text is None or tokenizer is None:
        text = _stored_text(plan, text_width or 0)
    else:
        from pipeline.models.towers.text import build_text_tower

        text = build_text_tower(plan.text, tokenizer)
    return BiEncoder(_sound_side(plan, widths, pretrained=True), text, plan.biencoder)


def rebuild_biencoder(plan: RetrieverPlan, form: dict[str, Any]) -> BiEncoder:
    """The bi-encoder of a saved form, with random weights; no network."""
    text: TextTowerModel | StoredMeans
    if plan.text is None:
        text = _stored_text(plan, form["text_width"])
    else:
        from pipeline.models.towers.text import rebuild_text_tower

        text = rebuild_text_tower(plan.text, form["text"])
    return BiEncoder(_sound_side(plan, form["widths"], pretrained=False), text, plan.biencoder)


def _sound_side(
    plan: RetrieverPlan, widths: Sequence[int], pretrained: bool
) -> SoundTower | StoredMeans:
    if plan.sound is None or plan.input is None:
        return StoredMeans(widths, norm=has_projection(plan.biencoder, "sound"))
    from pipeline.models.towers.registry import build_sound_tower

    trained = Path(plan.weights) if plan.weights else None
    return build_sound_tower(plan.sound, plan.input, trained, widths=widths, pretrained=pretrained)


def _stored_text(plan: RetrieverPlan, width: int) -> StoredMeans:
    return StoredMeans([width], norm=has_projection(plan.biencoder, "text"))
