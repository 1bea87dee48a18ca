"""Turns a dataset into its manifest: ``python -m stages.prepare DATASET``."""

from __future__ import annotations

import sys
import warnings

from pipeline.config.params import load_params
from pipeline.config.section import nearest
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError
from pipeline.threads import limit
from stages import paths
from stages.run import run


def main(dataset: str) -> None:
    """Writes data/corpora/<dataset>.json; sound that cannot be used is listed in it."""
    params = load_params(paths.PARAMS)
    datasets = params.datasets
    if dataset not in datasets:
        raise EarwitnessError(f"no dataset '{dataset}'{nearest(dataset, datasets)}")
    limit(params.hardware.threads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        manifest = prepare(dataset, datasets[dataset], paths.ROOT, paths.DATA / "raw")
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    manifest.save(paths.CORPORA / f"{dataset}.json")
    print(f"{dataset}: {len(manifest.clips)} clips, {len(manifest.skipped)} left out")


if __name__ == "__main__":
    run(main)
