"""What a team says of itself and of its systems: ``submission.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.config.section import Section, parse_section
from pipeline.errors import EarwitnessError
from pipeline.yaml_files import read_yaml

FILE = "submission.yaml"
HINT = "see docs/challenge.md for its form"


class SystemEntry(Section):
    """Of one system: what the results pages call it, and fields of its meta file alone."""

    name: str | None = None
    abbreviation: str | None = None  # ten characters at most
    meta: dict[str, Any] = Field(default_factory=dict)


class Team(Section):
    """What cannot be known from a run; ``meta`` is laid over what is filled from it."""

    author: str | None = None  # last name of the corresponding author, in labels
    institute: str | None = None  # its abbreviation, in labels
    authors: list[dict[str, Any]] = Field(default_factory=list)  # as the meta file has them
    meta: dict[str, Any] = Field(default_factory=dict)  # fields of every system's meta file
    systems: dict[str, SystemEntry] = Field(default_factory=dict)


def read_team(path: Path | None, folder: Path) -> Team:
    """The file at ``path``; where none is named, ``submission.yaml`` in ``folder``, if it is there.

    Raises:
        EarwitnessError: it is not there, not YAML, or has an unknown key.
    """
    file = path or folder / FILE
    if path is None and not file.exists():
        return Team()
    values = read_yaml(file, HINT)
    if not isinstance(values, dict):
        raise EarwitnessError(f"{file}: has no fields; {HINT}")
    return parse_section(Team, values, str(file))


def merged_fields(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``: mappings merge, all else replaces."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = merged_fields(under, value) if both else value  # type: ignore[arg-type]
    return merged
