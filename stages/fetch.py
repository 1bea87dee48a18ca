"""Downloads a dataset: ``python -m stages.fetch DATASET``."""

from __future__ import annotations

from pipeline.config.datasets import ClothoDatasetConfig
from pipeline.config.params import load_params
from pipeline.config.section import nearest
from pipeline.corpora.fetch import fetch_clotho
from pipeline.errors import EarwitnessError
from stages import paths
from stages.run import run


def main(dataset: str) -> None:
    """Downloads Clotho to its root where its ``fetch`` is true; does nothing for other datasets."""
    datasets = load_params(paths.PARAMS).datasets
    if dataset not in datasets:
        raise EarwitnessError(f"no dataset '{dataset}'{nearest(dataset, datasets)}")
    settings = datasets[dataset]
    if isinstance(settings, ClothoDatasetConfig) and settings.fetch:
        fetch_clotho(paths.ROOT / settings.root)


if __name__ == "__main__":
    run(main)
