"""BART as a captioner's decoder, with its encoder over sound features.

Lewis et al. 2020; EDTC 3.1.3.

The layers are transformers', so pretrained weights fit. Left out are the encoder's token embedding,
as it reads features, and the output layer's copy of the decoder's embedding.

**Begin and end.** Token rows are ``<s> … </s>`` everywhere. A pretrained BART was trained to read
``</s> <s> …`` (``decoder_start_token_id``, then the shifted caption): ``prefix`` is that token. It
is put before every row here; its prediction, always ``<s>``, is not part of the logits. From
scratch there is no prefix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BartForConditionalGeneration

from pipeline.config.bart import BartConfig
from pipeline.errors import EarwitnessError
from pipeline.models.decoders.bart_stepper import BartStepper
from pipeline.models.pretrained import load_pretrained
from pipeline.tensors import Memory, TokenIds

Read = Literal["last", "mean", "last_two"]  # of the encoder's hidden states: see Bart.encode


class Bart(nn.Module):
    """Features in, logits of the next token out.

    Attributes:
        width: D of the decoder and of what :meth:`encode` returns.
        tokens: V and the ids of ``<s>``, ``<pad>`` and ``</s>``.
        prefix: id put before every row, or None (see the module's docstring).
    """

    def __init__(
        self,
        config: transformers.BartConfig,
        *,
        prefix: int | None = None,
        input_width: int | None = None,
    ) -> None:
        """Random weights, by BART's initialisation.

        Args:
            config: sizes and special ids; ``encoder_layers`` 0 leaves the encoder out.
            prefix: see the class.
            input_width: D of the features; if not the decoder's, a linear layer is put before the
                encoder.
        """
        super().__init__()
        whole: Any = BartForConditionalGeneration(config)
        whole.set_attn_implementation("sdpa")
        sizes: Any = config  # its fields are typed as optional
        self.config = sizes
        self.prefix = prefix
        self.width: int = sizes.d_model
        self.input_width = input_width or self.width
        self.tokens = TokenIds(
            sizes.vocab_size, sizes.bos_token_id, sizes.pad_token_id, sizes.eos_token_id
        )
        self.project = (
            nn.Linear(self.input_width, self.width) if self.input_width != self.width else None
        )
        self.encoder = whole.model.encoder if config.encoder_layers else None
        if self.encoder is not None:
            del self.encoder.embed_tokens  # it reads features instead
        self.decoder = whole.model.decoder
        self.final_logits_bias: Tensor
        self.register_buffer("final_logits_bias", whole.final_logits_bias.detach().clone()[0])

    @classmethod
    def from_settings(
        cls,
        settings: BartConfig,
        tokens: TokenIds,
        *,
        input_width: int | None = None,
        saved: Mapping[str, Any] | None = None,
    ) -> Bart:
        """The model of ``settings``: pretrained, or from scratch with their sizes.

        Args:
            tokens: the tokenizer's.
            input_width: D of the features, if not the decoder's width.
            saved: :meth:`configuration` of a model, for the same shapes with random weights.

        Raises:
            EarwitnessError: sizes do not fit each other, or weights are not available.
        """
        if saved is not None:
            return cls(
                transformers.BartConfig.from_dict(saved["bart"]),
                prefix=saved["prefix"],
                input_width=saved["input_width"],
            )
        if settings.pretrained is not None:
            model = cls.from_pretrained(
                settings.pretrained, dropout=settings.dropout, input_width=input_width
            )
            if tokens.size > model.tokens.size or tokens[1:] != model.tokens[1:]:
                raise EarwitnessError(
                    f"bart.pretrained: {settings.pretrained} has {model.tokens.size} tokens, the "
                    f"tokenizer {tokens.size}, or their special tokens differ; use its tokenizer"
                )
            return model
        config = transformers.BartConfig(
            vocab_size=tokens.size,
            d_model=settings.width,
            encoder_layers=settings.encoder_layers,
            decoder_layers=settings.decoder_layers,
            encoder_attention_heads=settings.heads,
            decoder_attention_heads=settings.heads,
            encoder_ffn_dim=settings.feed_forward,
            decoder_ffn_dim=settings.feed_forward,
            bos_token_id=tokens.begin,
            pad_token_id=tokens.pad,
            eos_token_id=tokens.end,
            decoder_start_token_id=tokens.begin,
            init_std=0.02 * math.sqrt(768 / settings.width),  # BART-base's, scaled by width
            forced_eos_token_id=None,
            **_dropouts(settings.dropout),
        )
        return cls(config, input_width=input_width)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str, *, dropout: float = 0.1, input_width: int | None = None
    ) -> Bart:
        """Weights by hub name or folder, as safetensors; a local copy is preferred.

        Raises:
            EarwitnessError: the weights are not available, not safetensors, incomplete or of
                another architecture.
        """
        whole = _pretrained(name_or_path, dropout)
        config = whole.config
        if not isinstance(config.bos_token_id, int) or not isinstance(config.eos_token_id, int):
            raise EarwitnessError(f"bart.pretrained: {name_or_path} names no <s> or </s>")
        start = config.decoder_start_token_id
        model = cls(
            config, prefix=start if start != config.bos_token_id else None, input_width=input_width
        )
        model.decoder.load_state_dict(whole.model.decoder.state_dict())
        if model.encoder is not None:
            model.encoder.load_state_dict(whole.model.encoder.state_dict(), strict=False)
        model.final_logits_bias.copy_(whole.final_logits_bias[0])
        return model

    def encode(self, values: Tensor, mask: Tensor, read: Read = "last") -> Memory:
        """What the decoder attends to: the output of BART's encoder, or the features without one.

        Args:
            values: (B, T, D) features of ``input_width``.
            mask: (B, T) bool, true where valid; at least one frame of each clip.
            read: the encoder's last hidden state, the mean of all of them, its embedding of the
                frames included, or the mean of the last two (CMU 6.1.2).

        Returns:
            (B, T, D) values of ``width``, and the same mask.
        """
        if self.project is not None:
            values = self.project(values)
        if self.encoder is not None:
            if values.shape[1] > self.config.max_position_embeddings:
                raise EarwitnessError(
                    f"bart: {values.shape[1]} frames, but the encoder has "
                    f"{self.config.max_position_embeddings} positions; lower features.frames, or "
                    "choose a feature with fewer frames a second"
                )
            # four dimensions: transformers would make them from two by waiting for the GPU
            attention = mask[:, None, None, :].expand(-1, -1, values.shape[1], -1)
            output = self.encoder(
                inputs_embeds=values,
                attention_mask=attention,
                output_hidden_states=read != "last",
            )
            values = output.last_hidden_state
            if read != "last":
                states = output.hidden_states if read == "mean" else output.hidden_states[-2:]
                values = torch.stack(states).mean(0)
        return Memory(values, mask)

    def hidden(self, memory: Memory, tokens: Tensor) -> Tensor:
        """(B, L) ``tokens`` → (B, L, D) states of the last decoder layer."""
        if self.prefix is not None:
            tokens = F.pad(tokens, (1, 0), value=self.prefix)
        length = tokens.shape[1]
        if length > self.config.max_position_embeddings:
            raise EarwitnessError(
                f"bart: {length} tokens, but the decoder has "
                f"{self.config.max_position_embeddings} positions; lower bart.max_tokens"
            )
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        states = self.decoder(
            input_ids=tokens,
            attention_mask=causal[None, None],
            encoder_hidden_states=memory.values,
            encoder_attention_mask=memory.mask[:, None, None, :].expand(-1, -1, length, -1),
            use_cache=False,
        ).last_hidden_state
        return states if self.prefix is None else states[:, 1:]

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        """Logits of each next token, teacher-forced.

        Args:
            memory: of :meth:`encode`.
            tokens: (B, L) int64, ``<s>`` first; padding after the end has no effect.

        Returns:
            (B, L, V): position l predicts ``tokens[:, l + 1]``.
        """
        states = self.hidden(memory, tokens)
        return F.linear(states, self.decoder.embed_tokens.weight, self.final_logits_bias)

    def stepper(self) -> BartStepper:
        """Cached decoding steps, with the weights of the moment of each start."""
        return BartStepper(self.decoder, self.final_logits_bias, self.tokens, self.prefix)

    def configuration(self) -> dict[str, Any]:
        """JSON from which :meth:`from_settings` builds the same model again."""
        return {
            "bart": self.config.to_dict(),
            "prefix": self.prefix,
            "input_width": self.input_width,
        }


def _dropouts(dropout: float) -> dict[str, Any]:
    """The three rates, which are equal in facebook/bart-base."""
    return {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}


def _pretrained(name_or_path: str, dropout: float) -> Any:
    """transformers' model, with every weight loaded."""
    whole, lacking, mismatched = load_pretrained(
        BartForConditionalGeneration, name_or_path, "bart", **_dropouts(dropout)
    )
    if whole.config.model_type != "bart" or lacking or mismatched:
        what = f"lacks {lacking[0]}" if lacking else "has weights of other shapes"
        raise EarwitnessError(f"bart.pretrained: '{name_or_path}' is not a BART ({what})")
    return whole
