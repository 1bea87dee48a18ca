"""Chooses among the hypotheses of a search by how well a retriever finds that they fit the sound.

    score = log p / tokens + weight × similarity(sound, caption)

DCASE 2023's and 2024's best captioners draw captions and choose so; SLAM-AAC's CLAP-Refine is the
same with the similarity alone, which a large weight comes to. N clips, D values of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.evaluation import RerankConfig
from pipeline.decoding.predict import Caption, per_token
from pipeline.features.store import open_stores
from pipeline.model_folders import model_of
from pipeline.text.tokenizer import Tokenizer
from pipeline.trained.inputs import Array
from pipeline.trained.retriever import TrainedRetriever, load_retriever


@dataclass(frozen=True)
class Reranker:
    """A retriever or a space, and how much its word weighs."""

    retriever: TrainedRetriever
    weight: float

    def embed(self, features: Sequence[Sequence[Array]]) -> Tensor:
        """(N, D) of clips by what its sound side reads: E lists of N arrays (T, W)."""
        return self.retriever.embed_sound(self.retriever.sound.arrays(features))

    def embed_stored(self, features: Path, clips: Sequence[str]) -> Tensor:
        """(N, D) of clips whose features are stored in a dataset's folder."""
        sound = self.retriever.sound
        stores = open_stores(features, sound.features)
        return self.retriever.embed_sound(sound.stored(stores, clips))

    def choose(
        self, captions: Sequence[Caption], sound: Tensor, tokenizer: Tokenizer
    ) -> list[Caption]:
        """Each clip's caption and its candidates in the order of their scores.

        ``log_prob`` stays the captioner's. Equal scores keep the order of the search; an empty
        hypothesis, which no text encoder reads, stands behind all others.

        Args:
            captions: N, with their candidates.
            sound: (N, D) of :meth:`TrainedRetriever.embed_sound`.
        """
        rows = [((each.text, each.log_prob), *each.candidates) for each in captions]
        texts = [text for row in rows for text, _ in row]
        log_probs = [log_prob for row in rows for _, log_prob in row]
        clip_of = torch.tensor([clip for clip, row in enumerate(rows) for _ in row])
        likely = torch.tensor(per_token(texts, log_probs, tokenizer), dtype=torch.float64)
        scores = self._scores(texts, likely, sound[clip_of.to(sound.device)])
        chosen = []
        for caption, row, own in zip(
            captions, rows, scores.split([len(row) for row in rows]), strict=True
        ):
            first, *others = (row[at] for at in own.argsort(descending=True, stable=True).tolist())
            chosen.append(caption._replace(text=first[0], log_prob=first[1], candidates=(*others,)))
        return chosen

    def _scores(self, texts: Sequence[str], likely: Tensor, sound: Tensor) -> Tensor:
        """(H,) of H texts, each with its own row of ``sound`` (H, D) and log p / tokens (H,)."""
        distinct = [text for text in dict.fromkeys(texts) if text.strip()]
        place = {text: at for at, text in enumerate(distinct)}
        known = torch.tensor([at for at, text in enumerate(texts) if text in place])
        scores = torch.full_like(likely, -torch.inf)
        if len(known):
            embedded = self.retriever.embed_text(self.retriever.text.queries(distinct))
            own = embedded[[place[texts[at]] for at in known.tolist()]]
            fit = self.retriever.pair(own, sound[known.to(sound.device)]).paired().cpu()
            scores[known] = likely[known] + self.weight * fit.double()
        return scores


def open_reranker(
    settings: RerankConfig | None, retrievers: Path, seed: int, device: torch.device
) -> Reranker | None:
    """What ``rerank`` of the parameters says; None where it is off.

    Args:
        retrievers: folder of the retrievers and spaces, each in a folder of its name.
        seed: of the retriever; a space has none.
    """
    if settings is None or settings.retriever is None:
        return None
    folder = model_of(retrievers / settings.retriever, seed)
    return Reranker(load_retriever(folder, device), settings.weight)
