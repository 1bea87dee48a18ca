"""The one form of every dataset; nothing after ``prepare`` knows which dataset it was."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.corpora.clips import Clip, ClipColumns, Clips
from pipeline.errors import EarwitnessError
from pipeline.files import inside, is_unicode, leads_inside, read_json, replacing
from pipeline.storage.places import is_folder
from pipeline.storage.stored import Stored, stored_at
from pipeline.storage.urls import is_url

SPLITS = ("development", "validation", "evaluation")
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
STRICT = ConfigDict(extra="forbid")  # a manifest of another version is not read as this one's
COLUMNS = tuple(field.name for field in fields(Clip))
LISTS = ("captions", "events")
KINDS: dict[str, set[type]] = {"duration": {float, int}, **{name: {list} for name in LISTS}}


@dataclass(frozen=True)
class Manifest:
    """A dataset: its name, the root of its sound, its clips, and what was left out.

    ``clips`` may be given as any sequence; it is held in columns. ``root`` is relative to the
    repository, so that no hash depends on the machine, or absolute where the parameters say so:
    ``repository / root / clip.path`` is a clip's file. It may be an address or a pattern of shards
    too (pipeline/storage/urls.py). ``skipped`` holds ``(path, reason)`` of files that could not be
    used; ``synthetic``: a program made the sound; ``blind``: its captions are not known to us, so
    that nothing can be scored.
    """

    dataset: str
    root: str
    clips: Sequence[Clip]
    skipped: tuple[tuple[str, str], ...] = ()
    synthetic: bool = False
    blind: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "clips", Clips.of(self.clips))

    @property
    def columns(self) -> Clips:
        """The clips, as what they are held in."""
        return Clips.of(self.clips)

    @property
    def sounding(self) -> Clips:
        """The clips that have sound: all but those of a dataset of captions alone."""
        return self.columns.sounding()

    def split(self, name: str) -> Clips:
        """The clips of one split, in the manifest's order; an empty split is an error."""
        clips = self.columns.of_splits([name])
        if not clips:
            known = ", ".join(sorted(self.columns.splits))
            raise EarwitnessError(f"dataset {self.dataset} has no split '{name}'; it has: {known}")
        return clips

    def recordings(self, split: str) -> Clips:
        """The clips of a split that are to be captioned, or found; of a blind set all with sound.

        A blind set is tested whole, whichever split of the others is.
        """
        return self.sounding if self.blind else self.split(split)

    def asked(self, split: str) -> Clips:
        """The clips of a split whose captions are the queries of a search; see above."""
        if not self.blind:
            return self.split(split)
        clips = self.columns
        return clips.where(clips.columns.path.lengths[clips.rows] == 0)

    def sound_file(self, root: Path, clip: Clip) -> Path | Stored:
        """A clip's recording.

        Args:
            root: of the dataset's sound: the repository and :attr:`root`; not read where that is
                an address.

        Raises:
            EarwitnessError: its path leaves the root; or it was a file of this machine, and is
                there no more. What is stored elsewhere is asked for when it is read.
        """
        source = f"data/corpora/{self.dataset}.json"
        if not is_folder(root, self.root):
            return stored_at(self.root if is_url(self.root) else str(root), clip.path, source)
        path = inside(root, clip.path, source)
        if not path.is_file():
            raise EarwitnessError(
                f"{path}: gone since the dataset was prepared; put it back, or run "
                f"`dvc repro -s -f prepare@{self.dataset}`, which makes what is made here"
            )
        return path

    def save(self, path: Path) -> None:
        """Writes JSON: the columns' names, and a line a clip."""
        head = {
            "dataset": self.dataset,
            "root": self.root,
            "synthetic": self.synthetic,
            **({"blind": True} if self.blind else {}),
            "skipped": [list(pair) for pair in self.skipped],
            "columns": list(COLUMNS),
        }
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(head, indent=1, ensure_ascii=False)[:-2])
            stream.write(',\n "clips": [')
            comma = "\n"
            for clip in self.clips:
                row = json.dumps([getattr(clip, name) for name in COLUMNS], ensure_ascii=False)
                stream.write(f"{comma}  {row}")
                comma = ",\n"
            stream.write("\n ]\n}\n")

    @staticmethod
    def load(path: Path) -> Manifest:
        """What :meth:`save` wrote.

        Raises:
            EarwitnessError: see :func:`pipeline.files.read_json`; or it is none.
        """
        try:
            with _uncollected():
                found = read_json(path, "run `dvc repro prepare`")
                rows = found.pop("clips") if isinstance(found, dict) else None
                head = TypeAdapter(_Head).validate_python(found)
                clips = Clips(ClipColumns.of(_fields(head.columns, rows)))
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (KeyError, _NotClipsError) as error:
            problem = "clips: Field required" if isinstance(error, KeyError) else str(error)
        else:
            return Manifest(
                head.dataset, head.root, clips, head.skipped, head.synthetic, head.blind
            )
        raise EarwitnessError(f"{path}: not a manifest ({problem}); run `dvc repro -f prepare`")


@dataclass(frozen=True)
class _Head:
    """All of a manifest's file but the clips."""

    __pydantic_config__: ClassVar = STRICT

    dataset: str
    root: str
    columns: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    synthetic: bool = False
    blind: bool = False


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which looks at all rows again and again: they hold no cycle.

    It takes two thirds of the time to read 100,000 of them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _NotClipsError(ValueError):
    """Says which value is none of a clip's."""


def _fields(columns: Sequence[str], rows: Any) -> list[Sequence[Any]]:
    """Rows of JSON as columns, each value of its type."""
    if tuple(columns) != COLUMNS:
        raise _NotClipsError(f"columns: not {', '.join(COLUMNS)}")
    if not isinstance(rows, list):
        raise _NotClipsError("clips: no list")
    if not ({*map(type, rows)} <= {list} and {*map(len, rows)} <= {len(COLUMNS)}):
        fit = (type(row) is list and len(row) == len(COLUMNS) for row in rows)
        raise _NotClipsError(f"clips.{[*fit].index(False)}: no list of {len(COLUMNS)} values")
    found: list[Sequence[Any]] = [*zip(*rows, strict=True)] or [()] * len(COLUMNS)
    for name, values in zip(COLUMNS, found, strict=True):
        kinds = KINDS.get(name, {str})
        within = chain.from_iterable(values) if {*map(type, values)} == {list} else ()
        if not ({*map(type, values)} <= kinds and {*map(type, within)} <= {str}):
            number = next(at for at, value in enumerate(values) if not _fits(value, kinds))
            wanted = {"duration": "a number"}.get(name, "texts" if name in LISTS else "a text")
            raise _NotClipsError(f"clips.{number}.{name}: not {wanted}")
    return found


def _fits(value: Any, kinds: set[type]) -> bool:
    return type(value) in kinds and (type(value) is not list or {*map(type, value)} <= {str})


def check_clips(clips: Iterable[Clip], source: str) -> Clips:
    """The clips in columns; ids must be unique and safe, and no path may leave the root.

    ``source`` says where the clips come from, for the error message.
    """
    seen: set[str] = set()
    checked = []
    for clip in clips:
        if not SAFE_ID.fullmatch(clip.clip_id):
            raise EarwitnessError(f"{source}: clip id {clip.clip_id!r} is not safe as a file name")
        if clip.clip_id in seen:
            raise EarwitnessError(f"{source}: {clip.clip_id!r} occurs twice; remove one row")
        if not leads_inside(clip.path):
            raise EarwitnessError(f"{source}: path {clip.path!r} leaves the dataset's folder")
        if not all(map(is_unicode, (*clip.captions, *clip.events))):
            raise EarwitnessError(
                f"{source}: a caption or event of {clip.clip_id!r} has half a character (a lone "
                "surrogate); correct it"
            )
        seen.add(clip.clip_id)
        checked.append(clip)
    return Clips.of(checked)
