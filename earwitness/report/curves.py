"""Part 2 of the page: what was trained, and its curves with every validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from earwitness.report.run import Run
from pipeline.errors import EarwitnessError
from pipeline.planning.lookup import all_captioners, trained_retrievers
from pipeline.tables import read_rows

AXES = ("epoch", "step")
SCORE = "validation_"  # what the best model was chosen by: the first column that begins so


def data(run: Run) -> Any:
    """None where nothing was trained."""
    found = groups(run)
    return {"groups": found} if found else None


def groups(run: Run) -> list[dict[str, Any]]:
    """One a kind of model that was trained: its ``kind``, ``title`` and ``trained`` models.

    A model has a ``name``, a ``seed`` (None: it has none of its own), what it is ``about``, its
    ``columns`` (name → a value a validation), its ``score`` (the column that chose the best) and
    ``best`` (the number of its best validation).
    """
    params = run.params
    kinds: dict[str, tuple[str, Mapping[str, Any]]] = {
        "captioners": ("Captioners", all_captioners(params)),
        "retrievers": ("Retrievers", trained_retrievers(params)),
        "encoders": ("Encoders, trained on event labels", dict.fromkeys(params.tagging.encoders)),
    }
    return [
        {"kind": kind, "title": title, "trained": trained}
        for kind, (title, names) in kinds.items()
        if (trained := [*_trained(run.data / "models" / kind, names)])
    ]


def _trained(folder: Path, names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One a model: a name and a seed; encoders have no seeds of their own."""
    for name, settings in names.items():
        paths: list[tuple[str | None, Path]] = [(None, folder / name / "curves.csv")]
        paths += [(path.parent.name, path) for path in _seeds(folder / name)]
        for seed, path in paths:
            if path.is_file():
                yield {"name": name, "seed": seed, "about": _about(settings), **_curve(path)}


def _seeds(folder: Path) -> list[Path]:
    """Of all seeds, 2 before 10."""
    found = (path for path in folder.glob("*/curves.csv") if path.parent.name.isdecimal())
    return sorted(found, key=lambda path: int(path.parent.name))


def _curve(path: Path) -> dict[str, Any]:
    rows = read_rows(path, AXES)
    columns = {name: [_number(path, row.line, row.values[name]) for row in rows]
               for name in rows[0].values}  # fmt: skip
    score = next((name for name in columns if name.startswith(SCORE)), None)
    values = columns[score] if score else []
    known = [value for value in values if value is not None]
    return {"columns": columns, "score": score, "best": values.index(max(known)) if known else None}


def _number(path: Path, line: int, value: str) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        raise EarwitnessError(
            f"{path}: line {line}: {value!r} is no number; train it again: remove its folder, and "
            "run `dvc repro`"
        ) from None
    return number if number is None or abs(number) < float("inf") else None


def _about(settings: Any) -> str:
    """What it is, in a few words of params.yaml."""
    if settings is None:
        return ""
    known = ("architecture", "dataset", "datasets", "captioner", "retriever", "features", "sound")
    found = [(name, getattr(settings, name, None)) for name in (*known, "text")]
    said = [(name, value) for name, value in found if value]
    return "; ".join(
        f"{name}: {', '.join(value) if isinstance(value, tuple) else value}"
        for name, value in said
        if isinstance(value, str | tuple)
    )
