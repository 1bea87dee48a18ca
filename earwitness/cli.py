"""``earwitness``: what a person types. Training and evaluation are ``dvc repro``."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from pipeline.errors import SyntheticSoundWarning
from pipeline.limits import LONGEST_MINUTES
from pipeline.refusals import reported, show_any_text

if TYPE_CHECKING:
    from earwitness.retrieval import RetrievalSystem


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with reported(), _warnings_as_lines():
            return super().invoke(ctx)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """What a person is meant to read, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SyntheticSoundWarning)
        show = warnings.showwarning

        def in_one_line(message: Any, category: type[Warning], *place: Any) -> None:
            if issubclass(category, SyntheticSoundWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                show(message, category, *place)

        warnings.showwarning = in_one_line  # type: ignore[assignment]
        yield


app = typer.Typer(
    cls=_Commands,
    help="Audio captioning and search by text: `dvc repro` trains and scores, these are tools "
    "around it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Root = Annotated[
    Path | None,
    typer.Option(
        "--repository",
        help="the folder of params.yaml; if not given EARWITNESS_REPOSITORY, else the one around "
        "this folder, else the one installed",
    ),
]
LongestMinutes = Annotated[
    float, typer.Option(help="longer files are left out, before they take memory", min=0.0)
]


@app.command()
def caption(
    files: Annotated[list[Path], typer.Argument(help="sound files: WAV, FLAC, OGG, MP3 …")],
    system: Annotated[
        str, typer.Option(help="a system of params.yaml, or a captioner's folder")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="write a CSV here as well")] = None,
    longest_minutes: LongestMinutes = LONGEST_MINUTES,
    root: Root = None,
) -> None:
    """Caption sound files with a trained system."""
    from earwitness.captioning import CaptioningSystem
    from earwitness.inputs import decodable
    from pipeline.files import writable

    _check_place(out)
    _limit_threads(system, root)
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
        _write_table(out, ("file", "caption", "unsure"), rows)
    _report_failed(failed)


@app.command()
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
    root: Root = None,
) -> None:
    """Find the sound files that a sentence describes, by a retriever, a CLAP or a tagger."""
    from earwitness.inputs import decodable, sound_files
    from pipeline.files import writable

    _check_place(out)
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
        _write_table(out, ("file", "score"), [(name, f"{score:.6f}") for name, score in rows])
    _report_failed([*empty, *failed])


@app.command()
def recipe(
    paper: Annotated[
        str, typer.Argument(help="showcase, edtc, sjtu, wsac …; nothing lists all")
    ] = "",
    dataset: Annotated[
        str,
        typer.Argument(help="soundscapes, clotho, folder …; some papers have one of their own"),
    ] = "",
    root: Annotated[
        Path | None,
        typer.Option(help="where the dataset's files are; with `folder` any recordings of yours"),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENCODER=PATH",
            help="weights of an encoder of the recipe, such as panns=Cnn14.pth; or, as in "
            "yamnet=yamnet.tflite, one encoder in every place. May be given several times",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="the names of a tagger's classes: CSV, text or JSON (docs/encoders.md)"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=VALUE", help="such as training.edtc.epochs=20"),
    ] = None,
    params: Annotated[
        Path | None, typer.Option(help="the file to write; if not given the repository's")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="where the recipes are; if not given the repository's")
    ] = None,
    repository: Root = None,
) -> None:
    """Write a paper's parameters for a dataset into params.yaml; comments are kept.

    With --root or --weights, or a paper's own dataset, it looks first whether the recordings, their
    captions and all weights are there, or can be fetched, and how large that is; what is missing is
    said, and nothing is written.
    """
    from earwitness import recipes
    from earwitness.own import given
    from earwitness.repository import find_repository

    place = find_repository(repository)
    folder = folder or place.root / "recipes"
    params = params or place.params_file
    if not paper:
        print(recipes.listing(folder))
        return
    own = given(root, weights or [], labels, settings or [], place.root)
    recipe = recipes.compose(folder, paper, dataset, own)
    if root or weights or not dataset:
        from earwitness.needs import needed

        about, missing = needed(recipe, place.root, folder, data=root is not None)
        _report_failed(missing)
        print(about)
    recipes.write(recipe, params, folder)
    print(f"{params} is now {paper} on {recipe.dataset}; next: dvc repro")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CSV with columns candidate, caption_1 …")],
    per_clip: Annotated[Path | None, typer.Option(help="write per-clip values here")] = None,
    params: Annotated[
        Path | None, typer.Option(help="its `evaluation` section is used, not the repository's")
    ] = None,
    root: Root = None,
) -> None:
    """Score anyone's captions: corpus values as JSON, per-clip values as CSV."""
    from earwitness import scoring
    from pipeline.config.params import load_params
    from pipeline.files import delivering
    from pipeline.metrics.tables import write_clips

    _check_place(per_clip)
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
    print(json.dumps(scores.corpus, indent=1))


@app.command()
def graph(
    format: Annotated[
        Literal["text", "mermaid"], typer.Option(help="what each job reads, or a picture of it")
    ] = "text",
    root: Root = None,
) -> None:
    """Show which job reads what of which other, as `dvc dag` cannot."""
    from earwitness.graph import draw, read_jobs
    from earwitness.repository import find_repository

    print(draw(read_jobs(find_repository(root).root), format))


@app.command()
def why(
    job: Annotated[str, typer.Argument(help="as DVC names it, such as train_captioner@edtc")],
    root: Root = None,
) -> None:
    """Say why `dvc repro` would run a job again: what differs from the plan it last ran with."""
    from earwitness.repository import find_repository
    from earwitness.why import explain

    print("\n".join(explain(job, find_repository(root).root)))


@app.command()
def doctor(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="only repair what a killed DVC left; `make repro` begins so"),
    ] = False,
    root: Root = None,
) -> None:
    """Say what of Java, SPICE, CUDA, weights and data is there, and how to get the rest."""
    from earwitness.doctor import examine
    from earwitness.repair import repaired
    from earwitness.repository import find_repository

    if repair:
        for found in repaired(find_repository(root).root):
            print(f"repaired  {found}")
        return
    missing = 0
    for finding in examine(find_repository(root)):
        missing += not finding.there
        print(f"{'ok  ' if finding.there else 'MISS'}  {finding.what:<34}  {finding.detail}")
    raise typer.Exit(1 if missing else 0)


def _searching(
    system: str, model: str, labels: Path | None, root: Path | None
) -> RetrievalSystem:
    """What searches: a trained system, or a model that is there."""
    from pipeline.errors import EarwitnessError
    from pipeline.threads import limit

    if not model:
        from earwitness.retrieval import RetrievalSystem

        if labels is not None:
            raise EarwitnessError("--labels is of a tagger; give its file by --model")
        _limit_threads(system, root)
        return RetrievalSystem.load(system or None, root=root)
    from earwitness.spaces import open_space

    if system:
        raise EarwitnessError("--system and --model are two systems; give one of them")
    limit("auto")
    return open_space(model, labels, root=root)


def _limit_threads(system: str, root: Path | None) -> None:
    """As ``hardware.threads`` of the repository says."""
    from earwitness.repository import find_repository, model_folder
    from pipeline.threads import limit

    limit(find_repository(root, model_folder(system or None)).params().hardware.threads)


def _check_place(path: Path | None) -> None:
    """Refuses a path that cannot be written at once, not after the work."""
    from pipeline.files import check_place

    if path is not None:
        check_place(path)


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from pipeline.files import delivering

    with delivering(path) as whole, whole.open("w", encoding="utf-8", newline="") as stream:
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
    """Entry point; see :func:`pipeline.refusals.reported`."""
    show_any_text()
    app()
