"""The options that say what captions, and what embeds sound and text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Captioner = Annotated[
    str,
    typer.Option(
        help="a system of params.yaml, a captioner's folder, an exported folder, or hub:ORG/NAME"
    ),
]
System = Annotated[
    str,
    typer.Option(
        help="a retrieval system of params.yaml, a retriever's folder, an exported folder, or "
        "hub:ORG/NAME"
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="that its models were trained with; if not given, the first", min=0),
]
Model = Annotated[
    str,
    typer.Option(
        help="in its place, with nothing trained: a CLAP (laion/clap-htsat-unfused, or its "
        "folder), or a tagger (.onnx, or YAMNet's .tflite) with --labels"
    ),
]
Labels = Annotated[
    Path | None, typer.Option(help="the names of a tagger's classes: CSV, text or JSON")
]
