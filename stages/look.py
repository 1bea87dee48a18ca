"""Looks at what lies outside the repository: ``python -m stages.look``; DVC always runs it.

What it finds decides what runs again: `prepare` of the datasets whose files changed, and planning
where weights did. Where nothing of something is on this machine, its last fingerprint stays, as
what was made of it is still good.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline.config.datasets import (
    BlindDatasetConfig,
    CaptionsDatasetConfig,
    ClothoDatasetConfig,
    DatasetConfig,
    MacsDatasetConfig,
)
from pipeline.config.params import load_params
from pipeline.corpora.fetch import CLOTHO, CLOTHO_BLIND, fetch_clotho, is_fetched
from pipeline.corpora.fetch_captions import caption_tables, fetch_captions
from pipeline.corpora.fetch_macs import fetch_macs, has_macs
from pipeline.corpora.macs import TABLE
from pipeline.errors import EarwitnessError
from pipeline.outside.digests import Digests
from pipeline.outside.look import (
    Fingerprint,
    changes,
    look_at_dataset,
    look_at_models,
    read_last,
    write,
)
from pipeline.outside.named import dataset_files, model_files
from pipeline.storage.places import is_folder
from stages import paths
from stages.run import run


def main() -> None:
    """Writes data/inputs/: a fingerprint of each dataset's files, and one of all weights by path.

    Downloads what a dataset's ``fetch`` says to its root first.
    """
    params = load_params(paths.PARAMS)
    for path in (paths.INPUTS / "datasets").glob("*.json"):
        if path.stem not in params.datasets:
            path.unlink()
    changed = []
    for name, settings in params.datasets.items():
        changed += [f"dataset {name}: {line}" for line in _dataset(name, settings)]
    with Digests(paths.LOOKED / "weights.json") as digests:
        found = look_at_models(params, Path(), digests)
    last = read_last(paths.INPUTS / "weights.json")
    away = {name: last[name] for name in model_files(params) if name in {*last} - {*found}}
    for name in away:
        _warn(f"weights {name}: not there; what was made with them stays")
    changed += [f"weights {line}" for line in changes(last, found | away)]
    write(paths.INPUTS / "weights.json", found | away)
    print("\n".join(changed) or "nothing outside the repository changed")


def _dataset(name: str, settings: DatasetConfig) -> list[str]:
    """What changed, in words."""
    path = paths.INPUTS / "datasets" / f"{name}.json"
    last = read_last(path)
    _fetch(name, settings, last)
    with Digests(paths.LOOKED / "datasets" / f"{name}.json") as digests:
        try:
            found = look_at_dataset(settings, paths.ROOT, digests)
        except EarwitnessError as error:  # such as no network, which changes nothing
            if not last:
                raise
            _warn(f"dataset {name}: {error}; what was made of it stays")
            found = last
    if last and not found and dataset_files(settings):
        _warn(f"dataset {name}: none of its files are there; what was made of them stays")
        found = last
    write(path, found)
    return changes(last, found)


def _fetch(name: str, settings: DatasetConfig, last: Fingerprint) -> None:
    """Downloads what is missing of a dataset."""
    given = getattr(settings, "root", "")
    if getattr(settings, "fetch", False) and not is_folder(paths.ROOT / given, given):
        raise EarwitnessError(
            f"dataset {name}: fetch downloads into a folder, and root is {given}; give a folder, "
            "or set fetch to nothing"
        )
    root = paths.ROOT / given

    def say(line: str) -> None:
        print(f"dataset {name}: {line}", flush=True)  # before anything is downloaded

    match settings:
        case ClothoDatasetConfig(fetch=True):
            if not _is_away(root, CLOTHO, last) and not is_fetched(root):
                fetch_clotho(root, say)
        case BlindDatasetConfig(fetch=str() as which):
            url, files = CLOTHO_BLIND[which]
            if not _is_away(root, dataset_files(settings), last) and not is_fetched(root, files):
                fetch_clotho(root, say, url, files)
        case MacsDatasetConfig(fetch=True):
            if not _is_away(root, [TABLE], last) and not has_macs(root):
                fetch_macs(root, say)
        case CaptionsDatasetConfig():
            tables = caption_tables(settings.fetch)
            if not _is_away(root, tables, last):
                fetch_captions(root, tables, say)


def _is_away(root: Path, names: Iterable[str], last: Fingerprint) -> bool:
    """Whether all of ``names`` were there once, and their folder is not: nothing is fetched anew
    for what was made of it already."""
    return not root.exists() and last.keys() >= {*names}


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
