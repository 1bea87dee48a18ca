"""Exported systems on a hub: sent there, and fetched from there, by huggingface_hub.

The token is where huggingface_hub looks for it: ``HF_TOKEN``, or what ``hf auth login`` stored.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earwitness.exporting.reading import (
    CARD,
    MANIFEST,
    ExportedSystem,
    open_export,
    read_manifest,
)
from pipeline.answers import silent
from pipeline.errors import EarwitnessError, reason

PREFIX = "hub:"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def fetch(name: str) -> ExportedSystem:
    """The exported system ``hub:ORG/NAME``, from the hub's cache or the hub.

    Only what its manifest lists is downloaded.

    Raises:
        EarwitnessError: there is none, the hub cannot be reached, or it is not whole.
    """
    from huggingface_hub import constants, hf_hub_download, snapshot_download

    repository = check_name(name.removeprefix(PREFIX))
    why = silent(f"{constants.ENDPOINT}/api/models/{repository}")
    cached = why is not None  # it alone is read where no hub answers
    with _asking(name, why):
        path = Path(hf_hub_download(repository, MANIFEST, local_files_only=cached))
    manifest = read_manifest(path.parent)
    with _asking(name, why):
        # of the same commit, which the folder is named after; no name has a letter of a pattern
        found = snapshot_download(
            repository,
            revision=path.parent.name,
            allow_patterns=[MANIFEST, CARD, *manifest.files],
            local_files_only=cached,
        )
    # the cache holds the files in `blobs`, beside `snapshots`, which links to them
    return open_export(Path(found), within=Path(found).resolve().parents[1])


def push(folder: Path, name: str, private: bool = False) -> str:
    """Sends an exported folder to the hub, as ``ORG/NAME``, and gives its address.

    Raises:
        EarwitnessError: the hub cannot be reached, or refuses it.
    """
    from huggingface_hub import HfApi

    repository, api = check_name(name.removeprefix(PREFIX)), HfApi()
    manifest = open_export(folder).manifest
    with _asking(f"{PREFIX}{repository}"):
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=f"{manifest.system}, exported by {manifest.made_by}",
            ignore_patterns=[*manifest.left_out],
        )
    return str(made)


def check_name(name: str) -> str:
    """``ORG/NAME``, or what is none is refused."""
    if not NAME.fullmatch(name):
        raise EarwitnessError(f"{PREFIX}{name}: no name on a hub; give ORG/NAME")
    return name


@contextmanager
def _asking(name: str, silent_why: str | None = None) -> Iterator[None]:
    """What the hub, or the way to it, says becomes one line; its bars are for a terminal.

    ``silent_why``: why no hub answers, where that is known already.
    """
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hidden = not (sys.stderr.isatty() or are_progress_bars_disabled())
    if hidden:
        disable_progress_bars()
    try:
        yield
    except Exception as error:  # a server may answer anything
        raise EarwitnessError(
            f"{name}: the hub refused ({silent_why or reason(error)}); check the name, the network "
            "and the token (`hf auth login`)"
        ) from None
    finally:
        if hidden:
            enable_progress_bars()
