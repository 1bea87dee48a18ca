"""Which system made an index: found again to embed a query, and seen where it changed since."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earwitness.repository import Repository
from pipeline.errors import EarwitnessError, reason
from pipeline.files import sha256
from pipeline.outside.digests import list_files

if TYPE_CHECKING:
    from earwitness.retrieval import RetrievalSystem

State = tuple[int, int, str]  # of a file: bytes, ns of its last change, SHA-256
FEATURES = "extraction"  # a file's name begins so where it is an encoder's


@dataclass(frozen=True)
class Origin:
    """A system of ``params.yaml`` or a retriever's folder; or a model with nothing trained.

    ``files``: all that its embeddings depend on, by a name that does not depend on the machine.
    """

    system: str  # "": of a model
    model: str  # "": of a system
    labels: str  # of a tagger's classes
    repository: str  # "": none was needed
    files: dict[str, State]
    seed: int | None = None  # of the system; None: its first

    @staticmethod
    def parse(values: Any) -> Origin:
        """Of its JSON; anything that is not one is an error."""
        files = {
            str(name): (int(size), int(modified), str(digest))
            for name, (size, modified, digest) in values["files"].items()
        }
        words = {each: str(values[each]) for each in ("system", "model", "labels", "repository")}
        seed = values.get("seed")
        return Origin(**words, files=files, seed=None if seed is None else int(seed))

    @property
    def name(self) -> str:
        return self.system or self.model

    def same(self, other: Origin) -> bool:
        """Whether both make the same embeddings: from the same content, in the same order; a model
        on a hub, by its name.
        """
        return self.content == other.content

    @property
    def content(self) -> list[tuple[str, str]]:
        """What its embeddings depend on: names, and digests."""
        is_here = any(name.startswith("model/") for name in self.files)
        kind = ("model" if self.model else "system", "" if is_here else self.model)
        return [kind, *((name, digest) for name, (_, _, digest) in self.files.items())]

    def now(self, root: Path | None = None) -> Origin:
        """As it is today; a file is read again only where its size or its time changed.

        Raises:
            EarwitnessError: it is not there.
        """
        made = origin_of(
            self.system,
            self.model,
            self.labels or None,
            root=root or self.repository or None,
            seed=self.seed,
        )
        return replace(made, files=_states(_places(made), self.files))

    def open(self, root: Path | None = None, device: str = "auto") -> RetrievalSystem:
        """The system itself, with its models loaded."""
        if self.model:
            from earwitness.spaces import open_space

            return open_space(self.model, self.labels or None, root=root, device=device)
        from earwitness.retrieval import RetrievalSystem

        place = root or self.repository or None
        return RetrievalSystem.load(self.system, root=place, device=device, seed=self.seed)


def origin_of(
    system: str | Path = "",
    model: str = "",
    labels: str | Path | None = None,
    *,
    root: str | Path | None = None,
    seed: int | None = None,
) -> Origin:
    """The origin that these options mean, without its files' digests; see :meth:`Origin.now`.

    Args:
        system: a retrieval system of ``params.yaml``, or a retriever's folder; "": the first.

    Raises:
        EarwitnessError: there is no such system, or both a system and a model are named.
    """
    named = "" if labels is None else str(Path(labels).expanduser().absolute())
    if model and seed is not None:
        raise EarwitnessError("a seed is of a system that is trained here, not of a model")
    if model and system:
        raise EarwitnessError("a system and a model are two; give one of them")
    if model:
        path = Path(model).expanduser()
        return Origin("", str(path.absolute()) if path.exists() else model, named, "", {})
    if named:
        raise EarwitnessError("labels are of a tagger; give its file as the model")
    repository, name, _ = _located(system, root, seed)
    is_exported = name == str(repository.root)
    return Origin(name, "", "", "" if is_exported else str(repository.root), {}, seed)


def _located(
    system: str | Path, root: str | Path | None, seed: int | None
) -> tuple[Repository, str, Sequence[Path]]:
    """The repository of a system, its name or its folder, and its retrievers' folders.

    An exported system is its own repository, and is named by its folder.
    """
    from earwitness.exporting.reading import ExportedSystem
    from earwitness.places import place_of
    from earwitness.retrieval import system_members

    repository, name, model = place_of(system or None, root)
    found, folders, _ = system_members(model or name, repository, seed)
    if isinstance(repository, ExportedSystem):
        found = str(repository.root)
    return repository, found, folders


def _places(origin: Origin) -> dict[str, Path]:
    """All files that the embeddings depend on."""
    if origin.model:
        named = {"model": Path(origin.model), "labels": Path(origin.labels or os.devnull)}
        if origin.labels:
            from pipeline.corpora.descriptions import TABLE

            named["descriptions"] = TABLE
        for place in named.values():
            if place.is_absolute() and not place.exists():
                raise EarwitnessError(f"{place}: not there; put it back, or index by another model")
        return {
            f"{part}/{name}": place / name if name != "." else place
            for part, place in named.items()
            for name in list_files(place)
        }
    from pipeline.config.plans import ExtractionPlan, RetrieverPlan
    from pipeline.model_folders import PLAN
    from pipeline.trained.folder import CURVES
    from pipeline.trained.retriever import load_plan

    repository, _, folders = _located(origin.system, origin.repository or None, origin.seed)
    found: dict[str, Path] = {}
    for folder in folders:
        files = [name for name in list_files(folder) if name != CURVES]
        found |= {f"{_short(folder)}/{name}": folder / name for name in files}
        plan = load_plan(folder / PLAN, "run `dvc repro`")
        if not isinstance(plan, RetrieverPlan):
            continue
        for feature in plan.sound.features:
            path = repository.data / f"plans/extraction/{plan.datasets[0]}-{feature}.json"
            found[f"{FEATURES}/{path.name}"] = path
            trained = ExtractionPlan.load(path).weights
            if trained:
                found[f"{FEATURES}/{trained}"] = repository.root / trained
    return found


def _short(folder: Path) -> str:
    """``<retriever>/<seed>``, or a space's name."""
    parts = folder.parts
    return "/".join(parts[-1 if parts[-2] == "retrievers" else -2 :])


def _states(places: Mapping[str, Path], known: Mapping[str, State]) -> dict[str, State]:
    found: dict[str, State] = {}
    for name, path in places.items():
        try:
            status = path.stat()
            old = known.get(name)
            if old is None or old[:2] != (status.st_size, status.st_mtime_ns):
                found[name] = (status.st_size, status.st_mtime_ns, sha256(path))
            else:
                found[name] = old
        except OSError as error:
            raise EarwitnessError(f"{path}: cannot be read ({reason(error)})") from None
    return found
