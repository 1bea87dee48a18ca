"""The weights of a pretrained GPT-2, by hub name or folder."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import GPT2LMHeadModel

from pipeline.errors import EarwitnessError
from pipeline.models.decoders.gpt import Gpt, Sizes, extend_rows
from pipeline.models.pretrained import load_pretrained

# ours → transformers', whose products have their weights the other way round
LINEARS = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
NORMS = {"attention_norm": "ln_1", "inner_norm": "ln_2"}


def load_gpt(name_or_path: str, vocabulary: int, dropout: float) -> Gpt:
    """A GPT-2's weights in our decoder; looked for on this machine first.

    Args:
        vocabulary: V of the tokenizer; the tokens that were added to GPT-2's own begin as copies
            of its end of text.

    Raises:
        EarwitnessError: no such weights or no network, weights that are not safetensors, or not a
            GPT-2's.
    """
    whole = _pretrained(name_or_path)
    config = whole.config
    state = whole.state_dict()
    embedding = state["transformer.wte.weight"]
    end = config.eos_token_id if isinstance(config.eos_token_id, int) else len(embedding) - 1
    sizes = Sizes(
        max(vocabulary, len(embedding)), config.n_positions, config.n_layer, config.n_head,
        config.n_embd,
    )  # fmt: skip
    model = Gpt(sizes, dropout)
    own: dict[str, Tensor] = {
        "embedding.weight": extend_rows(embedding, sizes.vocabulary, end),
        "positions.weight": state["transformer.wpe.weight"],
        "norm.weight": state["transformer.ln_f.weight"],
        "norm.bias": state["transformer.ln_f.bias"],
    }
    for layer in range(sizes.layers):
        for ours, theirs in (LINEARS | NORMS).items():
            for kind in ("weight", "bias"):
                value = state[f"transformer.h.{layer}.{theirs}.{kind}"]
                own[f"blocks.{layer}.{ours}.{kind}"] = value.t() if value.ndim == 2 else value
    model.load_state_dict(own)
    return model


def _pretrained(name_or_path: str) -> Any:
    """transformers' own model, every weight of it read."""
    whole, lacking, mismatched = load_pretrained(GPT2LMHeadModel, name_or_path, "prefix")
    config = whole.config
    plain = config.activation_function == "gelu_new" and config.n_inner in (None, 4 * config.n_embd)
    if config.model_type != "gpt2" or lacking or mismatched or not plain:
        what = f"lacks {lacking[0]}" if lacking else "is of another form"
        raise EarwitnessError(f"prefix.pretrained: '{name_or_path}' is not a GPT-2 (it {what})")
    return whole
