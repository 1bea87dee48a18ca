"""Checks the files of a submission, anyone's, against the rules; it reads what is written, alone.

The set is given by its file names and queries where they are known. Every problem is one line, and
all of them are found at once.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from earwitness.submission.rules import (
    ABBREVIATION,
    AUTHOR,
    COMPLEXITY,
    DESCRIPTION,
    META,
    MOST_SYSTEMS,
    OUTPUT,
    SUBMISSION,
    TaskRules,
    rules_of_output,
)
from pipeline.errors import EarwitnessError
from pipeline.files import read_text, shown
from pipeline.yaml_files import parse_yaml

HINT = "write it again"
SHOWN = 3  # names in one line
EMPTY = re.compile(r"!!null\b")  # as DCASE's templates leave a field out
Rows = list[tuple[int, list[str]]]  # a line's number, and its cells


class GivenSet(NamedTuple):
    """What a challenge gives out; None: it is not known, and not compared with."""

    files: Sequence[str] | None = None
    queries: Sequence[str] | None = None


def problems(folder: Path, tested: GivenSet) -> list[str]:
    """What is wrong with the files in a folder, a line each; none where all is well.

    Args:
        folder: of the outputs and meta files of one team in one task, in it or one folder below.

    Raises:
        EarwitnessError: there is no such folder.
    """
    if not folder.is_dir():
        raise EarwitnessError(f"{folder}: no such folder; give that of the submission")
    paths = [
        path
        for path in sorted((*folder.glob("*"), *folder.glob("*/*")))
        if path.is_file() and path.suffix in (".csv", ".yaml")
    ]
    outputs = {path: found for path in paths if (found := OUTPUT.fullmatch(path.name))}
    metas = {path: found for path in paths if (found := META.fullmatch(path.name))}
    wrong = [
        f"{shown(path.name)}: not the name of an output or a meta file"
        for path in paths
        if path not in outputs and path not in metas
    ]
    if not outputs:
        return [*wrong, f"{folder}: no output, AUTHOR_INSTITUTE_TASK_submission_N_output.csv"]
    wrong += _team([match.groupdict() for match in (*outputs.values(), *metas.values())])
    if len({match["testing"] for match in outputs.values()}) > 1:
        wrong.append("outputs of captioning and of retrieval; check each submission alone")
    wrong += _pairs(
        {match["number"] for match in outputs.values()},
        {match["number"] for match in metas.values()},
    )
    rules = None
    for path, match in outputs.items():
        rules = rules_of_output(match["task"], bool(match["testing"]))
        if rules is None:
            wrong.append(f"{path.name}: DCASE has no {match['task']} with such an output")
        else:
            wrong += output_problems(path, rules, tested)
    for path in metas:
        label = path.name.removesuffix(".meta.yaml")
        wrong += meta_problems(path, label, rules) if rules else []
    return wrong


def _team(names: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for part in ("author", "institute", "task"):
        if len(several := sorted({name[part] for name in names})) > 1:
            yield f"files of several {part}s, {', '.join(several)}; check each submission alone"
    numbers = {int(name["number"]) for name in names}
    if max(numbers) > MOST_SYSTEMS or min(numbers) < 1 or len(numbers) > MOST_SYSTEMS:
        listed = ", ".join(map(str, sorted(numbers)))
        yield f"systems {listed}: a team has {MOST_SYSTEMS} at most; number them from 1"


def _pairs(outputs: set[str], metas: set[str]) -> Iterator[str]:
    for number in sorted(outputs - metas):
        yield f"system {number} has no meta file"
    for number in sorted(metas - outputs):
        yield f"system {number} has no output"


def output_problems(path: Path, rules: TaskRules, tested: GivenSet) -> list[str]:
    """What is wrong with one output, each line with its place."""
    try:
        if path.read_bytes().startswith(b"\xef\xbb\xbf"):
            return [f"{path.name}: begins with a byte order mark; save it as plain UTF-8"]
        lines = _records(read_text(path, HINT))
    except EarwitnessError as error:
        return [str(error)]
    except csv.Error as error:
        return [f"{path.name}: not CSV ({error})"]
    if not lines or tuple(lines[0][1]) != rules.header:
        return [f"{path.name}: the columns are not {','.join(rules.header)}"]
    rows, wrong = lines[1:], []
    for line, cells in rows:
        where = f"{path.name}: line {line}"
        if len(cells) != len(rules.header):
            wrong.append(f"{where} has {len(cells)} cells, not {len(rules.header)}")
        if any("\n" in cell or "\r" in cell for cell in cells):
            wrong.append(f"{where} has a line's end in a cell")
    if wrong:
        return wrong
    find = _captions if rules.kind == "captioning" else _rankings
    return [f"{path.name}: {problem}" for problem in find(rows, rules, tested)]


def _records(text: str) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found, line = [], 1
    for cells in reader:
        found.append((line, cells))
        line = reader.line_num + 1
    return found


def _captions(rows: Rows, rules: TaskRules, tested: GivenSet) -> Iterator[str]:
    for line, (_, caption) in rows:
        if not caption.strip():
            yield f"line {line} has no caption"
    yield from _compared([cells[0] for _, cells in rows], tested.files, "file", once=True)


def _rankings(rows: Rows, rules: TaskRules, tested: GivenSet) -> Iterator[str]:
    known = None if tested.files is None else set(tested.files)
    least = rules.clips if known is None else min(rules.clips, len(known))
    for line, (query, *clips) in rows:
        listed = [clip for clip in clips if clip]
        if not query.strip():
            yield f"line {line} has no query"
        if len(listed) < least or clips[: len(listed)] != listed:
            yield f"line {line} lists {len(listed)} files, not {least}"
        if twice := [name for name, count in Counter(listed).items() if count > 1]:
            yield f"line {line} lists {twice[0]!r} twice"
        if known is not None and (others := [name for name in listed if name not in known]):
            yield f"line {line}: {others[0]!r} is not a file of the set"
    yield from _compared([cells[0] for _, cells in rows], tested.queries, "query", once=False)


def _compared(
    found: Sequence[str], wanted: Sequence[str] | None, what: str, once: bool
) -> Iterator[str]:
    """What is there too often, too seldom, or not of the set.

    Args:
        once: nothing may stand twice, whatever the set has.
    """
    counts = Counter(found)
    expected = Counter(found if wanted is None else wanted)
    twice = [name for name in counts if counts[name] > (1 if once else expected[name] or 1)]
    yield from _listed(f"{what} more than once", twice)
    yield from _listed(f"no {what} of the set", [n for n in counts if n not in expected])
    yield from _listed(f"{what} missing", [n for n in expected if counts[n] < expected[n]])


def _listed(problem: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"{problem}: {', '.join(map(repr, names[:SHOWN]))}{more}"


def meta_problems(path: Path, label: str, rules: TaskRules) -> list[str]:
    """What is wrong with one meta file: each field that is missing or cannot be is a line."""
    try:
        text = EMPTY.sub("null", read_text(path, HINT))
        meta = parse_yaml(text, str(path), HINT)
    except EarwitnessError as error:
        return [str(error)]
    if not isinstance(meta, dict):
        return [f"{path.name}: has no fields"]
    return [f"{path.name}: {problem}" for problem in missing_fields(meta, label, rules)]


def missing_fields(meta: Mapping[str, Any], label: str, rules: TaskRules) -> Iterator[str]:
    """Of the values of a meta file; ``label`` is what its name says."""
    needed = [
        *(f"submission.{name}" for name in SUBMISSION),
        *(f"system.description.{name}" for name in DESCRIPTION[rules.kind]),
        *(f"system.complexity.{name}" for name in COMPLEXITY),
        "results",
    ]
    for place in needed:
        if value_at(meta, place) in (None, "", [], {}):
            yield f"{place}: missing"
    if value_at(meta, "system.external_datasets") is None:
        yield "system.external_datasets: missing; [] if there are none"
    for place, wrong, rule in (
        ("submission.label", lambda value: value != label, f"not {label}"),
        (
            "submission.abbreviation",
            lambda value: len(str(value)) > ABBREVIATION,
            f"longer than {ABBREVIATION} characters",
        ),
        *((f"system.complexity.{name}", _no_number, "not a number above 0") for name in COMPLEXITY),
    ):
        yield from _wrong(meta, place, wrong, rule)
    yield from _authors(value_at(meta, "submission.authors"))


def _wrong(
    meta: Mapping[str, Any], place: str, wrong: Callable[[Any], bool], rule: str
) -> Iterator[str]:
    value = value_at(meta, place)
    if value not in (None, "") and wrong(value):
        yield f"{place}: {value!r} is {rule}"


def _no_number(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float) or not value > 0


def _authors(authors: Any) -> Iterator[str]:
    if authors in (None, "", [], {}):
        return
    if not isinstance(authors, list) or not all(isinstance(author, dict) for author in authors):
        yield "submission.authors: not a list of authors"
        return
    for number, author in enumerate(authors):
        for place in AUTHOR:
            if value_at(author, place) in (None, ""):
                yield f"submission.authors[{number}].{place}: missing"
    if sum(author.get("corresponding") is True for author in authors) != 1:
        yield "submission.authors: one of them is corresponding: true, no other"


def value_at(values: Any, place: str) -> Any:
    """The value of a dotted field; None where there is none."""
    for key in place.split("."):
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
