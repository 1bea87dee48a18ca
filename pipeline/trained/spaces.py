"""Makes a space: a retriever of frozen encoders, of which nothing is trained.

What is made is a :class:`TrainedRetriever`, so that all that reads one reads a space: ranking,
search, encoding, and WSAC's captioner and text memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pipeline.config.plans import SpacePlan
from pipeline.corpora.descriptions import captions_by_label
from pipeline.device import resolve_device
from pipeline.encoders.base import TextEncoder
from pipeline.encoders.labels import class_names
from pipeline.errors import EarwitnessError
from pipeline.models.tags import CentredText, TagSound, name_embeddings
from pipeline.trained.readers import StoredTextReader, new_text
from pipeline.trained.retriever import TrainedRetriever, build_retriever


def make_space(
    plan: SpacePlan, device: str | torch.device = "auto", encoder: TextEncoder | None = None
) -> TrainedRetriever:
    """The space of a plan, in evaluation mode; a tag space embeds its tagger's names.

    Args:
        encoder: of its text; None: it is built when it is first needed.

    Raises:
        EarwitnessError: the tagger's classes have no names, or others than it gives probabilities
            of, or their descriptions cannot be read; or the text encoder is not available, or of
            another width.
    """
    place = resolve_device(device)
    sound, text = plan.widths
    reader = new_text(plan, [], (text,), place)
    assert isinstance(reader, StoredTextReader)  # a space's text is of an encoder
    reader = replace(reader, built=encoder)
    retriever = build_retriever(plan, (sound,), reader, place, pretrained=False)
    if plan.sound.tags is not None:
        _name_tags(plan, retriever)
    retriever.model.eval().requires_grad_(False)
    return retriever


@torch.no_grad()
def _name_tags(plan: SpacePlan, retriever: TrainedRetriever) -> None:
    """Puts the embedded names into both sides."""
    tags, sound, text = plan.sound.tags, retriever.model.sound, retriever.model.text
    assert tags is not None and isinstance(sound, TagSound) and isinstance(text, CentredText)
    trained = Path(plan.sound.weights) if plan.sound.weights else None
    names = class_names(plan.sound.encoder, trained)
    if len(names) != plan.widths[0]:
        raise EarwitnessError(
            f"space {plan.name}: {len(names)} names for {plan.widths[0]} classes of "
            f"{plan.sound.features[0]}; give the names of this tagger"
        )
    described = captions_by_label(Path(tags.descriptions)) if tags.descriptions else {}
    texts = [
        (*(template.replace("{}", name) for template in tags.templates), *described.get(name, ()))
        for name in names
    ]
    read = retriever.text.queries([text for own in texts for text in own])
    embedded = torch.empty(sum(map(len, texts)), text.embedding_width, device=retriever.device)
    for batch in read.batches():
        embedded[batch.to(retriever.device)] = text.embed(read.batch(batch))
    by_name = embedded.split([len(own) for own in texts])
    own, centre = name_embeddings(by_name, tags.centre, tags.ridge)
    sound.names.copy_(own)
    text.centre.copy_(centre)
