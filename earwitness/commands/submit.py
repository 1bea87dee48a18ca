"""A challenge team's files: ``earwitness submit``; see docs/challenge.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earwitness.commands.shared import Quiet, Root, report_failed
from earwitness.commands.systems import Seed

if TYPE_CHECKING:
    from earwitness.submission.rules import Kind

submit = typer.Typer(no_args_is_help=True, help="Write and check DCASE's files of a run.")

Systems = Annotated[list[str], typer.Argument(help="systems of params.yaml, four at most")]
Out = Annotated[Path, typer.Option(help="the folder to write; it is new, or of a submission")]
Dataset = Annotated[
    str | None, typer.Option(help="the test set; if not given the one that is blind")
]
Year = Annotated[int | None, typer.Option(help="whose rules; if not given the newest task's")]
TeamFile = Annotated[
    Path | None,
    typer.Option("--team", help="authors and more; if not given submission.yaml, if it is there"),
]
Author = Annotated[
    str | None, typer.Option(help="last name of the corresponding author, in labels")
]
Institute = Annotated[str | None, typer.Option(help="its abbreviation, in labels")]
Measured = Annotated[
    bool,
    typer.Option("--measure/--no-measure", help="run each system on a few clips for what it costs"),
]


@submit.command()
def captioning(
    systems: Systems,
    out: Out,
    dataset: Dataset = None,
    year: Year = None,
    team: TeamFile = None,
    author: Author = None,
    institute: Institute = None,
    measure: Measured = True,
    seed: Seed = None,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Write captions of a blind test set as DCASE's captioning task asks for them.

    Example: earwitness submit captioning edtc ensemble --out submission
    """
    signed = author, institute
    _write("captioning", systems, out, dataset, year, team, signed, measure, seed, root)


@submit.command()
def retrieval(
    systems: Systems,
    out: Out,
    dataset: Dataset = None,
    year: Year = None,
    team: TeamFile = None,
    author: Author = None,
    institute: Institute = None,
    measure: Measured = True,
    seed: Seed = None,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Write the clips of each query of a blind test set as DCASE's retrieval task asks for them.

    Example: earwitness submit retrieval cnn10-minilm --out submission
    """
    signed = author, institute
    _write("retrieval", systems, out, dataset, year, team, signed, measure, seed, root)


@submit.command()
def check(
    folder: Annotated[Path, typer.Argument(help="of one team's files in one task, anyone's")],
    files: Annotated[
        Path | None, typer.Option(help="the challenge's table of the set, with file_name")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="the challenge's table of queries, with caption")
    ] = None,
) -> None:
    """Check the files of a submission against the rules; every problem is a line.

    Example: earwitness submit check submission --files set.csv
    """
    from earwitness.submission.check import GivenSet, problems
    from earwitness.submission.given import given_files, given_queries

    given = GivenSet(given_files(files), given_queries(queries))
    report_failed(problems(folder, given))
    if files is None:
        print("note: give --files, and --queries of retrieval, to compare with the set itself")
    print(f"{folder}: all is as the rules ask")


def _write(
    kind: Kind,
    systems: list[str],
    out: Path,
    dataset: str | None,
    year: int | None,
    team: Path | None,
    signature: tuple[str | None, str | None],
    measure: bool,
    seed: int | None,
    root: Path | None,
) -> None:
    from earwitness.repository import find_repository
    from earwitness.submission.rules import rules_of
    from earwitness.submission.team import FILE, read_team
    from earwitness.submission.write import try_to_submit
    from pipeline.threads import limit

    rules = rules_of(kind, year)
    repository = find_repository(root)
    limit(repository.params().hardware.threads)
    said = read_team(team, repository.root)
    own = {"author": signature[0], "institute": signature[1]}
    said = said.model_copy(update={field: value for field, value in own.items() if value})
    done = try_to_submit(rules, systems, dataset, out, said, repository, measure, seed)
    for system, costs in done.costs.items():
        print(f"{system}: {costs.in_words()}")
    nothing = f"{out}: nothing is written; what is missing goes into {FILE} (docs/challenge.md)"
    report_failed([*done.problems, nothing] if done.problems else [])
    print(f"{out}: {', '.join(done.files)}")
    print(f"compare the meta files with the template of {rules.page} before you send them")
