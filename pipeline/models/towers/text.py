"""Text towers: any transformers text model, pretrained, or a small BERT from scratch (SJTU 2.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, BertConfig

from pipeline.config.retrievers import TextTowerConfig
from pipeline.encoders import checkpoints
from pipeline.errors import EarwitnessError
from pipeline.models.towers.base import TextTowerModel
from pipeline.models.towers.text_tokens import TextTokens, located

# of a configuration: depends on the machine or the library's version, or is not used here
_LEFT_OUT = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


class TransformerTower(TextTowerModel):
    """A transformers encoder; a caption's embedding is its first token's, or the tokens' mean.

    BERT's pooling layer is left out, as in SJTU's code.
    """

    def __init__(self, model: Any, settings: TextTowerConfig, source: str) -> None:
        """``source``: where the model is from, for error messages."""
        super().__init__()
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        self.model = model
        self.pooling = settings.pooling
        self.embedding_width = int(model.config.hidden_size)
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and settings.max_tokens > longest:
            raise EarwitnessError(
                f"{source}: takes {longest} tokens; set the text tower's max_tokens to that or less"
            )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        hidden = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = mask / lengths[:, None]
        return (weights[:, None].to(hidden.dtype) @ hidden)[:, 0]


def text_network(settings: TextTowerConfig, tokens: TextTokens) -> dict[str, Any]:
    """A tower's transformers configuration, as JSON: enough to build it again offline.

    Raises:
        EarwitnessError: the model is not available, or sizes do not fit.
    """
    if settings.weights.kind == "scratch":
        config = _small_bert(settings, tokens)
    else:
        location = located(settings)
        with checkpoints.reading(location):
            config = AutoConfig.from_pretrained(
                location, local_files_only=True, trust_remote_code=False
            )
    return {name: value for name, value in config.to_dict().items() if name not in _LEFT_OUT}


def build_text_tower(
    settings: TextTowerConfig, network: dict[str, Any], *, pretrained: bool = True
) -> TransformerTower:
    """The tower with its initial weights.

    Args:
        network: of :func:`text_network`.
        pretrained: False for random weights, to be replaced by a trained retriever's.

    Raises:
        EarwitnessError: the weights are not available or do not fit, or sizes do not fit.
    """
    config = AutoConfig.for_model(**network)
    if pretrained and settings.weights.kind != "scratch":
        location = located(settings)
        return TransformerTower(_pretrained(location, config), settings, str(location))
    model = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return TransformerTower(model, settings, f"text tower {settings.weights}")


def _pretrained(location: Path, config: Any) -> Any:
    with checkpoints.reading(location):
        with torch.device("meta"):
            architecture = type(AutoModel.from_config(config, trust_remote_code=False))
        # read by us, so that nothing is unpickled
        model, found = architecture.from_pretrained(
            None,
            config=config,
            state_dict=checkpoints.read_state(location),
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise EarwitnessError(
            f"{location}: {missing[0]} is missing, one of {len(missing)} of {config.model_type}'s "
            "weights; give a folder that has them all"
        )
    return model


def _small_bert(settings: TextTowerConfig, tokens: TextTokens) -> BertConfig:
    return BertConfig(
        vocab_size=tokens.size,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.feed_forward,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        max_position_embeddings=settings.max_tokens,
        type_vocab_size=1,
        pad_token_id=tokens.pad,
    )
