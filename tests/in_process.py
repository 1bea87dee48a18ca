"""A pipeline run in this process: DVC's stages in DVC's order, without a process for each.

What stands at the end is a real run but for DVC's own bookkeeping: no ``dvc.lock``, no cache.
"""

from __future__ import annotations

import importlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro

from tests.conftest import REPOSITORY

COPIED = ("dvc.yaml", ".dvc/config", ".dvcignore", "Makefile", "recipes")
# that stages depend on
KEPT = ("corpora", "models/encoders", "models/retrievers", "index/frozen", "models")


def make_project(root: Path, params: dict[str, Any]) -> None:
    """A repository of this tree's stages and recipes, with parameters of its own."""
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    for name in KEPT:
        (root / "data" / name).mkdir(parents=True, exist_ok=True)
    for name in ("pipeline", "stages", "earwitness"):  # on which stages depend
        (root / name).symlink_to(REPOSITORY / name)
    (root / "params.yaml").write_text(json.dumps(params))  # JSON is YAML; in this order


def run_stages(root: Path, last: str = "") -> None:
    """All, as ``dvc repro`` would in a fresh clone; or until the first of the stage ``last``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with Repo(str(root)) as repository:
            stages = plan_repro(repository.index.graph)
            commands = {stage.addressing: stage.cmd for stage in stages}
        for name, command in commands.items():
            python, dash, module, *arguments = shlex.split(command)
            assert (python, dash) == ("python", "-m"), command
            plain = [own for own in arguments if not own.startswith("--")]
            options = {}
            for at, own in enumerate(arguments):
                if own == "--further":
                    options["further"] = True
                elif own.startswith("--"):
                    options[own[2:]] = plain.pop(plain.index(arguments[at + 1]))
            importlib.import_module(module).main(*plain, **options)
            if last and name.startswith(f"{last}@"):
                return
