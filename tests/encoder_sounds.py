"""Sounds for the encoders' tests."""

from __future__ import annotations

import torch


def sound(*samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of these lengths, padded with a loud constant that no encoder may hear."""
    generator = torch.Generator().manual_seed(seed)
    waveform = torch.full((len(samples), max(samples)), 0.9)
    for row, length in enumerate(samples):
        waveform[row, :length] = 0.1 * torch.randn(length, generator=generator)
    return waveform, torch.tensor(samples)
