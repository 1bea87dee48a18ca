"""Which room may import which, and that there are no circles, between rooms or between files.

A room is a folder of ``pipeline``; the ground is the files that stand beside the rooms.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

GROUND = "ground"
# room → the rooms that it may import, beside the ground; a room below never imports one above
MAY_IMPORT: dict[str, str] = {
    GROUND: "",
    "audio": "",
    "config": "losses",  # of which only the names of the losses
    "corpora": "audio config",
    "outside": "config",
    "text": "config",
    "tracking": "",
    "losses": "",
    "encoders": "audio config text",
    "engine": "config",
    "features": "audio config corpora encoders engine",
    "metrics": "config corpora encoders features text",
    "models": "config encoders losses text",
    "trained": "config corpora encoders engine features metrics models text",
    "decoding": "config corpora features models text trained",
    "training": "audio config corpora decoding encoders features losses metrics models text"
    " tracking trained",
    "planning": "config corpora engine outside text tracking",
    "earwitness": "audio config corpora decoding encoders features metrics models outside planning"
    " text trained",
    "stages": "config corpora decoding earwitness encoders engine features metrics outside planning"
    " tracking trained training",
}


def files() -> dict[str, Path]:
    """Dotted name → file, of all that is installed."""
    folders = (REPOSITORY / name for name in ("pipeline", "earwitness", "stages"))
    found = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = files()


def room(module: str) -> str:
    """The room of a module of ours."""
    parts = module.split(".")
    if parts[0] != "pipeline":
        return parts[0]
    path = FILES[module]
    return GROUND if path.parent.name == "pipeline" else parts[1]


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of ours that one imports, anywhere in it: those named, not their packages."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in FILES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: give whole names, not relative ones"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found |= {whole if whole in FILES else node.module} & FILES.keys()
    return frozenset(found - {module})


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_module_imports_only_what_its_room_may(module: str) -> None:
    own = room(module)
    allowed = {own, GROUND, *MAY_IMPORT[own].split()}
    wrong = [name for name in sorted(imports(module)) if room(name) not in allowed]
    assert not wrong, f"{module} is in {own}, which may not import {wrong}"


def test_rooms_have_no_circle() -> None:
    """The table itself: every room stands above all that it may import."""
    above: dict[str, set[str]] = {}
    for own, rooms in MAY_IMPORT.items():
        above[own] = set(rooms.split())
    while above:
        lowest = [own for own, rooms in above.items() if not rooms & above.keys()]
        assert lowest, f"a circle among {sorted(above)}"
        for own in lowest:
            del above[own]


def test_files_have_no_circle() -> None:
    left = {module: set(imports(module)) for module in FILES}
    while left:
        free = [module for module, needs in left.items() if not needs & left.keys()]
        if not free:
            circle, at = [], min(left)
            while at not in circle:
                circle.append(at)
                at = min(left[at] & left.keys())
            raise AssertionError(f"a circle: {' → '.join([*circle[circle.index(at) :], at])}")
        for module in free:
            del left[module]


def test_every_folder_is_in_the_table() -> None:
    assert {room(module) for module in FILES} - {GROUND} == MAY_IMPORT.keys() - {GROUND}
