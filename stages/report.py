"""Writes data/report.html, all of a run on one page: ``python -m stages.report``.

The curves go into data/curves as well, one file a training with the columns ``epoch``, ``loss`` and
``score``, for ``dvc plots show``: it draws all files of a folder that holds nothing else. So are
histograms in data/histograms (earwitness/histograms.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from earwitness.histograms import write_histograms
from earwitness.report import curves
from earwitness.report.assembly import page
from earwitness.report.run import Run
from pipeline.config.params import load_params
from pipeline.files import replacing_folder, write_atomic
from pipeline.threads import limit
from stages import paths
from stages.run import run


def main() -> None:
    """Collects the results of evaluation and training."""
    params = load_params(paths.PARAMS)
    limit(params.hardware.threads)
    made = Run(Path(), paths.ROOT, params)
    write_atomic(paths.DATA / "report.html", page(made))
    with replacing_folder(paths.HISTOGRAMS) as folder:
        write_histograms(made, folder)
    with replacing_folder(paths.CURVES) as folder:
        for group in curves.groups(made):
            for model in filter(lambda each: each["score"], group["trained"]):
                name = "-".join(filter(None, (model["name"], model["seed"])))
                write_atomic(folder / group["kind"] / f"{name}.csv", _plotted(model))


def _plotted(model: Mapping[str, Any]) -> str:
    """``score`` is what the best epoch was chosen by."""
    columns = model["columns"]
    rows = zip(columns["epoch"], columns["total"], columns[model["score"]], strict=True)
    lines = [f"{epoch:.8g},{loss:.8g},{score:.8g}\n" for epoch, loss, score in rows]
    return "".join(["epoch,loss,score\n", *lines])


if __name__ == "__main__":
    run(main)
