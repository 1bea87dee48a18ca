"""That every name in ``params.yaml`` is known where it is used, and means one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.config.fields import Ref, references
from pipeline.config.section import Section, known

# sections whose entries share one space of names
SHARED = (
    ("encoders", "text_encoders", "sound_towers", "text_towers"),
    ("encoders", "retrievers", "adapted"),
    ("captioners", "finetuned"),
)


def check_names(params: Section) -> None:
    """Every name that one section uses of another is there, and means one thing.

    Raises:
        ValueError: naming the first that is not or does not.
    """
    for sections in SHARED:
        seen: dict[str, str] = {}
        for section in sections:
            for name in getattr(params, section):
                if "/" in name:
                    raise ValueError(f"{section}: '{name}' has a slash; rename it")
                if name in seen:
                    raise ValueError(f"'{name}' is in both {seen[name]} and {section}; rename one")
                seen[name] = section
    for where, names, ref in _used("", params):
        there = " or ".join(dict.fromkeys(section for section, _ in ref.sections))
        known(where, names, there, ref.known(params))


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
