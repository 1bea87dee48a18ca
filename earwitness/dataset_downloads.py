"""Sound and captions that parameters fetch and that are not here yet: what, how large, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.config.datasets import (
    BlindDatasetConfig,
    CaptionsDatasetConfig,
    ClothoDatasetConfig,
    DatasetConfig,
    MacsDatasetConfig,
)
from pipeline.corpora.fetch import (
    CLOTHO_BLIND,
    ZENODO,
    Remote,
    fetch_clotho,
    is_fetched,
    missing_archives,
    total_size,
)
from pipeline.corpora.fetch_captions import caption_tables, fetch_captions, missing_tables
from pipeline.corpora.fetch_macs import fetch_macs, has_macs, most_to_fetch

MEGA = 1e6


class Download(NamedTuple):
    """``get`` fetches it, and raises an EarwitnessError where that cannot be."""

    what: str
    megabytes: float | None  # None: nobody says
    get: Callable[[], object]

    def __str__(self) -> str:
        if self.megabytes is None:
            return f"{self.what}: size not known"
        if not self.megabytes:
            return f"{self.what}: already in this user's cache"
        return f"{self.what}: {size(self.megabytes)}"


def size(megabytes: float) -> str:
    """``2.1 MB``, ``378 MB``, ``4.7 GB``."""
    if megabytes >= 1000:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.1f} MB"


def dataset_downloads(root: Path, datasets: Mapping[str, DatasetConfig]) -> Iterator[Download]:
    """All that a run would fetch of ``datasets``, and that is not here yet.

    Args:
        root: the repository.
    """
    for name, settings in datasets.items():
        yield from _of(name, settings, root / getattr(settings, "root", ""))


def _of(name: str, settings: DatasetConfig, root: Path) -> Iterator[Download]:
    match settings:
        case ClothoDatasetConfig(fetch=True) if not is_fetched(root):
            yield Download(
                f"recordings and captions of {name} (Clotho v2.1), into {root}",
                _megabytes(ZENODO, missing_archives(root)),
                partial(fetch_clotho, root, print),
            )
        case BlindDatasetConfig(fetch=str() as which) if not is_fetched(
            root, CLOTHO_BLIND[which].files
        ):
            url, files = CLOTHO_BLIND[which]
            yield Download(
                f"recordings of {name} ({which}), into {root}",
                _megabytes(url, missing_archives(root, files)),
                partial(fetch_clotho, root, print, url, files),
            )
        case MacsDatasetConfig(fetch=True) if not has_macs(root):
            yield Download(
                f"recordings and captions of {name} (MACS; archives of TAU Urban Acoustic Scenes "
                f"2019 that have none of them are left out), into {root}, at most",
                most_to_fetch(root) / MEGA or None,
                partial(fetch_macs, root, print),
            )
        case CaptionsDatasetConfig():
            tables = missing_tables(root, settings.fetch)
            if tables:
                megabytes = sum(table.megabytes for table in tables)
                get = partial(fetch_captions, root, caption_tables(settings.fetch), print)
                yield Download(f"public captions of {name}, into {root}", megabytes, get)


def _megabytes(base_url: str, files: list[Remote]) -> float | None:
    total = total_size(base_url, files)
    return None if total is None else total / MEGA
