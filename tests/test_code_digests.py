"""The digests of a job's code change with what it runs, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.planning.code import code_digests

FILES = {
    "pipeline/models/__init__.py": "from pipeline.models import a, b",
    "pipeline/models/a.py": '"""A."""\nfrom pipeline.layers import dense\n\ndef f(x):\n'
    "    return dense(x)\n",
    "pipeline/models/b.py": "def g(x):\n    return x\n",
    "pipeline/layers.py": "def dense(x):\n    return 2 * x\n",
    "pipeline/config/model.py": "layers = 3\n",
    "stages/train.py": "from pipeline.config import model\nfrom stages import paths\n",
    "stages/paths.py": "DATA = 'data'\n",
    "earwitness/cli.py": "import pipeline.models.a\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digests(root: Path) -> dict[str, str]:
    modules = ["stages.train", "pipeline.models.a"]
    return code_digests(modules, root, frozenset({"pipeline.models"}))


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("pipeline/models/a.py", FILES["pipeline/models/a.py"].replace("A.", "Another."), None),
        ("pipeline/models/a.py", "# a comment\n" + FILES["pipeline/models/a.py"], None),
        (
            "pipeline/models/a.py",
            FILES["pipeline/models/a.py"].replace("dense(x)", "dense(x) + 1"),
            "pipeline.models.a",
        ),
        # imported by what is imported
        ("pipeline/layers.py", "def dense(x):\n    return 3 * x\n", "pipeline.layers"),
        ("pipeline/models/b.py", "def g(x):\n    return -x\n", None),  # only the registry's
        ("stages/train.py", FILES["stages/train.py"] + "SIZE = 3\n", "stages.train"),
        ("stages/paths.py", "DATA = 'elsewhere'\n", None),
        ("earwitness/cli.py", "print()\n", None),
        ("pipeline/config/model.py", "layers = 4\n", None),  # reaches a job through its plan
    ],
)
def test_they_change_with_the_code_that_runs(
    root: Path, name: str, text: str, changes: str | None
) -> None:
    before = digests(root)
    assert list(before) == ["pipeline.layers", "pipeline.models.a", "stages.train"]
    (root / name).write_text(text)
    after = digests(root)
    assert {module for module in before if before[module] != after[module]} == (
        {changes} if changes else set()
    )


def test_imports_inside_functions_count(root: Path) -> None:
    (root / "pipeline/models/a.py").write_text(
        "def f(x):\n    from pipeline import layers\n    return layers\n"
    )
    before = digests(root)
    (root / "pipeline/layers.py").write_text("def dense(x):\n    return 4 * x\n")
    assert digests(root) != before


def test_a_module_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"no module pipeline\.models\.c"):
        code_digests(["pipeline.models.c"], root)
