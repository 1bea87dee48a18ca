"""The one form of every dataset; nothing after ``prepare`` knows which dataset it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import EarwitnessError
from pipeline.files import inside, is_unicode, leads_inside, read_json, write_atomic
from pipeline.storage.places import is_folder
from pipeline.storage.stored import Stored, stored_at
from pipeline.storage.urls import is_url

SPLITS = ("development", "validation", "evaluation")
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
STRICT = ConfigDict(extra="forbid")  # a manifest of another version is not read as this one's


@dataclass(frozen=True)
class Clip:
    """One recording: ``path`` is relative to the dataset's root, ``duration`` in seconds.

    Of a tar's member ``path`` is ``SHARD!OFFSET+SIZE/MEMBER``: where its bytes are, so that no
    index of the shards is needed.

    In a dataset of captions alone ``path`` is empty and ``duration`` 0; so it is of a blind set's
    queries.

    ``digest``: SHA-256 of the sound file, or, where it is in object storage, of its ETag and size
    (of a tar there, and where in it): where a recording is replaced, its readers run again.
    ``name``: what a blind set's table calls the file, where the file is called otherwise.
    """

    __pydantic_config__: ClassVar = STRICT

    clip_id: str
    split: str
    path: str
    duration: float
    captions: tuple[str, ...]
    events: tuple[str, ...] = ()
    digest: str = ""
    name: str = ""

    @property
    def file_name(self) -> str:
        """What the recording is called, without its folder."""
        return self.name or PurePosixPath(self.path).name


@dataclass(frozen=True)
class Manifest:
    """A dataset: its name, the root of its sound, its clips, and what was left out.

    ``root`` is relative to the repository, so that no hash depends on the machine, or absolute
    where the parameters say so: ``repository / root / clip.path`` is a clip's file. It may be an
    address or a pattern of shards too (pipeline/storage/urls.py). ``skipped``
    holds ``(path, reason)`` of files that could not be used; ``synthetic``: a program made the
    sound; ``blind``: its captions are not known to us, so that nothing can be scored.
    """

    __pydantic_config__: ClassVar = STRICT

    dataset: str
    root: str
    clips: tuple[Clip, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    synthetic: bool = False
    blind: bool = False

    @property
    def sounding(self) -> tuple[Clip, ...]:
        """The clips that have sound: all but those of a dataset of captions alone."""
        return tuple(clip for clip in self.clips if clip.path)

    def split(self, name: str) -> tuple[Clip, ...]:
        """The clips of one split, in the manifest's order; an empty split is an error."""
        clips = tuple(clip for clip in self.clips if clip.split == name)
        if not clips:
            known = ", ".join(sorted({clip.split for clip in self.clips}))
            raise EarwitnessError(f"dataset {self.dataset} has no split '{name}'; it has: {known}")
        return clips

    def recordings(self, split: str) -> tuple[Clip, ...]:
        """The clips of a split that are to be captioned, or found; of a blind set all with sound.

        A blind set is tested whole, whichever split of the others is.
        """
        return self.sounding if self.blind else self.split(split)

    def asked(self, split: str) -> tuple[Clip, ...]:
        """The clips of a split whose captions are the queries of a search; see above."""
        if not self.blind:
            return self.split(split)
        return tuple(clip for clip in self.clips if not clip.path)

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
        rows = {
            "dataset": self.dataset,
            "root": self.root,
            "synthetic": self.synthetic,
            **({"blind": True} if self.blind else {}),
            "skipped": [list(pair) for pair in self.skipped],
            "clips": [_row(clip) for clip in self.clips],
        }
        write_atomic(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")

    @staticmethod
    def load(path: Path) -> Manifest:
        """What :meth:`save` wrote.

        Raises:
            EarwitnessError: see :func:`pipeline.files.read_json`; or it is none.
        """
        rows = read_json(path, "run `dvc repro prepare`")
        try:
            return TypeAdapter(Manifest).validate_python(rows)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise EarwitnessError(
                f"{path}: not a manifest ({place}: {first['msg']}); run `dvc repro -f prepare`"
            ) from None


def _row(clip: Clip) -> dict[str, Any]:
    """As JSON; a name is rare, and left out where there is none."""
    row = asdict(clip)
    if not clip.name:
        del row["name"]
    return row


def check_clips(clips: Iterable[Clip], source: str) -> tuple[Clip, ...]:
    """The clips as a tuple; ids must be unique and safe, and no path may leave the root.

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
    return tuple(checked)
