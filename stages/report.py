"""Writes data/report.html, scores, curves and captions on one page: ``python -m stages.report``."""

from __future__ import annotations

from pipeline import report
from pipeline.config import load_params
from pipeline.corpora.manifest import Manifest
from pipeline.files import write_atomic
from stages import paths
from stages.run import run


def main() -> None:
    """Gathers what evaluation and training left."""
    params = load_params(paths.PARAMS)
    scores = report.read_scores(paths.METRICS)
    captions = {
        dataset: {path.stem: report.read_rows(path) for path in sorted(folder.glob("*.csv"))}
        for dataset in params.test_sets
        if (folder := paths.SCORES / dataset).is_dir()
    }
    manifests = {name: Manifest.load(paths.CORPORA / f"{name}.json") for name in captions}
    curves = {
        name: report.read_rows(paths.MODELS / "captioners" / name / "curves.csv")
        for name in params.captioners
    }
    write_atomic(paths.DATA / "report.html", report.page(scores, captions, manifests, curves))


if __name__ == "__main__":
    run(main)
