"""Writes data/report.html, scores, curves and captions on one page: ``python -m stages.report``.

The curves go into data/curves as well, one file a training with the columns ``epoch``, ``loss`` and
``score``, for ``dvc plots show``: it draws all files of a folder that holds nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from earwitness import report
from pipeline.config.params import load_params
from pipeline.corpora.manifest import Manifest
from pipeline.files import replacing_folder, write_atomic
from pipeline.planning.lookup import captioner_seeds, retriever_seeds
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
    curves = {
        "encoders": _curves("encoders", params.tagging.encoders),
        "retrievers": _curves("retrievers", _trained(retriever_seeds(params))),
        "captioners": _curves("captioners", _trained(captioner_seeds(params))),
    }
    page = report.page(
        scores, captions, manifests, curves["captioners"], rankings, curves["retrievers"]
    )
    write_atomic(paths.DATA / "report.html", page)
    with replacing_folder(paths.CURVES) as folder:
        for kind, trained in curves.items():
            for name, rows in trained.items():
                write_atomic(folder / kind / f"{name}.csv", _plotted(rows))


def _trained(seeds: Mapping[str, Iterable[int]]) -> list[str]:
    """``<model>/<seed>`` of each that is trained."""
    return [f"{name}/{seed}" for name, own in seeds.items() for seed in own]


def _curves(kind: str, models: Iterable[str]) -> dict[str, report.Rows]:
    """By the model's name, and its seed where it has one, with a dash between."""
    folder = paths.MODELS / kind
    return {
        model.replace("/", "-"): report.read_rows(folder / model / "curves.csv") for model in models
    }


def _plotted(rows: report.Rows) -> str:
    """``score`` is what the best epoch was chosen by: the first of the validation's."""
    score = next(column for column in rows[0] if column.startswith("validation_"))
    lines = [f"{row['epoch']},{row['total']},{row[score]}\n" for row in rows]
    return "".join(["epoch,loss,score\n", *lines])


if __name__ == "__main__":
    run(main)
