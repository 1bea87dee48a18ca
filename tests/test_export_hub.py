"""Exported systems sent to a hub and loaded from it, by huggingface_hub's own client over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_hub import LocalHub, local_hub
from tiny_repository import make_repository

import earwitness
from earwitness.exporting.hub import fetch
from pipeline.errors import EarwitnessError
from tests.conftest import REPOSITORY

SHOW = """
import sys, warnings, earwitness
warnings.simplefilter("ignore")
for name in sys.argv[2:]:
    try:
        found = earwitness.load(name, device="cpu").caption([sys.argv[1]])
        print(found[0].text, found[0].log_prob)
    except earwitness.EarwitnessError as error:
        print("error:", error)
"""


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with local_hub() as hub:
        yield hub


def run(hub: LocalHub, home: Path, *arguments: str) -> str:
    """A process whose hub is this one; in an empty folder, with a cache of its own."""
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_TOKEN": "hf_secret",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    environment.pop("EARWITNESS_REPOSITORY", None)
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "Fetching" not in done.stderr, done.stderr[-3000:]
    return done.stdout


def test_what_is_sent_is_what_is_loaded(hub: LocalHub, tmp_path: Path) -> None:
    """And a file that changed on the hub is refused; nothing but what is listed is fetched."""
    root = tmp_path / "repository"
    root.mkdir()
    make_repository(root)
    sound = root / "sounds/1.wav"
    (expected,) = earwitness.CaptioningSystem.load("alone", root=root, device="cpu").caption(
        [sound]
    )
    said = run(
        hub, tmp_path / "sender", "-m", "earwitness", "export", "alone", str(tmp_path / "folder"),
        "--push-to", "org/mine", "--private", "--repository", str(root),
    )  # fmt: skip
    assert f"{hub.url}/org/mine" in said
    sent = hub.files["org/mine"]
    assert {*sent} == {
        path.relative_to(tmp_path / "folder").as_posix()
        for path in (tmp_path / "folder").rglob("*")
        if path.is_file()
    }
    assert hub.private == {"org/mine": True} and hub.tokens == {"Bearer hf_secret"}
    sent["data/evil.pkl"] = b"not listed"
    hub.asked.clear()
    found = run(hub, tmp_path / "one", "-c", SHOW, str(sound), "hub:org/mine")
    assert found == f"{expected.text} {expected.log_prob}\n"
    assert not any("evil" in path for path in hub.asked)
    weights = "data/models/captioners/heard/model.safetensors"
    sent[weights] = sent[weights][:-1] + bytes([sent[weights][-1] ^ 1])
    refused = run(hub, tmp_path / "two", "-c", SHOW, str(sound), "hub:org/mine", "hub:org/other")
    changed, missing = refused.splitlines()
    assert "model.safetensors: not as it was exported" in changed
    assert missing.startswith("error: hub:org/other: the hub refused (")


@pytest.mark.parametrize("name", ["hub:", "hub:mine", "hub:a/b/c", "hub:../x", "hub:a b/c"])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(EarwitnessError, match=r"no name on a hub; give ORG/NAME"):
        fetch(name)
