"""A trained model's folder that was altered: one line, and no memory for sizes that it lacks."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_captioners import make_captioner
from tiny_retrievers import save_retriever

from pipeline.errors import EarwitnessError
from pipeline.trained.captioner import load_captioner
from pipeline.trained.retriever import load_retriever

LEFT = 1 << 30  # bytes that loading may take


@pytest.fixture
def captioner(tmp_path: Path) -> Path:
    folder = tmp_path / "captioner"
    folder.mkdir()
    make_captioner("x", "panns", 6).save(folder, "step\n1\n")
    return folder


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A size that is believed ends in "not enough memory" rather than with the machine."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[5]
    used = int(pages) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + LEFT, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, limits)


def altered(path: Path, keys: tuple[Any, ...], value: Any) -> None:
    content = node = json.loads(path.read_text(encoding="utf-8"))
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("widths",), None),
        (("widths",), []),
        (("widths",), [6, 6]),
        (("widths",), ["6"]),
        (("widths",), [0]),
        (("widths",), [True]),
        (("widths",), [10**9]),  # 64 GB
        (("widths",), [7]),
        (("tokens",), [1, 2, 3, 4]),
        (("tokens", "size"), 10**9),
        (("tokens", "size"), -1),
        (("tokens", "size"), 8),
        (("tokens", "pad"), 2),
        (("tokens", "more"), 2),
        (("tokens",), {}),
    ],
)
def test_an_altered_form_of_a_captioner_is_one_line(
    captioner: Path, little_memory: None, keys: tuple[Any, ...], value: Any
) -> None:
    load_captioner(captioner, "cpu")
    altered(captioner / "model.json", keys, value)
    with pytest.raises(EarwitnessError, match=r"model\.(json|safetensors): ") as raised:
        load_captioner(captioner, "cpu")
    assert "\n" not in str(raised.value) and "memory" not in str(raised.value)


def test_a_vocabulary_of_another_captioner_is_refused(captioner: Path) -> None:
    """A word less, and the last words' captions would end in an IndexError."""
    path = captioner / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    with pytest.raises(EarwitnessError, match=r"its tokenizer .* tokens.*; delete"):
        load_captioner(captioner, "cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(captioner: Path, value: float) -> None:
    path = captioner / "model.safetensors"
    tensors = load_file(path)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path)
    with pytest.raises(EarwitnessError, match=f"{name} has NaN or infinity"):
        load_captioner(captioner, "cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "plan.json"])
def test_a_pipe_in_a_files_place_is_refused(captioner: Path, name: str) -> None:
    (captioner / name).unlink()
    os.mkfifo(captioner / name)
    with pytest.raises(EarwitnessError, match=f"{name}: .*; delete"):
        load_captioner(captioner, "cpu")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("sound",), [6]),
        (("sound",), [6, 0]),
        (("sound",), 6),
        (("text",), []),
        (("text",), [5, 5]),
        (("text",), [10**9]),
        (("sound",), [10**9, 4]),
    ],
)
def test_an_altered_form_of_a_retriever_is_one_line(
    tmp_path: Path, little_memory: None, keys: tuple[Any, ...], value: Any
) -> None:
    save_retriever(tmp_path, "x", ["panns", "logmel"], [6, 4], 5, 8)
    folder = tmp_path / "data/models/retrievers/x/1"
    assert torch.is_tensor(load_retriever(folder, "cpu").model.log_scale)
    altered(folder / "model.json", keys, value)
    with pytest.raises(EarwitnessError, match=r"model\.json: not a retriever's form") as raised:
        load_retriever(folder, "cpu")
    assert "\n" not in str(raised.value) and "memory" not in str(raised.value)
