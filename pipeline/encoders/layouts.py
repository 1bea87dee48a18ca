"""A model's output, whatever the order of its axes, as (B, T, D) frames."""

from __future__ import annotations

from torch import Tensor

from pipeline.config.encoders import Layout

ORDER = "btdf"


def arranged(values: Tensor, layout: Layout, bands: int | None, class_tokens: int) -> Tensor:
    """A tensor of frames → (B, T, D), the mean over frequency.

    Args:
        layout: its axes: ``b`` clips (one, where it is not there), ``t`` time, ``d`` width, ``f``
            frequency; ``(f t)`` is one axis, in which time runs faster.
        bands: of ``f``, where it is one axis with time.
        class_tokens: how many of the first tokens are no frames.

    Raises:
        ValueError: it has other axes, or tokens that are no whole bands.
    """
    joined = layout.find("(")
    axes = layout.replace("(f t)", "x").replace("(t f)", "x").split()
    if values.ndim != len(axes):
        raise ValueError(f"it is {tuple(values.shape)}, which layout '{layout}' is not")
    if "b" not in axes:
        values, axes = values[None], ["b", *axes]
    if class_tokens:
        values = values[:, class_tokens:]
    if bands is not None and joined >= 0:
        if values.shape[1] % bands:
            raise ValueError(f"its {values.shape[1]} tokens are no whole {bands} bands")
        split = (bands, -1) if layout[joined + 1] == "f" else (-1, bands)
        values = values.unflatten(1, split)
        axes = ["b", layout[joined + 1], layout[joined + 3], "d"]
    values = values.permute([axes.index(each) for each in ORDER if each in axes])
    return values.mean(-1) if "f" in axes else values


def pooled(values: Tensor, clips: int) -> Tensor:
    """(B, D), with any axes of size 1 → (B, 1, D).

    Raises:
        ValueError: it is more than that.
    """
    if not is_pooled(values, clips):
        raise ValueError(f"it is {tuple(values.shape)}, not ({clips}, D)")
    return values.reshape(clips, 1, -1)


def is_pooled(values: Tensor, clips: int) -> bool:
    """Whether it is one vector a clip."""
    whole = clips == 1 or values.shape[:1] == (clips,)
    return whole and sum(size > 1 for size in values.shape[clips > 1 :]) <= 1
