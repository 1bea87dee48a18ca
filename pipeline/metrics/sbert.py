"""SBERT similarity, the first half of FENSE (Zhou et al. 2022)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import EarwitnessError
from pipeline.metrics.types import ClipScores, ScoredSet, averaged
from pipeline.weights import Weights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FIELD = "paraphrase-TinyBERT-L6-v2"  # FENSE's own
REPOSITORY = f"sentence-transformers/{FIELD}"


def suffix(weights: Weights) -> str:
    """What a score's name carries after it: nothing for the field's own weights."""
    name = weights.name.rstrip("/").rsplit("/", 1)[-1]
    if weights == Weights("hub") or name == FIELD:
        return ""
    if "minilm" in name.lower():
        return "_minilm"
    return "_" + re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def load(weights: Weights, device: str) -> SentenceTransformer:
    """A sentence-transformers model.

    Args:
        weights: ``hub`` (the field's own), ``hub:owner/name``, ``package:NAME``, or a folder.

    Raises:
        EarwitnessError: it is missing, cannot be downloaded, or is not such a model.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    from pipeline.encoders.checkpoints import reading
    from pipeline.encoders.sources import Hub, locate

    folder = locate(weights, "sbert", Hub(repository=REPOSITORY))
    if not (folder / "modules.json").is_file():
        raise EarwitnessError(f"{folder}: not a sentence-transformers model (no modules.json)")
    if not sys.stderr.isatty():
        disable_progress_bar()  # that of transformers, which lasts a moment
    with reading(folder):
        return SentenceTransformer(str(folder), device=device, local_files_only=True)


def sbert_sim(model: SentenceTransformer, sets: Mapping[str, ScoredSet]) -> dict[str, ClipScores]:
    """Mean cosine of each candidate with its references, of several systems.

    Args:
        sets: a system's name → its N candidates and their references; either as they were written
            or as tokens joined by spaces, as the model's tokenizer splits them again.
    """
    texts = {text for chosen in sets.values() for text in _texts(chosen)}
    order = {text: place for place, text in enumerate(sorted(texts))}
    vectors = np.asarray(
        model.encode(
            [*order],
            normalize_embeddings=True,
            convert_to_numpy=True,
            batch_size=64,
            show_progress_bar=False,
        ),
        dtype=np.float64,
    )
    return {
        name: averaged(
            np.array(
                [
                    (vectors[[order[text] for text in row]] @ vectors[order[candidate]]).mean()
                    for candidate, row in zip(*chosen, strict=True)
                ]
            )
        )
        for name, chosen in sets.items()
    }


def _texts(chosen: ScoredSet) -> list[str]:
    return [*chosen.candidates, *(text for row in chosen.references for text in row)]
