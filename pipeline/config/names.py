"""That every name in ``params.yaml`` is known where it is used, and means one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config.fields import Ref, references
from pipeline.config.section import Section, known

# sections whose entries share one space of names
SHARED = (
    ("encoders", "text_encoders", "sound_towers", "text_towers"),
    ("encoders", "spaces", "retrievers", "adapted"),
    ("captioners", "finetuned"),
)
# DVC's names of jobs and parameters, the shell's words, files, and dotted settings all hold them
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def check_names(params: Section) -> None:
    """Every name that one section uses of another is there, and means one thing.

    Raises:
        ValueError: naming the first that is not or does not.
    """
    for section in type(params).model_fields:
        entries = getattr(params, section)
        for name in entries if isinstance(entries, Mapping) else ():
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{section}: {name!r}: a name has letters from a to z, digits, _ and -, 100 at "
                    "most, and begins with no -; rename it"
                )
    _check_jobs(params)
    for sections in SHARED:
        seen: dict[str, str] = {}
        for section in sections:
            for name in getattr(params, section):
                if name in seen:
                    raise ValueError(f"'{name}' is in both {seen[name]} and {section}; rename one")
                seen[name] = section
    for where, names, ref in _used("", params):
        there = " or ".join(dict.fromkeys(section for section, _ in ref.sections))
        known(where, names, there, ref.known(params))


def _check_jobs(params: Any) -> None:
    """Two names become one, with a dash between, and no two pairs may become the same."""
    encoders = [*params.encoders, *params.text_encoders]
    pairs: list[tuple[str, list[tuple[str, ...]]]] = [
        ("encoders", [(d, e) for d in params.datasets for e in encoders]),
        ("encoded", [(d, e) for d in params.datasets for e in params.encoded]),
        (
            "systems",
            [
                *((d, s) for d in params.test_sets for s in params.systems),
                *((d,) for d in params.test_sets),
                *(("rank", d) for d in params.retrieval_test_sets),
            ],
        ),
    ]
    for section, jobs in pairs:
        seen: dict[str, tuple[str, ...]] = {}
        for job in jobs:
            other = seen.setdefault("-".join(job), job)
            if other != job:
                raise ValueError(
                    f"{section}: {' and '.join(other)} would be one job with {' and '.join(job)} "
                    f"({'-'.join(job)}); rename one"
                )


def _used(where: str, section: Section) -> Iterator[tuple[str, list[str], Ref]]:
    """Each field below that names entries of others: its place, the names and the reference."""
    for name, ref in references(type(section)):
        yield f"{where}{name}", ref.names(getattr(section, name)), ref
    for name in type(section).model_fields:
        value = getattr(section, name)
        parts = value if isinstance(value, Mapping) else {"": value}
        for entry, part in parts.items():
            if isinstance(part, Section):
                yield from _used(f"{where}{name}.{entry}.".replace("..", "."), part)
