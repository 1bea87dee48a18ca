"""CLAP's text side (Wu et al. 2023)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, ClapConfig, ClapTextModelWithProjection

from pipeline.config.encoders import ClapTextEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.batching import BatchedTextEncoder
from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError, one_line

HUB = Hub(repository="laion/clap-htsat-unfused")


class ClapTextEncoder(BatchedTextEncoder):
    """``mean``: one embedding a caption, equal to ``ClapModel.get_text_features``; ``tokens``: the
    text model's last hidden states, of its begin and end tokens too.
    """

    def __init__(
        self, settings: ClapTextEncoderConfig, model: Any, tokenizer: Any, device: str
    ) -> None:
        super().__init__(settings.batch, device)
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.tokens = settings.pooling == "tokens"
        config = model.config
        self.width = config.hidden_size if self.tokens else config.projection_dim
        self.longest = config.max_position_embeddings - config.pad_token_id - 1  # RoBERTa's

    def embed(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        inputs = self.tokenizer(
            captions,
            padding=True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        ).to(self.device)
        outputs = self.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        if self.tokens:
            return outputs.last_hidden_state, inputs["attention_mask"].bool()
        embedding = F.normalize(outputs.text_embeds, dim=-1)[:, None]
        return embedding, torch.ones(embedding.shape[:2], dtype=torch.bool, device=self.device)


def build(settings: ClapTextEncoderConfig, location: Path, device: str) -> ClapTextEncoder:
    """The encoder with the weights of a ClapModel's folder."""
    if not location.is_dir():
        raise EarwitnessError(f"{location}: clap_text needs a folder written by save_pretrained")
    with checkpoints.reading(location):
        text: Any = ClapConfig.from_pretrained(location, local_files_only=True).text_config
        tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=True)
        with torch.device("meta"):
            planned = ClapTextModelWithProjection(text)
    unused = ("audio_model.", "audio_projection.", "logit_scale_")
    state = checkpoints.read_state(location)
    checkpoints.check_state(planned, state, location, unused)
    with one_line(location):
        model = ClapTextModelWithProjection(text)
        checkpoints.load_state(model, state, location, unused)
        encoder = ClapTextEncoder(settings, model, tokenizer, device)
    encoder.try_out(location)
    return encoder
