"""What a field of ``params.yaml`` says of itself: whose entries it names, and when it is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic.fields import FieldInfo

from pipeline.files import is_unicode

M = TypeVar("M")

# a list of names, or one name
OneOrSeveral = BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)
Names = Annotated[tuple[str, ...], OneOrSeveral]


def _written(changes: dict[str, Any]) -> dict[str, Any]:
    if not all(map(is_unicode, _texts(changes))):
        raise ValueError("a text with half a character (a lone surrogate); correct it")
    return changes


def _texts(value: Any) -> Iterator[str]:
    """All keys and texts in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in _texts(part))
    elif isinstance(value, list | tuple):
        yield from (text for each in value for text in _texts(each))


# dotted settings of one entry alone
Changes = Annotated[dict[str, Any], AfterValidator(_written)]

# what numpy's generators and torch's both take
Seed = Annotated[int, Field(ge=0, lt=1 << 32)]


def _listed(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"give a list: [{value}], or on the command line -S 'seeds=[{value}]'")
    return value


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds:
        raise ValueError("empty; give one or more, such as [1]")
    if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise ValueError(f"{twice[0]} stands twice; give each once")
    return seeds


# of several trainings of one model; half of what a generator takes, so that an offset has room
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=1 << 31)], ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
]
SeedOffset = Annotated[int, Field(ge=0, lt=1 << 31)]
# one a stage or a block of a network
Counts = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(min_length=1)]


def check_heads(width: int, heads: int) -> None:
    """Refuses heads of attention that do not divide the width.

    Raises:
        ValueError: so it is.
    """
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of heads {heads}; change one")


class Ref:
    """The field names entries of other sections, one or a list of them.

    ``Ref("encoders")``: an entry of that section. ``Ref("encoded/frames")``: ``x/frames``, where
    ``x`` is an entry of ``encoded``. With a ``prefix``, names stand behind it, as in
    ``tagging:panns``; a value without it names nothing.
    """

    def __init__(self, *sections: str, prefix: str = "") -> None:
        # (section, what a name has behind the entry's): ("encoded", "/frames")
        self.sections = [re.fullmatch(r"([\w.]+)(.*)", section).groups() for section in sections]  # type: ignore[union-attr]
        self.prefix = prefix

    def known(self, params: BaseModel) -> list[str]:
        """All names that the field may have."""
        return [
            f"{entry}{suffix}"
            for section, suffix in self.sections
            for entry in attrgetter(section)(params)
        ]

    def names(self, value: Any) -> list[str]:
        """The names in a field's value."""
        values = value if isinstance(value, tuple | list) else [value] if value else []
        names = [str(value) for value in values]
        return [n.removeprefix(self.prefix) for n in names if n.startswith(self.prefix)]


class When:
    """The field is read where ``field``, of the same section, has one of ``values``, or has
    several names; without either, where it is neither empty, nor zero, nor null.
    """

    def __init__(self, field: str, *values: str, several: bool = False) -> None:
        self.field, self.values, self.several = field, values, several

    def read(self, section: BaseModel) -> bool:
        value = attrgetter(self.field)(section)
        if self.several:
            return len(value) > 1
        return str(value) in self.values if self.values else bool(value)


@dataclass(frozen=True)
class Outside:
    """The field names a file or a folder that lies outside the repository and may change any time.

    ``below``: the field that names the folder that it lies in. Without it, the value may also be a
    model's name on a hub: it is a path where something of that name is there. Fields of the type
    ``Weights`` say so by their type.
    """

    below: str = ""


def marker(field: FieldInfo, kind: type[M]) -> M | None:
    """What a field says of one kind."""
    return next((mark for mark in field.metadata if isinstance(mark, kind)), None)


def references(section: type[BaseModel]) -> Iterator[tuple[str, Ref]]:
    """Each field that names others' entries."""
    for name, field in section.model_fields.items():
        if (ref := marker(field, Ref)) is not None:
            yield name, ref


# what captioners read: stored sound, of an encoder or of a retriever, and stored text
SOUND = ("encoders", "encoded/frames", "encoded/sound")
TEXT = ("text_encoders", "encoded/text")
