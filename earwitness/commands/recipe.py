"""A paper's parameters: ``earwitness recipe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earwitness.commands.shared import Root, report_failed


def recipe(
    paper: Annotated[
        str, typer.Argument(help="showcase, edtc, sjtu, wsac …; nothing lists all")
    ] = "",
    dataset: Annotated[
        str,
        typer.Argument(help="soundscapes, clotho, folder …; some papers have one of their own"),
    ] = "",
    root: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="where the dataset's files are, s3://… too (docs/storage.md); with `folder` any "
            "recordings of yours",
        ),
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
    blind: Annotated[
        Path | None,
        typer.Option(help="recordings without captions: one more test set, `blind`, not scored"),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="CSV with `caption`, below --blind: what those recordings are found by"),
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

    Examples: `earwitness recipe` (lists all), `earwitness recipe edtc clotho`,
    `earwitness recipe edtc folder --root ~/recordings --weights yamnet=yamnet.tflite`
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
    own = given(root, weights or [], labels, settings or [], place.root, blind, queries)
    recipe = recipes.compose(folder, paper, dataset, own)
    if root or weights or not dataset:
        from earwitness.needs import needed

        about, missing = needed(recipe, place.root, folder, data=root is not None)
        report_failed(missing)
        print(about)
    recipes.write(recipe, params, folder)
    print(f"{params} is now {paper} on {recipe.dataset}; next: dvc repro")
