"""What the captions of a system depend on, as one digest."""

from __future__ import annotations

import hashlib
import json

import torch

from earwitness.captioning import CaptioningSystem
from pipeline.config.plans import Plan
from pipeline.files import sha256


def identity(system: CaptioningSystem) -> str:
    """SHA-256 of its models, the plans and weights of what they read, and its search.

    A retrained model, another encoder, another beam or another version of their code gives another.
    """
    whole = hashlib.sha256()
    for captioner, memory in zip(system.ensemble.captioners, system.memories, strict=True):
        _add_model(whole, captioner.plan, captioner.model)
        if memory is not None:
            whole.update(f"{memory.method} {memory.temperature}".encode())
        features = [(captioner.plan.dataset, feature) for feature in captioner.plan.features]
        for path in system.features.sources(features):
            whole.update(sha256(path).encode())
    if system.reranker is not None:
        retriever = system.reranker.retriever
        _add_model(whole, retriever.plan, retriever.model)
        whole.update(f"{system.reranker.weight}".encode())
        for path in system.features.sources(system.features.read_by(retriever)):
            whole.update(sha256(path).encode())
    lowest = system.usual and system.usual.lowest
    search = [system.ensemble.combine, system.decoding.model_dump(), system.seed, lowest]
    whole.update(json.dumps(search).encode())
    return whole.hexdigest()


def _add_model(whole: hashlib._Hash, plan: Plan, model: torch.nn.Module) -> None:
    whole.update(plan.model_dump_json().encode())
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
