"""What every section of ``params.yaml`` is, and how a mistake in one is reported."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Le, Lt
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from pipeline.errors import EarwitnessError

T = TypeVar("T", bound=BaseModel)
LARGEST = 1e8  # of every number that says nothing else of its size; no setting means more


class Section(BaseModel):
    """A frozen mapping whose unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, values: Any) -> Any:
        """No stage can use a number without end, a truth value as a number, or a zero byte."""
        for name in cls.model_fields.keys() & values if isinstance(values, dict) else ():
            value, field = values[name], cls.model_fields[name]
            bounded = _is_bounded(field)
            truths = {bool, Any} & {field.annotation, *get_args(field.annotation)}
            for each in value if isinstance(value, list | tuple) else [value]:
                if isinstance(each, str) and "\0" in each:
                    raise ValueError(f"{name}: has a zero byte; remove it")
                if isinstance(each, bool) and not truths:
                    raise ValueError(f"{name}: {str(each).lower()} is neither number nor word")
                if isinstance(each, float) and not math.isfinite(each):
                    raise ValueError(f"{name}: {each} is not a finite number")
                if isinstance(each, int | float) and not bounded and abs(each) > LARGEST:
                    raise ValueError(f"{name}: give a number of at most {LARGEST:,.0f}")
        return values


def _is_bounded(field: FieldInfo) -> bool:
    """Whether a number, or a list's each, has an upper limit of its own."""
    inner = (
        mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ())
    )
    marks = [*field.metadata, *(m for each in inner for m in getattr(each, "metadata", ()))]
    return any(isinstance(mark, Le | Lt) for mark in marks)


def known(
    where: str, names: Sequence[str], section: str, there: Mapping[str, Any] | Sequence[str]
) -> None:
    """Refuses a name that is not in ``there``, with the nearest that is."""
    for name in names:
        if name not in there:
            raise ValueError(f"{where}: '{name}' is not in {section}{nearest(name, there)}")


def nearest(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """``; did you mean 'x'?`` or, with nothing near, ``; known: a, b``."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def parse_section(model: type[T], values: Any, source: str) -> T:
    """One section of its own, as a plan holds it."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        steps, keys = _placed(model, first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown key{nearest(steps[-1], keys)}"
        elif first["type"] == "missing":
            message = "missing; add it"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        at = f"{'.'.join(steps)}: " if steps else ""
        whole = f"{at}{message}{more}"
        if not whole.isprintable():  # a key or a name with a line's end, or half a character
            whole = repr(whole)[1:-1]
        raise EarwitnessError(f"{source}: {whole}") from None


def _placed(model: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """``loc`` without the steps that pydantic adds for the member of a union, and the fields of the
    innermost section that it goes through.
    """
    steps, keys = [], []
    node: Any = model
    for step in loc:
        members = _members(node)
        if len(members) > 1:
            node = members.get(step)
            continue
        node = next(iter(members.values()), node)
        if isinstance(node, type) and issubclass(node, BaseModel):
            keys = list(node.model_fields)
            node = node.model_fields[str(step)].annotation if step in keys else None
        elif get_origin(node) in (dict, tuple, list):
            node = get_args(node)[get_origin(node) is dict]
        elif node is not None:  # a union of plain values
            continue
        steps.append(str(step))
    return steps, keys


def _members(node: Any) -> dict[Any, type[BaseModel]]:
    """The sections of a union, by what tells them apart; none where it is not one of sections."""
    if get_origin(node) is Annotated:
        node = get_args(node)[0]
    kinds = get_args(node) if get_origin(node) in (Union, UnionType) else ()
    sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if len(sections) == 1:
        return {None: sections[0]}
    return {
        get_args(field.annotation)[0]: section
        for section in sections
        for field in section.model_fields.values()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    }
