"""Pages of the site that are made from the code: every setting, and every recipe.

A setting's name, type, default, limits and comment stand once, in pipeline/config; a recipe's words
at the head of its file in recipes/.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from earwitness.recipes import KINDS, available
from pipeline.config.fields import When
from pipeline.config.params import Params
from pipeline.config.section import Section

ROOT = Path(__file__).parent
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds both pages."""
    for name, text in (("parameters.md", parameters()), ("recipes.md", recipes())):
        files.append(File.generated(config, name, content=text))
    return files


def recipes() -> str:
    """Every recipe, as `earwitness recipe` lists them."""
    lines = [
        "# Recipes",
        "",
        "`earwitness recipe PAPER DATASET` writes a paper's parameters for a dataset into "
        "`params.yaml`; `dvc repro` runs them. [Extending](extending.md#a-recipe) says what a "
        "recipe may hold, and how to write one.",
    ]
    for kind in KINDS:
        lines += ["", f"## {kind.capitalize()}s", "", "| recipe | what it is |", "|---|---|"]
        found = available(ROOT / "recipes", kind)
        lines += [f"| `{name}` | {_cell(about)} |" for name, about in found.items()]
    return "\n".join(lines) + "\n"


def parameters() -> str:
    """Every section of ``params.yaml`` with all its settings."""
    lines = [
        "# Parameters",
        "",
        "Every key that `params.yaml` may have, made from the typed settings in `pipeline/config`. "
        "A wrong key or value is refused before anything runs, with the nearest right one. "
        "`dvc exp run -S section.key=value` sets one.",
    ]
    own = {name: Params.model_fields[name] for name in Params.__annotations__}
    for name, field in (own | Params.model_fields).items():
        lines += ["", f"## {name}", ""]
        if field.description:
            lines += [f"{field.description[0].upper()}{field.description[1:]}.", ""]
        models = [*dict.fromkeys(sections(field.annotation))]
        if not models:
            lines += [f"{kind(field)}; default: {default(field)}", ""]
        for model in models:
            lines += [*_section(model), ""]
    return "\n".join(lines) + "\n"


def sections(annotation: Any) -> Iterator[type[Section]]:
    """The settings classes that a type may hold, in order."""
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from sections(argument)


def _section(model: type[Section]) -> Iterator[str]:
    key = next((name for name in ("module", "architecture", "layout") if name in fields(model)), "")
    if key:
        values = ", ".join(f"`{value}`" for value in get_args(fields(model)[key].annotation))
        yield f"### {key}: {', '.join(map(str, get_args(fields(model)[key].annotation)))}"
        yield ""
        about = inspect.getdoc(model) or ""
        if about and "model_fields" not in about and not about.startswith("!!!"):
            yield f"{values}: {about.splitlines()[0]}"
            yield ""
    yield "| key | type | default | limits | what it is |"
    yield "|---|---|---|---|---|"
    said = comments(model)
    for name, field in fields(model).items():
        if name != key:
            cells = (f"`{name}`", kind(field), default(field), limits(field), said.get(name, ""))
            yield f"| {' | '.join(map(_cell, cells))} |"
    for name, field in fields(model).items():
        for inner in sections(field.annotation):
            yield from ("", f"#### {name}", "", *_section(inner))


def fields(model: type[Section]) -> dict[str, FieldInfo]:
    return model.model_fields


def kind(field: FieldInfo) -> str:
    """The type in plain words: ``one of a, b``, ``int or null``."""
    text = _named(field.annotation)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def _named(annotation: Any) -> str:
    arguments = get_args(annotation)
    if annotation is type(None):
        return "null"
    if all(isinstance(each, str) for each in arguments) and arguments:
        return f"one of {', '.join(arguments)}"
    if inspect.isclass(annotation) and issubclass(annotation, Section):
        return "settings"
    origin = getattr(annotation, "__origin__", None)
    if origin is tuple:
        return f"list of {_named(arguments[0])}"
    if origin is dict:
        return "mapping"
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _named(origin)
    if arguments:
        return " or ".join(dict.fromkeys(map(_named, arguments)))
    words = {"str": "text", "float": "number", "bool": "true or false", "Weights": "weights"}
    name = getattr(annotation, "__name__", str(annotation))
    return words.get(name, name)


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, Section):
        return ""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


def limits(field: FieldInfo) -> str:
    """Numbers' limits, and when the setting is read at all."""
    found = [
        f"{sign} {getattr(mark, name):,}"
        for mark in field.metadata
        for name, sign in LIMITS.items()
        if isinstance(getattr(mark, name, None), int | float)
    ]
    return ", ".join(found + [_when(mark) for mark in field.metadata if isinstance(mark, When)])


def _when(mark: When) -> str:
    """In which case a setting is read at all."""
    if mark.several:
        return f"if there are several {mark.field}"
    return f"if {mark.field} is {' or '.join(mark.values) or 'set'}"


def comments(model: type[Section]) -> dict[str, str]:
    """Field → the comments before it and behind it, those of the classes below it first."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if inspect.isclass(base) and issubclass(base, Section) and base is not Section:
            found |= _comments(Path(inspect.getfile(base))).get(base.__name__, {})
    return found


@cache
def _comments(path: Path) -> dict[str, dict[str, str]]:
    """Class → field → comment, of a file."""
    text = path.read_text(encoding="utf-8")
    lines: dict[int, tuple[bool, str]] = {}  # line → whether it is a comment alone, and the comment
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            alone = token.line.strip().startswith("#")
            lines[token.start[0]] = alone, token.string.lstrip("# ").strip()
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ClassDef):
            continue
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = _said(lines, field.lineno, field.end_lineno or field.lineno)
                found.setdefault(node.name, {})[field.target.id] = said
    return found


def _said(lines: dict[int, tuple[bool, str]], first: int, last: int) -> str:
    before: list[str] = []
    at = first - 1
    while at in lines and lines[at][0]:
        before.insert(0, lines[at][1])
        at -= 1
    return " ".join([*before, *(lines[n][1] for n in range(first, last + 1) if n in lines)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
