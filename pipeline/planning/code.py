"""What code a job runs, as one digest a file, which comments, docstrings and layout do not change.

DVC does not follow imports, and a dependency on a whole folder would retrain everything for a
docstring. A plan holds :func:`code_digests` of its stage's file and of all that it imports,
directly or not, so that an edit of any of them, and of nothing else, runs the job again.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("pipeline", "stages")
# they cannot change a result: settings reach a job through its plan, and nothing computes in config
# (tests/test_config_holds_fields.py); an engine is where a job's steps run, in whatever order; the
# others start a job, word its errors, plan it, watch it or bring its recordings as they are
NEUTRAL = (
    "pipeline.config",
    "pipeline.engine",
    "pipeline.errors",
    "pipeline.files",
    "pipeline.launching",
    "pipeline.planning",
    "pipeline.storage",
    "pipeline.tracking",
    "stages.elsewhere",
    "stages.engine",
    "stages.feature_files",
    "stages.paths",
    "stages.ranks",
    "stages.run",
    "stages.tracking",
)
DIGITS = 12  # of a digest, in hexadecimal: enough to tell two versions of one file apart


def code_digests(
    modules: Iterable[str], root: Path, stop: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Digests of the syntax of ``modules`` and of what they import of our packages.

    Args:
        modules: dotted names, such as ``stages.extract`` and ``pipeline.encoders.panns``.
        root: the folder that holds the packages.
        stop: registries that are not followed, because they import every entry; a job names the
            entry that it uses among ``modules``.

    Returns:
        Module → digest, sorted by module.
    """
    found: dict[str, _Module] = {}
    waiting = list(modules)
    if missing := [name for name in waiting if _source(root, name) is None]:
        raise ValueError(f"{root} has no module {missing[0]}")
    while waiting:
        name = waiting.pop()
        path = _source(root, name)
        if name in found or name in stop or _is_neutral(name) or path is None:
            continue
        found[name] = _read(path, path.stat().st_mtime_ns)
        waiting += found[name].imports
    return {name: found[name].digest for name in sorted(found)}


class _Module(NamedTuple):
    imports: tuple[str, ...]  # of our packages
    digest: str  # of its syntax without docstrings


@cache
def _read(path: Path, changed: int) -> _Module:
    """One file, read once for all plans; ``changed`` is when it was written."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = tuple(_imports(tree))
    syntax = ast.dump(_without_docstrings(tree)).encode()
    return _Module(imports, hashlib.sha256(syntax).hexdigest()[:DIGITS])


def _is_neutral(name: str) -> bool:
    return any(name == own or name.startswith(f"{own}.") for own in NEUTRAL)


def _source(root: Path, name: str) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
    return tree
