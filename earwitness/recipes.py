"""Overlays that write ``params.yaml``: one file a paper, one a dataset, comments kept.

``earwitness recipe edtc clotho`` lays recipes/edtc.yaml, then recipes/clotho.yaml, over
``params.yaml``, and leaves out what no system needs: an overlay may hold more than one paper reads.
What remains is an ordinary parameter file: ``-S``, ``dvc repro`` and ``--queue`` agree about it,
which is not so with Hydra's composition.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config.params import parse_params
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.files import write_atomic

NAMES = "names"  # {text: minilm}: what "$text" stands for, else for "text"; "$dataset" is known
REMOVE = "$remove"  # as a key, takes away all that the overlays below have there
BASE = "base"  # an overlay may name others that it is laid over, the lowest first
PAPERS = "papers"  # {sjtu: …} of a dataset: laid over for this paper and those based on it alone
KIND = "kind"
KINDS = ("paper", "dataset")
WIDTH = 100  # columns of the list of recipes

# section → key of its entries → the sections whose entries it names
USES: dict[str, dict[str, tuple[str, ...]]] = {
    "systems": {"captioners": ("captioners", "finetuned")},
    "retrieval_systems": {
        "retrievers": ("retrievers", "adapted"),
        "captions_of": ("systems",),
        "text": ("text_encoders",),
    },
    "finetuned": {"captioner": ("captioners",)},
    "captioners": {
        "features": ("encoders", "retrievers", "adapted"),
        "text": ("text_encoders", "retrievers", "adapted"),
        "training": ("training",),
        "dataset": ("datasets",),
        "sound_dataset": ("datasets",),
        "tower": ("sound_towers",),
    },
    "adapted": {"retriever": ("retrievers",), "datasets": ("datasets",)},
    "retrievers": {
        "sound": ("sound_towers", "encoders"),
        "text": ("text_towers", "text_encoders"),
        "datasets": ("datasets",),
    },
    "encoders": {"weights": ("encoders",)},  # of tagging:ENCODER
    "sound_towers": {
        "input": ("encoders",),
        "beside": ("encoders",),
        "weights": ("encoders",),  # of tagging:ENCODER
    },
}
RETRIEVERS = ("retrievers", "adapted")  # <name>/frames, <name>/sound and <name>/text are theirs
NAMED = {section for keys in USES.values() for sections in keys.values() for section in sections}

# indent, key, value, what stands behind it; not an entry of a list
KEY = re.compile(r"""( *)([^\s#-][^:]*):(?: +("[^"]*"|'[^']*'|[^\s#](?:\S| (?!#))*))? *(#.*)?""")

Place = tuple[str, ...]  # ("training", "edtc", "epochs")


class Comment(NamedTuple):
    """Of one key: its value where that is in its line, the lines above it, what stands behind."""

    value: str
    above: tuple[str, ...]
    behind: str


class RecipeLayer(NamedTuple):
    """What a file holds; ``comments`` has every key, of the file's head none."""

    values: dict[str, Any]
    comments: dict[Place, Comment]
    head: str


def available(folder: Path, kind: str) -> dict[str, str]:
    """Overlays of one kind, ``paper`` or ``dataset``: name → what the comment on its head says."""
    line = re.compile(rf"^{KIND}: {kind}\b", re.MULTILINE)
    texts = {path.stem: path.read_text("utf-8", "replace") for path in folder.glob("*.yaml")}
    return {
        name: " ".join(re.findall(r"^# (.*)", text.partition(f"{KIND}:")[0], re.MULTILINE))
        for name, text in sorted(texts.items())
        if line.search(text)
    }


def listing(folder: Path) -> str:
    """Every paper and every dataset, with what it is, for a terminal."""
    lines = []
    for kind in KINDS:
        lines.append(f"{kind}s:")
        for name, about in available(folder, kind).items():
            lines += wrap(about, WIDTH, initial_indent=f"  {name:16} ", subsequent_indent=" " * 19)
    return "\n".join([*lines, "", "earwitness recipe PAPER DATASET writes params.yaml"])


def apply(params: Path, folder: Path, paper: str, dataset: str) -> None:
    """Writes ``params`` as ``paper`` on ``dataset``; comments on values that stay are kept.

    Raises:
        EarwitnessError: no such overlay (the nearest is named), or the result does not hold
            together; ``params`` is untouched then.
    """
    layers: dict[str, RecipeLayer] = {}
    for name, kind in ((paper, "paper"), (dataset, "dataset")):
        known = available(folder, kind)
        if name not in known:
            raise EarwitnessError(f"no {kind} recipe '{name}'{nearest(name, known)}")
        layers |= _layers(folder, name)
    overlay, comments, _ = _together(layers)
    del overlay[KIND]
    names = {"dataset": next(iter(overlay["datasets"])), **overlay.pop(NAMES, {})}
    _substitute(names, names)
    _substitute(overlay, names)
    _leave_out_unused(overlay)
    old = _read(params) if params.exists() else RecipeLayer({}, {}, "")
    text = old.head + _text(overlay, comments, old.comments)
    parse_params(YAML(typ="safe").load(text), f"recipe {paper} {dataset}")
    write_atomic(params, text)


def _yaml() -> YAML:
    yaml = YAML()  # round trip; DVC writes lists unindented, so these are too
    yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.width = 1000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _read(path: Path) -> RecipeLayer:
    try:
        text = path.read_text(encoding="utf-8")
        values = _yaml().load(text)
    except FileNotFoundError:
        raise EarwitnessError(f"{path}: not there") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise EarwitnessError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise EarwitnessError(f"{path}: has no sections")
    match = re.match(r"(?:#.*\n|\n)*", text)
    head = match[0] if match else ""
    return RecipeLayer(_plain(values), _comments(text.removeprefix(head)), head)


def _plain(node: Any) -> Any:
    """Without what ruamel knows of comments; numbers are written as they were."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node


def _comments(text: str) -> dict[Place, Comment]:
    comments: dict[Place, Comment] = {}
    place: Place = ()
    above: list[str] = []
    for line in text.splitlines():
        key = KEY.fullmatch(line)
        if key:
            place = (*place[: len(key[1]) // 2], key[2])
            comments[place] = Comment(_value(key), tuple(above), key[4] or "")
        above = [*above, line] if line.lstrip().startswith("#") else []
    return comments


def _layers(folder: Path, name: str) -> dict[str, RecipeLayer]:
    """The overlays that one is laid over, the lowest first, and itself; each stands once."""
    overlay = _read(folder / f"{name}.yaml")
    bases = overlay.values.pop(BASE, [])
    layers: dict[str, RecipeLayer] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        layers |= _layers(folder, base)
    return layers | {name: overlay}


def _together(layers: Mapping[str, RecipeLayer]) -> RecipeLayer:
    """All of them as one, the last on top."""
    overlay: dict[str, Any] = {}
    comments: dict[Place, Comment] = {}
    for layer in layers.values():
        overlay = _over(overlay, {k: v for k, v in layer.values.items() if k != PAPERS})
        comments |= {place: comment for place, comment in layer.comments.items() if comment.behind}
    for layer in layers.values():
        own = layer.values.get(PAPERS, {})
        for name in [name for name in layers if name in own]:  # of a paper's base before its own
            overlay = _over(overlay, layer.values[PAPERS][name])
            start = (PAPERS, name)
            comments |= {place[2:]: c for place, c in comments.items() if place[:2] == start}
    return RecipeLayer(overlay, comments, "")


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``: mappings merge, an empty mapping empties, all else replaces."""
    merged = {} if REMOVE in above else copy.deepcopy(below)
    for key, value in above.items():
        if isinstance(value, dict) and value:
            merged[key] = _over(merged.get(key) or {}, value)
        elif key != REMOVE:
            merged[key] = copy.deepcopy(value)
    return merged


def _substitute(node: Any, names: dict[str, Any]) -> None:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, str) and value.startswith("$"):
            node[key] = copy.deepcopy(names.get(value[1:], value[1:]))
        elif isinstance(value, dict | list):
            _substitute(value, names)


def _leave_out_unused(overlay: dict[str, Any]) -> None:
    """Takes away the entries that no system needs, and the values of sections that none reads."""
    used = _used(overlay)
    for section in NAMED:
        for name in [name for name in overlay[section] if (section, name) not in used]:
            del overlay[section][name]
    captioners = overlay["captioners"].values()
    read = {name for c in captioners for name in (*c.get("features", ()), c.get("text") or "")}
    retrievers = {name.partition("/")[0] for name in read if "/" in name}
    overlay["encoded"] = [name for name in overlay["encoded"] if name in retrievers]
    tagging = overlay["tagging"]
    tagging["encoders"] = [name for name in tagging["encoders"] if name in overlay["encoders"]]
    architectures = {captioner.get("architecture") for captioner in captioners}
    readers = {
        "features fuser translator twin": "edtc" in architectures,
        "bart": {"edtc", "cmu"} & architectures,
        "cmu": "cmu" in architectures,
        "seq2seq": "seq2seq" in architectures,
        "rlssr": "rlssr" in architectures,
        "prefix text_memory": "prefix" in architectures,
        "scst": overlay["finetuned"],
        "biencoder retrieval_training": overlay["retrievers"],
    }
    for sections, read in readers.items():
        for section in [] if read else sections.split():
            overlay[section] = {}


def _used(overlay: dict[str, Any]) -> set[tuple[str, str]]:
    """(section, name) of every entry that a system needs, directly or not."""
    systems = ("systems", "retrieval_systems")
    test_sets = {*overlay["test_sets"], *overlay["retrieval_test_sets"]}
    waiting = [(section, name) for section in systems for name in overlay[section]]
    waiting += [("datasets", name) for name in (*test_sets, overlay["tagging"]["dataset"])]
    used: set[tuple[str, str]] = set()
    while waiting:
        section, name = entry = waiting.pop()
        if entry in used or name not in overlay[section]:
            continue
        used.add(entry)
        for key, sections in USES.get(section, {}).items():
            value = overlay[section][name].get(key) or []
            for other in [value] if isinstance(value, str) else value:
                other = other.removeprefix("tagging:")
                retriever = other.partition("/")[0]
                waiting += [(s, retriever if s in RETRIEVERS else other) for s in sections]
    return used


def _text(
    values: dict[str, Any], comments: Mapping[Place, Comment], old: Mapping[Place, Comment]
) -> str:
    """YAML with a blank line between sections, but between two that are empty; and comments.

    A value that stays keeps what is ``old`` of it, be that no comment.
    """
    stream = StringIO()
    _yaml().dump(values, stream)
    lines: list[str] = []
    place: Place = ()
    for line in stream.getvalue().splitlines():
        key = KEY.fullmatch(line)
        if key is None:
            lines.append(line)
            continue
        place = (*place[: len(key[1]) // 2], key[2])
        own = comments.get(place, Comment("", (), ""))
        was = old.get(place, own)
        _, above, behind = was if was.value == _value(key) else own
        together = above == () and _is_empty(line) and _is_empty(lines[-1])
        lines += [""] if not key[1] and lines and not together else []
        lines += [*above, f"{line} {behind}".rstrip()]
    return "\n".join(lines) + "\n"


def _value(key: re.Match[str]) -> str:
    return "" if key[3] in (None, "{}", "[]") else key[3]


def _is_empty(line: str) -> bool:
    return re.match(r"\w+: (?:\{\}|\[\])", line) is not None
