"""``earwitness``: what a person types. Training and evaluation are ``dvc repro``."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import EarwitnessError

app = typer.Typer(
    help="Audio captioning and search by text: `dvc repro` trains and scores, these are tools "
    "around it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def caption(
    files: Annotated[list[Path], typer.Argument(help="sound files: WAV, FLAC, OGG, MP3 …")],
    system: Annotated[str, typer.Option(help="a system of params.yaml")] = "",
    out: Annotated[Path | None, typer.Option(help="write a CSV here as well")] = None,
) -> None:
    """Caption sound files with a trained system."""
    from earwitness.caption import caption_files

    rows, failed = caption_files(files, system or None, Path("params.yaml"), Path("data"))
    width = max((len(str(path)) for path, _ in rows), default=0)
    for path, text in rows:
        print(f"{path!s:<{width}}  {text}")
    if out is not None:
        _write_table(out, ("file", "caption"), rows)
    _report_failed(failed)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help='what to hear, such as "a dog barks"')],
    files: Annotated[list[Path], typer.Argument(help="sound files, and folders of them")],
    system: Annotated[str, typer.Option(help="a retrieval system of params.yaml")] = "",
    top: Annotated[int, typer.Option(help="so many of the best", min=1)] = 10,
    out: Annotated[Path | None, typer.Option(help="write a CSV of all of them here")] = None,
) -> None:
    """Find the sound files that a sentence describes, best first, with a trained retriever."""
    from earwitness.search import search_files

    rows, failed = search_files(query, files, system or None, Path("params.yaml"), Path("data"))
    for path, score in rows[:top]:
        print(f"{score:6.3f}  {path}")
    if out is not None:
        _write_table(out, ("file", "score"), [(path, f"{score:.6f}") for path, score in rows])
    _report_failed(failed)


@app.command()
def recipe(
    paper: Annotated[
        str, typer.Argument(help="showcase, edtc, sjtu, wsac …; nothing lists all")
    ] = "",
    dataset: Annotated[str, typer.Argument(help="soundscapes, clotho, audiocaps …")] = "",
    params: Annotated[Path, typer.Option(help="the file to write")] = Path("params.yaml"),
    folder: Annotated[Path, typer.Option(help="where the recipes are")] = Path("recipes"),
) -> None:
    """Write a paper's parameters for a dataset into params.yaml; comments are kept."""
    from earwitness import recipes

    if not paper or not dataset:
        print(recipes.listing(folder))
        return
    recipes.apply(params, folder, paper, dataset)
    print(f"{params} is now {paper} on {dataset}; next: dvc repro")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CSV with columns candidate, caption_1 …")],
    per_clip: Annotated[Path | None, typer.Option(help="write per-clip values here")] = None,
    params: Annotated[Path, typer.Option(help="its `evaluation` section is used")] = Path(
        "params.yaml"
    ),
) -> None:
    """Score anyone's captions: corpus values as JSON, per-clip values as CSV."""
    from pipeline.config.evaluation import EvaluationConfig
    from pipeline.config.params import load_params
    from pipeline.metrics.evaluate import find_tools
    from pipeline.metrics.score import score_file, write_per_clip

    settings = load_params(params).evaluation if params.exists() else EvaluationConfig()
    scores = score_file(file, settings, find_tools(Path("data/tools/spice")))
    for metric, reason in scores.missing.items():
        print(f"left out: {metric}: {reason}", file=sys.stderr)
    if per_clip is not None:
        write_per_clip(scores, per_clip)
    print(json.dumps(scores.corpus, indent=1))


@app.command()
def doctor() -> None:
    """Say what of Java, SPICE, CUDA, weights and data is there, and how to get the rest."""
    from earwitness.doctor import examine

    missing = 0
    for finding in examine(Path("params.yaml"), Path("data")):
        missing += not finding.there
        print(f"{'ok  ' if finding.there else 'MISS'}  {finding.what:<34}  {finding.detail}")
    raise typer.Exit(1 if missing else 0)


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from pipeline.files import replacing

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def _report_failed(reasons: Sequence[str]) -> None:
    """Says which files could not be used; exit code 1 if there are any."""
    for reason in reasons:
        print(f"error: {reason}", file=sys.stderr)
    if reasons:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: an :class:`EarwitnessError` is one line and exit code 1."""
    try:
        app()
    except EarwitnessError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
