"""A BERT's or a RoBERTa's sizes from its tensors, and its tokenizer from elsewhere.

For checkpoints without a config.json and a tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoTokenizer, BertConfig

from pipeline.errors import EarwitnessError, one_line
from pipeline.weights import local_first

HEAD = 64  # width of an attention head in every published BERT: not in the tensors


def bert_config(state: Mapping[str, Tensor], prefix: str) -> BertConfig:
    """The BERT whose tensors' names begin with ``prefix``.

    Raises:
        KeyError: the tensor that is missing.
    """
    return BertConfig(**bert_sizes(state, prefix))


def bert_sizes(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """The sizes of the network whose tensors' names begin with ``prefix``, by BertConfig's names.

    Raises:
        KeyError: the tensor that is missing.
    """
    layer = f"{prefix}encoder.layer."
    vocabulary, width = state[f"{prefix}embeddings.word_embeddings.weight"].shape
    names = {name.removeprefix(layer) for name in state if name.startswith(layer)}
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": len({name.split(".")[0] for name in names}),
        "num_attention_heads": max(width // HEAD, 1),
        "intermediate_size": len(state[f"{layer}0.intermediate.dense.weight"]),
        "max_position_embeddings": len(state[f"{prefix}embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(state[f"{prefix}embeddings.token_type_embeddings.weight"]),
    }


def named_tokenizer(name: str, what: str, hint: str) -> Any:
    """A tokenizer from a folder or by hub name.

    Raises:
        EarwitnessError: there is none; ``what`` asks for it, and ``hint`` says what to do.
    """

    def load(local: bool) -> Any:
        return AutoTokenizer.from_pretrained(name, local_files_only=local, trust_remote_code=False)

    with one_line(what, hint, f"no tokenizer '{name}'"):
        return local_first(load, name)


def check_vocabulary(tokenizer: Any, tokens: int, name: str, source: Path, usual: str) -> None:
    """Refuses a tokenizer of another size than the network's.

    Raises:
        EarwitnessError: so it is; ``usual`` is the one that such checkpoints need.
    """
    if len(tokenizer) != tokens:
        raise EarwitnessError(
            f"{name}: a tokenizer of {len(tokenizer)} tokens, but {source} has {tokens}; set"
            f" `tokenizer` to the one it was trained with ({usual})"
        )
