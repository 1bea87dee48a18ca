"""Where weights come from, in the few words that ``params.yaml`` has for it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")
Kind = Literal["hub", "package", "tagging", "none", "scratch", "path"]
FORMS = "hub, hub:owner/name, package:NAME, tagging, tagging:ENCODER, none, scratch or a path"


@dataclass(frozen=True)
class Weights:
    """Where a model's weights come from; in parameters and plans one string, such as ``hub:a/b``.

    ``hub``: the field's own checkpoint, that of a repository, or a published one by its name (such
    as ``hub:convnext_tiny_471mAP``, where the encoder has such names); ``package``: inside an
    installed package; ``tagging``: trained by the tagging stage, for the model itself or for the
    encoder that is named; ``none``: it has none; ``scratch``: random; ``path``: a file or a folder.
    """

    kind: Kind
    name: str = ""  # what stands behind the colon; the path

    @classmethod
    def parse(cls, text: str) -> Weights:
        """The weights that ``text`` means.

        Raises:
            ValueError: it is none of :data:`FORMS`. One word alone is no path: write ``./word``.
        """
        word, colon, name = text.partition(":")
        match word:
            case "hub" | "package" | "tagging" if name:
                return cls(word, name)
            case "hub" | "tagging" | "none" | "scratch" if not colon:
                return cls(word)
            case _ if re.search(r"\W", word):
                return cls("path", text)
        raise ValueError(f"no weights '{text}'; give {FORMS} such as ./model")

    def __str__(self) -> str:
        if self.kind == "path":
            return self.name
        return f"{self.kind}:{self.name}" if self.name else self.kind

    def tagger(self, model: str = "") -> str | None:
        """The encoder that the tagging stage trains these weights for; None: they are not its.

        ``model``: whose weights they are, which ``tagging`` alone means.
        """
        return self.name or model if self.kind == "tagging" else None

    def missing(self, trained: Path | None = None, root: Path = Path()) -> str | None:
        """Why they are not on this machine, with a hint; None where they are.

        Those on a hub are only seen when they are loaded, those of the tagging stage where
        ``trained``, its file, is given.

        Args:
            root: the repository, which a path is below if it is not absolute.
        """
        if self.kind == "package":
            found = self.name.isidentifier() and importlib.util.find_spec(self.name) is not None
            hint = f"package {self.name} is not installed; `pip install {self.name}`"
            return None if found else hint
        if self.kind == "tagging" and trained is not None and not trained.is_file():
            return f"no trained weights at {trained}; run `dvc repro tagging`"
        if self.kind == "path" and not (root / self.name).exists():
            return f"{self.name} is not there; correct the path"
        return None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        parsed = core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema())
        return core_schema.no_info_before_validator_function(
            lambda value: str(value) if isinstance(value, cls) else value,
            parsed,
            serialization=core_schema.to_string_ser_schema(),
        )


def local_first(load: Callable[[bool], T], name_or_path: str) -> T:
    """What ``load`` gives of a hub's files on this machine, or else of the hub.

    Asking the hub without a network takes a minute.

    Args:
        load: of ``local_files_only``; raises OSError where the files are not here.
    """
    try:
        return load(True)
    except OSError:
        if Path(name_or_path).exists():
            raise
        return load(False)
