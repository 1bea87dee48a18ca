"""Overlays that write ``params.yaml``: one file a paper, one a dataset.

``earwitness recipe edtc clotho`` lays recipes/clotho.yaml over recipes/edtc.yaml, leaves out what
no system needs, and writes out every setting of the rest. What that gives is an ordinary parameter
file: ``-S``, ``dvc repro`` and ``--queue`` agree about it; with Hydra's composition they do not.
docs/extending.md says what an overlay may hold.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import BaseModel
from ruamel.yaml.comments import CommentedMap

from earwitness import params_file
from pipeline.config.fields import references
from pipeline.config.params import Params, parse_params
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.files import delivering, read_text

NAMES = "names"  # {text: minilm}: what "$text" stands for, else for "text"; "$dataset" is known
REMOVE = "$remove"  # as a key, takes away all that the overlays below have there
BASE = "base"  # an overlay may name others that it is laid over, the lowest first
PAPERS = "papers"  # {sjtu: …} of a dataset: laid over for this paper and those based on it alone
KIND = "kind"
KINDS = ("paper", "dataset")
WIDTH = 100  # columns of the list of recipes
LISTS = frozenset(dict(references(Params)))  # sections that are lists of names
ROOTS = ("systems", "retrieval_systems", "test_sets", "retrieval_test_sets")  # all else serves them


def available(folder: Path, kind: str) -> dict[str, str]:
    """Overlays of one kind, ``paper`` or ``dataset``: name → what the comment on its head says."""
    line = re.compile(rf"^{KIND}: {kind}\b", re.MULTILINE)
    texts = {path.stem: read_text(path, "remove it") for path in folder.glob("*.yaml")}
    return {
        name: " ".join(re.findall(r"^# (.*)", text.partition(f"{KIND}:")[0], re.MULTILINE))
        for name, text in sorted(texts.items())
        if line.search(text)
    }


def listing(folder: Path) -> str:
    """Every paper and every dataset, with what it is, for a terminal.

    Raises:
        EarwitnessError: there are none.
    """
    lines = []
    found = {kind: available(folder, kind) for kind in KINDS}
    if not any(found.values()):
        raise EarwitnessError(f"{folder}: no recipes there; give the folder of recipes")
    for kind, recipes in found.items():
        lines.append(f"{kind}s:")
        for name, about in recipes.items():
            lines += wrap(about, WIDTH, initial_indent=f"  {name:16} ", subsequent_indent=" " * 19)
    return "\n".join([*lines, "", "earwitness recipe PAPER DATASET writes params.yaml"])


def apply(params: Path, folder: Path, paper: str, dataset: str) -> None:
    """Writes ``params`` as ``paper`` on ``dataset``; your own comments stay where the value does.

    Raises:
        EarwitnessError: no such overlay (the nearest is named), or the result does not hold
            together; ``params`` is untouched then.
    """
    layers: dict[str, CommentedMap] = {}
    for name, kind in ((paper, "paper"), (dataset, "dataset")):
        known = available(folder, kind)
        if not known:
            raise EarwitnessError(f"{folder}: no {kind} recipes there; give the folder of recipes")
        if name not in known:
            raise EarwitnessError(f"no {kind} recipe '{name}'{nearest(name, known)}")
        layers |= _layers(folder, name)
    values = _together(layers)
    del values[KIND]
    source = f"recipe {paper} {dataset}"
    names = values.pop(NAMES, {})
    _check_shape(values, source)
    names = {"dataset": next(iter(values["datasets"])), **names}
    _substitute(names, names)
    _substitute(values, names)
    _prune(values)
    params_file.complete(values, parse_params(values, source))
    if params.exists():
        notes = params_file.own_notes(params_file.read(params), _comments(folder))
        params_file.add_notes(values, notes)
    with delivering(params) as whole:
        whole.write_text(params_file.text(values), encoding="utf-8")


def _check_shape(values: CommentedMap, source: str) -> None:
    """What :func:`_prune` walks through is there; all else is checked when it is done."""
    for section, value in values.items():
        if section not in Params.model_fields:
            known = list(Params.model_fields)
            raise EarwitnessError(f"{source}: {section}: unknown section{nearest(section, known)}")
        if section in LISTS and not isinstance(value, list):
            raise EarwitnessError(f"{source}: {section}: give a list of names")
        if params_file.entry_kinds(section):
            entries = list(value.values()) if isinstance(value, dict) else [None]
            if not all(isinstance(entry, dict) for entry in entries):
                raise EarwitnessError(f"{source}: {section}: give entries with settings, or {{}}")
    if not values.get("datasets"):
        raise EarwitnessError(f"{source}: datasets: missing; a dataset's recipe has one or more")


def _layers(folder: Path, name: str) -> dict[str, CommentedMap]:
    """The overlays that one is laid over, the lowest first, and itself; each stands once."""
    overlay = params_file.read(folder / f"{name}.yaml")
    params_file.keep_behind(overlay)
    bases = overlay.pop(BASE, [])
    layers: dict[str, CommentedMap] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        layers |= _layers(folder, base)
    return layers | {name: overlay}


def _together(layers: Mapping[str, CommentedMap]) -> CommentedMap:
    """All of them as one, the last on top."""
    papers = [layer.pop(PAPERS, {}) for layer in layers.values()]
    values = CommentedMap()
    for layer in layers.values():
        _lay(values, layer)
    for own in papers:
        for name in [name for name in layers if name in own]:  # of a paper's base before its own
            _lay(values, own[name])
    return values


def _lay(below: CommentedMap, above: CommentedMap) -> None:
    """``above`` over ``below``: mappings merge, an empty mapping empties, all else replaces.

    A key has the comment of the topmost that says it.
    """
    for key in list(below) if REMOVE in above else []:
        del below[key]
    for key, value in above.items():
        if key == REMOVE:
            continue
        if isinstance(value, CommentedMap) and value:
            if not isinstance(below.get(key), CommentedMap):
                below[key] = CommentedMap()
                value.copy_attributes(below[key], ["_yaml_format"])
            _lay(below[key], value)
        else:
            below[key] = copy.deepcopy(value)
        below.ca.items.pop(key, None)
        if key in above.ca.items:
            below.ca.items[key] = above.ca.items[key]


def _substitute(node: Any, names: Mapping[str, Any]) -> None:
    for key, value in [*(node.items() if isinstance(node, dict) else enumerate(node))]:
        if isinstance(value, str) and value.startswith("$"):
            node[key] = copy.deepcopy(names.get(value[1:], value[1:]))
        elif isinstance(value, dict | list):
            _substitute(value, names)


def _prune(values: CommentedMap) -> None:
    """Takes away the entries that no system needs."""
    waiting = [(section, name) for section in ROOTS for name in values.get(section, ())]
    waiting.append(("datasets", values.get("tagging", {}).get("dataset", "")))
    needed: set[tuple[str, str]] = set()
    while waiting:
        section, name = entry = waiting.pop()
        if entry in needed or name not in values.get(section, ()):
            continue
        needed.add(entry)
        if section in LISTS:
            waiting += _named([Params], {section: [name]})
        else:
            waiting += _named(params_file.entry_kinds(section), values[section][name])
    for section, value in values.items():
        if section in LISTS:
            value[:] = [name for name in value if (section, name) in needed]
        elif params_file.entry_kinds(section):
            for name in [name for name in value if (section, name) not in needed]:
                del value[name]
    tagging = values.setdefault("tagging", CommentedMap())
    tagging["encoders"] = [n for n in tagging.get("encoders", ()) if n in values["encoders"]]


def _named(kinds: Sequence[type[BaseModel]], entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(section, name) of every entry that one may name."""
    for kind in kinds:
        for key, ref in references(kind):
            for name in ref.names(entry.get(key)):
                for section, suffix in ref.sections:
                    # what is in tagging.encoders is an entry of encoders
                    yield section.rpartition(".")[2], name.removesuffix(suffix)


def _comments(folder: Path) -> set[str]:
    """All comments of the recipes: a comment that is none of these is somebody's own."""
    texts = [read_text(path, "remove it") for path in folder.glob("*.yaml")]
    return {f"#{line.partition('#')[2]}".strip() for line in "\n".join(texts).splitlines()}
