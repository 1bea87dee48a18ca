"""Several jobs of one folder at once, under DVC itself: what each waits for is the other."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from earwitness.jobs.graph import JobGraph
from earwitness.jobs.lanes import Said, cards
from earwitness.jobs.repro import repro
from earwitness.jobs.shown import shown
from pipeline.errors import EarwitnessError

WAITS = "touch here.{own}; timeout 60 sh -c 'until test -e here.{other}; do sleep 0.05; done'"
KEEPS = "echo $EARWITNESS_JOBS $CUDA_VISIBLE_DEVICES {name} > out/{name}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs a and b, which end only beside each other, and c; all three go into one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("EARWITNESS_JOBS", raising=False)
    stages = {
        name: {"cmd": f"{command} && {KEEPS.format(name=name)}", "outs": [f"out/{name}"]}
        for name, command in (
            ("a", WAITS.format(own="a", other="b")), ("b", WAITS.format(own="b", other="a")),
            ("c", "true"),
        )
    }  # fmt: skip
    stages["all"] = {"cmd": "cat out/* > all", "deps": ["out"], "outs": ["all"]}
    (tmp_path / "out").mkdir()
    write(tmp_path, stages)
    Repo.init(str(tmp_path), no_scm=True).close()
    return tmp_path


def read(place: Path) -> dict[str, dict[str, object]]:
    stages = YAML(typ="safe").load((place / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert isinstance(stages, dict)
    return stages


def write(place: Path, stages: dict[str, dict[str, object]]) -> None:
    with (place / "dvc.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump({"stages": stages}, stream)


def ends(said: list[Said]) -> dict[str, bool]:
    return {each.name: each.code == 0 for each in said if each.code is not None}


def made(place: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (place / "out").iterdir()}


def test_jobs_run_at_once_in_their_order_and_stand_in_one_lock_file(place: Path) -> None:
    said = [*repro(place, at_once=2)]
    assert ends(said) == {"a": True, "b": True, "c": True, "all": True}, said
    assert said[-1] == Said("all", "", 0)  # it waited for the others
    # each knew of the other before that was there
    assert made(place) == {name: f"2 {name}\n" for name in "abc"}
    assert (place / "all").read_text() == "2 a\n2 b\n2 c\n"
    assert "Running stage 'a':" in [each.line for each in said if each.name == "a"]
    after = [each.line for each in repro(place)]  # DVC itself
    assert {line for line in after if "didn't change" in line} == {
        f"Stage '{name}' didn't change, skipping" for name in ("a", "b", "c", "all")
    }


def test_what_did_not_change_is_not_even_looked_at_by_a_dvc_of_its_own(place: Path) -> None:
    [*repro(place, at_once=2)]
    assert [*repro(place, at_once=2)] == []
    stages = read(place)
    stages["c"]["cmd"] = "echo other > out/c"
    write(place, stages)
    again = [*repro(place, at_once=2)]
    assert ends(again) == {"c": True, "all": True}
    assert (place / "all").read_text() == "2 a\n2 b\nother\n"
    # a job that always runs holds nothing else up, and is not begun twice
    stages["c"] |= {"always_changed": True}
    write(place, stages)
    assert ends([*repro(place, at_once=2)]) == {"c": True}


def test_targets_are_jobs_stages_or_outputs_with_all_before_them(place: Path) -> None:
    stages = read(place)
    stages["c"] = {"foreach": ["x", "y"], "do": {"cmd": "echo ${item} > c.${item}",
                                                 "outs": ["c.${item}"]}}  # fmt: skip
    write(place, stages)
    assert set(JobGraph(place, ["out/b"]).waits) == {"b"}
    assert set(JobGraph(place, ["c"]).waits) == {"c@x", "c@y"}
    assert JobGraph(place, ["all", "c@x"]).waits == {
        "a": frozenset(), "b": frozenset(), "c@x": frozenset(), "all": frozenset("ab"),
    }  # fmt: skip
    with pytest.raises(EarwitnessError, match="d: no job, stage or output of"):
        JobGraph(place, ["d"])
    assert JobGraph(place).after(["a"]) == {"all"}
    (place / "dvc.yaml").write_text("stages: [")
    with pytest.raises(EarwitnessError, match="DVC cannot read it"):
        JobGraph(place)


def test_after_a_failure_no_more_are_begun_and_what_runs_goes_on(place: Path) -> None:
    stages = read(place)
    # b ends well, after a has failed; c would be next
    stages["a"]["cmd"] = "until test -e here.b; do sleep 0.05; done; touch here.a; exit 3"
    stages["b"]["cmd"] = str(stages["b"]["cmd"]).replace(" && echo", " && sleep 1 && echo")
    write(place, stages)
    said = [*repro(place, at_once=2)]
    assert ends(said) == {"a": False, "b": True}, said
    assert list(made(place)) == ["b"]


def test_left_before_its_end_nothing_goes_on(place: Path) -> None:
    stages = read(place)
    # a job in a shell's background has Ctrl-C switched off
    code = (
        "import os, signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "print(os.getpid(), flush=True); time.sleep(99)"
    )
    stages["a"]["cmd"] = stages["b"]["cmd"] = f"exec {sys.executable} -c '{code}'"
    write(place, stages)
    running = repro(place, at_once=2)
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


def test_jobs_take_the_gpus_in_turn(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    [*repro(place, ["a", "b"], at_once=2)]
    assert sorted(text.split()[1] for text in made(place).values()) == ["4", "7"]
    for path in (*place.glob("here.*"), *place.glob("out/*")):
        path.unlink()
    [*repro(place, ["a", "b"], at_once=2, spread=False)]  # from DVC's cache now
    assert len(made(place)) == 2
    assert cards() == ["4", "7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool = place / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: x)'\necho 'GPU 1: NVIDIA H100'\n")
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    assert cards() == ["0", "1"]


def test_a_log_has_what_a_job_said_in_one_piece(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = read(place)
    stages["a"]["cmd"] = f"{stages['a']['cmd']}; echo first of a; sleep 0.5; echo second of a"
    stages["b"]["cmd"] = f"{stages['b']['cmd']}; echo first of b; sleep 0.5; echo second of b"
    write(place, stages)
    assert shown(repro(place, at_once=2)) == []
    out = capsys.readouterr().out
    for name in "ab":
        assert f"Running stage '{name}':\n" in out
        assert re.search(
            f"  first of {name}\n  second of {name}\n{name} is done, after 0:0[0-9]\n", out
        )
    assert "git add" not in out and "Updating lock file" not in out
    assert shown(repro(place, at_once=2)) == []
    assert capsys.readouterr().out == "Data and pipelines are up to date.\n"
    (place / "all").unlink()
    assert shown(repro(place, at_once=2)) == []
    assert capsys.readouterr().out == "1 job taken from DVC's cache\n"
    stages["c"]["cmd"] = "echo what is wrong; exit 1"
    write(place, stages)
    assert shown(repro(place, ["c"], at_once=2), quiet=True) == ["c"]
    assert "  what is wrong\n" in capsys.readouterr().out


def test_on_a_terminal_a_bar_passes_and_a_line_stays(place: Path) -> None:
    stages = read(place)
    code = (
        "import sys, time; from tqdm import tqdm\n"
        "for _ in tqdm(range(3), 'epochs', disable=None, mininterval=0): time.sleep(0.05)\n"
        "print('it is trained: ü')"
    )
    (place / "job.py").write_text(code, encoding="utf-8")
    stages["c"]["cmd"] = f"{sys.executable} job.py && touch out/c"
    write(place, stages)
    said = [*repro(place, ["c"], at_once=2, bars=True)]
    assert not any("100%" in each.line for each in said if not each.passing)
    assert any("epochs:  67%" in each.line for each in said if each.passing), said
    assert "it is trained: ü" in [each.line for each in said if not each.passing]
    assert not any("\x1b" in each.line for each in said)
    assert not any(each.passing for each in repro(place, ["all"], at_once=2))
