"""What classes are called: files of names as they are published, and encoders that have them."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from onnx_models import tagger
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from pipeline.config.encoders import EncoderConfig
from pipeline.config.params import parse_params
from pipeline.encoders.labels import class_names, read_labels
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.encoders.tagging import save_tagging
from pipeline.errors import EarwitnessError
from pipeline.planning.checks import check_weights
from tests.conftest import REPOSITORY

NAMES = ("Male speech, man speaking", "dog", "dog", "Rain")
FILES = {
    "audioset.csv": "index,mid,display_name\n0,/m/1,\"Male speech, man speaking\"\n"
    "2,/m/3,dog\n1,/m/2,dog\n3,/m/4,Rain\n",
    "yamnet.csv": "index,mid,display_name\r\n0,/m/1,\"Male speech, man speaking\"\r\n"
    "1,/m/2,dog\r\n2,/m/3,dog\r\n3,/m/4,Rain\r\n",
    "plain.csv": "Name,group\n\"Male speech, man speaking\",1\ndog,1\ndog,2\nRain,3\n",
    "lines.txt": "Male speech, man speaking\ndog\n dog \nRain\n\n",
    "lines": "\ufeffMale speech, man speaking\r\ndog\r\ndog\r\nRain",
    "list.json": json.dumps(NAMES),
    "numbered.json": json.dumps({"0": NAMES[0], "3": "Rain", "1": "dog", "2": "dog"}),
    "config.json": json.dumps({"model_type": "ast", "id2label": dict(enumerate(NAMES))}),
}  # fmt: skip


def encoder(**values: Any) -> EncoderConfig:
    return TypeAdapter(EncoderConfig).validate_python({"weights": "./w", **values})


@pytest.mark.parametrize("name", FILES)
def test_every_published_form_of_a_list(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8", newline="")
    assert read_labels(tmp_path / name) == NAMES


def test_indices_by_name(tmp_path: Path) -> None:
    (tmp_path / "label2id.json").write_text('{"rain": 1, "dog": 0}')
    assert read_labels(tmp_path / "label2id.json") == ("dog", "rain")


def test_audiosets_own_table(shared_data: Path) -> None:
    path = shared_data / "weights" / "audioset_labels.csv"
    names = read_labels(path)
    with path.open(encoding="utf-8", newline="") as stream:
        assert list(names) == [row[2] for row in csv.reader(stream)][1:]
    assert len(names) == 527 and names[0] == "Speech"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "index,mid\n0,/m/1\n", "no column of names; call it one of display_name, label"),
        ("a.csv", "index,name\n0,dog\n2,rain\n", "indices of classes are to be 0 … 1, each once"),
        ("a.csv", "index,name\n0,dog\n1,\n", "class 1 has no name"),
        ("a.txt", "", "has no names"),
        ("a.txt", "dog\n\nrain\n", "class 1 has no name"),
        ("a.json", "[]", "has no names"),
        ("a.json", '{"0": "dog", "2": "rain"}', "indices of classes are to be 0 … 1"),
        ("a.json", "[1, 2]", "is no list of names"),
        ("a.json", '{"x": [1]}', "indices of classes"),
        ("a.json", "3", "is no list of names"),
        ("a.json", "[", "not JSON"),
    ],
)
def test_what_is_no_list_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(EarwitnessError, match=message) as raised:
        read_labels(tmp_path / name)
    assert name in str(raised.value) and "\n" not in str(raised.value)


def test_a_tagger_without_names(tmp_path: Path) -> None:
    """And encoders without classes."""
    tagger(tmp_path / "a.onnx")
    path = {"weights": str(tmp_path / "a.onnx")}
    for values, message in (
        ({"module": "onnx", "output": "probabilities", **path}, "no names; set labels to a file"),
        ({"module": "onnx", "output": "frames", **path}, "output frames has no classes; set it to"),
        ({"module": "yamnet", "output": "both", **path}, "both has no classes; set it to scores"),
        ({"module": "yamnet", "output": "scores", **path}, "no names; set labels to a file"),
        ({"module": "events", "weights": "hub"}, "events hub: its classes have no names; set"),
        ({"module": "clap", **path}, "clap: gives no probabilities of classes; take onnx, vit"),
    ):
        with pytest.raises(EarwitnessError, match=message):
            class_names(encoder(**values))


def test_names_of_a_file_or_beside_the_model(tmp_path: Path) -> None:
    tagger(tmp_path / "a.onnx")
    (tmp_path / "lines.txt").write_text(FILES["lines.txt"])
    values = {"module": "onnx", "weights": str(tmp_path / "a.onnx"), "output": "probabilities"}
    labels = {"labels": str(tmp_path / "lines.txt")}
    assert class_names(encoder(**values, **labels)) == NAMES
    for module, output in (("yamnet", "scores"), ("events", None)):
        own = {"module": module, **({"output": output} if output else {}), **labels}
        assert class_names(encoder(**own)) == NAMES
    (tmp_path / "config.json").write_text(FILES["config.json"])
    assert class_names(encoder(**values)) == NAMES
    unnamed = {"id2label": {str(n): f"LABEL_{n}" for n in range(4)}}  # as transformers fills it in
    (tmp_path / "config.json").write_text(json.dumps(unnamed))
    with pytest.raises(EarwitnessError, match="no names"):
        class_names(encoder(**values))


def test_the_list_inside_a_litert_model(tmp_path: Path) -> None:
    """As its metadata writer appends it."""
    path = tmp_path / "yamnet.tflite"
    path.write_bytes(b"TFL3" * 99)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("yamnet_label_list.txt", FILES["lines.txt"])
    assert class_names(encoder(module="yamnet", output="scores", weights=str(path))) == NAMES


def test_what_the_tagging_stage_trained(tmp_path: Path) -> None:
    params = {
        "datasets": {"d": {"layout": "soundscapes"}},
        "encoders": {"e": {"module": "vggish", "channels": 2, "hidden": 8, "weights": "tagging"}},
        "tagging": {"dataset": "d", "encoders": ["e"]},
    }
    settings = parse_params(params).encoders["e"]
    path = tmp_path / "model.safetensors"
    save_tagging(tagging_model(settings, 3), path, settings, ["dog", "rain", "bell"])
    events = encoder(module="events", weights="tagging:e")
    assert class_names(events, path) == ("dog", "rain", "bell")
    assert build_sound_encoder(events, path).width == 3
    (tmp_path / "two.txt").write_text("dog\nrain\n")
    short = encoder(module="events", weights="tagging:e", labels=str(tmp_path / "two.txt"))
    with pytest.raises(EarwitnessError, match=r"two.txt: names 2 classes, but .* has 3"):
        build_sound_encoder(short, path)


def test_yamnets_labels_must_be_521(shared_data: Path) -> None:
    weights = shared_data / "weights"
    if not (weights / "yamnet.tflite").exists():
        pytest.skip("yamnet.tflite is not on this machine")
    values = {"module": "yamnet", "weights": str(weights / "yamnet.tflite"), "output": "scores"}
    labels = str(weights / "audioset_labels.csv")
    with pytest.raises(EarwitnessError, match=r"names 527 classes, but .* has 521"):
        build_sound_encoder(encoder(**values, labels=labels))


def test_the_examples_of_the_docs() -> None:
    page = (REPOSITORY / "docs" / "encoders.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    loaded = [YAML(typ="safe").load(block) for block in blocks]
    found = [parse_params({"datasets": {}, **each}) for each in loaded if "encoders" in each]
    modules = {each.module for params in found for each in params.encoders.values()}
    assert modules >= {"onnx", "transformers_audio"}


def test_planning_refuses_labels_that_are_not_there(tmp_path: Path) -> None:
    tagger(tmp_path / "a.onnx")
    entry = {"module": "onnx", "weights": "./a.onnx", "output": "probabilities"}
    params = parse_params({"datasets": {}, "encoders": {"ced": {**entry, "labels": "names.csv"}}})
    with pytest.raises(EarwitnessError, match=r"encoders\.ced\.labels: names\.csv is not there"):
        check_weights(params, tmp_path)
    (tmp_path / "names.csv").write_text("name\ndog\n")
    check_weights(params, tmp_path)
