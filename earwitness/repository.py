"""The repository that trained models lie in, found from any folder, and what is where in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.config.fields import Outside, marker
from pipeline.config.params import Params, load_params
from pipeline.config.section import Section
from pipeline.errors import EarwitnessError
from pipeline.model_folders import model_of, seeds_in
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

    def captioner(self, name: str, seed: int) -> Path:
        """The folder of a captioner's model of one seed."""
        return model_of(self.captioners / name, seed)

    def retriever(self, name: str, seed: int) -> Path:
        """The folder of a retriever's model of one seed; of a space, its own."""
        return model_of(self.retrievers / name, seed)

    def encoder(self, name: str) -> Path:
        """The folder of the retriever whose features are stored: that of the first seed."""
        return self.retriever(name, self.params().seeds[0])

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


def seed_folder(model: Path, seed: int | None, repository: Repository) -> tuple[Path, int]:
    """The folder of one seed of a model that a person names by its folder, and the seed.

    Args:
        model: ``…/edtc``, or ``…/edtc/2``.
        seed: None: the one that ``model`` names, else the first.

    Raises:
        EarwitnessError: it is not trained with that seed.
    """
    first = repository.params().seeds
    there = seeds_in(model)
    if there:
        chosen = next((own for own in first if own in there), there[0]) if seed is None else seed
        if chosen not in there:
            known = ", ".join(map(str, there))
            raise EarwitnessError(f"{model}: not trained with seed {chosen}; there: {known}")
        return model / str(chosen), chosen
    named = int(model.name) if model.name.isascii() and model.name.isdecimal() else None
    if seed is not None and seed != named:
        what = "has no seeds" if named is None else f"is of seed {named}"
        raise EarwitnessError(f"{model}: {what}; give the folder above it, or no seed")
    return model, first[0] if named is None else named


def chosen_seed(system: str, seeds: Sequence[int], seed: int | None, source: Path) -> int:
    """The seed that is asked for, one of a system's ``seeds``; None: the first.

    Raises:
        EarwitnessError: it is not one of them.
    """
    if seed is None:
        return seeds[0]
    if seed not in seeds:
        known = ", ".join(map(str, seeds))
        raise EarwitnessError(
            f"{source}: '{system}' is not made with seed {seed} (known: {known}); give one of "
            "those, or add it to seeds and run `dvc repro`"
        )
    return seed


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
