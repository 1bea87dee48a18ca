"""Several jobs of one folder at once, under DVC itself: what each waits for is the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from earwitness.tables.side_by_side import Said, Work, repro
from earwitness.tables.workplace import Workplace

WAITS = "touch here.{own}; timeout 60 sh -c 'until test -e here.{other}; do sleep 0.05; done'"


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """Jobs a and b, which end only beside each other, and c; all three go into one."""
    place = Workplace(tmp_path, "run")
    place.tree.mkdir(parents=True)
    stages = {
        name: {"cmd": f"{command} && echo $EARWITNESS_JOBS {name} > out/{name}",
               "outs": [f"out/{name}"]}
        for name, command in (
            ("a", WAITS.format(own="a", other="b")), ("b", WAITS.format(own="b", other="a")),
            ("c", "true"),
        )
    }  # fmt: skip
    stages["all"] = {"cmd": "cat out/* > all", "deps": ["out"], "outs": ["all"]}
    (place.tree / "out").mkdir()
    write(place, stages)
    Repo.init(str(place.tree), no_scm=True).close()
    return place


def write(place: Workplace, stages: dict[str, object]) -> None:
    with (place.tree / "dvc.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump({"stages": stages}, stream)


def works(*names: str) -> list[Work]:
    return [Work(name, ("--single-item", name)) for name in names]


def ends(said: list[Said]) -> dict[str, bool]:
    return {each.name: each.code == 0 for each in said if each.code is not None}


def test_jobs_run_at_once_and_stand_in_one_lock_file(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EARWITNESS_JOBS", raising=False)
    said = [*repro(workplace, works("a", "b", "c"), 2)]
    assert ends(said) == {"a": True, "b": True, "c": True}, said
    # each knew of the other before that was there
    assert {p.name: p.read_text() for p in (workplace.tree / "out").iterdir()} == {
        name: f"2 {name}\n" for name in "abc"
    }
    assert "Running stage 'a':" in [each.line for each in said if each.name == "a"]
    after = [*repro(workplace, [Work("", ("all",))])]
    skipped = {each.line for each in after if "didn't change" in each.line}
    assert skipped == {f"Stage '{name}' didn't change, skipping" for name in "abc"}
    assert (workplace.tree / "all").read_text() == "2 a\n2 b\n2 c\n"


def test_after_a_failure_no_more_are_begun_and_what_runs_goes_on(workplace: Workplace) -> None:
    file = workplace.tree / "dvc.yaml"
    stages = YAML(typ="safe").load(file.read_text(encoding="utf-8"))["stages"]
    # b ends well, after a has failed; c would be next
    stages["a"]["cmd"] = "until test -e here.b; do sleep 0.05; done; touch here.a; exit 3"
    stages["b"]["cmd"] = stages["b"]["cmd"].replace(" && echo", " && sleep 1 && echo")
    write(workplace, stages)
    said = [*repro(workplace, works("a", "b", "c"), 2)]
    assert ends(said) == {"a": False, "b": True}, said
    assert [p.name for p in (workplace.tree / "out").iterdir()] == ["b"]


def test_left_before_its_end_nothing_goes_on(workplace: Workplace) -> None:
    file = workplace.tree / "dvc.yaml"
    stages = YAML(typ="safe").load(file.read_text(encoding="utf-8"))["stages"]
    # a job in a shell's background has Ctrl-C switched off
    code = (
        "import os, signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "print(os.getpid(), flush=True); time.sleep(99)"
    )
    stages["a"]["cmd"] = stages["b"]["cmd"] = f"exec {sys.executable} -c '{code}'"
    write(workplace, stages)
    running = repro(workplace, works("a", "b"), 2)
    found: dict[str, int] = {}
    while len(found) < 2:
        said = next(running)
        if said.line.isdigit():
            found[said.name] = int(said.line)
    for process in found.values():  # as Ctrl-C in a terminal reaches them too
        os.kill(process, 2)
    running.close()
    for process in found.values():
        assert subprocess.run(["ps", "-p", str(process)], capture_output=True).returncode == 1
