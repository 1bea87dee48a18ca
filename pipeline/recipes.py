"""Overlays that write ``params.yaml``: one file a paper, one a dataset, comments kept.

``earwitness recipe edtc clotho`` lays recipes/edtc.yaml, then recipes/clotho.yaml, over
``params.yaml``. What remains is an ordinary parameter file: ``-S``, ``dvc repro`` and ``--queue``
agree about it, which is not so with Hydra's composition.
"""

from __future__ import annotations

import copy
import re
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from pipeline.config import nearest, parse_params
from pipeline.errors import EarwitnessError
from pipeline.files import write_atomic

NAMES = "names"  # {text: minilm}: what "$text" stands for; "$dataset" is the dataset's own name
REMOVE = "$remove"  # as a value, takes the key of the overlay below away
BASE = "base"  # an overlay may name another that it is laid over
KIND = "kind"
KINDS = ("paper", "dataset")


def available(folder: Path, kind: str) -> list[str]:
    """Names of the overlays of one kind, ``paper`` or ``dataset``."""
    return sorted(p.stem for p in folder.glob("*.yaml") if _read(p).get(KIND) == kind)


def apply(params: Path, folder: Path, paper: str, dataset: str) -> None:
    """Writes ``params`` as ``paper`` on ``dataset``; comments on keys that stay are kept.

    Raises:
        EarwitnessError: no such overlay (the nearest is named), or the result does not hold
            together; ``params`` is untouched then.
    """
    overlay = CommentedMap()
    for name, kind in ((paper, "paper"), (dataset, "dataset")):
        known = available(folder, kind)
        if name not in known:
            raise EarwitnessError(f"no {kind} recipe '{name}'{nearest(name, known)}")
        overlay = _over(overlay, _resolve(folder, name))
    overlay.pop(KIND)
    (name,) = overlay["datasets"]
    _substitute(overlay, {"dataset": name, **overlay.pop(NAMES, {})})
    yaml = _yaml()
    document = _read(params) if params.exists() else CommentedMap()
    _become(document, overlay)
    stream = StringIO()
    yaml.dump(document, stream)
    text = re.sub(r"\n\n+", "\n", stream.getvalue())
    text = re.sub(r"\n(?=[a-z_]+:)", "\n\n", text)  # a blank line before each section, no others
    parse_params(YAML(typ="safe").load(text), f"recipe {paper} {dataset}")
    write_atomic(params, text)


def _yaml() -> YAML:
    yaml = YAML()  # round trip; DVC writes lists unindented, so these are too
    yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.width = 1000
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _read(path: Path) -> CommentedMap:
    try:
        return _yaml().load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise EarwitnessError(f"{path}: not YAML ({' '.join(str(error).split())})") from None


def _resolve(folder: Path, name: str) -> CommentedMap:
    overlay = _read(folder / f"{name}.yaml")
    base = overlay.pop(BASE, None)
    return _over(_resolve(folder, base), overlay) if base else overlay


def _over(below: CommentedMap, above: Any) -> CommentedMap:
    """``above`` over ``below``: mappings merge, an empty mapping empties, all else replaces."""
    merged = copy.deepcopy(below)
    for key, value in above.items():
        if value == REMOVE:
            merged.pop(key, None)
        elif isinstance(value, dict) and value and isinstance(merged.get(key), dict):
            merged[key] = _over(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
            if key in above.ca.items:
                merged.ca.items[key] = above.ca.items[key]
    return merged


def _substitute(node: Any, names: dict[str, str]) -> None:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, str) and value.startswith("$"):
            node[key] = names[value[1:]]
        elif isinstance(value, dict | list):
            _substitute(value, names)


def _become(node: Any, target: Any) -> None:
    """Makes ``node`` equal to ``target`` in place, so that comments on kept keys stay."""
    for key in [key for key in node if key not in target]:
        del node[key]
    for key, value in target.items():
        if isinstance(value, dict) and isinstance(node.get(key), dict) and node[key] and value:
            _become(node[key], value)
        elif key not in node or node[key] != value:
            node[key] = copy.deepcopy(value)
