"""What is there and what is not: ``earwitness doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from earwitness.commands.shared import Json, Root, report_failed

if TYPE_CHECKING:
    from earwitness.repository import Repository


def doctor(
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="get what can be got: Java, SPICE's models, datasets with an address, weights on "
            "a hub; says first how large each is. Repairs as well",
        ),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="only repair what a killed DVC left; `make repro` begins so"),
    ] = False,
    as_json: Json = False,
    root: Root = None,
) -> None:
    """Say what of Java, SPICE, CUDA, weights and data is there, and how to get the rest.

    Exit code 1 where something is missing.

    Examples: `earwitness doctor`, `earwitness doctor --fix`
    """
    from earwitness.doctor import examine
    from earwitness.repository import find_repository

    repository = find_repository(root)
    if fix or repair:
        _repair(repository)
        if fix:
            _fix(repository)
        return
    findings = [*examine(repository)] if as_json else examine(repository)
    missing = 0
    for finding in findings:
        missing += not finding.there
        if not as_json:
            print(f"{'ok  ' if finding.there else 'MISS'}  {finding.what:<34}  {finding.detail}")
    if as_json:
        found = [finding._asdict() for finding in findings]
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
    raise typer.Exit(1 if missing else 0)


def _repair(repository: Repository) -> None:
    from earwitness.repair import repaired

    for found in repaired(repository.root):
        print(f"repaired  {found}")


def _fix(repository: Repository) -> None:
    """Each download that fails is one line, and the others go on."""
    from earwitness.downloads import downloads
    from pipeline.errors import EarwitnessError

    wanted = [*downloads(repository, repository.params())]
    for each in wanted:
        print(f"will get  {each}", flush=True)
    failed = []
    for each in wanted:
        try:
            each.get()
            print(f"got       {each.what}", flush=True)
        except EarwitnessError as error:
            failed.append(f"{each.what}: {error}")
    if not wanted:
        print("nothing to get: all that has an address is here")
    report_failed(failed)
