"""Scores of anyone's captions: ``earwitness score``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from earwitness.commands.shared import Root, check_place


def score(
    file: Annotated[Path, typer.Argument(help="CSV with columns candidate, caption_1 …")],
    per_clip: Annotated[Path | None, typer.Option(help="write per-clip values here")] = None,
    params: Annotated[
        Path | None, typer.Option(help="its `evaluation` section is used, not the repository's")
    ] = None,
    with_intervals: Annotated[
        bool,
        typer.Option("--intervals", help="each value with its 95 % interval: value, low, high"),
    ] = False,
    root: Root = None,
) -> None:
    """Score anyone's captions: corpus values as JSON, per-clip values as CSV.

    Examples: `earwitness score captions.csv`, `earwitness score captions.csv --per-clip clips.csv`,
    `earwitness score captions.csv --intervals`
    """
    from earwitness import scoring
    from pipeline.config.params import load_params
    from pipeline.files import delivering
    from pipeline.metrics.tables import write_clips

    check_place(per_clip)
    table = scoring.read_captions(file)
    settings = load_params(params).evaluation.model_dump() if params is not None else {}
    scores = scoring.score(table.candidates, table.references, root=root, **settings)
    for metric, reason in scores.missing.items():
        print(f"left out: {metric}: {reason}", file=sys.stderr)
    for metric, reason in scores.incomplete.items():
        print(f"incomplete: {metric}: {reason}", file=sys.stderr)
    if per_clip is not None:
        with delivering(per_clip) as temporary:
            write_clips(temporary, table.labels, scores.clips)
    found: dict[str, object] = {**scores.corpus}
    if with_intervals:
        for metric, (low, high) in scores.intervals().items():
            found[metric] = {"value": scores.corpus[metric], "low": low, "high": high}
    print(json.dumps(found, indent=1))
