"""This process's engine, and what a user says of engines, against words and plain loops."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from pipeline.config.params import parse_params
from pipeline.engine import cluster
from pipeline.engine.cluster import check_ray, connected
from pipeline.engine.local import LocalEngine
from pipeline.engine.steps import Steps
from pipeline.engine.throughput import Report
from pipeline.errors import EarwitnessError
from pipeline.planning import PHASES, Context
from pipeline.planning.code import code_digests
from stages import engine, paths
from tests.conftest import REPOSITORY
from tests.tiny import TINY


class Squares(Steps[int, int, int, int]):
    """Of numbers; the ones named fail at their step."""

    def __init__(self, compute: int = -1, finish: int = -1) -> None:
        self.device = torch.device("cpu")
        self.failing = {"compute": compute, "finish": finish}
        self.threads: dict[str, set[int]] = {"compute": set(), "finish": set()}

    def to(self, device: torch.device) -> None:
        self.device = device

    def read(self, item: int) -> int:
        return item

    def compute(self, read: int) -> int:
        return self._did("compute", read)

    def finish(self, output: int) -> int:
        time.sleep(0.01)  # slower than what computes: outputs wait for it
        return self._did("finish", output) ** 2

    def label(self, item: int) -> str:
        return str(item)

    def _did(self, step: str, item: int) -> int:
        self.threads[step].add(threading.get_ident())
        if item == self.failing[step]:
            raise EarwitnessError(f"{step} {item}")
        return item


def run(steps: Squares, count: int) -> tuple[dict[int, int], list[int], str]:
    """What was kept, the numbers that were said to be, and the error."""
    kept: dict[int, int] = {}
    said: list[int] = []
    try:
        for number in LocalEngine().run(steps, range(count), kept.__setitem__, Report(), count):
            assert number in kept
            said.append(number)
    except EarwitnessError as error:
        return kept, said, str(error)
    return kept, said, ""


def test_each_result_is_kept_under_its_own_number() -> None:
    steps = Squares()
    kept, said, error = run(steps, 20)
    assert kept == {number: number**2 for number in range(20)} and not error
    assert said == [*range(20)]
    assert steps.threads["compute"] == {threading.get_ident()}
    assert len(steps.threads["finish"]) == 1 and steps.threads["finish"] != steps.threads["compute"]


def test_what_is_computed_before_an_error_is_kept() -> None:
    assert run(Squares(compute=6), 20)[::2] == ({n: n**2 for n in range(6)}, "compute 6")


def test_the_item_after_one_that_cannot_be_finished_is_not_taken_for_it() -> None:
    """As its values would lie in the other's part, with a right checksum."""
    for _ in range(20):  # the finishing thread may take the next one before the error is seen
        kept, _, error = run(Squares(finish=3), 20)
        assert error == "finish 3" and 3 not in kept
        assert all(value == number**2 for number, value in kept.items())


def test_items_are_taken_only_a_few_ahead() -> None:
    taken: list[int] = []
    work = (taken.append(number) or number for number in range(100))  # type: ignore[func-returns-value]
    for number in LocalEngine().run(Squares(), work, lambda *_: None, Report(), 100):
        assert len(taken) <= number + 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "spark"}, "engine: Input should be 'local' or 'ray'"),
        ({"ray": {"address": "somewhere"}}, "ray.address: give local, auto, HOST:PORT or ray://"),
        ({"ray": {"address": "head:port"}}, "ray.address: give local, auto, HOST:PORT or ray://"),
        ({"ray": {"gpus": 1.5}}, "ray.gpus.*: give a fraction below 1, or a whole number"),
        ({"ray": {"worker": 2}}, "ray.worker: unknown key; did you mean 'workers'?"),
        ({"ray": {"retries": -1}}, "ray.retries: .*greater than or equal to 0"),
    ],
)
def test_a_wrong_setting_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(EarwitnessError, match=message.replace("?", r"\?")):
        parse_params({**TINY, **given})


@pytest.mark.parametrize("address", ["head:6379", "10.0.0.1:6379", "ray://head:10001", "auto"])
def test_addresses_that_ray_takes(address: str) -> None:
    assert parse_params({**TINY, "ray": {"address": address}}).ray.address == address


def test_the_default_parameters_show_all_settings() -> None:
    """``-S`` cannot set what is not there."""
    values = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params = parse_params(values)
    assert values["engine"] == "local" and values["ray"] == params.ray.model_dump(mode="json")


def test_engines_are_in_no_plans_code() -> None:
    digests = code_digests(["stages.extract", "stages.embed", "stages.encode"], REPOSITORY)
    assert "pipeline.features.forward" in digests and "pipeline.trained.encoding_steps" in digests
    assert not [name for name in digests if "engine" in name]


def test_without_ray_it_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _: None)
    params = parse_params({**TINY, "engine": "ray"})
    line = r'^engine: ray is not installed: pip install "earwitness\[ray\]", or set engine to local'
    with pytest.raises(EarwitnessError, match=line):
        PHASES["tagging"](Context(params, {}, REPOSITORY, Path()))
    with pytest.raises(EarwitnessError, match=line), connected(params.ray):
        pass
    check = pytest.raises(EarwitnessError, match=line)
    with check:
        check_ray()


def test_a_stage_asks_params_yaml_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert engine.asked_cluster() is None
    values = {**TINY, "ray": {"address": "head:6379", "gpus": 0.5}}
    with paths.PARAMS.open("w", encoding="utf-8") as stream:
        YAML().dump(values, stream)
    assert engine.asked_cluster() is None
    with paths.PARAMS.open("w", encoding="utf-8") as stream:
        YAML().dump({**values, "engine": "ray"}, stream)
    asked = engine.asked_cluster()
    assert asked is not None and (asked.address, asked.gpus) == ("head:6379", 0.5)


def test_a_cluster_that_does_not_answer_is_one_line() -> None:
    params = parse_params({**TINY, "ray": {"address": "127.0.0.1:1"}})
    line = r"^ray.address 127.0.0.1:1: no answer \(.*refused\); start one by `ray start --head`"
    with pytest.raises(EarwitnessError, match=line), connected(params.ray):
        pass
