"""Exported systems sent to a hub and loaded from it, by huggingface_hub's own client over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from local_hub import LocalHub, local_hub
from tiny_repository import make_repository
from typer.testing import CliRunner

import earwitness
from earwitness.cli import app
from earwitness.exporting.hub import fetch
from pipeline.errors import EarwitnessError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """In the place of the public one; the cache is empty, the token is known."""
    with local_hub() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


def test_what_is_sent_is_what_is_loaded(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a file that changed on the hub is refused; nothing but what is listed is fetched."""
    root, folder = tmp_path / "repository", tmp_path / "folder"
    root.mkdir()
    make_repository(root)
    sound = root / "sounds/1.wav"
    system = earwitness.CaptioningSystem.load("alone", root=root, device="cpu")
    expected = system.caption([sound])
    done = CliRunner().invoke(
        app, ["export", "alone", str(folder), "--push-to", "org/mine", "--private",
              "--repository", str(root)],
    )  # fmt: skip
    assert done.exit_code == 0 and f"{hub.url}/org/mine" in done.stdout, done.output
    sent = hub.files["org/mine"]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert sent == {path.relative_to(folder).as_posix(): path.read_bytes() for path in written}
    assert hub.private == {"org/mine": True} and "Bearer hf_secret" in hub.tokens
    sent["data/evil.pkl"] = b"not listed"
    hub.asked.clear()
    found = earwitness.CaptioningSystem.load("hub:org/mine", device="cpu")
    assert found.caption([sound]) == expected
    assert not any("evil" in path for path in hub.asked)
    done = CliRunner().invoke(app, ["caption", str(sound), "--system", "hub:org/mine"])
    assert done.exit_code == 0 and expected[0].text in done.stdout
    weights = "data/models/captioners/heard/1/model.safetensors"
    sent[weights] = sent[weights][:-1] + bytes([sent[weights][-1] ^ 1])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    with pytest.raises(EarwitnessError, match=r"model\.safetensors: not as it was exported"):
        earwitness.load("hub:org/mine")


def test_what_is_not_on_the_hub_is_one_line(hub: LocalHub, tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"hub:org/other: the hub refused \(") as caught:
        earwitness.load("hub:org/other")
    assert "\n" not in str(caught.value)
    hub.files["org/model"] = {"manifest.json": b'{"files": ["../x"]}'}
    with pytest.raises(EarwitnessError, match=r"manifest\.json: "):
        earwitness.load("hub:org/model")


@pytest.mark.parametrize("name", ["hub:", "hub:mine", "hub:a/b/c", "hub:../x", "hub:a b/c"])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(EarwitnessError, match=r"no name on a hub; give ORG/NAME"):
        fetch(name)
