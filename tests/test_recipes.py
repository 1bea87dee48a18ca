from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import REPOSITORY

from pipeline import recipes
from pipeline.config import load_params
from pipeline.errors import EarwitnessError

FOLDER = REPOSITORY / "recipes"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))


def test_the_default_is_a_recipe(params: Path) -> None:
    before = params.read_text(encoding="utf-8")
    recipes.apply(params, FOLDER, "edtc", "soundscapes")
    assert params.read_text(encoding="utf-8") == before


@pytest.mark.parametrize("paper", recipes.available(FOLDER, "paper"))
@pytest.mark.parametrize("dataset", ["soundscapes", "clotho", "audiocaps"])
def test_every_recipe_holds_together_and_leads_back(params: Path, paper: str, dataset: str) -> None:
    default = load_params(params)
    recipes.apply(params, FOLDER, paper, dataset)
    applied = load_params(params)
    assert list(applied.datasets) == [dataset]
    assert {captioner.dataset for captioner in applied.captioners.values()} == {dataset}
    recipes.apply(params, FOLDER, "edtc", "soundscapes")
    assert load_params(params) == default


def test_the_papers_values_are_the_defaults_of_the_sections(params: Path) -> None:
    """EDTC 3 and 4.3, as pipeline/config.py cites them."""
    recipes.apply(params, FOLDER, "edtc", "clotho")
    applied = load_params(params)
    for section in ("features", "fuser", "translator", "twin", "training"):
        assert getattr(applied, section) == type(getattr(applied, section))(), section
    assert applied.bart.pretrained == "facebook/bart-base"
    assert applied.captioners["edtc"].features == ("panns", "htsat", "convnext")
    assert applied.decoding.beams == 4


def test_comments_on_keys_that_stay_are_kept(params: Path) -> None:
    text = params.read_text(encoding="utf-8")
    params.write_text(
        text.replace("fuser:\n", "fuser: # my own note\n").replace("  layers: 1", "  layers: 2"),
        encoding="utf-8",
    )
    recipes.apply(params, FOLDER, "edtc", "clotho")
    after = params.read_text(encoding="utf-8")
    assert "fuser: # my own note" in after
    assert "  layers: 3" in after


def test_a_wrong_name_gives_the_nearest_and_changes_nothing(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(EarwitnessError, match="did you mean 'clotho'"):
        recipes.apply(params, FOLDER, "edtc", "cloto")
    assert params.read_bytes() == before


def test_the_ablation_has_every_row_of_table_2(params: Path) -> None:
    recipes.apply(params, FOLDER, "edtc-ablation", "clotho")
    rows = {
        (c.features, c.fuser, c.translator, c.twin) for c in load_params(params).captioners.values()
    }
    three = ("panns", "htsat", "convnext")
    assert rows == {
        (("panns",), False, False, False),
        (("htsat",), False, False, False),
        (("convnext",), False, False, False),
        (three, True, False, False),
        (("htsat",) * 3, True, False, False),
        (three, True, True, False),
        (("htsat",), False, True, False),
        (("htsat",), False, True, True),
        (three, True, True, True),
    }
