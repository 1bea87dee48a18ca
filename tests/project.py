"""A project under DVC itself, to run commands in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import REPOSITORY
from forked_stages import python_folder
from ruamel.yaml import YAML


class Project:
    """A copy of this working tree, committed, with parameters of its own.

    Args:
        forked: its stages are processes that have torch already (tests/forked_stages.py).
    """

    def __init__(self, root: Path, params: dict[str, Any], forked: bool = False) -> None:
        self.root = root / "project"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(root / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(root / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(root / "system"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.invalid",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.invalid",
        }
        if forked:
            self.environment["PATH"] = f"{python_folder()}{os.pathsep}{self.environment['PATH']}"
        listed = self.git("ls-files", "-co", "--exclude-standard", folder=REPOSITORY).splitlines()
        for name in listed:
            if (REPOSITORY / name).is_file() and not name.startswith(
                ("metrics/", "intervals/", "dvc.lock")
            ):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, self.root / name)
        with (self.root / "params.yaml").open("w", encoding="utf-8") as stream:
            YAML().dump(params, stream)
        self.git("init", "-q")
        self.commit("start")

    def edit_params(self, changes: dict[str, Any]) -> None:
        yaml = YAML()
        path = self.root / "params.yaml"
        values = yaml.load(path.read_text(encoding="utf-8"))
        values.update(changes)
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(values, stream)

    def try_dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
        )

    def dvc(self, *arguments: str) -> str:
        done = self.try_dvc(*arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def run(self, *arguments: str) -> set[str]:
        """The stages that a ``dvc`` command ran, but for the look, which it always runs."""
        return self.stages(self.dvc(*arguments))

    def stages(self, shown: str) -> set[str]:
        """As :meth:`run`, of what a ``dvc`` command showed."""
        ran = set(re.findall(r"Running stage '(.+?)'", shown))
        assert "look" in ran
        return ran - {"look"}

    def earwitness(
        self, *arguments: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command that a person types, run on this copy's code; in its root, or a folder."""
        return subprocess.run(
            [sys.executable, "-c", "from earwitness.cli import main; main()", *arguments],
            cwd=folder or self.root,
            env={**self.environment, "PYTHONPATH": str(self.root)},
            capture_output=True,
            text=True,
            timeout=900,
        )

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message, "--allow-empty")

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder or self.root,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
