"""The optimizers: AdamW (EDTC 4.3) and Adam (SJTU 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pipeline.config.training import OptimisationConfig


def adamw(model: nn.Module, training: OptimisationConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, fused on CUDA.

    Weight decay acts on matrices and convolutions alone (our choice, as in BART's training). Decay
    of biases, norms and embeddings does not regularize, and a rare word's embedding would shrink at
    every step in which the word does not occur. A tensor tied to an embedding counts as one.
    """
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trained if p.ndim > 1 and id(p) not in embeddings]
    others = [p for p in trained if p.ndim <= 1 or id(p) in embeddings]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    cuda = any(parameter.is_cuda for parameter in trained)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=training.learning_rate, fused=cuda
    )


def adam(model: nn.Module, training: OptimisationConfig) -> torch.optim.Adam:
    """Adam over the trainable parameters, fused on CUDA; no weight decay, as SJTU 3 names none."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    cuda = any(parameter.is_cuda for parameter in trained)
    return torch.optim.Adam(trained, lr=training.learning_rate, fused=cuda)


OPTIMIZERS: dict[str, Callable[[nn.Module, OptimisationConfig], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "adam": adam,
}


def build_optimizer(model: nn.Module, training: OptimisationConfig) -> torch.optim.Optimizer:
    """The optimizer that ``training`` names."""
    return OPTIMIZERS[training.optimizer](model, training)
