"""Which runs a table needs: its rows, laid on their recipe, as parameters.

Rows with the same settings share a run, so that features, retrievers and captioners that several
rows need are made once. Nothing is written or run here.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml.comments import CommentedMap

from earwitness import params_file, recipes
from earwitness.own import Own
from earwitness.tables.reading import NamedTable, TableRow
from pipeline.config.params import Params, parse_params
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.planning.code import code_digests
from pipeline.planning.context import REGISTRIES

# stages by the section that must have entries for them to run
STAGES = {
    "datasets": ("prepare",),
    "encoders": ("extract",),
    "text_encoders": ("embed",),
    "spaces": ("make_space",),
    "retrievers": ("train_retriever",),
    "encoded": ("encode",),
    "captioners": ("train_captioner",),
    "finetuned": ("finetune",),
    "systems": ("decode", "evaluate"),
    "retrieval_systems": ("rank",),
}
# entries of registries that jobs name: section → field, and the package that it is a module of
ENTRIES = {
    "encoders": ("module", "encoders"),
    "text_encoders": ("module", "encoders"),
    "sound_towers": ("module", "models.towers"),
    "captioners": ("architecture", "models.captioners"),
}
ENGINE = ("engine", "ray")  # sections of where jobs are computed
SEEDS = "seeds"


class TableRun(NamedTuple):
    """One run of the pipeline, of one row or several."""

    name: str  # also of its folder
    values: CommentedMap  # params.yaml
    params: Params
    rows: dict[str, TableRow]
    dataset: str  # the test set's name

    @property
    def targets(self) -> list[str]:
        """The jobs of ``dvc.yaml`` that end it."""
        ends = ["evaluate"] if self.params.systems else []
        ends += ["rank"] if self.params.retrieval_systems else []
        return [f"{stage}@{self.dataset}" for stage in ends]


def chosen_dataset(named: NamedTable, dataset: str) -> str:
    """The dataset that is asked for, or the table's own.

    Raises:
        EarwitnessError: the table does not run on it.
    """
    if not dataset:
        return named.table.dataset
    if dataset not in named.table.datasets:
        near = nearest(dataset, named.table.datasets)
        raise EarwitnessError(f"table {named.name}: no dataset '{dataset}'{near}")
    return dataset


def chosen_rows(named: NamedTable, only: Sequence[str], dataset: str) -> dict[str, TableRow]:
    """The rows that are asked for and can be made on the dataset, and those that the paper has.

    Raises:
        EarwitnessError: there is no such row.
    """
    rows = named.table.rows
    for name in only:
        if name not in rows:
            raise EarwitnessError(f"table {named.name}: no row '{name}'{nearest(name, rows)}")
    wanted = {*(only or named.only or rows)}
    return {
        name: row
        for name, row in rows.items()
        if name in wanted and dataset in (row.datasets or (dataset,))
    }


def runs_of(
    named: NamedTable,
    rows: Mapping[str, TableRow],
    dataset: str,
    seeds: Sequence[int],
    folder: Path,
) -> list[TableRun]:
    """The runs that make ``rows``; see :class:`TableRun`.

    Args:
        folder: of the recipes.

    Raises:
        EarwitnessError: a row names what its recipe has not, or the parameters do not hold
            together.
    """
    groups: dict[str, dict[str, TableRow]] = {}
    for name, row in rows.items():
        if row.is_ours:
            groups.setdefault(_text(row.set), {})[name] = row
    return [_run(named, group, dataset, seeds, folder) for group in groups.values()]


def own_values(run: TableRun, row: TableRow) -> dict[str, Any]:
    """All that one row is made of, as plain values: the parameters that it alone needs.

    Seeds are left out, as which there are is said beside each result; and what it is computed on,
    which changes no result.
    """
    values = _restricted(run.values, [row], run.dataset, f"run {run.name}")
    resolved = parse_params(values, f"run {run.name}").model_dump(mode="json")
    return {key: value for key, value in resolved.items() if key not in (SEEDS, *ENGINE)}


def code_of(params: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Module → digest of what the jobs of these parameters run; see pipeline/planning/code.py.

    Args:
        params: of one row, as :func:`own_values` gives them.
        root: the folder of our packages.
    """
    stages = [stage for section, names in STAGES.items() if params[section] for stage in names]
    stages += ["tagging"] if params["tagging"]["encoders"] else []
    entries = {
        f"pipeline.{package}.{entry[field]}"
        for section, (field, package) in ENTRIES.items()
        for entry in params[section].values()
    }
    entries |= {"pipeline.models.towers.text"} if params["text_towers"] else set()
    modules = [*(f"stages.{stage}" for stage in stages), *sorted(entries)]
    return code_digests(modules, root, REGISTRIES)


def digest_of(value: Any) -> str:
    """Of plain values, whatever their order."""
    return hashlib.sha256(_text(value).encode()).hexdigest()[:16]


def _run(
    named: NamedTable,
    rows: dict[str, TableRow],
    dataset: str,
    seeds: Sequence[int],
    folder: Path,
) -> TableRun:
    settings = next(iter(rows.values())).set
    recipe = recipes.compose(folder, named.table.recipe, dataset, Own(settings=settings))
    name = f"{named.table.recipe}-{dataset}"
    name += f"-{digest_of(settings)[:6]}" if settings else ""
    first = next(iter(recipe.values["datasets"]))
    values = copy.deepcopy(recipe.values)
    values[SEEDS] = list(seeds)
    source = f"table {named.name} on {dataset}"
    values = _restricted(values, rows.values(), first, source)
    return TableRun(name, values, parse_params(values, source), dict(rows), first)


def _restricted(
    values: CommentedMap, rows: Iterable[TableRow], dataset: str, source: str
) -> CommentedMap:
    """The parameters without what none of ``rows`` needs."""
    values = copy.deepcopy(values)
    systems = {row.system for row in rows if row.system}
    searched = {row.retrieval_system for row in rows if row.retrieval_system}
    for section, wanted in (("retrieval_systems", searched), ("systems", systems)):
        there = values.get(section) or {}
        for name in sorted(wanted - {*there}):
            raise EarwitnessError(f"{source}: no {section[:-1]} '{name}'{nearest(name, there)}")
        if section == "retrieval_systems":  # what is searched by its captions is captioned first
            systems |= {there[n]["captions_of"] for n in wanted if "captions_of" in there[n]}
        for name in [name for name in there if name not in wanted]:
            del there[name]
    values["test_sets"] = [dataset] if systems else []
    values["retrieval_test_sets"] = [dataset] if searched else []
    recipes.prune(values)
    params_file.complete(values, parse_params(values, source))
    return values


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
