"""Beam search of one clip by the obvious loop, without a cache, for comparison."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.tensors import TokenIds


def plain_beam(
    log_probs: Callable[[Tensor], Tensor],
    ids: TokenIds,
    *,
    beams: int,
    min_length: int,
    max_length: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(L,): the best caption; stops by the same rule as ``pipeline.decoding.search``.

    Args:
        log_probs: (n, L) tokens of n hypotheses → (n, V) of their next tokens, which may be
            overwritten; both on ``device``.
    """
    tokens = torch.tensor([[ids.begin]], device=device)
    totals = torch.zeros(1, device=device)
    finished: list[tuple[float, Tensor]] = []
    for step in range(1, max_length + 2):
        scores = log_probs(tokens)
        scores[:, [ids.begin, ids.pad]] = float("-inf")
        if step <= min_length:
            scores[:, ids.end] = float("-inf")
        if step > max_length:
            scores[:, torch.arange(ids.size, device=device) != ids.end] = float("-inf")
        best, order = (totals[:, None] + scores).flatten().topk(2 * beams)
        live: list[tuple[float, Tensor]] = []
        for rank, (total, index) in enumerate(zip(best.tolist(), order.tolist(), strict=True)):
            parent, token = divmod(index, ids.size)
            grown = torch.cat((tokens[parent], order.new_tensor([token])))
            if token != ids.end:
                live.append((total, grown))
            elif rank < beams:
                finished.append((total / step, grown))
        finished = sorted(finished, key=lambda pair: -pair[0])[:beams]
        totals = torch.tensor([total for total, _ in live[:beams]], device=device)
        tokens = torch.stack([grown for _, grown in live[:beams]])
        if len(finished) == beams and live[0][0] / step <= finished[-1][0]:
            break
    return finished[0][1]
