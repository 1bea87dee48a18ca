"""A BERT's configuration from its tensors, for checkpoints without a config.json."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import BertConfig

HEAD = 64  # width of an attention head in every published BERT: not in the tensors


def bert_config(state: Mapping[str, Tensor], prefix: str) -> BertConfig:
    """The BERT whose tensors' names begin with ``prefix``.

    Raises:
        KeyError: the tensor that is missing.
    """
    layer = f"{prefix}encoder.layer."
    vocabulary, width = state[f"{prefix}embeddings.word_embeddings.weight"].shape
    names = {name.removeprefix(layer) for name in state if name.startswith(layer)}
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=len({name.split(".")[0] for name in names}),
        num_attention_heads=max(width // HEAD, 1),
        intermediate_size=len(state[f"{layer}0.intermediate.dense.weight"]),
        max_position_embeddings=len(state[f"{prefix}embeddings.position_embeddings.weight"]),
        type_vocab_size=len(state[f"{prefix}embeddings.token_type_embeddings.weight"]),
    )
