"""What every section of ``params.yaml`` is, and how a mistake in one is reported."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from annotated_types import Le, Lt
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

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
            bounded = any(isinstance(mark, Le | Lt) for mark in field.metadata)
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
        steps = _without_tags(values, first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown key{nearest(steps[-1], _keys_at(model, values, steps[:-1]))}"
        elif first["type"] == "missing":
            message = "missing; add it"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        at = f"{'.'.join(steps)}: " if steps else ""
        raise EarwitnessError(f"{source}: {at}{message}{more}") from None


def _without_tags(values: Any, loc: Sequence[int | str]) -> list[str]:
    """``loc`` without the steps that pydantic adds for the kind of a discriminated union."""
    steps = []
    for position, step in enumerate(loc):
        inside = isinstance(values, dict) and step in values
        if inside or isinstance(step, int) or position == len(loc) - 1:
            steps.append(str(step))
            values = values[step] if inside else None
    return steps


def _keys_at(model: type[BaseModel], values: Any, steps: Sequence[str]) -> list[str]:
    """The field names that the section at ``steps`` has, by the model's schema."""
    schema = model.model_json_schema()
    node = schema
    for step in steps:
        node = node.get("properties", {}).get(step) or node["additionalProperties"]
        values = values[step]
        if "discriminator" in node:
            kind = values[node["discriminator"]["propertyName"]]
            node = {"$ref": node["discriminator"]["mapping"][kind]}
        node = next((choice for choice in node.get("anyOf", ()) if "$ref" in choice), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))
