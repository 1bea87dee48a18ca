"""Writes data/report.html, scores, curves and captions on one page: ``python -m stages.report``."""

from __future__ import annotations

from collections.abc import Iterable

from earwitness import report
from pipeline.config.params import load_params
from pipeline.corpora.manifest import Manifest
from pipeline.files import write_atomic
from stages import paths
from stages.run import run


def main() -> None:
    """Collects the results of evaluation and training."""
    params = load_params(paths.PARAMS)
    scores = report.read_scores(paths.METRICS)
    captions = {
        dataset: {path.stem: report.read_rows(path) for path in sorted(folder.glob("*.csv"))}
        for dataset in params.test_sets
        if (folder := paths.SCORES / dataset).is_dir()
    }
    manifests = {name: Manifest.load(paths.CORPORA / f"{name}.json") for name in captions}
    rankings = report.read_scores(paths.METRICS / "retrieval")
    curves = _curves("captioners", params.all_captioners)
    retrieval_curves = _curves("retrievers", params.all_retrievers)
    page = report.page(scores, captions, manifests, curves, rankings, retrieval_curves)
    write_atomic(paths.DATA / "report.html", page)


def _curves(kind: str, names: Iterable[str]) -> dict[str, report.Rows]:
    folder = paths.MODELS / kind
    return {name: report.read_rows(folder / name / "curves.csv") for name in names}


if __name__ == "__main__":
    run(main)
