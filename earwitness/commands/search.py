"""Search sound files by a sentence or by a sound: ``earwitness search``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earwitness.commands.shared import (
    LongestMinutes,
    Quiet,
    Root,
    check_place,
    limit_threads,
    limit_threads_here,
    report_failed,
)
from earwitness.commands.systems import Labels, Model, Seed, System
from pipeline.limits import LONGEST_MINUTES

if TYPE_CHECKING:
    from earwitness.index.opened import SoundIndex
    from earwitness.retrieval import RetrievalSystem

Naming = Callable[[Path], str]


def search(
    query: Annotated[
        str | None, typer.Argument(help='what to find, such as "a dog barks"; or give --like')
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Argument(help="sound files, and folders of them; or give --in")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--in", help="search this index: its folder, or the one that was indexed"),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="find what sounds like this file; with a query, both")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--not", help="what is not to be in it; may be repeated")
    ] = None,
    moments: Annotated[
        bool, typer.Option("--moments", help="find spans inside recordings, with start and end")
    ] = False,
    top: Annotated[int, typer.Option(help="so many of the best", min=1)] = 10,
    min_score: Annotated[
        float | None, typer.Option(help="leave out what has a lower score")
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", help="text, json, jsonl, csv or m3u; of --out, by its ending"),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="write them here as well: of files all, of an index --top")
    ] = None,
    system: System = "",
    seed: Seed = None,
    model: Model = "",
    labels: Labels = None,
    longest_minutes: LongestMinutes = LONGEST_MINUTES,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Find the sound files that a sentence describes, or that sound like another.

    In files that are read now, or at once in an index that `earwitness index` made.

    Examples: earwitness search "rain on a roof" recordings

    earwitness search "a dog barks" --not music --in recordings --moments --format m3u
    """
    from earwitness.hits import format_of, written
    from pipeline.errors import EarwitnessError
    from pipeline.files import delivering

    check_place(out)
    wanted = format_of(form, out)
    given = [*(files or [])]
    if query is not None and like is not None and index is None and _is_there(query):
        given.insert(0, Path(query))
        query = None
    if query is None and like is None:
        raise EarwitnessError("nothing to search for: give a sentence, or a sound by --like")
    if index is not None and given:
        raise EarwitnessError("files and --in are two places to search; give one of them")
    if index is None and not given:
        raise EarwitnessError("nowhere to search: name files or folders, or an index by --in")
    if index is not None:
        if system or model or labels or seed is not None:
            raise EarwitnessError("--in: an index is searched by the system that made it")
        searched, name, failed = _opened(index, root)
    else:
        retriever = _searching(system, model, labels, seed, root)
        if query is not None:
            retriever.embed_text([query])  # a mistake in it is said before sound is read
        searched, name, failed = _read(retriever, given, longest_minutes, moments)
    most = None if index is None and out is not None else top
    hits = searched.search(query, like, without or (), most, moments=moments, min_score=min_score)
    if out is not None:
        with delivering(out) as whole:
            whole.write_text(written(hits, wanted, name, out), encoding="utf-8", newline="")
    print(written(hits[:top], "text" if out else wanted, name), end="")
    report_failed(failed)


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # a sentence that no file can be called
        return False


def _opened(place: Path, root: Path | None) -> tuple[SoundIndex, Naming, list[str]]:
    """An index, and how its files are called: as seen from here, where they are below."""
    from earwitness.index.opened import open_index

    here = Path.cwd()

    def name(path: Path) -> str:
        return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)

    limit_threads_here(root)
    return open_index(place, root=root), name, []


def _read(
    retriever: RetrievalSystem, given: Sequence[Path], longest_minutes: float, moments: bool
) -> tuple[SoundIndex, Naming, list[str]]:
    """Files that are embedded now, and how they are called: as they were given."""
    from earwitness.index.embedding import index_now
    from earwitness.inputs import decodable, sound_files

    found, empty = sound_files(given)
    sound, failed = decodable(found, longest_minutes)
    searched = index_now(retriever, sound, longest_minutes, moments)
    names = {
        searched.folder / path: str(own) for path, own in zip(searched.paths, sound, strict=True)
    }
    return searched, names.__getitem__, [*empty, *failed]


def _searching(
    system: str, model: str, labels: Path | None, seed: int | None, root: Path | None
) -> RetrievalSystem:
    """What searches: a trained system, or a model that is there."""
    from pipeline.errors import EarwitnessError
    from pipeline.threads import limit

    if not model:
        from earwitness.retrieval import RetrievalSystem

        if labels is not None:
            raise EarwitnessError("--labels is of a tagger; give its file by --model")
        limit_threads(system, root)
        return RetrievalSystem.load(system or None, root=root, seed=seed)
    from earwitness.spaces import open_space

    if seed is not None:
        raise EarwitnessError("--seed is of a system that is trained here, not of --model")
    if system:
        raise EarwitnessError("--system and --model are two systems; give one of them")
    limit("auto")
    return open_space(model, labels, root=root)
