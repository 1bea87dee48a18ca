"""Whether weights of a hub are on this machine, or can be fetched, without fetching them."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from pipeline.answers import SECONDS, no_answer
from pipeline.encoders.sources import Hub, HubFile, wanted_files
from pipeline.weights import Weights

NETWORKS = ("*.safetensors", "*.bin", "*.onnx", "*.pt", "*.ckpt")  # of a repository's files


def not_available(weights: Weights, hub: Hub) -> str | None:
    """Why weights of the kind ``hub`` are neither here nor can be fetched; None where they can.

    Args:
        hub: the source of ``weights: hub``.
    """
    if file := published_file(weights, hub):
        return None if file.path.is_file() else no_answer(file.url)
    repository = weights.name or hub.repository
    if repository is not None:
        if _has_snapshot(repository):
            return None
        return no_answer(f"{constants.ENDPOINT}/api/models/{repository}")
    return f"no hub has them; get {hub.by_hand or 'a checkpoint'}"


def size_on_hub(repository: str) -> int | None:
    """Bytes of a repository's files that would be fetched; None if they are here, or none says."""
    if _has_snapshot(repository):
        return None
    try:
        info = huggingface_hub.HfApi().model_info(repository, files_metadata=True, timeout=SECONDS)
    except Exception:  # a hub may answer anything; then the size is not known
        return None
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return sum(sizes[name] for name in wanted_files([*sizes])) or None


def on_this_machine(weights: Weights, hub: Hub) -> bool:
    """Whether weights of the kind ``hub`` were downloaded already.

    Args:
        hub: the source of ``weights: hub``.
    """
    if file := published_file(weights, hub):
        return file.path.is_file()
    repository = weights.name or hub.repository
    return repository is not None and _has_snapshot(repository)


def published_file(weights: Weights, hub: Hub) -> HubFile | None:
    """The file with an address of its own that weights of the kind ``hub`` are; None: they are a
    repository of a hub.
    """
    return hub.named.get(weights.name) or (None if weights.name else hub.file)


def _has_snapshot(repository: str) -> bool:
    """Whether a network of a repository is in the hub's cache."""
    try:
        folder = Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
    except Exception:  # there is none, or no repository can have that name
        return False
    return any(next(folder.rglob(pattern), None) is not None for pattern in NETWORKS)
