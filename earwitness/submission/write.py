"""Writes a submission: checked whole in a place of its own, then moved; or nothing at all."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from earwitness.repository import Repository, chosen_seed
from earwitness.submission.check import GivenSet, problems
from earwitness.submission.description import described
from earwitness.submission.measure import Costs, measure
from earwitness.submission.rules import META, MOST_SYSTEMS, NAME, OUTPUT, TaskRules
from earwitness.submission.running import load_running
from earwitness.submission.team import FILE, Team, merged_fields
from pipeline.config.params import Params
from pipeline.config.section import nearest
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError, reason
from pipeline.files import replacing_folder, shown, writable
from pipeline.metrics.tables import read_predictions
from pipeline.planning.lookup import retrieval_seeds, system_seeds
from pipeline.tables import read_rows
from pipeline.trained.ranking import file_names, queries_of

UNKNOWN = "UNKNOWN"  # stands in the names of files that are not written


class Submission(NamedTuple):
    """What was written, or why nothing was."""

    files: tuple[str, ...]  # names
    costs: dict[str, Costs]  # by system
    problems: tuple[str, ...]  # a line each


def submit(
    rules: TaskRules,
    systems: Sequence[str],
    dataset: str | None,
    out: Path,
    team: Team,
    repository: Repository,
    measured: bool = True,
    seed: int | None = None,
) -> Submission:
    """Writes each system's output and meta file into ``out``, if there is no problem at all.

    Args:
        systems: of ``params.yaml``, in the order in which they are numbered, from 1.
        dataset: the test set; None: the one blind set among the test sets.
        out: a folder that is new, empty, or holds nothing but a submission.
        seed: that the systems' models were trained with; None: the first of each.
        measured: run each system for its costs; else submission.yaml has to give them.

    Raises:
        EarwitnessError: no such system or dataset, more systems than a team may send, ``out`` holds
            other files, or predictions are missing.
    """
    params = repository.params()
    _check_systems(systems, rules, params, repository)
    check_folder(out)
    name = dataset or _blind_set(rules, params, repository)
    manifest = _manifest(name, rules, params, repository)
    split = params.evaluation.split
    clips, asked = manifest.recordings(split), queries_of(manifest.asked(split)).captions
    given = GivenSet(file_names(clips), asked if rules.kind == "retrieval" else None)
    author, institute, found = _signature(team)
    found += [f"{path}: left out of dataset {name} ({why})" for path, why in manifest.skipped]
    costs: dict[str, Costs] = {}
    with replacing_folder(out.resolve()) as folder:
        for number, system in enumerate(systems, start=1):
            rows = _rows(rules, system, seed, manifest, split, repository)
            _write_table(folder / rules.output(author, institute, number), rules.header, rows)
            query = next(iter(asked), "a sound")
            running = load_running(rules.kind, system, repository, query, seed)
            if measured:
                root = repository.root / manifest.root
                files = [manifest.sound_file(root, clip) for clip in clips]
                costs[system] = measure(running.run, files, running.models)
            label = rules.label(author, institute, number)
            meta = _signed(label, system, team)
            plans, cost = running.plans, costs.get(system)
            meta |= described(rules.kind, system, running.seed, plans, cost, repository)
            own = team.systems[system].meta if system in team.systems else {}
            meta = merged_fields(merged_fields(meta, team.meta), own)
            _write_yaml(folder / f"{label}.meta.yaml", meta)
        found += problems(folder, given)
        if found:
            raise _Refused(found, costs)
        names = tuple(sorted(path.name for path in folder.iterdir()))
    return Submission(names, costs, ())


def try_to_submit(*arguments: Any, **options: Any) -> Submission:
    """:func:`submit`; where it is refused, all its problems and no files.

    Raises:
        EarwitnessError: see there; or the folder cannot be written.
    """
    try:
        return submit(*arguments, **options)
    except _Refused as refused:
        return Submission((), refused.costs, tuple(refused.problems))
    except OSError as error:
        where = writable(error.filename or "the folder")
        raise EarwitnessError(
            f"{where}: cannot be written ({reason(error)}); give another folder by --out"
        ) from None


class _Refused(Exception):
    def __init__(self, found: Sequence[str], costs: dict[str, Costs]) -> None:
        super().__init__("the submission is refused")
        self.problems, self.costs = found, costs


def check_folder(out: Path) -> None:
    """Refuses a folder that holds anything but a submission: it is replaced whole."""
    if out.exists() and not out.is_dir():
        raise EarwitnessError(f"{out}: a file; give a folder")
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        if not (OUTPUT.fullmatch(path.name) or META.fullmatch(path.name)):
            raise EarwitnessError(
                f"{out}: holds {shown(path.name)}, which no submission does; give a new folder"
            )


def _check_systems(
    systems: Sequence[str], rules: TaskRules, params: Params, repository: Repository
) -> None:
    section = "systems" if rules.kind == "captioning" else "retrieval_systems"
    known = getattr(params, section)
    for name in systems:
        if name not in known:
            raise EarwitnessError(
                f"{repository.params_file}: no '{name}' in {section}{nearest(name, known)}"
            )
    if len(systems) > MOST_SYSTEMS or len({*systems}) < len(systems):
        raise EarwitnessError(
            f"{', '.join(systems)}: a team sends {MOST_SYSTEMS} systems at most, each once; "
            "name fewer"
        )


def _blind_set(rules: TaskRules, params: Params, repository: Repository) -> str:
    sets = params.test_sets if rules.kind == "captioning" else params.retrieval_test_sets
    blind = [name for name in sets if params.datasets[name].layout == "blind"]
    if len(blind) != 1:
        known = ", ".join(blind or sets) or "none"
        raise EarwitnessError(
            f"{repository.params_file}: {len(blind)} blind test sets; name one by --dataset "
            f"({known}), or add one (docs/challenge.md)"
        )
    return blind[0]


def _manifest(name: str, rules: TaskRules, params: Params, repository: Repository) -> Manifest:
    captioned = rules.kind == "captioning"
    section = "test_sets" if captioned else "retrieval_test_sets"
    sets = getattr(params, section)
    if name not in sets:
        raise EarwitnessError(
            f"{repository.params_file}: {section} has no '{name}'{nearest(name, sets)}"
        )
    return Manifest.load(repository.data / "corpora" / f"{name}.json")


def _signature(team: Team) -> tuple[str, str, list[str]]:
    """What stands in labels, and what is wrong with it."""
    found, wrong = [], []
    for field in ("author", "institute"):
        value = getattr(team, field)
        if not value:
            wrong.append(f"{field}: missing; give --{field}, or {field} in {FILE}")
        elif not NAME.fullmatch(value):
            wrong.append(f"{field}: {value!r} has other than letters, digits and -; as in labels")
        found.append(value if value and NAME.fullmatch(value) else UNKNOWN)
    return found[0], found[1], wrong


def _signed(label: str, system: str, team: Team) -> dict[str, Any]:
    own = team.systems.get(system)
    return {
        "submission": {
            "label": label,
            "name": own.name if own else None,
            "abbreviation": own.abbreviation if own else None,
            "authors": team.authors,
        }
    }


def _rows(
    rules: TaskRules,
    system: str,
    seed: int | None,
    manifest: Manifest,
    split: str,
    repository: Repository,
) -> list[list[str]]:
    """What a system wrote of the set, as `decode` and `rank` left it."""
    clips, dataset = manifest.recordings(split), manifest.dataset
    params, captioned = repository.params(), rules.kind == "captioning"
    seeds = (system_seeds if captioned else retrieval_seeds)(params)[system]
    seed = chosen_seed(system, seeds, seed, repository.params_file)
    if rules.kind == "captioning":
        path = repository.data / "predictions" / dataset / f"{system}.csv"
        hint = f"run `dvc repro decode@{dataset}-{system}`"
        captions = read_predictions(path, [clip.clip_id for clip in clips], [seed], hint)[seed]
        return [list(row) for row in zip(file_names(clips), captions, strict=True)]
    path = repository.data / "rankings" / dataset / f"{system}.csv"
    if not path.is_file():
        raise EarwitnessError(f"{path}: not there; run `dvc repro rank@{dataset}`")
    rows = [
        row
        for row in read_rows(path, ["caption"])
        if row.values.get("seed", str(seed)) == str(seed)
    ]
    lacking = [column for column in rules.header if column not in rows[0].values]
    if lacking:
        raise EarwitnessError(
            f"{path}: has no {lacking[0]}, and {rules.year} asks for {rules.clips} clips a query; "
            "make it a blind set, whose rankings have sixteen, or give another --year"
        )
    return [[row.values[column] for column in rules.header] for row in rows]


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def _write_yaml(path: Path, values: dict[str, Any]) -> None:
    yaml = YAML()
    yaml.width = 1000
    yaml.representer.ignore_aliases = lambda _: True
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(values, stream)
