"""An exported folder, read: the repository of one system, checked before any of it is used.

It has the inner layout of a repository (``params.yaml``, ``data/models`` …), so that all that reads
one reads it. It may come from anybody: what it names stays inside it, every file has the content
that ``manifest.json`` says, and nothing of it is run.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from earwitness.repository import Repository
from pipeline.config.exported import ExportConfig, ExportedFileConfig
from pipeline.config.fields import Outside, marker
from pipeline.config.params import Params, parse_params
from pipeline.config.section import Section, parse_section
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import leads_inside, read_json, sha256, shown
from pipeline.weights import Weights
from pipeline.yaml_files import read_yaml

E = TypeVar("E", bound=Section)
MANIFEST, CARD, PARAMS, DATA = "manifest.json", "README.md", "params.yaml", "data"
FORMAT = 1
MANIFEST_BYTES = 8 << 20
TEXT_BYTES = 256 << 20  # of one of JSON, YAML or CSV
TOTAL_BYTES = 256 << 30
TEXTS = (".json", ".yaml", ".csv", ".txt")
AGAIN = "export or download it again"
SENTENCES = frozenset(("prompt", "instruction", "templates"))  # settings that are no paths
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")  # a file's or a folder's name in it
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ExportedSystem(Repository):
    """The repository that an exported folder is."""

    manifest: ExportConfig

    def params(self) -> Params:
        """As :meth:`Repository.params`; those of before there were several seeds have one."""
        values = read_yaml(self.params_file, AGAIN)
        if not (isinstance(values, dict) and "seed" in values):
            return super().params()
        return parse_params(_of_several_seeds(values), str(self.params_file))

    def located(self, settings: E) -> E:
        """As :meth:`Repository.located`; what would be read from outside the folder is refused."""
        found = super().located(settings)
        for name, field in type(found).model_fields.items():
            value = getattr(found, name)
            path = value.name if isinstance(value, Weights) and value.kind == "path" else None
            if isinstance(value, str) and marker(field, Outside) is not None:
                path = None if HUB_NAME.fullmatch(value) else value
            if path is not None and not Path(path).is_relative_to(self.root):
                raise EarwitnessError(f"{self.root}: {name} {path!r} is not in it; {AGAIN}")
        return found


def _of_several_seeds(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with one seed, and entries with one of their own, which only training reads."""
    found = {**values, "seeds": [values["seed"]]}
    del found["seed"]
    for section in ("captioners", "finetuned", "retrievers", "adapted", "systems"):
        entries = found.get(section)
        for entry in entries.values() if isinstance(entries, dict) else ():
            own = entry.get("set") if isinstance(entry, dict) else None
            if isinstance(own, dict):
                own.pop("seed", None)
    return found


def is_export(folder: Path) -> bool:
    """Whether a folder has what :func:`open_export` begins with."""
    return (folder / MANIFEST).is_file() and (folder / PARAMS).is_file()


def seems_export(folder: Path) -> bool:
    """Whether a folder is meant to be one, be it whole or not: no repository has one mark alone."""
    params, repository = (folder / PARAMS).is_file(), (folder / "dvc.yaml").is_file()
    return not repository and (params or (folder / MANIFEST).is_file())


def open_export(folder: Path, within: Path | None = None) -> ExportedSystem:
    """An exported folder, all of whose files are read and checked.

    Args:
        within: where its files must lie, links followed; None: in the folder itself. A hub's cache
            keeps them beside it.

    Raises:
        EarwitnessError: a file is missing, changed, a link to elsewhere, or not in the manifest; a
            plan names what is outside; or it is of another version.
    """
    root = folder.resolve()
    manifest = read_manifest(root)
    place = Path(os.path.realpath(within or root))
    _check_total(root, manifest)
    for name, about in manifest.files.items():
        _check_file(root, name, about, place)
    for name, about in manifest.left_out.items():
        _check_left_out(root, name, about, place)
    known = manifest.files.keys() | manifest.left_out.keys()
    for name in _found(root):
        if name not in known:
            raise EarwitnessError(f"{root}: {shown(name)} is not in {MANIFEST}; remove it")
    for name in manifest.files:
        _check_plan(root, name)
    export = ExportedSystem(root, manifest)
    params = export.params()
    systems = params.systems if manifest.kind == "captioning" else params.retrieval_systems
    if [*systems] != [manifest.system]:
        raise EarwitnessError(
            f"{root / PARAMS}: not of the one system '{manifest.system}', as {MANIFEST} says; "
            f"{AGAIN}"
        )
    return export


def read_manifest(root: Path) -> ExportConfig:
    """The manifest of a folder; no other file of it is looked at.

    Raises:
        EarwitnessError: there is none, it is broken or of another version, or names a path that
            is none of its own.
    """
    path = root / MANIFEST
    if path.is_file() and path.stat().st_size > MANIFEST_BYTES:
        raise EarwitnessError(f"{path}: more than {MANIFEST_BYTES >> 20} MB; {AGAIN}")
    values = read_json(path, "give a folder that `earwitness export` wrote")
    if isinstance(values, dict) and values.get("format", FORMAT) != FORMAT:
        raise EarwitnessError(
            f"{path}: of format {values['format']!r}, and this earwitness reads {FORMAT}; install "
            "a newer earwitness, or export it again"
        )
    manifest = parse_section(ExportConfig, values, str(path))
    for name in (*manifest.files, *manifest.left_out):
        if not all(map(PART.fullmatch, name.split("/"))):
            raise EarwitnessError(f"{path}: {name!r} is no file of it; {AGAIN}")
    if PARAMS not in manifest.files:
        raise EarwitnessError(f"{path}: has no {PARAMS}; {AGAIN}")
    return manifest


def _check_total(root: Path, manifest: ExportConfig) -> None:
    total = sum(about.bytes for about in manifest.files.values())
    if total > TOTAL_BYTES:
        raise EarwitnessError(f"{root}: {total >> 30} GB, more than {TOTAL_BYTES >> 30}; {AGAIN}")


def _check_file(root: Path, name: str, about: ExportedFileConfig, within: Path) -> None:
    path = root / name
    try:
        found = path.stat()
    except OSError:
        raise EarwitnessError(f"{path}: missing; {AGAIN}") from None
    if not Path(os.path.realpath(path)).is_relative_to(within):
        raise EarwitnessError(f"{path}: a link to elsewhere, which is refused; {AGAIN}")
    if not stat.S_ISREG(found.st_mode):
        raise EarwitnessError(f"{path}: not a regular file; {AGAIN}")
    if PurePosixPath(name).suffix in TEXTS and found.st_size > TEXT_BYTES:
        raise EarwitnessError(f"{path}: more than {TEXT_BYTES >> 20} MB of text; {AGAIN}")
    if found.st_size != about.bytes or sha256(path) != about.sha256:
        raise EarwitnessError(f"{path}: not as it was exported ({MANIFEST} differs); {AGAIN}")


def _check_left_out(root: Path, name: str, about: ExportedFileConfig, within: Path) -> None:
    if not (root / name).exists():
        raise EarwitnessError(
            f"{root}: exported without weights; put the file of SHA-256 {about.sha256} there as "
            f"{name}"
        )
    _check_file(root, name, about, within)


def _found(root: Path) -> Iterator[str]:
    """Every file below ``data``, and every link to a folder, by its path below the root."""
    for place, folders, names in os.walk(root / DATA):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*links, *names):
            yield Path(place, name).relative_to(root).as_posix()


def _check_plan(root: Path, name: str) -> None:
    """Refuses a plan, or parameters, with a path that leads out."""
    path = root / name
    if name == PARAMS:
        values = read_yaml(path, AGAIN)
    elif path.name == "plan.json" or name.startswith(f"{DATA}/plans/"):
        values = read_json(path, AGAIN)
    else:
        return
    with one_line(path, AGAIN, "cannot be read"):  # of values that are nested too deep
        found = [*texts(values)]
    for text in found:
        if leads_out(text):
            raise EarwitnessError(f"{path}: {text!r} leads out of the folder; {AGAIN}")


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value that may be a path, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, own in value.items():
            yield from texts(key)
            yield from () if key in SENTENCES else texts(own)
    elif isinstance(value, list | tuple):
        for own in value:
            yield from texts(own)


def leads_out(text: str) -> bool:
    """Whether a text would, as a path, lead out of the folder that it is meant in."""
    return not leads_inside(text) or text.startswith("~") or "\\" in text
