"""Every command line of README and docs: run as a reader would, in a small trained repository.

A block that needs a hub, a GPU, recordings or hours stands behind a comment in the page's source,
``<!-- parsed only: why -->``; its commands are still read by their own programs' parsers. Files
that the pages name are made here (FILES).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from tiny import EDTC, TINY, WORDS
from typer.testing import CliRunner

from earwitness.cli import app
from earwitness.graph import AHEAD
from earwitness.repository import VARIABLE
from tests.conftest import REPOSITORY
from tests.in_process import make_project, run_stages
from tests.page_blocks import PAGES, PARSED, SHELL, Block, blocks, commands, expanded, refused

# other exit codes: something is missing on this machine; two systems differ
MAY_END = {"doctor": (0, 1), "compare": (0, 3, 4)}
PARAMS: dict[str, Any] = TINY | {
    "encoders": {name: TINY["encoders"][name] for name in ("panns", "logmel")},
    "retrievers": {
        "cnn10-minilm": TINY["retrievers"]["cnn10-minilm"],
        "frozen-minilm": TINY["retrievers"]["frozen"],
    },
    "adapted": {},
    "spaces": {},
    "encoded": ["cnn10-minilm"],
    "training": {
        "edtc": {**TINY["training"]["edtc"], "epochs": 1},
        "words": {**TINY["training"]["words"], "epochs": 1, "average_epochs": 1},
    },
    "captioners": {"edtc": EDTC, "transformer": WORDS, "gru": WORDS},
    "finetuned": {},
    "systems": {
        "edtc": {"captioners": ["edtc"]},
        "ensemble": {"captioners": ["transformer", "gru"], "combine": "probs"},
    },
    "retrieval_systems": {
        "cnn10-minilm": {"retrievers": ["cnn10-minilm"]},
        "retrieval-ensemble": {"retrievers": ["cnn10-minilm", "frozen-minilm"]},
    },
    "decoding": {"max_length": 12},
}


def _sound(path: Path) -> None:
    time = np.arange(16000) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * time), 16000)


def _captions(path: Path) -> None:
    path.write_text(
        "candidate,caption_1,caption_2\na dog barks,A dog is barking,The dog barks\n"
        "rain falls,It rains,Rain falls on a roof\n",
        encoding="utf-8",
    )


FILES: dict[str, Callable[[Path], None]] = {  # that the pages name; .mp3 and .flac are such files
    "street.wav": _sound,
    "birds.mp3": _sound,
    "birds.wav": _sound,
    "dog.wav": _sound,
    "concert.flac": _sound,
    "recordings/gull.wav": _sound,
    "recordings/harbour.flac": _sound,
    "recordings/night/owl.wav": _sound,
    "captions.csv": _captions,
}


BLOCKS = [block for page in PAGES for block in blocks(page)]
READ = [block for block in BLOCKS if block.mark.startswith(PARSED)]
RUN = [block for block in BLOCKS if not block.mark.startswith(PARSED)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("docs") / "project"
    make_project(root, PARAMS)
    run_stages(root)
    return root


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained repository with the files that the pages name; the current folder."""
    root = tmp_path / "project"
    shutil.copytree(trained, root, symlinks=True)
    for name, make in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make(root / name)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in RUN), ids=lambda p: p.stem)
def test_what_a_page_says_runs(page: Path, project: Path) -> None:
    """In its order, as what a block makes may be what the next one reads."""
    names: dict[str, Any] = {}
    for block in RUN:
        if block.page == page:
            assert not block.mark, f"{block}: unknown mark {block.mark!r}"
            if block.language == "python":
                exec(compile(block.text, str(block), "exec"), names)
            else:
                for command in commands(block):
                    run(command, block, project)


def run(command: str, block: Block, project: Path) -> None:
    program, *arguments = shlex.split(command)
    if program in (".", "cd"):  # the environment and the folder are there
        return
    if SHELL.search(command):
        code, said = in_bash(command, project)
    elif program == "earwitness":
        result = CliRunner().invoke(app, [*expanded(arguments, project)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"{block}: {command}") from result.exception
        code, said = result.exit_code, result.output
    else:
        pytest.fail(f"{block}: {command}: not run here; mark the block '{PARSED}why'")
    assert code in MAY_END.get(arguments[0], (0,)), f"{block}: {command}: {said[-2000:]}"


def in_bash(command: str, folder: Path) -> tuple[int, str]:
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    script = tools / "earwitness"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m earwitness "$@"\n')
    script.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("block", READ, ids=str)
def test_what_is_not_run_is_read_by_its_own_parser(block: Block) -> None:
    if block.language == "python":
        compile(block.text, str(block), "exec")
        return
    for command in commands(block):
        assert (reason := refused(command)) is None, f"{block}: {command}: {reason}"


def test_the_pages_have_commands_and_the_parsers_would_notice() -> None:
    assert len(RUN) >= 10 and len(READ) >= 10
    assert sum(block.language == "python" for block in RUN) >= 2
    assert refused("earwitness search dog recordings --top 3") is None
    assert refused("dvc exp run --queue -S 'fuser.layers=1,3'") is None
    for command in (
        "earwitness search dog recordings --topp 3",
        "earwitness search dog recordings --top many",
        "earwitness captions street.wav",
        "dvc exp run -S fuser.layerz=3",
        "dvc repro --dryy",
        "make reprod",
        "sudo rm",
    ):
        assert refused(command) is not None, command


def test_each_page_is_in_the_site_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    """Strict: a page that the menu lacks, a link or an anchor that is none, is an error."""
    call = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict"]
    done = subprocess.run(
        [*call, "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = re.compile(r"""<(?:script|img|iframe|source)[^>]+src=["\']?(https?:)?//""")
    styles = re.compile(r"""<link[^>]+rel=["\']?(?:stylesheet|preconnect)[^>]+(https?:)?//""")
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert {"index.html", "parameters.html", "recipes.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not loaded.search(text) and not styles.search(text), page
    parameters = (tmp_path / "site/parameters.html").read_text(encoding="utf-8")
    row = re.search(r"<tr>\s*<td><code>momentum</code></td>(.*?)</tr>", parameters, re.DOTALL)
    assert row and "EDTC eq. 4" in row[1] and "<code>0.95</code>" in row[1] and "≥ 0, ≤ 1" in row[1]


def test_links_of_the_readme_lead_somewhere() -> None:
    readme = REPOSITORY / "README.md"
    for target in re.findall(r"\]\(([^)#]+)", readme.read_text(encoding="utf-8")):
        assert (readme.parent / target).exists(), target


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {f"DVC_{kind}_DIR": str(folder / ".dvc/tmp") for kind in ("SITE_CACHE", "GLOBAL_CONFIG")}
    call = [sys.executable, "-m", "dvc", *arguments]
    given = {**os.environ, **own, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(call, cwd=folder, env=given, capture_output=True, text=True, check=False)


def why() -> list[str]:
    result = CliRunner().invoke(app, ["why"])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_what_dvc_md_says_of_a_fresh_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should this fail one day as DVC's own dry run succeeds, the page has to say so."""
    make_project(tmp_path, PARAMS)
    monkeypatch.chdir(tmp_path)
    failed = dvc(tmp_path, "repro", "--dry")
    assert failed.returncode != 0 and "No such file or directory" in failed.stderr
    forced = dvc(tmp_path, "repro", "--dry", "--force")
    assert forced.returncode == 0, forced.stderr
    named = set(re.findall(r"Running stage '(.+?)'", forced.stdout))
    ours = {name for name in named if name.partition("@")[0] not in AHEAD}
    *lines, last = why()
    assert {line.split()[1].rstrip(":") for line in lines} == ours
    assert all(line.startswith("runs ") for line in lines)
    assert last == f"0 of {len(ours)} jobs are up to date"


def test_why_says_what_a_setting_would_run_and_what_stands_behind(project: Path) -> None:
    assert dvc(project, "commit", "--force").returncode == 0
    (line,) = why()
    assert re.fullmatch(r"(\d+) of \1 jobs are up to date", line)
    text = (project / "params.yaml").read_text(encoding="utf-8")
    changed = text.replace('"reduced": 8', '"reduced": 4')  # of EDTC's FUSER
    (project / "params.yaml").write_text(changed, encoding="utf-8")
    runs, page, *behind, _up_to_date = why()
    assert runs == "runs      train_captioner@edtc-1: model.fuser.reduced: 8 → 4"
    assert page == "runs      report: parameter fuser: modified"  # it shows them all
    names = [line.split()[2].rstrip(":") for line in behind]
    jobs = [f"{stage}@soundscapes" for stage in ("evaluate", "rank")]
    assert names == ["decode@soundscapes-edtc", *jobs]
    assert all(line.endswith(": after train_captioner@edtc-1") for line in behind)


EXAMPLE = re.compile(r"`(earwitness \w[^`]*)`")
WITH_EXAMPLES = ("compare", "doctor", "graph", "recipe", "score", "summary", "why")


def test_the_examples_of_the_help_are_ones() -> None:
    """Of every command that has some; those of WITH_EXAMPLES must."""
    known: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in known.items():
        text = " ".join((command.help or "").split())
        found = EXAMPLE.findall(text.partition("Examples: ")[2])
        assert found or name not in WITH_EXAMPLES, name
        for example in found:
            assert refused(example) is None, f"{name}: {example}: {refused(example)}"
