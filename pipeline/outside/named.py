"""Which files outside the repository parameters and plans name, by what their fields say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.config.datasets import CAPTION_TABLES, BaseDatasetConfig, CaptionsDatasetConfig
from pipeline.config.fields import Outside, When, marker
from pipeline.config.params import Params, with_settings
from pipeline.config.section import Section
from pipeline.weights import Weights


def dataset_files(settings: BaseDatasetConfig) -> list[str]:
    """What `prepare` reads of a dataset, files and folders, by their path below its root."""
    found = [*settings.reads]
    if isinstance(settings, CaptionsDatasetConfig):
        found += [name for source in settings.fetch for name in CAPTION_TABLES[source].values()]
    for name, field in type(settings).model_fields.items():
        if marker(field, Outside):
            value = getattr(settings, name)
            found += [value] if isinstance(value, str) else value or ()
    return list(dict.fromkeys(found))


def model_files(params: Params) -> list[str]:
    """Every name in the parameters that may be a path of weights or of a tokenizer.

    Those that an entry's own settings (``set``) name, too.
    """
    found = dict.fromkeys(named_files(params))
    for where, entry in _with_own_settings(params):
        own = with_settings(params, entry, f"params.yaml: {where}.set")
        found |= dict.fromkeys(named_files(own))
    return list(found)


def named_files(section: Section) -> Iterator[str]:
    """Every name in a section, and in those below, that may be a path of weights or of a tokenizer.

    A field that is not read, by its own mark, is left out; so are datasets.
    """
    if isinstance(section, BaseDatasetConfig):
        return
    for name, field in type(section).model_fields.items():
        when, value = marker(field, When), getattr(section, name)
        if when is None or when.read(section):
            if marker(field, Outside) and value is not None:
                yield value
            yield from _below(value)


def _below(value: Any) -> Iterator[str]:
    match value:
        case Weights(kind="path"):
            yield value.name
        case Section():
            yield from named_files(value)
        case dict():
            for each in value.values():
                yield from _below(each)
        case tuple() | list():
            for each in value:
                yield from _below(each)


def _with_own_settings(params: Params) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of all sections that have a ``set``."""
    for section in type(params).model_fields:
        entries = getattr(params, section)
        if isinstance(entries, dict):
            for name, entry in entries.items():
                if own := getattr(entry, "set", None):
                    yield f"{section}.{name}", own
