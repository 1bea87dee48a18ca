"""Which plans change with what: the heavy stages rerun exactly then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from pipeline import planning
from pipeline.config import Params, load_params, with_settings
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders import SOUND_ENCODERS, TEXT_ENCODERS
from pipeline.errors import EarwitnessError
from pipeline.files import write_json
from pipeline.plans import CaptionerPlan, Plan

PACKAGE = REPOSITORY / "pipeline"
PLAIN = {
    "architecture": "edtc",
    "dataset": "soundscapes",
    "features": ["panns"],
    "fuser": False,
    "translator": False,
    "twin": False,
}


@pytest.fixture
def params() -> Params:
    default = load_params(REPOSITORY / "params.yaml")
    captioners = default.model_dump(mode="json")["captioners"] | {"plain": PLAIN}
    return with_settings(default, {"captioners": captioners}, "test")


@pytest.fixture
def manifests() -> dict[str, Manifest]:
    clips = tuple(
        Clip(f"c{i}", split, f"c{i}.wav", 4.0, (f"sound {i}",), ("dog",))
        for i, split in enumerate(("development", "validation", "evaluation"))
    )
    return {"soundscapes": Manifest("soundscapes", "data/raw/soundscapes", clips)}


@pytest.fixture
def made(tmp_path: Path, params: Params) -> Path:
    """What earlier stages leave: trained encoders and the features' fingerprints."""
    for name in (*params.encoders, *params.text_encoders):
        write_json(tmp_path / "index" / "soundscapes" / f"{name}.json", {"sha256": name})
        weights = tmp_path / "encoders" / name / "model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(name.encode())
    for name in params.captioners:
        model = tmp_path / "captioners" / name / "model.safetensors"
        model.parent.mkdir(parents=True)
        model.write_bytes(name.encode())
    return tmp_path


def all_plans(params: Params, manifests: dict[str, Manifest], made: Path) -> dict[str, Plan]:
    return {
        **planning.tagging_plans(params, manifests, PACKAGE),
        **planning.extraction_plans(params, manifests, PACKAGE, made / "encoders"),
        **planning.captioner_plans(params, manifests, PACKAGE, made / "index"),
        **planning.system_plans(params, manifests, PACKAGE, made / "index", made / "captioners"),
    }


@pytest.mark.parametrize(
    ("setting", "value", "changed"),
    [
        ("fuser.layers", 3, {"edtc"}),
        ("twin.momentum", 0.9, {"edtc"}),
        ("bart.heads", 2, {"edtc", "plain"}),
        ("training.epochs", 1, {"edtc", "plain"}),
        ("encoders.panns.fmin", 60.0, {"panns", "soundscapes-panns"}),
        ("text_encoders.minilm.prompt", "sound: ", {"soundscapes-minilm"}),
        ("tagging.epochs", 2, {"panns", "htsat", "convnext"}),
        ("decoding.beams", 2, {"soundscapes-edtc"}),
        ("evaluation.spice", False, {"soundscapes"}),
        ("captioners.plain.set", {"bart.heads": 2}, {"plain"}),
    ],
)
def test_a_setting_changes_only_the_plans_that_read_it(
    params: Params,
    manifests: dict[str, Manifest],
    made: Path,
    setting: str,
    value: Any,
    changed: set,
) -> None:
    before = all_plans(params, manifests, made)
    after = all_plans(with_settings(params, {setting: value}, "test"), manifests, made)
    assert {name for name in before if before[name] != after[name]} == changed


def test_new_features_change_only_the_captioners_that_read_them(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    before = all_plans(params, manifests, made)
    write_json(made / "index" / "soundscapes" / "htsat.json", {"sha256": "new"})
    after = all_plans(params, manifests, made)
    assert {name for name in before if before[name] != after[name]} == {
        "edtc",
        "soundscapes-edtc",
        "soundscapes",
    }


def test_a_new_model_is_decoded_again(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    before = all_plans(params, manifests, made)
    (made / "captioners" / "plain" / "model.safetensors").write_bytes(b"new")
    assert all_plans(params, manifests, made) == before  # no system uses it
    (made / "captioners" / "edtc" / "model.safetensors").write_bytes(b"new")
    after = all_plans(params, manifests, made)
    assert {name for name in before if before[name] != after[name]} == {"soundscapes-edtc"}


def test_new_weights_change_only_their_extraction(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    before = all_plans(params, manifests, made)
    (made / "encoders" / "convnext" / "model.safetensors").write_bytes(b"new")
    after = all_plans(params, manifests, made)
    assert {name for name in before if before[name] != after[name]} == {"soundscapes-convnext"}


def test_new_captions_change_text_and_captioners_but_no_sound(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    before = all_plans(params, manifests, made)
    old = manifests["soundscapes"]
    first = Clip("c0", "development", "c0.wav", 4.0, ("another",), ("dog",))
    after = all_plans(
        params, {"soundscapes": Manifest(old.dataset, old.root, (first, *old.clips[1:]))}, made
    )
    assert {name for name in before if before[name] != after[name]} == {
        "soundscapes-minilm",
        "edtc",
        "plain",
        "soundscapes",
    }


def test_a_plan_is_read_back_as_it_was_written(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    plan = planning.captioner_plans(params, manifests, PACKAGE, made / "index")["edtc"]
    plan.save(made / "edtc.json")
    assert CaptionerPlan.load(made / "edtc.json") == plan


def test_missing_features_say_what_to_run(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    (made / "index" / "soundscapes" / "panns.json").unlink()
    with pytest.raises(EarwitnessError, match="dvc repro extract"):
        planning.captioner_plans(params, manifests, PACKAGE, made / "index")


@pytest.mark.parametrize("module", sorted({*SOUND_ENCODERS, *TEXT_ENCODERS}))
def test_every_encoder_has_the_module_that_its_plan_digests(module: str) -> None:
    assert (PACKAGE / "encoders" / f"{module}.py").is_file()
