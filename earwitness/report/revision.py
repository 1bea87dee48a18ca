"""What git knows of a run: the code's revision, what is changed in it, and earlier parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earwitness.git import git_output
from pipeline.errors import EarwitnessError
from pipeline.yaml_files import parse_yaml

# what a run itself writes into git
WRITTEN = ("dvc.lock", "metrics", "intervals")


@dataclass(frozen=True)
class GitCommit:
    """A commit: its short name, its date (ISO 8601) and the first line of its message."""

    name: str
    date: str
    subject: str


def read_revision(root: Path, chosen: str = "HEAD") -> GitCommit | None:
    """The commit that is checked out at ``root``; None where there is no git, or no commit."""
    shown = _git(root, "log", "-1", "--format=%h%x00%cI%x00%s", chosen, "--")
    return GitCommit(*shown.strip("\n").split("\0", 2)) if shown else None


def changed_files(root: Path) -> list[str]:
    """The files that differ from the commit, new ones too, but for a run's own results."""
    kept_out = [f":(exclude){name}" for name in WRITTEN]
    shown = _git(root, "status", "--porcelain", "-z", "--no-renames", "--", ".", *kept_out) or ""
    return sorted(entry[3:] for entry in shown.split("\0") if entry)


def earlier_params(root: Path, now: Any) -> tuple[GitCommit, Any] | None:
    """The last committed ``params.yaml`` that says something else than ``now``, and its commit."""
    shown = _git(root, "log", "-20", "--format=%H", "--", "params.yaml") or ""
    for commit in shown.split():
        text = _git(root, "show", f"{commit}:./params.yaml")
        values = _parsed(text, commit) if text else None
        revision = read_revision(root, commit)
        if values is not None and values != now and revision is not None:
            return revision, values
    return None


def _parsed(text: str, commit: str) -> Any:
    try:
        return parse_yaml(text, f"params.yaml at {commit}", "correct it")
    except EarwitnessError:
        return None  # it was broken then


def _git(root: Path, *arguments: str) -> str | None:
    """As :func:`git_output`, as text, with file names as they are."""
    said = git_output(root, "-c", "core.quotePath=false", *arguments)
    return None if said is None else said.decode("utf-8", "replace")
