"""One name for one thing, and plain words, in what is installed."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY
from tests.test_rooms import FILES

# not the field's words: DESIGN.md, "Names"
BANNED = {
    *("impostor", "impostors", "heard", "hear", "hears", "hearing", "told", "mend", "mends"),
    *("odd", "laid", "sake"),
}
PHRASES = ("not to be had", "for the error's sake", "will not do", "is told")
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def identifiers(tree: ast.AST) -> Iterator[str]:
    """All that are written in a file, those of its keywords and attributes too."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield name


def words(identifier: str) -> set[str]:
    """``heardIds``, ``heard_ids`` and ``HeardIds`` are heard, ids."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", identifier).lower().split())


def test_a_class_name_is_defined_in_one_file() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert not {name: where for name, where in places.items() if len(where) > 1}


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_import_of_ours_renames_a_class(module: str) -> None:
    renamed = [
        f"{alias.name} as {alias.asname}"
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and node.module in FILES
        for alias in node.names
        if alias.asname and (alias.name + alias.asname).lower() != alias.name + alias.asname
    ]
    assert not renamed


@pytest.mark.parametrize("module", sorted(FILES))
def test_identifiers_are_the_fields_words(module: str) -> None:
    found = {name for name in identifiers(TREES[module]) if words(name) & BANNED}
    assert not found
    assert not words(module.replace(".", "_")) & BANNED


@pytest.mark.parametrize("module", sorted(FILES))
def test_texts_use_plain_phrases(module: str) -> None:
    text = " ".join(FILES[module].read_text(encoding="utf-8").split())
    assert not [phrase for phrase in PHRASES if phrase in text]


def test_words_of_an_identifier() -> None:
    assert words("heardIds") == words("HEARD_IDS") == words("_HeardIds") == {"heard", "ids"}
    source = "class A(B, k=1):\n def f(self, odd): self.heard = c(told=1)\nfrom x import y as mend"
    assert {*identifiers(ast.parse(source))} >= {"odd", "heard", "told", "mend", "k", "B"}
