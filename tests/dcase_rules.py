"""DCASE's rules for a submission, read again from its pages and written without any of our code.

`accepted` is what an organiser's script would do: it knows the files' names, the set's clips and
queries, and nothing of who wrote the files.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

STEM = re.compile(r"([A-Za-z][\w-]*?)_([A-Za-z0-9-]+)_(task[0-9][ab]?)_submission_([1-4])_(.+)")


def accepted(
    folder: Path, task: str, clips: Sequence[str], queries: Sequence[str] = (), listed: int = 0
) -> bool:
    """Whether all files in a folder are a submission to a task.

    Args:
        listed: how many clips a query gets; 0 for captioning.
    """
    outputs = sorted(folder.glob("*.csv"))
    metas = sorted(folder.glob("*.meta.yaml"))
    if not 1 <= len(outputs) <= 4 or len(outputs) != len(metas):
        return False
    for output in outputs:
        named = STEM.fullmatch(output.stem)
        if not named or named[3] != task:
            return False
        if named[5] != ("output" if listed else "testing_output"):
            return False
        label = f"{named[1]}_{named[2]}_{task}_{named[4]}"
        if not _described(folder / f"{label}.meta.yaml", label):
            return False
        content = output.read_bytes()
        if content[:3] == b"\xef\xbb\xbf":
            return False
        try:
            rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
        except (UnicodeDecodeError, csv.Error):
            return False
        if any("\n" in cell or "\r" in cell for row in rows for cell in row):
            return False
        good = _ranked(rows, clips, queries, listed) if listed else _captioned(rows, clips)
        if not good:
            return False
    return True


def _captioned(rows: list[list[str]], clips: Sequence[str]) -> bool:
    if not rows or rows[0] != ["file_name", "caption_predicted"]:
        return False
    if any(len(row) != 2 or not row[1].strip() for row in rows[1:]):
        return False
    return sorted(row[0] for row in rows[1:]) == sorted(clips)


def _ranked(
    rows: list[list[str]], clips: Sequence[str], queries: Sequence[str], listed: int
) -> bool:
    if not rows or rows[0] != ["caption"] + [f"fname_{place + 1}" for place in range(listed)]:
        return False
    for row in rows[1:]:
        found = [name for name in row[1:] if name]
        if len(row) != listed + 1 or len(found) != min(listed, len(clips)):
            return False
        if len(set(found)) != len(found) or not set(found) <= set(clips):
            return False
    return sorted(row[0] for row in rows[1:]) == sorted(queries)


def _described(path: Path, label: str) -> bool:
    if not path.is_file():
        return False
    meta: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    submission, system = meta["submission"], meta["system"]
    authors = submission["authors"] or []
    return (
        submission["label"] == label
        and bool(submission["name"])
        and 0 < len(submission["abbreviation"] or "") <= 10
        and sum(author.get("corresponding") is True for author in authors) == 1
        and all(author["email"] and author["affiliation"]["institute"] for author in authors)
        and system["complexity"]["total_parameters"] > 0
        and system["complexity"]["macs"] > 0
        and isinstance(system["external_datasets"], list)
        and bool(meta["results"])
    )
