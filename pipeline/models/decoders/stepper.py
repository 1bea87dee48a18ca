"""The interface between a search and a model; an ensemble is a Stepper too."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Stepper(Protocol):
    """One decoding step for all beams of all clips, with the model's cache.

    The search does not look into the state. Token ids and special ids are the model's.
    """

    vocabulary: int  # V
    begin: int  # id that starts a caption
    end: int  # id that ends it
    pad: int

    def start(self, memory: Any, beams: int, max_length: int) -> Any:
        """The state before the first token, for B clips × ``beams`` hypotheses.

        ``memory`` is a :class:`pipeline.tensors.Memory`, or an ensemble's tuple of them.
        ``max_length`` bounds the number of :meth:`step` calls, so that caches are allocated once.
        """

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Log-probabilities of the next token.

        Args:
            tokens: (B, K) int64, the token that each hypothesis chose last.
            state: as :meth:`start` or :meth:`step` returned it; stepped once, since a model may
                write its cache in place.

        Returns:
            (B, K, V) float32 log-probabilities, which the caller may overwrite, and the state after
            ``tokens``.
        """

    def reorder(self, state: Any, parents: Tensor) -> Any:
        """The state whose hypothesis k of clip b continues ``parents[b, k]`` ((B, K) int64)."""

    def select(self, state: Any, clips: Tensor) -> Any:
        """The state of ``clips`` ((B',) int64) only: finished clips leave the batch."""
