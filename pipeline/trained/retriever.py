"""A trained retriever, and its folder.

Its weights are those of both towers, the projections and the temperature. Its form has the
features' widths and the configuration of its text tower, whose tokenizer stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import ranks
from pipeline.config.plans import BiEncoderPlan, RetrieverPlan, SpacePlan
from pipeline.device import autocast, resolve_device
from pipeline.errors import EarwitnessError
from pipeline.files import read_json
from pipeline.metrics.retrieval import Embeddings
from pipeline.models.biencoder import BiEncoder, build_biencoder
from pipeline.models.towers.base import SoundTower
from pipeline.state_dicts import weights
from pipeline.trained.folder import check_widths, load_trained, save_trained
from pipeline.trained.inputs import Embeddable
from pipeline.trained.readers import FeatureReader, TextReader, load_text


@dataclass(frozen=True)
class TrainedRetriever:
    """A bi-encoder, and how its sides read clips and captions.

    ``sound`` and ``text`` make inputs, :meth:`embed_sound` and :meth:`embed_text` embed them, and
    :meth:`pair` compares the embeddings.
    """

    plan: BiEncoderPlan
    model: BiEncoder
    sound: FeatureReader
    text: TextReader

    @property
    def device(self) -> torch.device:
        return self.model.log_scale.device

    @property
    def width(self) -> int:
        """D of the common space."""
        return self.model.width

    @property
    def tower(self) -> SoundTower:
        """The trained sound tower.

        Raises:
            EarwitnessError: there is none, as the retriever reads frozen features.
        """
        if not isinstance(self.model.sound, SoundTower):
            raise EarwitnessError(
                f"retriever {self.plan.name} trains projections alone and makes no frames; "
                f"name its features ({', '.join(self.sound.features)}) instead"
            )
        return self.model.sound

    def embed_sound(self, sound: Embeddable) -> Tensor:
        """N whole clips → (N, D) float32 on the device; unit rows for the cosine."""
        return self._embedded(sound, self.model.embed_sound)

    def embed_text(self, text: Embeddable) -> Tensor:
        """N captions → (N, D) float32 on the device; unit rows for the cosine."""
        return self._embedded(text, self.model.embed_text)

    def pair(self, captions: Tensor, clips: Tensor) -> Embeddings:
        """(M, D) and (N, D), with the similarity that the retriever was trained with."""
        by_distance = self.plan.biencoder.loss == "exp_distance"
        return Embeddings(captions, clips, by_distance)

    def save(self, folder: Path, curves: str | None) -> None:
        """Writes everything into an empty folder; the same retriever gives the same bytes."""
        form = {"sound": self.sound.widths, "text": self.text.widths, "network": self.text.network}
        save_trained(folder, weights(self.model), form, self.plan, curves)
        self.text.save(folder)

    @torch.no_grad()
    def _embedded(self, inputs: Embeddable, embed: Callable[[Any], Tensor]) -> Tensor:
        """(N, D): ``embed`` of each batch, in the order of the entries; ranks divide them."""
        batches = inputs.batches()
        nothing = torch.zeros(0, self.width, device=self.device)
        if not batches:
            return nothing
        with autocast(self.plan.hardware.precision, self.device):
            own = [embed(inputs.batch(batch)) for batch in ranks.mine(batches)]
        found = ranks.all_rows(torch.cat(own) if own else nothing)
        result = torch.empty_like(found)
        result[torch.cat(batches).to(self.device)] = found
        return result


def build_retriever(
    plan: BiEncoderPlan,
    widths: tuple[int, ...],
    text: TextReader,
    device: torch.device,
    *,
    pretrained: bool,
) -> TrainedRetriever:
    """A retriever before its training, in training mode.

    Args:
        widths: W of each stored sound feature.
        pretrained: false gives random weights, to be replaced by trained ones; no file is read.
    """
    model = build_biencoder(
        plan.sound,
        plan.text,
        plan.biencoder,
        sound_widths=widths,
        text_widths=text.widths,
        network=text.network,
        pretrained=pretrained,
    )
    sound = FeatureReader(plan.name, plan.sound.features, widths, device)
    return TrainedRetriever(plan, model.to(device), sound, text)


def load_retriever(folder: Path, device: str | torch.device = "auto") -> TrainedRetriever:
    """What :meth:`TrainedRetriever.save` wrote, in evaluation mode on ``device``.

    Raises:
        EarwitnessError: a file is missing, broken, of another model, or of another version.
    """

    def build(plan: BiEncoderPlan, form: dict[str, Any]) -> TrainedRetriever:
        place = resolve_device(device)
        sound = check_widths(form["sound"], plan.sound.features)
        stored = check_widths(form["text"], plan.text.features)
        text = load_text(plan, folder, stored, form["network"], place)
        return build_retriever(plan, sound, text, place, pretrained=False)

    return load_trained("retriever", folder, load_plan, build)


def load_plan(path: Path, hint: str) -> BiEncoderPlan:
    """Of a retriever that was trained, or of a space."""
    values = read_json(path, hint)
    space = isinstance(values, dict) and "widths" in values
    return (SpacePlan if space else RetrieverPlan).load(path, hint)
