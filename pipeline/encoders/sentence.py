"""sentence-transformers models, INSTRUCTOR (Su et al. 2023) among them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.config.encoders import InstructorEncoderConfig, SentenceEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.batching import BatchedTextEncoder
from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

HUB = Hub(repository="sentence-transformers/all-MiniLM-L6-v2")
Settings = InstructorEncoderConfig | SentenceEncoderConfig


class SentenceTextEncoder(BatchedTextEncoder):
    """``mean``: the sentence embedding; ``tokens``: the transformer's token embeddings, before
    pooling and any dense layer: ``encode(output_value="token_embeddings")``, begin and end tokens
    included, without the prompt's tokens.
    """

    def __init__(self, settings: Settings, model: SentenceTransformer, device: str) -> None:
        super().__init__(settings.batch, device)
        self.model = model
        self.tokens = settings.pooling == "tokens"
        instructor = isinstance(settings, InstructorEncoderConfig)
        self.prompt = settings.instruction if instructor else settings.prompt  # type: ignore[union-attr]
        if instructor:
            model.set_pooling_include_prompt(False)  # Su et al.: the text's tokens alone
        first: Any = model[0]
        width = first.get_embedding_dimension() if self.tokens else model.get_embedding_dimension()
        if width is None:
            raise EarwitnessError(
                f"{settings.weights}: the model does not say its embedding width; take another"
            )
        self.width = int(width)

    @property
    def network(self) -> nn.Module:
        return self.model

    def embed(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        inputs: dict[str, Any] = self.model.preprocess(captions, prompt=self.prompt or None)
        inputs = {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }
        before = int(inputs.get("prompt_length") or 0)
        outputs: dict[str, Any] = self.model(inputs)
        if self.tokens:
            mask = outputs["attention_mask"].bool()
            if before:
                mask = mask & (mask.cumsum(1) > before)
            return outputs["token_embeddings"], mask
        embedding = outputs["sentence_embedding"][:, None]
        return embedding, torch.ones(embedding.shape[:2], dtype=torch.bool, device=self.device)


def build(settings: Settings, location: Path, device: str) -> SentenceTextEncoder:
    """The encoder with the weights of a sentence-transformers folder."""
    from sentence_transformers import SentenceTransformer

    if not location.is_dir():
        raise EarwitnessError(f"{location}: not a folder of a sentence-transformers model")
    with checkpoints.reading(location):
        model = SentenceTransformer(str(location), device=device, local_files_only=True)
        encoder = SentenceTextEncoder(settings, model.eval().requires_grad_(False), device)
    encoder.try_out(location)
    return encoder
