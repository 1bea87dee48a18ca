from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.planning.code import code_digest

FILES = {
    "__init__.py": "",
    "models/__init__.py": "from toy.models import a, b",
    "models/a.py": '"""A."""\nfrom toy.layers import dense\n\ndef f(x):\n    return dense(x)\n',
    "models/b.py": "def g(x):\n    return x\n",
    "layers.py": "def dense(x):\n    return 2 * x\n",
    "cli.py": "import toy.models.a\n",
    "config.py": "layers = 3\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "toy"


def digest(package: Path) -> str:
    return code_digest(["models.a"], package, frozenset({"models"}))


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        (
            "models/a.py",
            FILES["models/a.py"].replace('"""A."""', '"""Another docstring."""'),
            False,
        ),
        ("models/a.py", "# a comment\n" + FILES["models/a.py"], False),
        ("models/a.py", FILES["models/a.py"].replace("dense(x)", "dense(x) + 1"), True),
        ("layers.py", FILES["layers.py"].replace("2", "3"), True),  # imported by what is imported
        ("models/b.py", "def g(x):\n    return -x\n", False),  # only the registry imports it
        ("cli.py", "print()\n", False),
        ("config.py", "layers = 4\n", False),  # settings reach a job through its plan
    ],
)
def test_the_digest_changes_with_the_code_that_runs(
    package: Path, name: str, text: str, changes: bool
) -> None:
    before = digest(package)
    (package / name).write_text(text)
    assert (digest(package) != before) is changes


def test_imports_inside_functions_count(package: Path) -> None:
    (package / "models/a.py").write_text(
        "def f(x):\n    from toy import layers\n    return layers\n"
    )
    before = digest(package)
    (package / "layers.py").write_text("def dense(x):\n    return 4 * x\n")
    assert digest(package) != before
