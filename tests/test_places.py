"""Where people put a checkout: read-only, without a home, with any name, in any locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from kills import FIRST
from project import Project

from pipeline.config.params import parse_params
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.soundscapes import prepare

ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # else Python makes UTF-8 of LC_ALL=C
READ_ONLY = """
set -e
for folder in "$1" "$2"; do
    mount --bind "$folder" "$folder"
    mount -o remount,bind,ro "$folder"
done
cd "$2"
exec "$3" -c "import {first}; import librosa.core.audio; from matplotlib import pyplot; print('ok')"
"""


def read_only(first: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Python in a read-only environment and checkout, with no home that could be written."""
    hidden = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")
    environment = {
        **{name: value for name, value in os.environ.items() if name not in hidden},
        "HOME": "/proc/nohome", "TMPDIR": str(tmp_path),
    }  # fmt: skip
    script = READ_ONLY.replace("{first}", first)
    return subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "-", sys.prefix, REPOSITORY, sys.executable],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_read_only_checkout_without_a_home_has_caches(tmp_path: Path) -> None:
    before = read_only("os", tmp_path)
    if "no locator available" not in before.stderr:
        pytest.skip(f"numba does not mind here: {before.stderr[-200:]}")
    done = read_only("earwitness", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    assert [*tmp_path.iterdir()] == []  # the caches went with the process


def test_an_ascii_locale_and_letters_in_the_path(tmp_path: Path) -> None:
    """Under DVC: prepare, plan and extract; then the command line."""
    project = Project(tmp_path / "é (2)", FIRST)
    project.environment["LC_ALL"] = "C"
    assert "stage 'extract@soundscapes-logmel'" in project.dvc("repro", "extract")
    written = Manifest.load(project.root / "data/corpora/soundscapes.json")
    settings = parse_params(FIRST).datasets["soundscapes"]
    expected = prepare("soundscapes", settings, tmp_path, Path("again"), progress=False)
    found = [(clip.clip_id, clip.captions) for clip in written.clips]
    assert found == [(clip.clip_id, clip.captions) for clip in expected.clips]
    assert "up to date" in project.earwitness("why", "extract@soundscapes-logmel").stdout
    project.environment |= ASCII
    for command in ("recipe", "graph"):
        done = project.earwitness(command)
        assert done.returncode == 0, done.stderr
    missing = project.earwitness("caption", "Zoë.wav", "--system", "één")
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1
    assert missing.stderr.startswith("error: ")
