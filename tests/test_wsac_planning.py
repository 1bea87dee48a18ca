"""WSAC by parameters alone: captions of one dataset, sound of another, any test set."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from tiny import TINY

from earwitness import recipes
from pipeline.config.params import Params, load_params, parse_params, with_settings
from pipeline.config.plans import (
    CaptionerPlan,
    DecodingPlan,
    EncodingPlan,
    FinetuningPlan,
    Plan,
)
from pipeline.corpora.manifest import SPLITS, Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import write_json
from pipeline.planning import PHASES, Context
from pipeline.planning.lookup import all_captioners, all_retrievers
from pipeline.training.schedules import build_schedule
from tests.plans import encoded_features

ADAPTED: dict[str, Any] = {
    "architecture": "prefix",
    "dataset": "words",
    "sound_dataset": "soundscapes",
    "training": "wsac",
    "features": ["cnn10-minilm/sound"],
    "text": "cnn10-minilm/text",
}
OWN = {**ADAPTED, "sound_dataset": None, "set": {"prefix.validation": "text"}}
DECODED = {"soundscapes-adapted", "soundscapes-words", "soundscapes-wsac"}


def values() -> dict[str, Any]:
    changed = deepcopy(TINY)
    changed["datasets"]["words"] = {"layout": "captions", "root": "w", "development": "t.csv"}
    changed["prefix"] = {}
    changed["captioners"] |= {"adapted-words": ADAPTED, "words": OWN}
    changed["systems"] |= {
        "adapted": {"captioners": ["adapted-words"], "set": {"text_memory.method": "projection"}},
        "words": {"captioners": ["words"]},
    }
    return changed


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What earlier stages leave."""
    params = parse_params(values())
    for dataset in params.datasets:
        for name in (*params.encoders, *params.text_encoders):
            write_json(
                tmp_path / "data/index/frozen" / dataset / f"{name}.json",
                {"sha256": name, "width": 8},
            )
        for name in encoded_features(params):
            write_json(
                tmp_path / "data/index/encoded" / dataset / f"{name}.json",
                {"sha256": name, "width": 8},
            )
    for kind, names in (
        ("encoders", params.tagging.encoders),
        ("retrievers", all_retrievers(params)),
        ("captioners", all_captioners(params)),
    ):
        for name in names:
            seed = "" if kind == "encoders" or name in params.spaces else "1"
            model = tmp_path / "data/models" / kind / name / seed / "model.safetensors"
            model.parent.mkdir(parents=True)
            model.write_bytes(name.encode())
    return tmp_path


def plans(params: Params, made: Path, words: Sequence[str] = SPLITS) -> dict[str, Plan]:
    """``words``: the splits that the captions without sound have."""
    manifests = {}
    for name, splits in (("soundscapes", SPLITS), ("words", words)):
        clips = tuple(
            Clip(f"{name}{i}", split, f"{i}.wav" if name == "soundscapes" else "", 4.0, ("a b",))
            for i, split in enumerate(splits)
        )
        manifests[name] = Manifest(name, "raw", clips)
    context = Context(params, manifests, REPOSITORY, made)
    return {
        f"encoding/{name}" if phase == "encoding" else name.removesuffix("/1"): plan
        for phase, make in PHASES.items()
        for name, plan in make(context).items()
    }


def changed(before: dict[str, Plan], after: dict[str, Plan]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_what_each_job_reads(made: Path) -> None:
    found = plans(parse_params(values()), made)
    adapted, own = found["adapted-words"], found["words"]
    assert isinstance(adapted, CaptionerPlan) and isinstance(own, CaptionerPlan)
    # the text is of one dataset, the sound of the other; without sound none is named
    assert {*adapted.inputs} == {
        "data/corpora/words.json", "data/features/words/cnn10-minilm/text.h5",
        "data/corpora/soundscapes.json", "data/features/soundscapes/cnn10-minilm/sound.h5",
    }  # fmt: skip
    assert {*own.inputs} == {
        "data/corpora/words.json",
        "data/features/words/cnn10-minilm/text.h5",
    } and not own.model.reads.sound
    decoding = found["soundscapes-adapted"]
    assert isinstance(decoding, DecodingPlan) and decoding.text_memory is not None
    assert {
        "data/corpora/words.json",
        "data/features/words/cnn10-minilm/text.h5",
    } <= {*decoding.inputs}
    plain = found["soundscapes-words"]
    assert isinstance(plain, DecodingPlan) and plain.text_memory is None
    space = found["encoding/words-cnn10-minilm"]
    assert isinstance(space, EncodingPlan) and space.frames
    assert {*space.inputs} == {
        "data/corpora/words.json",
        "data/features/words/logmel.h5",
        "data/features/words/minilm.h5",
        "data/models/retrievers/cnn10-minilm/1",
    }
    for name, plan in found.items():
        plan.save(made / f"{name}.json")
        assert type(plan).load(made / f"{name}.json") == plan


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("prefix.layers", 2, {"wsac", "adapted-words", "words"}),
        ("text_memory.temperature", 0.1, {"soundscapes-adapted", "soundscapes-wsac"}),
        ("captioners.words.set", {"prefix.noise": 0.1, "prefix.validation": "text"}, {"words"}),
    ],
)
def test_a_setting_changes_only_what_reads_it(
    made: Path, setting: str, value: Any, expected: set[str]
) -> None:
    params = parse_params(values())
    after = plans(with_settings(params, {setting: value}, "test"), made)
    assert changed(plans(params, made), after) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("words/cnn10-minilm/text", {"adapted-words", "words", "soundscapes-adapted"}),
        (
            "soundscapes/cnn10-minilm/sound",
            {"adapted-words", "wsac", *DECODED, "soundscapes"},
        ),
        ("soundscapes/cnn10-minilm/text", {"wsac", "soundscapes-wsac"}),
        ("words/cnn10-minilm/sound", set()),
    ],
)
def test_features_made_anew_change_only_what_reads_them(
    made: Path, file: str, expected: set[str]
) -> None:
    params = parse_params(values())
    before = plans(params, made)
    (made / "data/index/encoded" / f"{file}.json").write_text('{"width": 8}')
    assert changed(before, plans(params, made)) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": {"prefix.validation": "sound"}}, "prefix.validation: sound needs sound.*words"),
        ({"set": {"prefix.shift": True}}, "prefix.shift: true needs sound.*sound_dataset"),
        ({"set": {"prefix.supervised": True}}, "prefix.supervised: true needs sound"),
        (
            {"set": {"prefix.supervised": True}, "sound_dataset": "soundscapes"},
            "with their own sound; leave sound_dataset out",
        ),
        ({"text": "cnn10-minilm"}, "text: 'cnn10-minilm' is a retriever; .* cnn10-minilm/text"),
        ({"text": "cnn10-minilm/sound"}, "'cnn10-minilm/sound' is not in text_encoders or encoded"),
        ({"features": ["frozen/sound"]}, "retriever 'frozen' is not in encoded; add it"),
        ({"features": ["cnn10-minilm/soun"]}, "did you mean 'cnn10-minilm/sound'"),
        ({"features": ["minilm"]}, "captions are read as text"),
        ({"sound_dataset": "soundscape"}, "did you mean 'soundscapes'"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_training(
    made: Path, changes: dict[str, Any], message: str
) -> None:
    wrong = values()
    wrong["captioners"]["words"] = {**OWN, **changes}
    with pytest.raises(EarwitnessError, match=message) as caught:
        plans(parse_params(wrong), made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["words", "adapted-words"])
def test_sound_and_text_of_different_widths_stop_before_any_training(made: Path, name: str) -> None:
    """Also where training reads no sound: what is captioned is read in the text's place."""
    for dataset in ("words", "soundscapes"):
        path = made / f"data/index/encoded/{dataset}/cnn10-minilm/sound.json"
        path.write_text('{"width": 10}')
    changed = values()
    changed["captioners"] = {name: changed["captioners"][name]}
    changed["systems"] = {"own": {"captioners": [name]}}
    changed |= {"finetuned": {}, "retrieval_systems": {}, "retrieval_test_sets": []}
    with pytest.raises(EarwitnessError) as caught:
        plans(parse_params(changed), made)
    assert str(caught.value) == (
        f"captioners.{name}: cnn10-minilm/sound is 10 wide, but cnn10-minilm/text is 8; name the "
        "sound and the text of one space, such as one CLAP's"
    )


def test_captions_that_leave_a_memory_empty_stop_before_any_training(made: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"words has no split 'development'; it has:"):
        plans(parse_params(values()), made, words=("validation", "evaluation"))


@pytest.mark.parametrize(
    ("base", "changes", "lacks"),
    [
        ("words", {}, "words has captions of words and no sound"),
        ("adapted-words", {}, "adapted-words has captions of words and sound of soundscapes alone"),
        ("wsac", {}, None),
        ("words", {"features": ["cnn10-minilm/text"]}, None),  # what it reads are the captions
    ],
)
def test_rewards_need_sound_with_captions_of_its_own(
    made: Path, base: str, changes: dict[str, Any], lacks: str | None
) -> None:
    given = values()
    given["captioners"][base] = {**given["captioners"][base], **changes}
    given["finetuned"] = {"tuned": {"captioner": base, "set": {"scst.validation_share": None}}}
    given["systems"] = {"tuned": {"captioners": ["tuned"]}}
    given["retrieval_systems"] = {}
    model = made / "data/models/captioners/tuned/1/model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"tuned")
    if lacks is None:
        found = plans(parse_params(given), made)["tuned"]
        assert isinstance(found, FinetuningPlan)
        stored = {f"data/features/{found.dataset}/{name}.h5" for name in found.features}
        assert stored <= {*found.inputs}
        return
    with pytest.raises(EarwitnessError) as caught:
        plans(parse_params(given), made)
    assert f"finetuned.tuned: rewards need clips with sound and captions, and {lacks}; name" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_features_that_are_missing_name_their_stage(made: Path) -> None:
    (made / "data/index/encoded/words/cnn10-minilm/text.json").unlink()
    with pytest.raises(EarwitnessError, match="run `dvc repro encode`"):
        plans(parse_params(values()), made)


def test_the_papers_rows_and_values(tmp_path: Path) -> None:
    """WSAC 4.2 and Table 1, as pipeline/config cites them."""
    params = tmp_path / "params.yaml"
    recipes.apply(params, REPOSITORY / "recipes", "wsac", "clotho")
    now = load_params(params)
    assert now.prefix == type(now.prefix)(validation="text", renormalise=True)
    rows = {}
    for name, system in now.systems.items():
        (member,) = system.captioners
        memory = system.set.get("text_memory.method", now.text_memory.method)
        own = with_settings(now, now.captioners[member].set, "test").prefix
        rows[name] = (own.noise, own.shift, own.supervised, memory)
        assert own.renormalise is not name.endswith("-raw")
    sigma = rows["wsac-ni"][0]
    assert isinstance(sigma, float) and sigma**2 == pytest.approx(0.013, rel=1e-3)
    assert rows == {
        "wsac": (None, False, False, "none"),
        "wsac-ni": (sigma, False, False, "none"),
        "wsac-es": (None, True, False, "none"),
        "wsac-ni-es": (sigma, True, False, "none"),
        "wsac-ni-raw": (sigma, False, False, "none"),
        "wsac-es-raw": (None, True, False, "none"),
        "wsac-ni-es-raw": (sigma, True, False, "none"),
        "wsac-nnd": (None, False, False, "nearest"),
        "wsac-pd": (None, False, False, "projection"),
        "wsac-supervised": (None, False, True, "none"),
    }
    training = now.training["wsac"]
    assert (training.epochs, training.batch, training.learning_rate) == (30, 64, 2e-5)
    assert (now.decoding.method, now.decoding.max_length) == ("greedy", 30)
    assert now.text_memory.temperature == 0.01
    # warm-up over five epochs, then times 0.2 every ten
    schedule = build_schedule(training, 100)
    for epoch, factor in ((1, 0.2), (5, 1.0), (14.99, 1.0), (15, 0.2), (24.99, 0.2), (25, 0.04)):
        assert schedule(round(100 * epoch) - (epoch <= 5), ()) == pytest.approx(factor)
