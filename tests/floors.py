"""The oldest versions that pyproject.toml allows, and the encoders' tests on them.

``python -m tests.floors FOLDER`` makes an environment in FOLDER with exactly those versions, and
runs the tests of encoders and towers in it. torch, whose floor is gigabytes, and what no floor is
about come from the environment that runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = ("test_encoders_*.py", "test_towers.py")
PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")  # as `make test`


def floors(project: Path = REPOSITORY / "pyproject.toml") -> dict[str, str]:
    """Each dependency and the oldest version that is allowed.

    Raises:
        ValueError: a dependency has no floor; it is named.
    """
    found = {}
    for line in tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]:
        requirement = Requirement(line)
        versions = [each.version for each in requirement.specifier if each.operator == ">="]
        if len(versions) != 1:
            raise ValueError(f"{project}: {requirement.name} has no floor")
        found[requirement.name] = versions[0]
    return found


def make(folder: Path) -> Path:
    """An environment in ``folder`` with the floors, above this one; its Python."""
    venv.create(folder, clear=True, symlinks=True)  # without pip: this environment's is used
    python = folder / "bin" / "python"
    place = ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = subprocess.run([python, *place], capture_output=True, text=True, check=True)
    this = sysconfig.get_path("purelib")
    Path(own.stdout.strip(), "above.pth").write_text(f"{this}\n", encoding="utf-8")
    lines = [f"{name}=={version}\n" for name, version in floors().items() if name != "torch"]
    wanted = folder / "floors.txt"
    wanted.write_text("".join(lines), encoding="utf-8")
    # compiled when imported: most files never are
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--requirement", wanted]
    subprocess.run(install, check=True)
    return python


def main(folder: Path) -> int:
    """Makes the environment and runs the tests in it; pytest's exit code."""
    python = make(folder.resolve())
    tests = sorted(str(path) for each in TESTS for path in (REPOSITORY / "tests").glob(each))
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    command = [python, "-m", "pytest", *PARALLEL, *tests]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
