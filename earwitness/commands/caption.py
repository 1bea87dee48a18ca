"""Caption sound files: ``earwitness caption``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def caption(
    files: Annotated[list[Path], typer.Argument(help="sound files: WAV, FLAC, OGG, MP3 …")],
    system: Annotated[
        str, typer.Option(help="a system of params.yaml, or a captioner's folder")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="write a CSV here as well")] = None,
    longest_minutes: LongestMinutes = LONGEST_MINUTES,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Caption sound files with a trained system."""
    from earwitness.captioning import CaptioningSystem
    from earwitness.inputs import decodable
    from pipeline.files import writable

    check_place(out)
    limit_threads(system, root)
    captioner = CaptioningSystem.load(system or None, root=root)
    sound, failed = decodable(files, longest_minutes)
    captions = captioner.caption(sound, longest_minutes=longest_minutes)
    names = [writable(path) for path in sound]
    width = max(map(len, names), default=0)
    for name, found in zip(names, captions, strict=True):
        print(f"{name:<{width}}  {found.text}{'  (unsure)' if found.unsure else ''}")
    if out is not None:
        marks = {True: "yes", False: "no", None: ""}
        rows = [(n, c.text, marks[c.unsure]) for n, c in zip(names, captions, strict=True)]
        write_table(out, ("file", "caption", "unsure"), rows)
    report_failed(failed)
