"""Write a trained system as one folder, or send it to a hub: ``earwitness export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earwitness.commands.shared import Quiet, Root
from earwitness.commands.systems import Seed


def export(
    name: Annotated[str, typer.Argument(help="a system, or a retrieval system, of params.yaml")],
    folder: Annotated[Path, typer.Argument(help="is made, with all that the system needs")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="take the place of an earlier export")
    ] = False,
    without_weights: Annotated[
        bool,
        typer.Option(
            "--no-weights",
            help="leave out weights that params.yaml names by a path, where their licence does not "
            "allow to pass them on; the folder says which file is to be put where",
        ),
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="a retrieval system's towers as ONNX too")
    ] = False,
    push_to: Annotated[str, typer.Option(help="then send it to the hub, as ORG/NAME")] = "",
    private: Annotated[
        bool, typer.Option("--private", help="with --push-to: for nobody else to see")
    ] = False,
    seed: Seed = None,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Write a trained system as one folder that works without this repository.

    earwitness export edtc shared/edtc

    earwitness caption street.wav --system shared/edtc
    """
    from earwitness.exporting.hub import check_name, push
    from earwitness.exporting.writing import export
    from pipeline.errors import EarwitnessError

    if private and not push_to:
        raise EarwitnessError("--private is of --push-to; give both, or neither")
    if push_to:
        check_name(push_to)
    made = export(
        name, folder, root=root, overwrite=overwrite, weights=not without_weights, onnx=onnx,
        seed=seed,
    )  # fmt: skip
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"{folder}: {name}, {size / 1e6:,.1f} MB; earwitness.load({str(folder)!r}) takes it")
    if push_to:
        print(push(made, push_to, private))
