"""The text side of WavCaps' retrieval models (Mei et al. 2023): BERT, then a projection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertModel

from pipeline.config.encoders import WavCapsTextEncoderConfig
from pipeline.encoders.batching import BatchedTextEncoder
from pipeline.encoders.bert import bert_config, check_vocabulary, named_tokenizer
from pipeline.encoders.sources import Hub
from pipeline.encoders.wavcaps_checkpoint import Checkpoint, read_checkpoint
from pipeline.errors import one_line

HUB = Hub(by_hand="a .pt of WavCaps' retrieval code")
PREFIX = "text_encoder."
BERT = "text_encoder.text_encoder."
UNUSED = ("audio_encoder.", "audio_proj.")
LONGEST = 30  # tokens (models/text_encoder.py)
PLAIN = str.maketrans(dict.fromkeys('(,.!?;:|*")', " "))


class TextSide(nn.Module):
    """BERT and the projection, with the checkpoint's names and sizes."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        with one_line(checkpoint.source):
            try:
                config = bert_config(checkpoint.state, BERT)
            except KeyError as error:
                raise checkpoint.lacks(error.args[0]) from None
            self.text_encoder = BertModel(config, add_pooling_layer=False)
        width = self.text_encoder.config.hidden_size
        self.text_proj = checkpoint.projection("text_proj", width)


class WavCapsTextEncoder(BatchedTextEncoder):
    """``mean``: the unit embedding of BERT's first token, equal to WavCaps' ``ASE.encode_text``;
    ``tokens``: BERT's last hidden states, of its begin and end tokens too.

    Captions are lower-cased without punctuation, as in WavCaps' data; WSAC's code does not do so.
    """

    def __init__(
        self, settings: WavCapsTextEncoderConfig, side: TextSide, tokenizer: Any, device: str
    ) -> None:
        super().__init__(settings.batch, device)
        self.side = side.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.tokens = settings.pooling == "tokens"
        config = side.text_encoder.config
        self.width = config.hidden_size if self.tokens else side.text_proj.width
        self.longest = min(LONGEST, config.max_position_embeddings)

    @property
    def network(self) -> nn.Module:
        return self.side

    def embed(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        inputs = self.tokenizer(
            [caption.lower().translate(PLAIN) for caption in captions],
            padding=True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        ).to(self.device)
        mask = inputs["attention_mask"]
        bert = self.side.text_encoder
        hidden = bert(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        if self.tokens:
            return hidden, mask.bool()
        embedding = F.normalize(self.side.text_proj(hidden[:, 0]), dim=-1)[:, None]
        return embedding, torch.ones(embedding.shape[:2], dtype=torch.bool, device=self.device)


def build(settings: WavCapsTextEncoderConfig, location: Path, device: str) -> WavCapsTextEncoder:
    """The encoder with the weights of WavCaps' checkpoint, and BERT's tokenizer."""
    checkpoint = read_checkpoint(location)
    side = TextSide(checkpoint)
    checkpoint.load(side, checkpoint.without(PREFIX), UNUSED)
    hint = "set `tokenizer` to a folder with the files of bert-base-uncased"
    tokenizer = named_tokenizer(settings.tokenizer, "wavcaps_text", hint)
    vocabulary = side.text_encoder.config.vocab_size
    usual = "WavCaps: google-bert/bert-base-uncased"
    check_vocabulary(tokenizer, vocabulary, settings.tokenizer, checkpoint.source, usual)
    encoder = WavCapsTextEncoder(settings, side, tokenizer, device)
    encoder.try_out(f"{checkpoint.source} with {settings.tokenizer}")
    return encoder
