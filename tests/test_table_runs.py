"""A table under DVC itself, killed on the way and resumed, beside a workspace that it leaves be."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from project import Project
from ruamel.yaml import YAML
from tiny import TINY
from typer.testing import CliRunner

from earwitness.cli import app
from earwitness.tables.making import TableJob
from tests.in_process import make_project, run_stages

PAPER = {
    "kind": "paper",
    "encoders": {
        "logmel": {"module": "logmel", "weights": "none", "sample_rate": 16000, "mels": 16,
                   "fmax": 8000.0},
    },
    "seq2seq": TINY["seq2seq"],
    "training": {"words": {**TINY["training"]["words"], "validation_share": None}},
    "captioners": {
        "one": {"architecture": "seq2seq", "dataset": "$dataset", "training": "words",
                "features": "logmel"},
        "two": {"architecture": "seq2seq", "dataset": "$dataset", "training": "words",
                "features": "logmel", "set": {"seq2seq.decoder": "gru"}},
    },
    "decoding": {"max_length": 8},
    "systems": {"one": {"captioners": "one"}, "two": {"captioners": "two"}},
    "test_sets": ["$dataset"],
    "evaluation": {"spice": False, "sbert": None, "fluency": None, "resamples": 50},
}  # fmt: skip
DATASET = {
    "kind": "dataset",
    "datasets": {
        "soundscapes": {"layout": "soundscapes", "development": 8, "validation": 3,
                        "evaluation": 4, "seconds": [1.0, 1.5]},
    },
}  # fmt: skip
TABLE = {
    "paper": "own",
    "recipe": "small-paper",
    "dataset": "small-sounds",
    "datasets": ["small-sounds"],
    "columns": {"CIDEr": "cider_d", "BLEU 1": "bleu_1"},
    "base": "one",
    "rows": {
        "one": {"label": "One", "system": "one", "paper": {"small-sounds": [40.0, None]}},
        "two": {"label": "Two", "system": "two"},
    },
}
WORK = Path("data/partial/tables/small-paper-small-sounds")
THERE = [["one", "there;"], ["two", "there;"]]
COMMAND = ("table", "own-1", "--seeds", "1", "2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With a table of two rows; nothing is made."""
    project = Project(tmp_path_factory.mktemp("table"), TINY)
    for name, values in (
        ("small-paper", PAPER), ("small-sounds", DATASET), ("tables/own-1", TABLE)
    ):  # fmt: skip
        with (project.root / "recipes" / f"{name}.yaml").open("w", encoding="utf-8") as stream:
            stream.write("# Own, Table 1.\n")
            YAML().dump(values, stream)
    project.commit("a table")
    return project


def start(project: Project, *options: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, with what it says of its progress."""
    return subprocess.Popen(
        [sys.executable, "-c", "from earwitness.cli import main; main()", *COMMAND[:2], *options],
        cwd=project.root,
        env={**project.environment, "PYTHONPATH": str(project.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        # a shell's background job, as these tests may be, has it switched off
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def said_until(process: subprocess.Popen[str], begin: str) -> str:
    """The first line that begins so."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line.strip())
        if line.startswith(begin):
            return said[-1]
    raise AssertionError(said)


def still_there(project: Project) -> list[str]:
    """Processes that work in the project."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(project.root):
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


def trained(project: Project) -> list[str]:
    """The trainings of the latest run of the table, by DVC's own words."""
    log = (project.root / WORK / "log.txt").read_text(encoding="utf-8")
    return re.findall(r"Running stage 'train_captioner@(.+)'", log)


def state(project: Project) -> tuple[str, str, bytes, bool]:
    """What a table must not touch: git's view of the workspace, and what DVC has there."""
    root = project.root
    return (
        project.git("status", "--porcelain", "--untracked-files=all"),
        project.git("rev-parse", "HEAD"),
        (root / "params.yaml").read_bytes(),
        (root / "dvc.lock").exists() or (root / "data/models/captioners/one").exists(),
    )


def test_a_killed_table_goes_on_and_leaves_the_workspace_be(project: Project) -> None:
    before = state(project)
    process = start(project, "--seeds", "1", "2", "--jobs", "2")
    first = said_until(process, "train_captioner@")
    second = said_until(process, "train_captioner@")  # the first has not ended
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {first, second} <= {
        f"train_captioner@one-{seed} (one, seed {seed}); {more} more trainings after it"
        for seed in (1, 2)
        for more in (2, 3)
    }
    deadline = time.monotonic() + 60
    while still_there(project) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not still_there(project)  # neither DVC nor its stage outlives it
    dry = project.earwitness(*COMMAND, "--dry")
    assert "4 trainings, 0 of them ended here" in dry.stdout, dry.stdout + dry.stderr

    again = project.earwitness(*COMMAND, "--format", "json", "--jobs", "2")
    assert again.returncode == 0, again.stderr
    assert sorted(trained(project)) == ["one-1", "one-2", "two-1", "two-2"]
    began = [line.split()[0] for line in again.stderr.splitlines() if "more trainings" in line]
    done = re.findall(r"^(\S+) is done, after \d+:", again.stderr, re.MULTILINE)
    assert {*began} < {*done} and len(done) == 4, again.stderr
    assert again.stderr.index(began[1]) < again.stderr.index(f"{done[0]} is done")
    assert state(project) == before
    result = json.loads(again.stdout)["rows"]["one"]["result"]
    whole = uninterrupted(project)
    tree = project.root / WORK / "tree"
    for name in (
        "data/models/captioners/one/2/model.safetensors",
        "data/predictions/soundscapes/one.csv",
        "metrics/soundscapes/one.json",
        "intervals/soundscapes/one.json",
    ):
        assert (tree / name).read_bytes() == (whole / name).read_bytes(), name
    of_dvc = json.loads((whole / "intervals/soundscapes/one.json").read_text(encoding="utf-8"))
    assert result["metrics"] == of_dvc["metrics"]
    assert (result["clips"], result["seeds"]) == (of_dvc["clips"], of_dvc["seeds"]) == (4, [1, 2])


def uninterrupted(project: Project) -> Path:
    """A run of row one from nothing, by the same stages in this process."""
    whole = project.root.parent / "whole"
    run = TableJob(project.root, "own-1", only=["one"], seeds=[1, 2]).runs[0]
    make_project(whole, run.params.model_dump(mode="json"))
    run_stages(whole)
    return whole


def test_what_is_there_is_not_run_again(project: Project) -> None:
    log = project.root / WORK / "log.txt"
    before = log.stat().st_mtime_ns
    done = project.earwitness(*COMMAND)
    assert done.returncode == 0 and done.stderr == ""
    assert "One" in done.stdout and "(40.0)" in done.stdout
    assert log.stat().st_mtime_ns == before
    assert [line.split()[:2] for line in foreseen(project)] == THERE


def test_a_run_is_an_experiment_of_dvc(project: Project) -> None:
    (name,) = re.findall(r"\[(own-1-small-sounds-\w+)\]", project.dvc("exp", "list"))
    shown = json.loads(project.dvc("metrics", "diff", "HEAD", name, "--json"))
    found = shown["metrics/soundscapes/one.json"]["cider_d"]["new"]
    made = json.loads(project.earwitness(*COMMAND, "--format", "json").stdout)
    result = made["rows"]["one"]["result"]
    assert found == pytest.approx(result["metrics"]["cider_d"]["mean"], abs=1e-6)
    assert result["experiment"] == name


def test_rows_are_compared_with_the_base_row(project: Project) -> None:
    """As `earwitness compare` does in the run's own folder; with one row Holm changes nothing."""
    rows = json.loads(project.earwitness(*COMMAND, "--format", "json").stdout)["rows"]
    one, two = rows["one"]["result"], rows["two"]["result"]
    base = f"{one['settings_digest']}-{one['code_digest']}"
    assert one["base"] == two["base"] == base and one["against"] == {}
    tree = str(project.root / WORK / "tree")
    done = project.earwitness("compare", "two", "one", "--json", "--repository", tree)
    (pair,) = json.loads(done.stdout)["pairs"]
    assert {*two["against"]} == {*pair["metrics"]}
    for metric, found in two["against"].items():
        known = pair["metrics"][metric]
        assert found["p"] == pytest.approx(known["p"], abs=1e-6)
        difference = two["metrics"][metric]["mean"] - one["metrics"][metric]["mean"]
        assert found["difference"] == pytest.approx(difference, abs=2e-6)
        assert found["clear"] == (known["p"] < 0.05)


def test_the_users_own_run_gets_the_models_from_the_cache(project: Project) -> None:
    mine = (project.root / "params.yaml").read_bytes()
    (project.root / "params.yaml").write_bytes(
        (project.root / WORK / "tree" / "params.yaml").read_bytes()
    )
    ran = project.run("repro", "evaluate@soundscapes")
    (project.root / "params.yaml").write_bytes(mine)
    assert not {each for each in ran if each.startswith(("train_captioner", "extract", "decode"))}


def test_rows_are_stale_where_settings_or_code_changed(project: Project) -> None:
    recipe = project.root / "recipes" / "small-paper.yaml"
    kept = recipe.read_text(encoding="utf-8")
    recipe.write_text(kept.replace("max_length: 8", "max_length: 9"), encoding="utf-8")
    module = project.root / "pipeline" / "metrics" / "cider_d.py"
    code = module.read_text(encoding="utf-8")
    module.write_text(f"{code}\n\nEXTRA = 1\n", encoding="utf-8")
    lines = foreseen(project)
    shown = project.earwitness(*COMMAND, "--stale", "ok")
    recipe.write_text(kept, encoding="utf-8")
    module.write_text(f"# a comment\n{code}", encoding="utf-8")  # changes no result
    fresh = foreseen(project)
    module.write_text(code, encoding="utf-8")
    stale = "stale: decoding.max_length: 8 → 9; code pipeline/metrics/cider_d.py changed"
    assert stale in lines[0] and stale in lines[1] and lines[2].startswith("run small-paper")
    assert shown.returncode == 0 and "One †" in shown.stdout
    assert [line.split()[:2] for line in fresh] == THERE


def foreseen(project: Project) -> list[str]:
    """What `--dry` prints."""
    return list(TableJob(project.root, "own-1", seeds=[1, 2]).foresee())


def test_a_table_is_published_whole(project: Project) -> None:
    page = project.root / "docs" / "results.md"
    kept = page.read_text(encoding="utf-8")
    marks = "<!-- table own-1 small-sounds -->\n<!-- end -->\n"
    page.write_text(f"{kept}\n{marks}", encoding="utf-8")
    here = ("--repository", str(project.root))
    part = CliRunner().invoke(app, [*COMMAND, "--only", "one", "--write", *here])
    assert part.exit_code == 1 and "error: --write is of whole tables" in part.output
    done = project.earwitness(*COMMAND, "--write", "--format", "markdown")
    assert done.returncode == 0, done.stderr
    assert done.stdout in page.read_text(encoding="utf-8")
    beside = project.root / "tables" / "own-1-small-sounds.md"
    assert beside.read_text(encoding="utf-8") == f"# Own, Table 1.\n\n{done.stdout}"
    shutil.rmtree(project.root / "data" / "partial")  # as in a clone
    assert [line.split()[:2] for line in foreseen(project)] == THERE
    page.write_text(kept, encoding="utf-8")


def test_ctrl_c_ends_in_one_line_that_says_how_to_go_on(project: Project) -> None:
    process = start(project, "--seeds", "3")
    said_until(process, "look")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted: run it again to go on"
    assert not still_there(project)


def test_a_stage_that_fails_is_one_line(project: Project) -> None:
    module = project.root / "stages" / "plan.py"
    code = module.read_text(encoding="utf-8")
    failing = 'raise SystemExit("error: a full disk; free some")\n'
    module.write_text(failing, encoding="utf-8")
    done = project.earwitness("table", "own-1", "--seeds", "5")
    module.write_text(code, encoding="utf-8")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    place = "plan@extraction of small-paper-small-sounds"
    assert last.startswith(f"error: {place}: a full disk; free some; all that it said is in ")
    assert last.endswith("log.txt") and (project.root / WORK / "log.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["own-2"], "error: no table 'own-2'; did you mean 'own-1'?"),
        (["own-1", "mars"], "error: table own-1: no dataset 'mars'; known: small-sounds"),
        (["own-1", "small-sounds", "mars"], "error: mars: one dataset a table"),
        (["own-1", "--only", "ona"], "error: table own-1: no row 'ona'; did you mean 'one'?"),
        (["own-1", "--seeds", "1,x"], "error: --seeds x: not a seed"),
        (["own-1", "--seeds", "1", "1"], "error: --seeds 1: given twice"),
        (["own-1", "--out", "/dev/null/x.tex"], "error: /dev/null/x.tex"),
    ],
)
def test_what_cannot_be_is_one_line(project: Project, arguments: list[str], message: str) -> None:
    here = ["--dry", "--repository", str(project.root)]
    done = CliRunner().invoke(app, ["table", *arguments, *here])
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1
