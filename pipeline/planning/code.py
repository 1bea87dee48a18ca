"""What code a job runs, as one digest that comments, docstrings and layout do not change.

DVC does not follow imports, and a dependency on a whole folder would retrain everything for a
docstring. A plan holds :func:`code_digest` of the modules that its job imports, directly or not.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

# settings reach a job through its plan, and these hold nothing else that could change a result
NEUTRAL = frozenset({"config", "errors", "files", "planning"})


def code_digest(modules: Iterable[str], package: Path, stop: frozenset[str] = frozenset()) -> str:
    """SHA-256 over the syntax trees of ``modules`` and of what they import of this package.

    Args:
        modules: dotted names below the package, such as ``encoders.panns``.
        package: the package's folder.
        stop: registries that are not followed, because they import every entry; a job names the
            entry that it uses among ``modules``.
    """
    found: dict[str, _Module] = {}
    waiting = list(modules)
    if missing := [name for name in waiting if _source(package, name) is None]:
        raise ValueError(f"{package} has no module {missing[0]}")
    while waiting:
        name = waiting.pop()
        path = _source(package, name)
        if name in found or name.split(".")[0] in NEUTRAL or name in stop or path is None:
            continue
        found[name] = _read(path, package.name, path.stat().st_mtime_ns)
        waiting += found[name].imports
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode())
        digest.update(found[name].tree)
    return digest.hexdigest()


class _Module(NamedTuple):
    imports: tuple[str, ...]  # of this package, relative to it
    tree: bytes  # its syntax without docstrings


@cache
def _read(path: Path, package: str, changed: int) -> _Module:
    """One file, read once for all plans; ``changed`` is when it was written."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = tuple(_imports(tree, package))
    return _Module(imports, ast.dump(_without_docstrings(tree)).encode())


def _source(package: Path, name: str) -> Path | None:
    base = package.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    prefix = f"{package}."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name.removeprefix(prefix) for name in names if name.startswith(prefix))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:]
    return tree
