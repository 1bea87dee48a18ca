"""``pipeline/config`` holds fields and validators only.

The code digest of a plan leaves these files out, because all that they say is in the plan. What a
method computed would not be: its result could change and nothing would be run again. So the one
method that computes is an entry's ``resolve``, whose whole result is written into the plan.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from textwrap import dedent

import pytest

from tests.conftest import REPOSITORY

CONFIG = REPOSITORY / "pipeline" / "config"
VALIDATORS = {"field_validator", "model_validator"}
# what reads files, describes fields and words mistakes, by file; no job asks it
READERS: dict[str, set[str]] = {
    "section": {"known", "nearest", "parse_section", "_placed", "_members", "_is_bounded"},
    "spectrogram": {"check_spectrogram"},
    "params": {"parse_params", "load_params", "check_entries", "with_settings"},
    "plans": {"Plan.save", "Plan.load"},
    "names": {"check_names", "_check_jobs", "_used"},
    "fields": {
        *("Ref.__init__", "Ref.known", "Ref.names", "When.__init__", "When.read"),
        *("lambda", "marker", "references", "check_heads", "_written", "_texts"),
        *("_listed", "_distinct"),
    },
}
# these still compute, and are to be moved out


def computing(tree: ast.AST, inside: str = "") -> Iterator[str]:
    """Dotted names of the functions, methods and properties, but validators and ``resolve``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from computing(node, f"{inside}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            validates = any(decorator_of(each) in VALIDATORS for each in node.decorator_list)
            resolves = node.name == "resolve" and inside.endswith("CaptionerConfig.")
            if not validates and not resolves:
                yield f"{inside}{node.name}"
        elif isinstance(node, ast.Lambda):
            yield f"{inside}lambda"
        else:
            yield from computing(node, inside)


def decorator_of(node: ast.expr) -> str:
    function = node.func if isinstance(node, ast.Call) else node
    return function.id if isinstance(function, ast.Name) else ""


@pytest.mark.parametrize("file", sorted(path.stem for path in CONFIG.glob("*.py")))
def test_nothing_is_computed(file: str) -> None:
    found = set(computing(ast.parse((CONFIG / f"{file}.py").read_text(encoding="utf-8"))))
    wrong = found - READERS.get(file, set())
    assert not wrong, (
        f"pipeline/config/{file}.py: {', '.join(sorted(wrong))}: compute it in a room that the "
        "code digest sees, or write it into the plan by `resolve`"
    )


def test_what_computes_is_found() -> None:
    toy = """
        ORDER = sorted("ba", key=lambda letter: letter)

        def doubled(width): return 2 * width

        class ToyConfig(Section):
            words: int = Field(default_factory=lambda: 3)

            @property
            def longest(self): return self.words + 2

            @cached_property
            def shortest(self): return 1

            @classmethod
            def small(cls): return cls(words=1)

            @model_validator(mode="after")
            def _consistent(self): return self

            @field_validator("words")
            @classmethod
            def _odd(cls, value): return value

            def resolve(self, params): return params

        class ToyCaptionerConfig(BaseCaptionerConfig):
            def resolve(self, params, tower): return Resolved((), ToyModelConfig())

            def resolved(self): return 1
    """
    assert list(computing(ast.parse(dedent(toy)))) == [
        *("lambda", "doubled", "ToyConfig.lambda", "ToyConfig.longest", "ToyConfig.shortest"),
        *("ToyConfig.small", "ToyConfig.resolve", "ToyCaptionerConfig.resolved"),
    ]
