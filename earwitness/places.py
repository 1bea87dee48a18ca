"""Where a system lies that a person names: in a repository, in an exported folder, or on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from earwitness.exporting.hub import PREFIX, fetch
from earwitness.exporting.reading import open_export, seems_export
from earwitness.repository import NoRepositoryError, Repository, find_repository, model_folder


class Place(NamedTuple):
    """What is loaded, and from where."""

    repository: Repository  # or an exported folder, which has the same layout
    name: str | None  # of the system; None: the first, or ``model``
    model: Path | None  # the folder of one model


def place_of(name: str | Path | None, root: str | Path | None = None) -> Place:
    """The system or model that ``name`` means; see :func:`earwitness.load`.

    Raises:
        EarwitnessError: no repository, or an exported folder that is not whole.
    """
    if _on_hub(name):
        export = fetch(str(name))
    elif (exported := _exported(name, root)) is not None:
        export = open_export(exported)
    else:
        model = model_folder(name)
        own = str(name) if name and model is None else None
        return Place(find_repository(root, model), own, model)
    return Place(export, export.manifest.system, None)


def threads_of(name: str | Path | None, root: str | Path | None = None) -> int | Literal["auto"]:
    """``hardware.threads`` of where a system lies; of an exported one, which is of no machine and
    is not looked into here, ``auto``.
    """
    if _on_hub(name) or _exported(name, root) is not None:
        return "auto"
    return find_repository(root, model_folder(name)).params().hardware.threads


def _on_hub(name: str | Path | None) -> bool:
    return isinstance(name, str) and name.startswith(PREFIX)


def _exported(name: str | Path | None, root: str | Path | None) -> Path | None:
    """The exported folder that is meant; a system of the same name as a folder here comes first."""
    folder = model_folder(name)
    if (
        folder is None
        and name is not None
        and seems_export(Path(name))
        and not _is_system(name, root)
    ):
        folder = Path(name).resolve()
    return folder if folder is not None and seems_export(folder) else None


def _is_system(name: str | Path, root: str | Path | None) -> bool:
    """Whether a system of the repository has that name, where there is a repository."""
    try:
        params = find_repository(root).params()
    except NoRepositoryError:
        return False
    return name in params.systems or name in params.retrieval_systems
