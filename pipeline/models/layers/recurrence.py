"""The part of TRANSLATOR that must be computed step by step, with nothing else in the loop.

In an encoder layer (EDTC 3.3.2) step n's CAB needs step n − 1's hidden state, which is step
n − 1's GAB output. With CAB's single-key attention and GAB's output projection folded into one
matrix (:class:`pipeline.models.layers.translator.EncoderLayer` does so), a step is

    u_n = c_n + ctx_{n−1} M          CAB's sum; c holds the convolution, M the folded projections
    x_n = (u_n − mean) / deviation   its layer normalisation, gain and bias folded into Wq, bq
    q_n = x_n Wq + bq                GAB's query, already scaled
    ctx_n = softmax(q_n Kᵀ) V        GAB, per head, before its output projection

The backward pass is explicit, so that its loop has only the chain of hidden states: the gradients
of M, Wq, K and V are one product each, after the loop.

Letters here: T steps, S stacked copies, B clips, D width, H heads, d = D / H.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipeline.uncompiled import uncompiled

EPSILON = 1e-5  # layer normalisation, torch's default


@partial(uncompiled, recursive=False)  # else each layer's loop is unrolled and compiled
def walk(
    c: Tensor,
    recurrent: Tensor,
    query: Tensor,
    query_bias: Tensor,
    keys: Tensor,
    values: Tensor,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """All T steps.

    Args:
        c: (T, S, B, D), what does not depend on the hidden state.
        recurrent: M, (S, D, D).
        query: Wq, (S, D, D), scaled by 1 / √d.
        query_bias: bq, (S, D).
        keys: (S·B·H, T', d) of the whole input.
        values: (S·B·H, T', d) of the whole input.
        compiled: fuse each loop by ``torch.compile``.

    Returns:
        x and ctx, (T, S, B, D) both.
    """
    inputs = [c, recurrent, query, query_bias, keys, values]
    if c.dtype != torch.float64:  # rounding to bfloat16 would add up over the steps
        inputs = [each.float() for each in inputs]
    with torch.autocast(c.device.type, enabled=False):
        x, ctx = _Walk.apply(*inputs, compiled)
    return x, ctx


def _forward(
    c: Tensor, recurrent: Tensor, query: Tensor, query_bias: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, ...]:
    """x, ctx, u, mean, 1 / deviation, q and p of every step, each stacked over T."""
    steps, copies, batch, width = c.shape
    rows = (keys.shape[0], 1, keys.shape[2])
    keys = keys.mT
    bias = query_bias[:, None]
    ctx = c.new_empty(0)
    kept: list[tuple[Tensor, ...]] = []
    for n in range(steps):
        u = torch.baddbmm(c[n], ctx, recurrent) if n else c[0]
        x, mean, scale = torch.native_layer_norm(u, [width], None, None, EPSILON)
        q = torch.baddbmm(bias, x, query)
        p = torch.bmm(q.view(rows), keys).softmax(-1)
        ctx = torch.bmm(p, values).view(copies, batch, width)
        kept.append((x, ctx, u, mean, scale, q, p))
    return tuple(torch.stack(each) for each in zip(*kept, strict=True))


def _backward(
    dx: Tensor,
    dctx: Tensor,
    u: Tensor,
    mean: Tensor,
    scale: Tensor,
    p: Tensor,
    recurrent: Tensor,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of c (which are u's), of q, of the scores and of ctx, each stacked over T."""
    steps, copies, batch, width = dx.shape
    rows = (keys.shape[0], 1, keys.shape[2])
    recurrent, query, values = recurrent.mT, query.mT, values.mT
    du = dx.new_empty(0)
    kept: list[tuple[Tensor, ...]] = []
    for n in reversed(range(steps)):
        dctx_n = dctx[n] if n == steps - 1 else torch.baddbmm(dctx[n], du, recurrent)
        dp = torch.bmm(dctx_n.view(rows), values)
        scores = torch._softmax_backward_data(dp, p[n], -1, dp.dtype)
        dq = torch.bmm(scores, keys).view(copies, batch, width)
        dx_n = torch.baddbmm(dx[n], dq, query)
        du = torch.ops.aten.native_layer_norm_backward(
            dx_n, u[n], [width], mean[n], scale[n], None, None, [True, False, False]
        )[0]
        kept.append((du, dq, scores, dctx_n))
    return tuple(torch.stack(each) for each in zip(*reversed(kept), strict=True))


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *tensors, ctx.compiled = inputs
        run = _compiled(_forward) if ctx.compiled else _forward
        x, context, u, mean, scale, q, p = run(*tensors)
        recurrent, query, _, keys, values = tensors[1:]
        ctx.save_for_backward(x, context, u, mean, scale, q, p, recurrent, query, keys, values)
        return x, context

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(gradients[0].device.type, enabled=False):
            return _Walk._gradients(ctx, *gradients)

    @staticmethod
    def _gradients(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, context, u, mean, scale, q, p, recurrent, query, keys, values = ctx.saved_tensors
        dx, dcontext = (gradient.contiguous() for gradient in gradients)
        run = _compiled(_backward) if ctx.compiled else _backward
        du, dq, scores, dcontext = run(
            dx, dcontext, u, mean, scale, p, recurrent, query, keys, values
        )
        d_recurrent = torch.bmm(_rows(context[:-1]).mT, _rows(du[1:]))
        d_query = torch.bmm(_rows(x).mT, _rows(dq))
        width = keys.shape[2]
        d_keys = torch.bmm(_heads(scores, scores.shape[-1]).mT, _heads(q, width))
        d_values = torch.bmm(_heads(p, p.shape[-1]).mT, _heads(dcontext, width))
        return du, d_recurrent, d_query, dq.sum((0, 2)), d_keys, d_values, None


def _rows(steps: Tensor) -> Tensor:
    """(T, S, B, D) → (S, T·B, D)."""
    return steps.transpose(0, 1).flatten(1, 2)


def _heads(steps: Tensor, last: int) -> Tensor:
    """(T, …) of S·B·H rows of ``last`` → (S·B·H, T, last)."""
    return steps.view(steps.shape[0], -1, last).transpose(0, 1)


_COMPILED: dict[Any, Any] = {}


def _compiled(function: Any) -> Any:
    """``function`` compiled once for the process."""
    if function not in _COMPILED:
        from pipeline.compiling import Compiled  # slow to import

        _COMPILED[function] = Compiled(function)
    return _COMPILED[function]
