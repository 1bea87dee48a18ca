"""Index folders of sound files: ``earwitness index``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from earwitness.commands.shared import Quiet, Root, limit_threads_here, report_failed
from earwitness.commands.systems import Labels, Model, Seed, System


def index(
    folders: Annotated[list[Path], typer.Argument(help="folders of sound files")],
    where: Annotated[
        Path | None,
        typer.Option(
            "--index",
            help="the index's folder; if not given, the hidden folder .earwitness in the only one",
        ),
    ] = None,
    moments: Annotated[
        bool | None,
        typer.Option(
            help="store windows of one and two seconds too, so that `search --moments` finds spans "
            "inside recordings; if not given, as the index has it"
        ),
    ] = None,
    approximate: Annotated[
        bool | None,
        typer.Option(
            help="sort the sounds into lists, so that a search compares with those near the query "
            "alone (by FAISS); if not given, as the index has it, and from a million sounds on"
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or json")] = "text",
    system: System = "",
    seed: Seed = None,
    model: Model = "",
    labels: Labels = None,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Embed the sound files of folders once, to be searched in a moment from then on.

    Run it again when files were added, changed, moved or deleted: only new sound is embedded. A run
    that was ended goes on where it was.

    Example: earwitness index recordings --moments
    """
    from earwitness.index.building import build_index
    from pipeline.errors import EarwitnessError
    from pipeline.files import shown

    def notice(line: str) -> None:
        if not quiet:
            print(f"note: {line}", file=sys.stderr)

    if form not in ("text", "json"):
        raise EarwitnessError(f"--format: {form} is not text or json")
    limit_threads_here(root)
    done = build_index(
        folders, where, system=system, model=model, labels=labels, seed=seed, moments=moments,
        approximate=approximate, root=root, notice=notice,
    )  # fmt: skip
    if form == "json":
        print(json.dumps({**asdict(done), "place": str(done.place), "files": done.files}))
        report_failed(done.failed)
        return
    counts = f"{done.added} added, {done.changed} changed, {done.gone} gone"
    print(f"{shown(done.place)}: {done.files} files ({counts}, {done.unchanged} as before)")
    if done.recall:
        shares = ", ".join(f"{share:.1%} of a {kind}'s" for kind, share in done.recall.items())
        print(f"searched in part: finds {shares} exact best ten")
    report_failed(done.failed)
