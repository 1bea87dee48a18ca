"""How ``params.yaml`` is written: in five parts, with every setting that is read, and comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from pipeline.config.fields import Ref, When, marker
from pipeline.config.params import Params
from pipeline.config.section import Section
from pipeline.errors import EarwitnessError
from pipeline.yaml_files import read_yaml

HEAD = """\
# The one active experiment. `earwitness recipe edtc clotho` writes another one here;
# `dvc exp run -S fuser.layers=3` changes one knob; pipeline/config/ says what every key means.
"""
CAPTIONING = "captioning"
PARTS = {  # part → its sections; those of the captioners' architectures stand before `captioners`
    "data": ["datasets"],
    "features: sound and captions through frozen encoders, once": [
        "encoders", "tagging", "spec_augment", "text_encoders", "feature_files",
    ],
    "retrieval: sound and captions in one space": [
        "spaces", "sound_towers", "text_towers", "biencoder", "retrieval_training", "encoded",
        "retrievers", "adapted",
    ],
    CAPTIONING: ["captioners", "training", "scst", "finetuned"],
    "evaluation": [
        "test_sets", "retrieval_test_sets", "decoding", "rerank", "systems",
        "retrieval_systems", "evaluation", "report",
    ],
}  # fmt: skip
# dvc.yaml loops over these, so they must be there, be they empty
LOOPS = frozenset(
    ("datasets", "encoders", "text_encoders", "spaces", "retrievers", "adapted", "encoded",
     "captioners", "finetuned", "systems", "test_sets", "retrieval_test_sets")
)  # fmt: skip

Place = tuple[str | int, ...]  # ("training", "edtc", "epochs")


class Note(NamedTuple):
    """Somebody's own comments on one key."""

    place: Place
    value: Any
    above: list[str]
    behind: str


def read(path: Path) -> CommentedMap:
    """The sections of a file, with what ruamel knows of its comments.

    Raises:
        EarwitnessError: see :func:`pipeline.yaml_files.read_yaml`; or it is empty.
    """
    values = read_yaml(path, "correct it, or remove it and write it anew", yaml())
    if not isinstance(values, CommentedMap):
        raise EarwitnessError(f"{path}: has no sections; correct it")
    return values


def yaml() -> YAML:
    """ruamel's round trip, which keeps comments; DVC writes lists unindented, so these are too."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.width = 1000
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def entry_kinds(section: str) -> list[type[Section]]:
    """What an entry of a section may be; none where it has no entries."""

    def kinds(annotation: Any) -> Iterator[type[Section]]:
        for part in get_args(annotation):
            own = isinstance(part, type) and issubclass(part, Section)
            yield from [part] if own else kinds(part)

    return list(kinds(Params.model_fields[section].annotation))


def complete(values: CommentedMap, params: Params) -> None:
    """Takes away the sections that no entry reads, and writes out every setting of the others that
    is read; in the order of pipeline/config.

    Args:
        values: what ``params`` was made of.
    """
    kinds = {section: entry_kinds(section) for section in Params.model_fields}
    entries = [e for section in kinds if kinds[section] for e in getattr(params, section).values()]
    _fill(values, params, {key for entry in entries for key in getattr(entry, "set", ())})
    of_entries = {s for kind in kinds.values() for k in kind for s in getattr(k, "sections", ())}
    read = {section for entry in entries for section in getattr(entry, "sections", ())}
    if any(encoder.views for encoder in params.encoders.values()):
        read.add("spec_augment")
    for section, kind in kinds.items():
        empty = getattr(params, section) in ({}, ())
        if empty and section in LOOPS:
            values[section] = CommentedMap() if kind else []
            values.yaml_add_eol_comment(f"# {Params.model_fields[section].description}", section, 0)
        elif empty or section in of_entries - read:
            values.pop(section, None)


def _fill(
    values: CommentedMap, section: Section, own: set[str], place: str = "", entry: bool = False
) -> None:
    """``own``: dotted settings that entries have for themselves, such as ``twin.loss``.

    An entry that names nothing in a field leaves the field out; a section shows it, for ``-S``.
    """
    fields = type(section).model_fields
    for name, field in fields.items():
        value, when = getattr(section, name), marker(field, When)
        read = when is None or when.read(section) or f"{place}{when.field}" in own
        default = not field.is_required() and value == field.get_default(call_default_factory=True)
        if isinstance(value, Section):
            _fill(values.setdefault(name, CommentedMap()), value, own, f"{place}{name}.")
        elif isinstance(value, dict):
            for key, each in value.items():
                if isinstance(each, Section):
                    _fill(values[name][key], each, own, f"{place}{name}.{key}.", entry=True)
        elif default and not read:
            values.pop(name, None)
        elif name not in values and (value or not entry or marker(field, Ref) is None):
            values[name] = section.model_dump(mode="json", include={name})[name]
        if field.description and name in values and name not in values.ca.items:
            values.yaml_add_eol_comment(f"# {field.description}", name, 0)
    for name in sorted(fields, key=lambda name: _rank(name, fields[name])):
        if name in values:
            values.move_to_end(name)


def _rank(name: str, field: FieldInfo) -> int:
    """First what says which kind of entry it is (module, architecture, layout), last ``set``."""
    kind = field.is_required() and get_origin(field.annotation) is Literal
    return -1 if kind else name == "set"


def text(values: CommentedMap, head: str = HEAD) -> str:
    """The file, with a banner above each part, and ``head`` above all."""
    listed = {section for sections in PARTS.values() for section in sections}
    others = [section for section in Params.model_fields if section not in listed]
    own = {s for kind in entry_kinds("captioners") for s in getattr(kind, "sections", ())}
    parts = {"": [section for section in others if section not in own], **PARTS}
    parts[CAPTIONING] = [*(s for s in others if s in own), *PARTS[CAPTIONING]]
    text = head
    for part, sections in parts.items():
        there = [section for section in sections if section in values]
        text += f"\n{banner(part)}" if there else ""
        for section in there:
            one = CommentedMap({section: values[section]})
            if section in values.ca.items:
                one.ca.items[section] = values.ca.items[section]
            stream = StringIO()
            yaml().dump(one, stream)
            text += stream.getvalue()
    return text


def banner(part: str) -> str:
    return f"# ---- {part} ".ljust(80, "-") + "\n" if part else ""


def own_notes(values: CommentedMap, known: set[str]) -> list[Note]:
    """Comments of a file that are neither ``known`` nor written by :func:`text`."""
    written = (HEAD, *map(banner, PARTS), *_descriptions(Params.model_json_schema()))
    known = {"", *known, *(line for text in written for line in text.splitlines())}
    head = (values.ca.comment or [None, None])[1] or ()
    above = "".join(token.value for token in head)
    notes = []
    for place, value, between in _between(values, ()):
        lines = [line.strip() for line in above.splitlines()]
        behind, _, above = between.partition("\n")
        own = [line for line in lines if line not in known]
        notes.append(Note(place, value, own, "" if behind.strip() in known else behind.strip()))
    return [note for note in notes if note.above or note.behind]


def _descriptions(schema: Any) -> Iterator[str]:
    """As comments, those of all fields."""
    if isinstance(schema, dict):
        yield f"# {schema.get('description')}"
    for part in schema.values() if isinstance(schema, dict) else ():
        yield from _descriptions(part)


def add_notes(values: CommentedMap, notes: Iterable[Note]) -> None:
    """Adds those whose value stays; a key with settings below it stays where it is there."""
    for (*parents, key), value, above, behind in notes:
        node: Any = values
        for parent in parents:
            node = node.get(parent) if isinstance(node, CommentedMap) else None
        if not isinstance(node, CommentedMap) or key not in node:
            continue
        if node[key] == value or isinstance(node[key], dict):
            lines = "\n".join(line.removeprefix("#").strip() for line in above)
            if behind:
                node.yaml_add_eol_comment(behind, key, 0)
            if above:
                node.yaml_set_comment_before_after_key(key, lines, indent=2 * len(parents))


def _between(node: Any, place: Place) -> Iterator[tuple[Place, Any, str]]:
    """Each key and item, its value, and what stands between it and the next."""
    for key, value, (token, lines) in _marks(node):
        behind = token.value if token else "\n"
        yield (*place, key), value, behind + "".join(line.value for line in lines)
        if isinstance(value, dict | list):
            yield from _between(value, (*place, key))


def keep_behind(node: Any) -> None:
    """Leaves of ruamel's comments those behind a value, one space away."""
    for key, value, (token, _) in _marks(node):
        node.ca.items.pop(key, None)
        if isinstance(value, dict | list):
            keep_behind(value)
            value.ca.comment = None  # type: ignore[union-attr]
        if token and (behind := token.value.partition("\n")[0]):
            node.yaml_add_eol_comment(behind, key, 0)


def _marks(node: Any) -> Iterator[tuple[Any, Any, tuple[Any, Any]]]:
    """Each key or index, its value, and ruamel's tokens: behind it, and above what it holds."""
    of_map = isinstance(node, dict)
    for key, value in [*(node.items() if of_map else enumerate(node))]:
        marks = node.ca.items.get(key) or [None] * 4
        yield key, value, (marks[2 if of_map else 0], marks[3] or ())
