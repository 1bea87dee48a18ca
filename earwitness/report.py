"""One page that needs no network: scores beside their yardsticks, learning curves, captions."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.corpora.manifest import Manifest
from pipeline.files import read_json

Rows = list[dict[str, str]]
SHOWN = 8  # captions at each end
CURVE = "validation_cider_d"
RETRIEVAL_CURVE = "validation_map10"
BOTH_WAYS = (  # in the order of papers
    *("r1", "r5", "r10", "recall1", "recall5", "recall10", "map10", "median_rank"),
)
RETRIEVAL = ("N", "captions", *(f"{way}_{name}" for way in ("t2a", "a2t") for name in BOTH_WAYS))
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
td.text { text-align: left; white-space: normal }
svg { max-width: 100%; height: auto }
small { color: #666 }
"""


def page(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    captions: Mapping[str, Mapping[str, Rows]],
    manifests: Mapping[str, Manifest],
    curves: Mapping[str, Rows],
    retrieval: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    retrieval_curves: Mapping[str, Rows] | None = None,
) -> str:
    """The page as HTML; the same input gives the same bytes.

    Args:
        scores: dataset → system → metric → value.
        captions: dataset → system → per-clip rows with ``clip_id``, ``caption``, ``cider_d``.
        curves: captioner → rows of its curves.csv.
        retrieval: dataset → retrieval system → metric → value.
        retrieval_curves: retriever → rows of its curves.csv.
    """
    parts = [f"<!doctype html><meta charset=utf-8><title>earwitness</title><style>{STYLE}</style>"]
    parts.append("<h1>earwitness</h1>")
    for dataset, values in scores.items():
        parts += [f"<h2>{html.escape(dataset)}</h2>", _scores(values)]
    if curves:
        label = "validation CIDEr-D (greedy)"
        parts += ["<h2>Learning curves</h2>", _curves(curves, CURVE, label)]
    for dataset, values in (retrieval or {}).items():
        parts += [f"<h2>Retrieval on {html.escape(dataset)}</h2>", _scores(values, RETRIEVAL)]
    if retrieval_curves:
        label = "validation mAP@10, text to audio"
        drawn = _curves(retrieval_curves, RETRIEVAL_CURVE, label)
        parts += ["<h2>Retrievers' learning curves</h2>", drawn]
    for dataset, systems in captions.items():
        references = {c.clip_id: c.captions for c in manifests[dataset].clips}
        for system, rows in systems.items():
            if not system.startswith("yardstick"):
                blind = " (a blind set, without scores)" if manifests[dataset].blind else ""
                heading = f"Captions of {system} on {dataset}{blind}"
                parts += [f"<h2>{html.escape(heading)}</h2>", _captions(rows, references)]
    return "\n".join(parts) + "\n"


def read_scores(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """``<dataset>/<system>.json`` below ``folder``, systems before yardsticks."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted(folder.glob("*/*.json"), key=lambda p: (p.stem.startswith("yard"), p)):
        values = read_json(path, "remove it, and run `dvc repro`")
        found.setdefault(path.parent.name, {})[path.stem] = values
    return dict(sorted(found.items()))


def read_rows(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _scores(systems: Mapping[str, Mapping[str, float]], first: Sequence[str] = ()) -> str:
    """A row a system, and a column a score, those in ``first`` first."""
    names = list(dict.fromkeys(name for values in systems.values() for name in values))
    names.sort(key=lambda name: first.index(name) if name in first else len(first))
    head = "".join(f"<th>{html.escape(name)}" for name in names)
    body = "".join(
        f"<tr><td>{html.escape(system)}" + "".join(f"<td>{_number(values, n)}" for n in names)
        for system, values in systems.items()
    )
    return f"<table><tr><th>{head}{body}</table>"


def _number(values: Mapping[str, float], name: str) -> str:
    value = values.get(name, "")
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _curves(curves: Mapping[str, Rows], column: str, label: str) -> str:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "earwitness"  # the same input gives the same bytes
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, rows in curves.items():
        x = [float(row["epoch"]) for row in rows]
        axes.plot(x, [float(row[column]) for row in rows], marker=".", label=name)
    axes.set(xlabel="epoch", ylabel=label)
    axes.legend()
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _captions(rows: Rows, references: Mapping[str, Sequence[str]]) -> str:
    """The best and the worst by CIDEr-D; the first where CIDEr-D could not be made."""
    scored = all(row.get("cider_d") for row in rows)
    compared = any(references[row["clip_id"]] for row in rows)
    ranked = [*rows]
    if scored:
        ranked.sort(key=lambda row: (-float(row["cider_d"]), row["clip_id"]))
    shown = ranked if len(ranked) <= 2 * SHOWN else ranked[:SHOWN] + ranked[-SHOWN:]
    body = "".join(
        f"<tr><td>{html.escape(row['clip_id'])}<td>"
        + (f"{float(row['cider_d']):.2f}" if scored else "")
        + f"<td class=text>{html.escape(row['caption'])}"
        + "".join(f"<br><small>{html.escape(r)}</small>" for r in references[row["clip_id"]][:1])
        for row in shown
    )
    head = "<tr><th>clip<th>CIDEr-D<th>caption" + (", and one reference" if compared else "")
    which = "The best and the worst by CIDEr-D" if scored else "The first and the last"
    return f"<p>{which}.<table>{head}{body}</table>"
