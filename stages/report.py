"""Writes data/report.html, all of a run on one page: ``python -m stages.report``.

The curves go into data/curves as well, one file a training with the columns ``epoch``, ``loss`` and
``score``, for ``dvc plots show``: it draws all files of a folder that holds nothing else. So are
histograms in data/histograms (earwitness/histograms.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from earwitness.histograms import write_histograms
from earwitness.report.assembly import page
from earwitness.report.results import Rows, read_rows
from earwitness.report.run import Run
from pipeline.config.params import load_params
from pipeline.files import replacing_folder, write_atomic
from pipeline.planning.lookup import all_captioners, trained_retrievers
from pipeline.threads import limit
from stages import paths
from stages.run import run


def main() -> None:
    """Collects the results of evaluation and training."""
    params = load_params(paths.PARAMS)
    limit(params.hardware.threads)
    made = Run(Path(), paths.ROOT, params)
    write_atomic(paths.DATA / "report.html", page(made))
    curves = {
        "encoders": _curves("encoders", params.tagging.encoders),
        "retrievers": _curves("retrievers", trained_retrievers(params)),
        "captioners": _curves("captioners", all_captioners(params)),
    }
    with replacing_folder(paths.HISTOGRAMS) as folder:
        write_histograms(made, folder)
    with replacing_folder(paths.CURVES) as folder:
        for kind, trained in curves.items():
            for name, rows in trained.items():
                write_atomic(folder / kind / f"{name}.csv", _plotted(rows))


def _curves(kind: str, names: Iterable[str]) -> dict[str, Rows]:
    folder = paths.MODELS / kind
    return {name: read_rows(folder / name / "curves.csv") for name in names}


def _plotted(rows: Rows) -> str:
    """``score`` is what the best epoch was chosen by: the first of the validation's."""
    score = next(column for column in rows[0] if column.startswith("validation_"))
    lines = [f"{row['epoch']},{row['total']},{row[score]}\n" for row in rows]
    return "".join(["epoch,loss,score\n", *lines])


if __name__ == "__main__":
    run(main)
