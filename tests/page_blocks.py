"""The blocks of README and docs, their command lines, and whether a command's parser takes one."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from dvc.cli import DvcParserError, parse_args

from earwitness.cli import app
from pipeline.config.params import Params
from pipeline.config.section import Section
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
ELSEWHERE = {("api.md", "python"): "test_api.py"}  # and what runs them
FENCE = re.compile(r"(?:<!-- (.+?) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
PARSED = "parsed only: "
SHELL = re.compile(r"[|<>`]|\$\(|\bfor\b")  # what needs a shell; bash runs it
PLAIN = (".", "cd", "git", "pip", "mkdir", "cp", "unzip", "curl", "export")  # only split in words
UsageError: Any = typer.BadParameter.__base__  # click's, which newer Typers carry themselves


class Block(NamedTuple):
    page: Path
    line: int
    mark: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Of a page, in its order: commands and Python, but for what another test runs."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark, language, body = match.groups()
        if language in ("sh", "python") and (page.name, language) not in ELSEWHERE:
            line = text.count("\n", 0, match.start(2)) + 1
            found.append(Block(page, line, mark or "", language, body))
    return found


def commands(block: Block) -> Iterator[str]:
    """Its command lines, without comments; those joined by ``&&`` are two."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            whole = line if SHELL.search(shlex.join(words)) else shlex.join(words)
            yield from re.split(r" '?&&'? ", whole)


def expanded(arguments: list[str], folder: Path) -> Iterator[str]:
    """As a shell expands ``recordings/*.wav``."""
    for each in arguments:
        found = sorted(folder.glob(each)) if "*" in each else []
        yield from (str(path.relative_to(folder)) for path in found)
        if not found:
            yield each


def refused(command: str) -> str | None:
    """Why its program would not take a command line; None: it would."""
    program, *arguments = shlex.split(command)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parse(Path(program).name, arguments)
    except (UsageError, DvcParserError, SystemExit, AssertionError) as error:
        return f"{error} {said.getvalue()}".strip() or type(error).__name__
    return None


def parse(program: str, arguments: list[str]) -> None:
    if program == "earwitness":
        parse_ours(arguments)
    elif program == "dvc":
        for setting in getattr(parse_args(arguments), "set_param", None) or ():
            check_setting(setting)
    elif program == "make":
        call = ["make", "-n", *arguments]
        done = subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif program == "python":
        assert arguments[0] == "-m" and importlib.util.find_spec(arguments[1]), arguments
    elif program == "torchrun":
        from torch.distributed.run import parse_args as torchrun

        given = torchrun(arguments)
        assert given.module and importlib.util.find_spec(given.training_script), arguments
    elif program == "ray":
        from ray.scripts.scripts import cli

        cli.commands[arguments[0]].make_context(arguments[0], arguments[1:])
    else:
        assert program in PLAIN, f"what is {program}?"


def parse_ours(arguments: list[str]) -> None:
    known: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    name, *rest = arguments
    if name == "--help":
        return
    assert name in known, f"no command {name}"
    before = dict(os.environ)  # --quiet sets a variable
    try:
        known[name].make_context(name, rest)
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_setting(setting: str) -> None:
    """``fuser.layers=3``: such a section, and such a key in it."""
    section, *keys = setting.partition("=")[0].lstrip("+~").split(".")
    assert section in Params.model_fields, f"no section {section}"
    kind = Params.model_fields[section].annotation
    for key in keys:
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            return  # entries that a user names
        assert key in kind.model_fields, f"no {key} in {section}"
        kind = kind.model_fields[key].annotation
