"""YAML files as people have really edited them: whatever is wrong is one line, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.reader import ReaderError

from pipeline.errors import REASON, EarwitnessError, reason
from pipeline.files import read_text

YAML_BYTES = 64 << 20  # MACS.yaml has 3 MB
DEPTH = 50  # of nested lists and mappings; params.yaml has 5
NODES = 2_000_000  # values, aliases written out; MACS.yaml has 200,000


def read_yaml(path: Path, hint: str, kind: YAML | None = None) -> Any:
    """The value in a YAML 1.2 file: YAML 1.1 reads DVC's ``1e-05`` as text.

    Args:
        hint: what to do where it is missing or broken.
        kind: how it is read, where not as plain values; pure Python, without ruamel's C parser,
            which overflows the stack at deep nesting.

    Raises:
        EarwitnessError: see :func:`pipeline.files.read_text`; or it is not YAML, is nested too
            deep, has tags (``!!binary``), an alias that stands in itself or that writes out too
            much, a key twice, or a value that cannot be (a date of month 99).
    """
    return parse_yaml(read_text(path, hint, YAML_BYTES), str(path), hint, kind)


def parse_yaml(text: str, source: str, hint: str, kind: YAML | None = None) -> Any:
    """The value of a text; see :func:`read_yaml`.

    Args:
        source: where it stands, for the error message.
    """
    yaml = kind or YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.Constructor = type("Constructor", (_Placed, yaml.Constructor), {})
    try:
        return yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(error.problem or error.context).split())[:REASON]
    except ReaderError as error:
        before, at = text[: error.position], text[error.position : error.position + 1]
        line = f"line {before.count(chr(10)) + 1}: "
        problem = f"character {at!r} cannot stand in it"
    except Exception as error:  # ruamel's own slips, at malformed comments and directives
        line, problem = "", reason(error)
    raise EarwitnessError(f"{source}: {line}not YAML ({problem}); {hint}") from None


class _Composer(Composer):
    """Refuses what has no end, or has code or bytes in it."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False  # to name an anchor again is YAML
        self.level, self.nodes = 0, 0
        self.sizes: dict[int, int] = {}  # by a node's id

    def compose_node(self, parent: Any, index: Any) -> Any:
        event, before = self.parser.peek_event(), self.nodes
        if self.level >= DEPTH:
            raise ComposerError(None, None, "nested too deep", event.start_mark)
        if getattr(event, "ctag", None) is not None:
            raise ComposerError(
                None, None, f"tag {event.tag} is not known; write a plain value", event.start_mark
            )
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        if isinstance(event, AliasEvent):
            if id(node) not in self.sizes:
                problem = f"alias {event.anchor!r} stands inside what it names"
                raise ComposerError(None, None, problem, event.start_mark)
            self.nodes += self.sizes[id(node)]
        else:
            self.nodes += 1
            self.sizes[id(node)] = self.nodes - before
        if self.nodes > NODES:
            raise ComposerError(None, None, "too many values", event.start_mark)
        return node


class _Placed:
    """Says at which line a value stands that cannot be made."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)  # type: ignore[misc]
        except (ValueError, OverflowError, TypeError) as error:
            raise ConstructorError(None, None, reason(error), node.start_mark) from None
