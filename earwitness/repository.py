"""The repository that trained models lie in, found from any folder, and what is where in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.config.fields import Outside, marker
from pipeline.config.params import Params, load_params
from pipeline.config.section import Section
from pipeline.errors import EarwitnessError
from pipeline.weights import Weights

E = TypeVar("E", bound=Section)
MARKS = ("params.yaml", "dvc.yaml")  # the files that its root holds
VARIABLE = "EARWITNESS_REPOSITORY"


class NoRepositoryError(EarwitnessError):
    """None was named, and none was found."""


@dataclass(frozen=True)
class Repository:
    """``root`` is absolute."""

    root: Path

    @property
    def params_file(self) -> Path:
        return self.root / "params.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def captioners(self) -> Path:
        return self.data / "models" / "captioners"

    @property
    def retrievers(self) -> Path:
        return self.data / "models" / "retrievers"

    @property
    def spice(self) -> Path:
        return self.data / "tools" / "spice"

    def params(self) -> Params:
        return load_params(self.params_file)

    def located(self, settings: E) -> E:
        """The same settings, meant from any folder: paths in the repository become absolute."""
        paths: dict[str, object] = {}
        for name, field in type(settings).model_fields.items():
            value = getattr(settings, name)
            if isinstance(value, Weights) and value.kind == "path":
                paths[name] = Weights("path", self._absolute(value.name))
            elif isinstance(value, str) and marker(field, Outside) is not None:
                paths[name] = self._absolute(value)
        return settings.model_copy(update=paths)

    def _absolute(self, name: str) -> str:
        """A path in the repository becomes absolute; a model's name on a hub stays."""
        path = self.root / name
        return str(path) if path.exists() else name


def find_repository(root: str | Path | None = None, model: Path | None = None) -> Repository:
    """The repository at ``root``; else the one that the folder ``model`` lies in.

    Without either: at ``EARWITNESS_REPOSITORY``; else the one that holds the current folder; else
    the one that this package is installed from.

    Raises:
        EarwitnessError: ``root`` or ``EARWITNESS_REPOSITORY`` is none, or ``model`` lies in none.
        NoRepositoryError: nothing is given, and there is none; the message says where was looked.
    """
    if root is not None:
        return _named(root)
    if model is not None:
        return _around(model)
    if named := os.environ.get(VARIABLE):
        return _named(named, f"{VARIABLE} ")
    here, installed = Path.cwd(), Path(__file__).resolve().parents[1]
    found = _holder(here) or _holder(installed)
    if found is None:
        raise NoRepositoryError(
            f"no {' and '.join(MARKS)} in {here}, in the folders above it or in {installed}; "
            f"name the repository by root, --repository or {VARIABLE}"
        )
    return found


def model_folder(name: str | Path | None) -> Path | None:
    """The folder that is meant: by a ``Path``, or text with a ``/``. None: ``name`` is a name."""
    if name is None or (isinstance(name, str) and not {"/", os.sep} & {*name}):
        return None
    return Path(name).expanduser().resolve()


def _named(root: str | Path, by: str = "") -> Repository:
    path = Path(root).expanduser().resolve()
    missing = [mark for mark in MARKS if not (path / mark).is_file()]
    if missing:
        raise EarwitnessError(
            f"{by}{root}: not an earwitness repository, {' and '.join(missing)} is not there; "
            "give the folder of params.yaml"
        )
    return Repository(path)


def _holder(folder: Path) -> Repository | None:
    """The nearest of the folder and those above it that is a repository."""
    for path in (folder, *folder.parents):
        if all((path / mark).is_file() for mark in MARKS):
            return Repository(path)
    return None


def _around(folder: Path) -> Repository:
    found = _holder(folder)
    if found is None:
        raise EarwitnessError(
            f"{folder}: no {' and '.join(MARKS)} in the folders above it, so its encoders are not "
            "known; name the repository by root or --repository"
        )
    return found
