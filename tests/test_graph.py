"""The graph of jobs, and the difference between two plans in words; under DVC: test_pipeline.py."""

from __future__ import annotations

from typing import Any

from earwitness.graph import Job, draw, upstream
from earwitness.why import differences

JOBS = {
    "prepare@a": Job(None, ("pipeline/corpora",), ("data/corpora/a.json",), ()),
    "extract@a-x": Job(
        "p/x.json", ("data/corpora/a.json",), ("data/features/a/x.h5",), ("prepare@a",)
    ),
    "train@m": Job(
        "p/m.json",
        ("data/corpora/a.json", "data/features/a/x.h5"),
        ("data/models/m",),
        ("prepare@a", "extract@a-x"),
    ),
    "embed@a-t": Job("p/t.json", ("data/corpora/a.json",), ("data/t.h5",), ("prepare@a",)),
}


def test_the_picture_leaves_out_what_a_longer_way_implies_and_the_text_does_not() -> None:
    drawn = draw(JOBS, "mermaid").splitlines()
    assert drawn[0] == "flowchart LR"
    assert drawn[1:5] == [f'    job{n}["{name}"]' for n, name in enumerate(JOBS)]
    edges = {tuple(line.split(" --> ")) for line in drawn[5:]}
    assert edges == {("    job0", "job1"), ("    job1", "job2"), ("    job0", "job3")}
    assert "train@m\n    reads prepare@a, extract@a-x" in draw(JOBS, "text")


def test_upstream_is_in_order_and_without_what_stands_beside() -> None:
    assert upstream(JOBS, "train@m") == ["prepare@a", "extract@a-x"]
    assert upstream(JOBS, "prepare@a") == []


def test_plans_differ_in_words() -> None:
    old: dict[str, Any] = {
        "name": "m",
        "code": {"pipeline.models.a": "1", "pipeline.losses.gone": "5"},
        "inputs": {"data/corpora/a.json": "c", "data/features/a/x.h5": "f"},
        "model": {"fuser": {"layers": 1}, "twin": None},
        "features": ["x"],
    }
    new = {
        **old,
        "code": {"pipeline.models.a": "2", "pipeline.models.b": "3"},
        "inputs": {"data/corpora/a.json": "c", "data/features/a/x.h5": "g", "data/t.h5": "t"},
        "model": {"fuser": {"layers": 3}, "twin": {"weight": 1.0}},
    }
    assert list(differences(old, new, JOBS)) == [
        "code pipeline/losses/gone.py is no longer run",
        "code pipeline/models/a.py changed",
        "code pipeline/models/b.py is run now",
        "input data/features/a/x.h5 changed (made by extract@a-x)",
        "input data/t.h5 is read now (made by embed@a-t)",
        "model.fuser.layers: 1 → 3",
        "model.twin: null → not there",
        "model.twin.weight: not there → 1.0",
    ]
    assert list(differences(old, old, JOBS)) == []
