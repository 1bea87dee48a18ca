"""Layers whose parameters have a leading axis S of copies, applied in one batched pass.

TRANSLATOR's copies are the twin's two branches (S = 2; EDTC 3.4), FUSER's are its encoders
(S = E). An input may have fewer copies S' ≤ S: it uses the first S', so that ``values[None]`` goes
through the twin's audio branch alone. The copies' gradients are separate. Biases and gains are
flat, (S·D,), so that an optimizer without weight decay for vectors has none for these.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DFT_KERNEL = 5  # from this kernel size on, a CPU convolves by a discrete Fourier transform


def leading(parameter: Tensor, copies: int) -> Tensor:
    """(S, …) → the first ``copies``; without a slice, whose gradient is padded, for all of them."""
    return parameter if parameter.shape[0] == copies else parameter[:copies]


def leading_rows(vectors: Tensor, width: int, copies: int) -> Tensor:
    """A flat (S·D,) parameter → (copies, D), of the first ``copies``."""
    return leading(vectors.view(-1, width), copies)


def _glorot(shape: tuple[int, ...], inputs: int, outputs: int, alike: bool) -> nn.Parameter:
    """(S, …) uniform after Glorot; all copies are equal where ``alike``."""
    bound = math.sqrt(6 / (inputs + outputs))
    weight = torch.empty(shape).uniform_(-bound, bound)
    if alike:
        weight[1:] = weight[:1]
    return nn.Parameter(weight)


class StackedLinear(nn.Module):
    """(S', …, inputs) → (S', …, outputs)."""

    def __init__(self, copies: int, inputs: int, outputs: int, alike: bool = False) -> None:
        super().__init__()
        self.outputs = outputs
        self.weight = _glorot((copies, inputs, outputs), inputs, outputs, alike)
        self.bias = nn.Parameter(torch.zeros(copies * outputs))

    def forward(self, values: Tensor) -> Tensor:
        weight, bias = self.parts(values.shape[0])
        out = torch.baddbmm(bias[:, None], values.flatten(1, -2), weight)
        return out.view(*values.shape[:-1], -1)

    def parts(self, copies: int) -> tuple[Tensor, Tensor]:
        """(copies, inputs, outputs) weight and (copies, outputs) bias."""
        bias = leading_rows(self.bias, self.outputs, copies)
        return leading(self.weight, copies), bias


class StackedNorm(nn.Module):
    """Layer normalisation, (S', …, D) → the same shape."""

    def __init__(self, copies: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.ones(copies * width))
        self.bias = nn.Parameter(torch.zeros(copies * width))

    def forward(self, values: Tensor) -> Tensor:
        gain, bias = self.parts(values.shape[0])
        if values.shape[0] == 1:
            return F.layer_norm(values, (self.width,), gain[0], bias[0])
        return scaled(F.layer_norm(values, (self.width,)), gain, bias)

    def parts(self, copies: int) -> tuple[Tensor, Tensor]:
        """(copies, D) gain and bias."""
        gain = leading_rows(self.weight, self.width, copies)
        return gain, leading_rows(self.bias, self.width, copies)


def scaled(values: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """(S, …, D) times gain plus bias, (S, D) both."""
    shape = (values.shape[0],) + (1,) * (values.ndim - 2) + (-1,)
    return torch.addcmul(bias.view(shape), values, gain.view(shape))


class StackedFeedForward(nn.Module):
    """The standard feed-forward network, (S', …, D) → the same shape."""

    def __init__(self, copies: int, width: int, hidden: int, alike: bool = False) -> None:
        super().__init__()
        self.up = StackedLinear(copies, width, hidden, alike)
        self.down = StackedLinear(copies, hidden, width, alike)

    def forward(self, values: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(values)))


class StackedConvolution(nn.Module):
    """Conv1d over time with zero padding that keeps T, (S', B, T, inputs) → (S', B, T, outputs).

    Equal to ``Conv1d(inputs, outputs, kernel, padding=kernel // 2)`` (the last step dropped for an
    even kernel). ``weight`` is (S, kernel, inputs, outputs), so that the time axis transforms by
    one matrix product.
    """

    def __init__(
        self, copies: int, inputs: int, outputs: int, kernel: int, alike: bool = False
    ) -> None:
        super().__init__()
        shape = (copies, kernel, inputs, outputs)
        self.weight = _glorot(shape, kernel * inputs, kernel * outputs, alike)
        self.bias = nn.Parameter(torch.zeros(copies * outputs))
        self.kernel, self.outputs = kernel, outputs

    def forward(self, values: Tensor) -> Tensor:
        copies = values.shape[0]
        weight = leading(self.weight, copies)
        bias = leading_rows(self.bias, self.outputs, copies)
        if values.is_cuda:
            return _convolve_direct(values, weight, bias)
        if self.kernel < DFT_KERNEL:
            return _convolve_shifted(values, weight, bias)
        with torch.autocast("cpu", enabled=False):  # sums of many frequencies: no bfloat16
            return _convolve_dft(values.to(weight.dtype), weight) + bias[:, None, None]


def _convolve_direct(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """By the device's own convolution; copies are its groups."""
    copies, batch, frames, _ = values.shape
    kernel, outputs = weight.shape[1], weight.shape[3]
    stacked = values.permute(1, 0, 3, 2).reshape(batch, -1, frames)
    kernels = weight.permute(0, 3, 2, 1).reshape(copies * outputs, -1, kernel)
    out = F.conv1d(stacked, kernels, bias.reshape(-1), padding=kernel // 2, groups=copies)
    return out[..., :frames].view(batch, copies, outputs, frames).permute(1, 0, 3, 2)


def _convolve_shifted(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """By one matrix product with the shifted inputs concatenated: fastest for small kernels."""
    copies, batch, frames, inputs = values.shape
    kernel = weight.shape[1]
    padded = F.pad(values, (0, 0, kernel // 2, (kernel - 1) // 2))
    windows = torch.cat([padded[:, :, k : k + frames] for k in range(kernel)], dim=-1)
    rows = windows.view(copies, batch * frames, kernel * inputs)
    out = torch.baddbmm(bias[:, None], rows, weight.flatten(1, 2))
    return out.view(copies, batch, frames, -1)


def _convolve_dft(values: Tensor, weight: Tensor) -> Tensor:
    """By the convolution theorem: one (inputs × outputs) product a frequency instead of a tap.

    At T = 32 and kernel 45 a direct convolution needs 1,440 such products a clip, 35 % of them
    with padding; 28 complex frequencies need 112. Complex numbers are pairs: rows [X_re, −X_im]
    and [X_im, X_re] times the column [W_re; W_im].
    """
    copies, batch, frames, inputs = values.shape
    kernel, outputs = weight.shape[1], weight.shape[3]
    spectrum, taps, inverse = _dft(frames, kernel, values.dtype)
    frequencies = spectrum.shape[0]
    rows = torch.einsum("fact,sbtd->sfabcd", spectrum, values)
    rows = rows.reshape(copies * frequencies, 2 * batch, 2 * inputs)
    columns = torch.matmul(taps, weight.flatten(2)).view(copies * frequencies, 2 * inputs, outputs)
    product = torch.bmm(rows, columns).view(copies, frequencies, 2, batch, outputs)
    return torch.einsum("tfa,sfabd->sbtd", inverse, product)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # the cached matrices must serve training too
def _dft(frames: int, kernel: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Real matrices of the transform, long enough that nothing wraps around into the T frames.

    Returns:
        of the input (F, 2, 2, T), of the taps (2F, kernel) and back (T, F, 2), F frequencies.
    """
    before = kernel // 2
    length = frames + max(before, kernel - 1 - before)
    frequency = torch.arange(length // 2 + 1, dtype=torch.float64)
    time = torch.arange(frames, dtype=torch.float64)
    turn = 2 * math.pi * frequency[:, None] / length
    cosine, sine = torch.cos(turn * time), torch.sin(turn * time)  # (F, T)
    offset = turn * (torch.arange(kernel, dtype=torch.float64) - before)
    real, imaginary = torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)
    taps = torch.stack([torch.cos(offset), torch.sin(offset)], 1)  # conjugate: a correlation
    share = torch.full_like(frequency, 2 / length)  # each frequency of a real signal counts twice …
    share[0] = 1 / length
    if length % 2 == 0:
        share[-1] = 1 / length  # … except the first and the last
    inverse = torch.stack([cosine * share[:, None], -sine * share[:, None]], -1).transpose(0, 1)
    spectrum = torch.stack([real, imaginary], 1)
    return spectrum.to(dtype), taps.flatten(0, 1).to(dtype), inverse.to(dtype)


def split_heads(values: Tensor, heads: int) -> Tensor:
    """(…, T, D) → (…, heads, T, D / heads)."""
    return values.unflatten(-1, (heads, -1)).transpose(-2, -3)


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention, (…, T, D) each → (…, T, D), before the output projection."""
    q, k, v = (split_heads(x, heads).flatten(0, -4) for x in (queries, keys, values))
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(-2, -3).reshape(queries.shape)
