"""Overlays that write ``params.yaml``: one file a paper, one a dataset, one an encoder.

``earwitness recipe edtc clotho`` lays recipes/clotho.yaml over recipes/edtc.yaml, leaves out what
no system needs, and writes out every setting of the rest. What that gives is an ordinary parameter
file: ``-S``, ``dvc repro`` and ``--queue`` agree about it; with Hydra's composition they do not.
docs/extending.md says what an overlay may hold.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from ruamel.yaml.comments import CommentedMap

from earwitness import params_file
from earwitness.own import Own
from pipeline.config.encoders import PROBABILITIES
from pipeline.config.evaluation import RerankConfig
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
KINDS = ("paper", "dataset", "encoder")
DATASET = "dataset"  # of a paper: the dataset's recipe that it is laid under where none is named
WIDTH = 100  # columns of the list of recipes
WEIGHTED = ("encoders", "text_encoders", "sound_towers", "text_towers")
RERANKED = "rerank.retriever"  # in an entry's `set`
LISTS = frozenset(dict(references(Params)))  # sections that are lists of names
AS_RECIPES_SAY = Own()
BLIND = "blind"  # the dataset that --blind adds
ROOTS = ("systems", "retrieval_systems", "test_sets", "retrieval_test_sets")  # all else serves them


def available(folder: Path, kind: str) -> dict[str, str]:
    """Overlays of one kind, ``paper`` or ``dataset``: name → what the comment on its head says."""
    line = re.compile(rf"^{KIND}: {kind}\b", re.MULTILINE)
    texts = {path.stem: read_text(path, "remove it") for path in folder.glob("*.yaml")}
    return {
        name: " ".join(re.findall(r"^# (.*)", line.split(text)[0], re.MULTILINE))
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
    lines += ["", "earwitness recipe PAPER DATASET [--root DIR] [--weights ENCODER=PATH]"]
    return "\n".join([*lines, "writes params.yaml; some papers name a dataset of their own"])


class Recipe(NamedTuple):
    """A paper on a dataset: what ``params.yaml`` is to hold."""

    paper: str
    dataset: str  # the recipe's, which is not always its first dataset's name
    overlays: tuple[str, ...]  # laid over each other, the lowest first
    values: CommentedMap
    params: Params


def compose(folder: Path, paper: str, dataset: str = "", own: Own = AS_RECIPES_SAY) -> Recipe:
    """``paper`` on ``dataset``; nothing is written.

    Args:
        folder: of the recipes.
        dataset: where it is not named, the paper's own.
        own: files and settings that stand in the place of the recipes'.

    Raises:
        EarwitnessError: no such overlay or encoder (the nearest is named), or the result does not
            hold together.
    """
    layers = _layers(folder, _known(folder, "paper", paper))
    usual = [layer.pop(DATASET) for layer in layers.values() if DATASET in layer]
    if not dataset and not usual:
        known = ", ".join(available(folder, "dataset"))
        raise EarwitnessError(f"recipe {paper} needs a dataset; name one of: {known}")
    layers |= _layers(folder, _known(folder, "dataset", dataset := dataset or usual[-1]))
    source, given = f"recipe {paper} {dataset}", {**own.weights}
    everywhere = {name: given.pop(name) for name in {*given} & {*available(folder, "encoder")}}
    if len(everywhere) > 1:
        raise EarwitnessError(
            f"{source}: {' and '.join(sorted(everywhere))} would each be in every place; give the "
            "weights of one of them"
        )
    for name in everywhere:
        layers |= _layers(folder, name)
    values = _together(layers)
    del values[KIND]
    names = values.pop(NAMES, {})
    _check_shape(values, source)
    places = {f"{name}-weights": path for name, path in everywhere.items()}
    names = {"dataset": next(iter(values["datasets"])), **names, **places}
    _set_root(values["datasets"], own.root, source)
    _add_blind(values, own, source)
    _substitute(names, names)
    _substitute(values, names)
    prune(values)
    _set_weights(values, given, available(folder, "encoder"), source)
    _set_labels(values["encoders"], own.labels, source)
    for setting, value in own.settings.items():
        _set(values, setting, value)
    params = parse_params(values, source)
    params_file.complete(values, params)
    if unread := [setting for setting in own.settings if not _has(values, setting)]:
        raise EarwitnessError(f"{source} reads no {unread[0]}; set another, or leave it out")
    return Recipe(paper, dataset, (*layers,), values, params)


def write(recipe: Recipe, params: Path, folder: Path) -> None:
    """Writes ``params``; your own comments stay where the value does.

    Args:
        folder: of the recipes, whose comments are not yours.
    """
    if params.exists():
        notes = params_file.own_notes(params_file.read(params), _comments(folder))
        params_file.add_notes(recipe.values, notes)
    with delivering(params) as whole:
        whole.write_text(params_file.text(recipe.values), encoding="utf-8")


def apply(params: Path, folder: Path, paper: str, dataset: str = "") -> None:
    """Writes ``params`` as ``paper`` on ``dataset``; see :func:`compose` and :func:`write`.

    Raises:
        EarwitnessError: see :func:`compose`; ``params`` is untouched then.
    """
    write(compose(folder, paper, dataset), params, folder)


def _set(values: CommentedMap, setting: str, value: Any) -> None:
    """A dotted setting; what it stands in is checked with all else."""
    *sections, last = setting.split(".")
    node: Any = values
    for section in sections:
        node = node.setdefault(section, CommentedMap()) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise EarwitnessError(f"--set {setting}: stands in a value; correct the setting")
    node[last] = value


def _has(values: CommentedMap, setting: str) -> bool:
    node: Any = values
    for key in setting.split("."):
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def _known(folder: Path, kind: str, name: str) -> str:
    known = available(folder, kind)
    if not known:
        raise EarwitnessError(f"{folder}: no {kind} recipes there; give the folder of recipes")
    if name not in known:
        raise EarwitnessError(f"no {kind} recipe '{name}'{nearest(name, known)}")
    return name


def _set_root(datasets: CommentedMap, root: str | None, source: str) -> None:
    """Where the files of the first dataset are; no sound is fetched into a folder that is given."""
    name, entry = next(iter(datasets.items()))
    layout = entry.get("layout")
    kinds = params_file.entry_kinds("datasets")
    of_layout = [k for k in kinds if layout in get_args(k.model_fields["layout"].annotation)]
    fields = [k.model_fields["root"] for k in of_layout if "root" in k.model_fields]
    if root is None:
        if any(field.is_required() for field in fields) and "root" not in entry:
            raise EarwitnessError(f"{source}: where is the sound? give its folder by --root DIR")
    elif not fields:
        raise EarwitnessError(f"{source}: {name} is made here, and no files of yours; give no root")
    else:
        entry["root"] = root
        if entry.get("fetch") is True:  # tables of captions are fetched where it lacks them
            entry["fetch"] = False


def _set_labels(encoders: CommentedMap, labels: str | None, source: str) -> None:
    """The file with the names of classes, of every encoder that gives their probabilities."""
    taggers = [
        encoder
        for encoder in encoders.values()
        if encoder.get("module") in PROBABILITIES
        and encoder.get("output", "") in (PROBABILITIES[encoder["module"]], "")
    ]
    if labels is not None and not taggers:
        raise EarwitnessError(f"{source}: no encoder here gives classes; give no labels")
    for encoder in taggers if labels is not None else ():
        encoder["labels"] = labels


def _add_blind(values: CommentedMap, own: Own, source: str) -> None:
    """A blind test set beside the recipe's; searched too, where there are queries."""
    if own.blind is None:
        return
    if BLIND in values["datasets"]:
        raise EarwitnessError(f"{source}: has a dataset '{BLIND}' already; leave --blind out")
    about = {"layout": "blind", "root": own.blind}
    values["datasets"][BLIND] = CommentedMap(
        about if own.queries is None else {**about, "queries": own.queries}
    )
    for section in ("test_sets", *(["retrieval_test_sets"] if own.queries else [])):
        if values.get(section):
            values[section].append(BLIND)


def _set_weights(
    values: CommentedMap, weights: Mapping[str, str], recipes: Iterable[str], source: str
) -> None:
    """``weights`` of entries, by name. ``recipes``: encoders that might have been meant."""
    sections = [values.get(section, {}) for section in WEIGHTED]
    known = {name: entry for section in sections for name, entry in section.items()}
    for name, path in weights.items():
        if name not in known:
            raise EarwitnessError(
                f"{source}: no encoder '{name}'{nearest(name, [*known, *recipes])}"
            )
        known[name]["weights"] = path


def _check_shape(values: CommentedMap, source: str) -> None:
    """What :func:`prune` walks through is there; all else is checked when it is done."""
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


def prune(values: CommentedMap) -> None:
    """Takes away the entries that no system needs."""
    waiting = [(section, name) for section in ROOTS for name in values.get(section, ())]
    waiting.append(("datasets", values.get("tagging", {}).get("dataset", "")))
    own = (entry.get("set", {}) for entry in values.get("systems", {}).values())
    chosen = [values.get("rerank", {}).get("retriever"), *(each.get(RERANKED) for each in own)]
    waiting += [each for name in chosen for each in _named([RerankConfig], {"retriever": name})]
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
