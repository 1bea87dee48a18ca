"""Search sound files by a sentence: ``earwitness search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earwitness.commands.shared import (
    LongestMinutes,
    Quiet,
    Root,
    check_place,
    limit_threads,
    report_failed,
    write_table,
)
from pipeline.limits import LONGEST_MINUTES

if TYPE_CHECKING:
    from earwitness.retrieval import RetrievalSystem


def search(
    query: Annotated[str, typer.Argument(help='what to find, such as "a dog barks"')],
    files: Annotated[list[Path], typer.Argument(help="sound files, and folders of them")],
    system: Annotated[
        str, typer.Option(help="a retrieval system of params.yaml, or a retriever's folder")
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            help="search by this, with nothing trained: a CLAP (laion/clap-htsat-unfused, or its "
            "folder), or a tagger (.onnx, or YAMNet's .tflite) with --labels"
        ),
    ] = "",
    labels: Annotated[
        Path | None, typer.Option(help="the names of a tagger's classes: CSV, text or JSON")
    ] = None,
    top: Annotated[int, typer.Option(help="so many of the best", min=1)] = 10,
    out: Annotated[Path | None, typer.Option(help="write a CSV of all of them here")] = None,
    longest_minutes: LongestMinutes = LONGEST_MINUTES,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Find the sound files that a sentence describes, by a retriever, a CLAP or a tagger."""
    from earwitness.inputs import decodable, sound_files
    from pipeline.files import writable

    check_place(out)
    retriever = _searching(system, model, labels, root)
    text = retriever.embed_text([query])
    found, empty = sound_files(files)
    sound, failed = decodable(found, longest_minutes)
    embeddings = retriever.embed_audio(sound, longest_minutes=longest_minutes)
    scores = retriever.similarity(text, embeddings)[0].tolist()
    pairs = zip(map(writable, sound), scores, strict=True)
    rows = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    for name, score in rows[:top]:
        print(f"{score:6.3f}  {name}")
    if out is not None:
        write_table(out, ("file", "score"), [(name, f"{score:.6f}") for name, score in rows])
    report_failed([*empty, *failed])


def _searching(system: str, model: str, labels: Path | None, root: Path | None) -> RetrievalSystem:
    """What searches: a trained system, or a model that is there."""
    from pipeline.errors import EarwitnessError
    from pipeline.threads import limit

    if not model:
        from earwitness.retrieval import RetrievalSystem

        if labels is not None:
            raise EarwitnessError("--labels is of a tagger; give its file by --model")
        limit_threads(system, root)
        return RetrievalSystem.load(system or None, root=root)
    from earwitness.spaces import open_space

    if system:
        raise EarwitnessError("--system and --model are two systems; give one of them")
    limit("auto")
    return open_space(model, labels, root=root)
