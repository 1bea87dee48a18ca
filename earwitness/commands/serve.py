"""A local page and a JSON API: ``earwitness serve``."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from earwitness.commands.shared import Quiet, Root, limit_threads
from earwitness.commands.systems import Captioner, Seed

if TYPE_CHECKING:
    from earwitness.serving.limits import Limits


def serve(
    index: Annotated[
        Path | None, typer.Option(help="a folder to search, indexed by `earwitness index`")
    ] = None,
    system: Captioner = "",
    seed: Seed = None,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: this machine alone; 0.0.0.0: the network too")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one", min=0, max=65535)] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="a name of this machine that browsers may use")
    ] = None,
    max_mb: Annotated[float, typer.Option(help="largest upload, in MB", min=0.001, max=1e6)] = 50,
    longest_minutes: Annotated[float, typer.Option(help="longest sound", min=0.0)] = 10,
    timeout: Annotated[
        float, typer.Option(help="seconds for a request, upload and answer", min=0.1)
    ] = 60,
    queue: Annotated[
        int, typer.Option(help="requests at once; others are told to try again", min=1)
    ] = 64,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Caption and search in the browser, and by a JSON API, on this machine.

    Examples: earwitness serve; earwitness serve --index recordings --port 8100
    """
    from earwitness.serving.limits import Limits, keep_memory_small

    keep_memory_small()
    limits = Limits(
        upload_bytes=int(max_mb * (1 << 20)),
        longest_minutes=longest_minutes,
        timeout=timeout,
        queue=queue,
    )
    os.environ["TQDM_DISABLE"] = "1"  # a server has no progress; tqdm reads it when it is imported
    _serve(index, system, seed, (host, port), allow_host or [], limits, root)


def _serve(
    index: Path | None,
    system: str,
    seed: int | None,
    place: tuple[str, int],
    names: list[str],
    limits: Limits,
    root: Path | None,
) -> None:
    _check_installed()
    import earwitness
    from earwitness.serving.desk import Desk
    from earwitness.serving.server import address, is_local, listen, serve

    with listen(*place) as listening:
        limit_threads(system, root)
        found: Any = None
        if index is not None:
            open_index: Any = earwitness.open_index
            found = open_index(index, root=root)
        captioner = earwitness.CaptioningSystem.load(system or None, root=root, seed=seed)
        desk = Desk(captioner, found, limits, _name(system, root))
        desk.warm_up()
        gc.freeze()  # else each collection, and the end, would look through all that is loaded
        if not is_local(listening):
            typer.echo(
                f"warning: all who reach {place[0]}:{place[1]} can use this server; there is no "
                "password", err=True,
            )  # fmt: skip
        searched = f", {len(desk.files)} files indexed" if found is not None else ""
        typer.echo(f"{address(listening)}  (Ctrl-C ends it{searched})")
        serve(desk, listening, [place[0], *names])


def _name(system: str, root: Path | None) -> str:
    """What people call the system: the first of params.yaml if none is named."""
    from earwitness.repository import find_repository, model_folder

    folder = model_folder(system or None)
    if folder is not None:
        return folder.name
    return system or next(iter(find_repository(root).params().systems))


def _check_installed() -> None:
    from importlib.util import find_spec

    from pipeline.errors import EarwitnessError

    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if not find_spec(name)]
    if missing:
        raise EarwitnessError(f"serve needs {', '.join(missing)}: pip install 'earwitness[serve]'")
