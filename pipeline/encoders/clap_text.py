"""CLAP's text side (Wu et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoTokenizer, ClapConfig, ClapTextConfig, ClapTextModelWithProjection

from pipeline.config.encoders import ClapTextEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.batching import BatchedTextEncoder
from pipeline.encoders.bert import bert_sizes, check_vocabulary, named_tokenizer
from pipeline.encoders.clap_checkpoint import TRAINING, laion_state, projection_width
from pipeline.encoders.htsat_checkpoint import FRONT, HEADS
from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError, one_line, reason

HUB = Hub(repository="laion/clap-htsat-unfused")
UNUSED = ("audio_model.", "audio_projection.", *TRAINING, *FRONT, *HEADS)
PREFIX = "text_model."  # begins the names of the RoBERTa's tensors
ROBERTA = "LAION: FacebookAI/roberta-base"
LONGEST = 77  # tokens that LAION's code reads of a caption (LAION-AI/CLAP, hook.py)


class ClapTextEncoder(BatchedTextEncoder):
    """``mean``: one embedding a caption, equal to ``ClapModel.get_text_features``; ``tokens``: the
    text model's last hidden states, of its begin and end tokens too.
    """

    def __init__(
        self,
        settings: ClapTextEncoderConfig,
        model: Any,
        tokenizer: Any,
        longest: int,
        device: str,
    ) -> None:
        """``longest``: tokens that are read of a caption, its begin and end tokens among them."""
        super().__init__(settings.batch, device)
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.tokens = settings.pooling == "tokens"
        config = model.config
        self.width = config.hidden_size if self.tokens else config.projection_dim
        self.longest = longest

    @property
    def network(self) -> nn.Module:
        network: nn.Module = self.model
        return network

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


class _ClapText(NamedTuple):
    """What a ClapModel's folder or LAION's file says."""

    config: ClapTextConfig
    tokenizer: Any
    longest: int  # tokens of a caption
    state: Mapping[str, Tensor]  # under the names of a ClapModel


def build(settings: ClapTextEncoderConfig, location: Path, device: str) -> ClapTextEncoder:
    """The encoder with the weights of a ClapModel's folder, or of LAION's .pt."""
    saved = _folder(location) if location.is_dir() else _laion(location, settings.tokenizer)
    with checkpoints.reading(location), torch.device("meta"):
        planned = ClapTextModelWithProjection(saved.config)
    checkpoints.check_state(planned, saved.state, location, UNUSED)
    with one_line(location):
        model = ClapTextModelWithProjection(saved.config)
        checkpoints.load_state(model, saved.state, location, UNUSED)
        encoder = ClapTextEncoder(settings, model, saved.tokenizer, saved.longest, device)
    encoder.try_out(location)
    return encoder


def _folder(location: Path) -> _ClapText:
    with checkpoints.reading(location):
        text: Any = ClapConfig.from_pretrained(location, local_files_only=True).text_config
        tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=True)
        longest = text.max_position_embeddings - text.pad_token_id - 1  # RoBERTa's
    return _ClapText(text, tokenizer, longest, checkpoints.read_state(location))


def _laion(location: Path, tokenizer: str) -> _ClapText:
    """LAION's file, whose text side must be a RoBERTa; its sizes are those of its tensors."""
    state = laion_state(location, "clap_text")
    width = projection_width(state, "text_projection", location)
    try:
        sizes = bert_sizes(state, PREFIX)
    except KeyError as error:
        raise _no_roberta(location, f"{error.args[0]} is missing") from None
    except Exception as error:  # tensors of shapes that no RoBERTa has
        raise _no_roberta(location, reason(error)) from None
    if sizes["type_vocab_size"] != 1:
        raise _no_roberta(location, "its tokens have types, as a BERT's")
    with checkpoints.reading(location):
        # RoBERTa's epsilon; transformers' conversion left that of ClapTextConfig, 1e-12
        config = ClapTextConfig(**sizes, projection_dim=width, layer_norm_eps=1e-5)
    hint = "set `tokenizer` to a folder with the files of roberta-base"
    made = named_tokenizer(tokenizer, "clap_text", hint)
    check_vocabulary(made, config.vocab_size, tokenizer, location, ROBERTA)
    positions = config.max_position_embeddings - 2
    return _ClapText(config, made, min(LONGEST, positions), state)


def _no_roberta(location: Path, why: str) -> EarwitnessError:
    return EarwitnessError(
        f"{location}: its text side is no RoBERTa ({why}); give one of LAION's 630k .pt files"
    )
