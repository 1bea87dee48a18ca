"""Whether weights of a hub are on this machine, or can be fetched, without fetching them."""

from __future__ import annotations

import urllib.request
from functools import cache
from pathlib import Path
from urllib.error import HTTPError

import huggingface_hub
from huggingface_hub import constants

from pipeline.encoders.sources import Hub, HubFile, wanted_files
from pipeline.errors import reason
from pipeline.weights import Weights

SECONDS = 5.0  # that a hub has to answer
NETWORKS = ("*.safetensors", "*.bin", "*.onnx", "*.pt", "*.ckpt")  # of a repository's files
UNKNOWN = (401, 403, 404)  # HTTP statuses of a model that is not there, or not for everybody


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


@cache
def no_answer(url: str) -> str | None:
    """Why ``url`` cannot be fetched; None where its server would give it. Each is asked once."""
    if constants.HF_HUB_OFFLINE and url.startswith(constants.ENDPOINT):
        return "HF_HUB_OFFLINE is set"
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "earwitness"})
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except HTTPError as error:  # an answer: some servers refuse HEAD, and would give the file
        return f"{url}: the server says {error.code}" if error.code in UNKNOWN else None
    except Exception as error:  # a server may answer anything
        cause = getattr(error, "reason", error)
        said = reason(cause) if isinstance(cause, Exception) else str(cause)
        return f"{url} cannot be reached ({said})"
    return None


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


def size_of(url: str) -> int | None:
    """Bytes of a file by its address; None where its server does not say."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "earwitness"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return int(answer.headers["Content-Length"])
    except Exception:  # a server may answer anything
        return None


def _has_snapshot(repository: str) -> bool:
    """Whether a network of a repository is in the hub's cache."""
    try:
        folder = Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
    except Exception:  # there is none, or no repository can have that name
        return False
    return any(next(folder.rglob(pattern), None) is not None for pattern in NETWORKS)
