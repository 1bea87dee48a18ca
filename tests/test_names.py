"""One name for one thing, and the field's words, in all that is installed (DESIGN.md, "Names")."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from tests.test_rooms import FILES

BANNED = {
    *("impostor", "impostors", "heard", "hear", "hears", "hearing", "told", "mend", "mends"),
    *("odd", "laid", "sake"),
}
PHRASES = ("not to be had", "error's sake")
TEXTS = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
TREES = {module: ast.parse(text) for module, text in TEXTS.items()}


def identifiers(tree: ast.AST) -> Iterator[str]:
    """All that a file defines or uses: attributes and the keywords of calls too."""
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
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_.]", " ", identifier).lower().split())


def renamed_classes(tree: ast.AST) -> list[str]:
    """``Name as Other`` of imports of our modules."""
    return [
        f"{alias.name} as {alias.asname}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in FILES
        for alias in node.names
        if alias.asname and not (alias.name + alias.asname).islower()
    ]


def test_a_class_name_is_defined_once() -> None:
    places = defaultdict(list)
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert not {name: modules for name, modules in places.items() if len(modules) > 1}


def test_no_import_of_ours_renames_a_class() -> None:
    assert not {module: found for module, tree in TREES.items() if (found := renamed_classes(tree))}
    tree = ast.parse("from pipeline.audio import Waveform as Wave, load as load_sound")
    assert renamed_classes(tree) == ["Waveform as Wave"]


def test_identifiers_are_the_fields_words() -> None:
    used = {module: {module, *identifiers(tree)} for module, tree in TREES.items()}
    banned = {
        module: found
        for module, names in used.items()
        if (found := {name for name in names if words(name) & BANNED})
    }
    assert not banned


def test_texts_have_no_banned_phrase() -> None:
    flat = {module: " ".join(text.split()) for module, text in TEXTS.items()}
    assert not [module for module, text in flat.items() if any(p in text for p in PHRASES)]


def test_the_words_of_identifiers() -> None:
    assert words("heardIds") == words("HEARD_IDS") == words("_HeardIds") == {"heard", "ids"}
    source = "class A(B, k=1):\n def f(self, odd): self.heard = c(told=1)\nimport x as mend"
    assert {*identifiers(ast.parse(source))} >= {"A", "B", "f", "odd", "heard", "told", "mend"}
