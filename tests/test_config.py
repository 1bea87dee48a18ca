from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from pipeline.config import load_params, parse_params, with_settings
from pipeline.errors import EarwitnessError


def values(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "datasets": {"synthetic": {"layout": "soundscapes"}},
        "encoders": {"panns": {"module": "panns"}},
        "captioners": {
            "edtc": {
                "architecture": "edtc",
                "dataset": "synthetic",
                "features": ["panns"],
                "twin": False,
            }
        },
    }
    return base | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusr": {}}, "fusr: unknown key; did you mean 'fuser'?"),
        ({"fuser": {"layer": 3}}, "fuser.layer: unknown key; did you mean 'layers'?"),
        (
            {"encoders": {"panns": {"module": "panns", "mel": 3}}},
            "encoders.panns.mel: unknown key; did you mean 'mels'?",
        ),
        ({"test_sets": ["synthetc"]}, "'synthetc' is not in datasets; did you mean 'synthetic'?"),
        ({"fuser": {"layers": -1}}, "fuser.layers: "),
        (
            {"encoders": {"panns": {"module": "panns", "weights": "tagging"}}},
            "add it to tagging.encoders",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EarwitnessError) as caught:
        parse_params(values(**changes))
    assert str(caught.value).startswith("params.yaml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("captioner", "message"),
    [
        ({"twin": True, "translator": False, "text": "x"}, "needs translator"),
        ({"twin": True}, "needs text"),
        ({"features": ["panns", "panns"], "fuser": False, "twin": False}, "need fuser"),
    ],
)
def test_an_impossible_captioner_is_refused(captioner: dict[str, Any], message: str) -> None:
    edtc = values()["captioners"]["edtc"]
    edtc = {key: value for key, value in edtc.items() if key != "twin"} | captioner
    with pytest.raises(EarwitnessError, match=message):
        parse_params(values(captioners={"edtc": edtc}))


def test_a_sound_and_a_text_encoder_of_one_name_are_refused() -> None:
    with pytest.raises(EarwitnessError, match="both encoders and text_encoders"):
        parse_params(values(text_encoders={"panns": {"module": "sentence"}}))


def test_dvc_writes_small_numbers_as_yaml_1_2(tmp_path: Path) -> None:
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    assert "learning_rate: 0.001" in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("learning_rate: 0.001", "learning_rate: 1e-05"), encoding="utf-8")
    assert load_params(path).training.learning_rate == 1e-5


def test_settings_of_one_captioner_go_over_the_shared_ones() -> None:
    params = parse_params(values())
    changed = with_settings(params, {"training.epochs": 3, "twin.loss": "infonce"}, "here")
    assert (changed.training.epochs, changed.twin.loss) == (3, "infonce")
    assert params.training.epochs != 3
    with pytest.raises(EarwitnessError, match=r"here: no parameter training\.epoch"):
        with_settings(params, {"training.epoch": 3}, "here")
