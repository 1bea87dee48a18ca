"""Which rows differ from the table's base row by more than the noise; see docs/comparing.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from earwitness.comparing import captions, rankings
from earwitness.comparing.comparison import LEVEL, RESAMPLES
from earwitness.comparing.loaded import ComparedSystem
from earwitness.comparing.sources import WorkingTree
from earwitness.tables.results import AgainstBase
from pipeline.config.evaluation import EvaluationConfig
from pipeline.metrics.evaluate import find_tools
from pipeline.metrics.pairs import Difference, compare, holm


class ComparedRow(NamedTuple):
    """Where a row's captions or rankings are."""

    tree: Path
    system: str
    searches: bool


def against_base(
    rows: Mapping[str, ComparedRow], base: str, dataset: str, settings: EvaluationConfig
) -> dict[str, dict[str, AgainstBase]]:
    """Row → metric → its difference from the base row, of the rows of the base's kind.

    Each is a paired permutation test over clips, with all seeds; p is corrected for the rows
    (Holm), and so is what is called clear.

    Raises:
        EarwitnessError: results are not there, or cannot be compared.
    """
    kind = rows[base].searches
    chosen = {base: rows[base]} | {n: row for n, row in rows.items() if row.searches == kind}
    if len(chosen) < 2:
        return {}
    sides = [
        ComparedSystem(WorkingTree(row.tree, name), row.system) for name, row in chosen.items()
    ]
    if kind:
        loaded = rankings.load(sides, dataset)
    else:
        loaded = captions.load(sides, dataset, settings, find_tools(None, device="cpu"))
    first, *others = sides
    resamples = settings.resamples or RESAMPLES
    found = {}
    for name, side in zip([*chosen][1:], others, strict=True):
        pair = {side.label: loaded.systems[side.label], first.label: loaded.systems[first.label]}
        found[name] = compare(pair, resamples)[side.label, first.label]
    return _corrected(found)


def _corrected(found: Mapping[str, Mapping[str, Difference]]) -> dict[str, dict[str, AgainstBase]]:
    rows: dict[str, dict[str, AgainstBase]] = {name: {} for name in found}
    for metric in dict.fromkeys(metric for each in found.values() for metric in each):
        having = [name for name, each in found.items() if metric in each]
        p_values = holm([found[name][metric].p for name in having])
        for name, p in zip(having, p_values, strict=True):
            own = found[name][metric]
            rows[name][metric] = AgainstBase(
                difference=round(own.difference, 6),
                low=None if own.low is None else round(own.low, 6),
                high=None if own.high is None else round(own.high, 6),
                p=round(p, 6),
                clear=p < LEVEL,
            )
    return rows
