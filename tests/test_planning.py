"""Which plans change with what: the heavy stages rerun exactly then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import REPOSITORY
from tiny import TINY

from pipeline.config.captioners import CaptionerModel
from pipeline.config.params import Params, parse_params, with_settings
from pipeline.config.plans import CaptionerPlan, Plan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import write_json
from pipeline.planning import PHASES, Context
from pipeline.planning.code import code_digests
from pipeline.planning.context import REGISTRIES, architecture
from pipeline.planning.lookup import all_captioners, all_retrievers
from tests.plans import encoded_features

PACKAGE = REPOSITORY / "pipeline"
WORDS = {"transformer", "gru"}
ENCODED = "encoding/soundscapes-cnn10-minilm"
TAGGED = "encoding/soundscapes-tags"
RETRIEVERS = {"cnn10-minilm", "frozen", "adapted"}
READ_LOGMEL = {  # by a tower, by EDTC, by frozen retrievers; and what hears with them
    *("edtc", "rlssr", ENCODED, *RETRIEVERS, "soundscapes-edtc", "soundscapes-rlssr"),
    *("soundscapes", "rank-soundscapes"),
}
DECODED = {"soundscapes-edtc", "soundscapes-plain"}
TRAINED = {"panns", *RETRIEVERS, *TINY["captioners"], "transformer-scst"}
DECODING = {f"soundscapes-{system}" for system in TINY["systems"]}
FEATURES = {
    *(f"soundscapes-{name}" for name in (*TINY["encoders"], *TINY["text_encoders"])),
    ENCODED,
}


@pytest.fixture
def params() -> Params:
    return parse_params(TINY)


@pytest.fixture
def manifests() -> dict[str, Manifest]:
    clips = tuple(
        Clip(f"c{i}", split, f"c{i}.wav", 4.0, (f"sound {i}",), ("dog",))
        for i, split in enumerate(("development", "validation", "evaluation"))
    )
    return {"soundscapes": Manifest("soundscapes", "data/raw/soundscapes", clips)}


@pytest.fixture
def made(tmp_path: Path, params: Params) -> Path:
    """What earlier stages leave: trained models and the features' fingerprints."""
    for name in (*params.encoders, *params.text_encoders):
        write_json(
            tmp_path / "data/index/frozen/soundscapes" / f"{name}.json",
            {"sha256": name, "width": 8},
        )
    for name in encoded_features(params):
        write_json(
            tmp_path / "data/index/encoded/soundscapes" / f"{name}.json",
            {"sha256": name, "width": 8},
        )
    kinds = {
        "encoders": params.tagging.encoders,
        "retrievers": all_retrievers(params),
        "captioners": all_captioners(params),
    }
    for kind, names in kinds.items():
        for name in names:
            seed = "" if kind == "encoders" or name in params.spaces else "1"
            model = tmp_path / "data/models" / kind / name / seed / "model.safetensors"
            model.parent.mkdir(parents=True)
            model.write_bytes(name.encode())
    return tmp_path


def all_plans(params: Params, manifests: dict[str, Manifest], made: Path) -> dict[str, Plan]:
    """Those of the one seed by their model's name; those that encode by ``encoding/…``."""
    context = Context(params, manifests, REPOSITORY, made)
    return {
        f"encoding/{name}" if phase == "encoding" else name.removesuffix("/1"): plan
        for phase, make in PHASES.items()
        for name, plan in make(context).items()
    }


def changed(before: dict[str, Plan], after: dict[str, Plan]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("fuser.layers", 3, {"edtc"}),
        ("tracking", "tensorboard", set()),
        ("engine", "ray", set()),
        ("ray.address", "head:6379", set()),
        ("twin.momentum", 0.9, {"edtc"}),
        ("bart.heads", 1, {"edtc", "plain", "cmu"}),
        ("cmu.memory", "mean", {"cmu"}),
        ("seq2seq.dropout", 0.3, WORDS),
        ("training.edtc.epochs", 2, {"edtc", "plain", "cmu"}),
        ("training.words.epochs", 3, WORDS),
        ("prefix.noise", 0.1, {"wsac"}),
        ("training.wsac.step_factor", 0.5, {"wsac"}),
        ("text_memory.temperature", 0.1, {"soundscapes-wsac"}),
        ("scst.samples", 2, {"transformer-scst"}),
        ("finetuned.transformer-scst.set", {"scst.samples": 2}, {"transformer-scst"}),
        ("biencoder.width", 8, RETRIEVERS),
        ("sound_towers.cnn10.channels", 8, {"cnn10-minilm", "rlssr"}),
        ("rlssr.reconstruction", {"distance": "l2"}, {"rlssr"}),
        ("rlssr.min_count", 2, {"rlssr"}),
        ("spec_augment.time_masks", 3, {"rlssr"}),
        ("training.rlssr.accumulate", 1, {"rlssr"}),
        ("adapted.adapted.set", {"retrieval_training.epochs": 3}, {"adapted"}),
        ("retrievers.frozen.set", {"retrieval_training.epochs": 3}, {"frozen", "adapted"}),
        ("encoders.panns.fmin", 60.0, {"panns", "soundscapes-panns"}),
        ("encoders.logmel.fmin", 60.0, {"soundscapes-logmel", "cnn10-minilm", "rlssr"}),
        (
            "text_encoders.minilm.prompt",
            "a ",
            {"soundscapes-minilm", *RETRIEVERS, "tags", "rank-soundscapes"},
        ),
        ("spaces.tags.temperature", 1.0, {"tags"}),
        ("spaces.tags.ridge", None, {"tags"}),
        ("tagging.epochs", 2, {"panns"}),
        ("decoding.min_length", 1, DECODING),
        ("rerank.retriever", "frozen", DECODING),
        ("rerank.weight", 2.0, set()),  # nothing reranks
        ("systems.plain.set", {"rerank.retriever": "tags"}, {"soundscapes-plain"}),
        ("hardware.compile", "off", TRAINED),
        ("hardware.precision", "float32", TRAINED),
        ("hardware.processes", 2, TRAINED - {"panns"}),  # tagging has one
        (
            "hardware.threads",
            2,
            {*TRAINED, *FEATURES, *DECODING, "tags", TAGGED, "soundscapes", "rank-soundscapes"},
        ),
        ("captioners.plain.set", {"hardware.precision": "float32"}, {"plain"}),
        ("captioners.plain.seed_offset", 100, {"plain"}),
        ("retrievers.frozen.seed_offset", 100, {"frozen"}),
        ("finetuned.transformer-scst.seed_offset", 100, {"transformer-scst"}),
        ("systems.ensemble.combine", "log_probs", {"soundscapes-ensemble"}),
        ("systems.plain.set", {"decoding.beams": 2}, {"soundscapes-plain"}),
        ("retrieval_systems.both.retrievers", ["frozen"], {"rank-soundscapes"}),
        ("retrieval_systems.captioned.captions_of", "plain", {"rank-soundscapes"}),
        ("biencoder.loss", "triplet", RETRIEVERS),
        ("retrievers.frozen.set", {"biencoder.negatives": "hardest"}, {"frozen", "adapted"}),
        ("evaluation.spice", False, set()),
        ("evaluation.fluency_penalty", 0.8, {"soundscapes"}),
        ("evaluation.resamples", 500, {"soundscapes", "rank-soundscapes"}),
        ("captioners.plain.set", {"bart.heads": 1}, {"plain"}),
    ],
)
def test_a_setting_changes_only_the_plans_that_read_it(
    params: Params,
    manifests: dict[str, Manifest],
    made: Path,
    setting: str,
    value: Any,
    expected: set[str],
) -> None:
    before = all_plans(params, manifests, made)
    after = all_plans(with_settings(params, {setting: value}, "test"), manifests, made)
    assert changed(before, after) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "data/index/frozen/soundscapes/panns.json",
            {
                *("edtc", "plain", "cmu", "frozen", "adapted"),
                *("rank-soundscapes", *DECODED, "soundscapes-cmu", "soundscapes"),
            },
        ),
        (
            "data/index/frozen/soundscapes/minilm.json",
            {"edtc", "frozen", "adapted", "cnn10-minilm", "rank-soundscapes", ENCODED, TAGGED},
        ),
        (
            "data/index/encoded/soundscapes/cnn10-minilm/frames.json",
            {*WORDS, "transformer-scst", "soundscapes-ensemble", "soundscapes"},
        ),
        (
            "data/index/encoded/soundscapes/cnn10-minilm/sound.json",
            {"wsac", "soundscapes-wsac", "soundscapes"},
        ),
        ("data/index/encoded/soundscapes/cnn10-minilm/text.json", {"wsac", "soundscapes-wsac"}),
        ("data/models/retrievers/cnn10-minilm/1/model.safetensors", {"rank-soundscapes", ENCODED}),
        ("data/index/frozen/soundscapes/logmel.json", READ_LOGMEL),
        (
            "data/index/frozen/soundscapes/events.json",
            {"cmu", "soundscapes-cmu", "soundscapes", TAGGED, "rank-soundscapes"},
        ),
        (
            "data/models/encoders/panns/model.safetensors",
            {"soundscapes-panns", "soundscapes-events", "tags"},  # its labels come with it
        ),
        ("data/models/captioners/plain/1/model.safetensors", {"soundscapes-plain"}),
        ("data/models/captioners/transformer/1/model.safetensors", {"transformer-scst"}),
        ("data/models/captioners/gru/1/model.safetensors", {"soundscapes-ensemble"}),
        ("data/models/retrievers/adapted/1/model.safetensors", {"rank-soundscapes"}),
    ],
)
def test_what_was_made_anew_changes_only_the_plans_of_what_reads_it(
    params: Params, manifests: dict[str, Manifest], made: Path, file: str, expected: set[str]
) -> None:
    before = all_plans(params, manifests, made)
    (made / file).write_text('{"width": 8}')
    assert changed(before, all_plans(params, manifests, made)) == expected


def test_a_towers_weights_that_were_trained_anew_change_what_begins_with_them(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    tagged = with_settings(params, {"sound_towers.cnn10.weights": "tagging:panns"}, "test")
    before = all_plans(tagged, manifests, made)
    file = "data/models/encoders/panns/model.safetensors"
    (made / file).write_text("{}")
    after = all_plans(tagged, manifests, made)
    extracted = {"soundscapes-panns", "soundscapes-events"}
    assert changed(before, after) == {*extracted, "tags", "cnn10-minilm", "rlssr"}
    plan = after["rlssr"]
    assert isinstance(plan, CaptionerPlan) and plan.model.architecture == "rlssr"
    assert plan.model.tower.weights == file
    assert plan.model.spec_augment == params.spec_augment
    off = with_settings(tagged, {"rlssr.spec_augment": False}, "test")
    plan = all_plans(off, manifests, made)["rlssr"]
    assert isinstance(plan, CaptionerPlan) and plan.model.architecture == "rlssr"
    assert plan.model.spec_augment is None


@pytest.mark.parametrize(
    ("setting", "more", "expected"),
    [
        ("bart.pretrained", {}, {"edtc", "plain", "cmu"}),
        ("bart.tokenizer", {}, {"edtc", "plain", "cmu"}),
        ("prefix.pretrained", {}, {"wsac"}),
        ("encoders.logmel.weights", {}, {"soundscapes-logmel", "cnn10-minilm", "rlssr"}),
        (
            "text_encoders.minilm.weights",
            {},
            {"soundscapes-minilm", *RETRIEVERS, "tags", "rank-soundscapes"},
        ),
        ("sound_towers.cnn10.weights", {}, {"cnn10-minilm", "rlssr"}),
        ("evaluation.sbert", {}, {"soundscapes"}),
        ("evaluation.fluency", {}, {"soundscapes"}),
        ("scst.sbert", {"scst.rewards": {"sbert": 1}}, {"transformer-scst"}),
        ("scst.sbert", {"scst.rewards": {"sbert": 0, "cider_d": 1}}, set()),  # it is not read
    ],
)
def test_weights_replaced_at_their_path_change_only_the_plans_of_what_reads_them(
    params: Params,
    manifests: dict[str, Manifest],
    made: Path,
    setting: str,
    more: dict[str, Any],
    expected: set[str],
) -> None:
    weights = made / "weights" / "model.bin"
    weights.parent.mkdir()
    weights.write_bytes(b"old")
    own = with_settings(params, {setting: str(weights.parent), **more}, "test")
    before = all_plans(own, manifests, made)
    assert not changed(before, all_plans(own, manifests, made))
    weights.write_bytes(b"new")
    assert changed(before, all_plans(own, manifests, made)) == expected


def test_new_captions_change_text_and_training_but_no_sound(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    before = all_plans(params, manifests, made)
    old = manifests["soundscapes"]
    first = Clip("c0", "development", "c0.wav", 4.0, ("another sound",), ("dog",))
    new = {"soundscapes": Manifest(old.dataset, old.root, (first, *old.clips[1:]))}
    assert changed(before, all_plans(params, new, made)) == {
        "soundscapes-minilm",
        *all_captioners(params),
        *RETRIEVERS,
        ENCODED,
        TAGGED,
        "soundscapes-wsac",
        "soundscapes",
        "rank-soundscapes",
    }


def test_a_space_of_two_widths_is_refused(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    clap = {"module": "clap", "sound": ["panns"], "text": "minilm"}
    own = parse_params({**params.model_dump(mode="json"), "spaces": {"tags": clap}})
    write_json(
        made / "data/index/frozen/soundscapes/minilm.json", {"sha256": "minilm", "width": 9}
    )
    with pytest.raises(EarwitnessError) as raised:
        all_plans(own, manifests, made)
    assert str(raised.value) == (
        "spaces.tags: panns is 8 wide and minilm 9; name the sound and the text of one CLAP"
    )


def test_a_clip_without_captions_stops_before_any_training(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    old = manifests["soundscapes"]
    bare = Clip("c0", "development", "c0.wav", 4.0, (), ("dog",))
    new = {"soundscapes": Manifest(old.dataset, old.root, (bare, *old.clips[1:]))}
    context = Context(params, new, REPOSITORY, made)
    for phase in ("retrievers", "captioners"):
        with pytest.raises(EarwitnessError, match=r"soundscapes.*'c0'.*caption"):
            PHASES[phase](context)


@pytest.mark.parametrize("search", [{"decoding.method": "greedy"}, {"decoding.beams": 1}])
def test_one_hypothesis_leaves_nothing_to_choose(
    params: Params, manifests: dict[str, Manifest], made: Path, search: dict[str, Any]
) -> None:
    settings = {"systems.plain.set": {"rerank.retriever": "frozen", **search}}
    context = Context(with_settings(params, settings, "test"), manifests, REPOSITORY, made)
    with pytest.raises(EarwitnessError, match=r"systems\.plain: .*frozen has one caption"):
        PHASES["tagging"](context)


def test_a_new_model_that_reranks_decodes_its_system_again(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    settings = {"systems.plain.set": {"rerank.retriever": "adapted"}}
    own = with_settings(params, settings, "test")
    before = all_plans(own, manifests, made)
    (made / "data/models/retrievers/adapted/1/model.safetensors").write_bytes(b"again")
    after = all_plans(own, manifests, made)
    assert changed(before, after) == {"soundscapes-plain", "rank-soundscapes"}


def test_finetuning_on_another_split_stops_before_any_training(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    other = with_settings(params, {"scst.validation_share": None}, "test")
    context = Context(other, manifests, REPOSITORY, made)
    with pytest.raises(EarwitnessError, match=r"trained with validation_share 0.2, scst has null"):
        PHASES["captioners"](context)


def test_a_plan_is_read_back_as_it_was_written(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    for name, plan in all_plans(params, manifests, made).items():
        plan.save(made / f"{name}.json")
        assert type(plan).load(made / f"{name}.json") == plan


def test_missing_features_say_what_to_run(
    params: Params, manifests: dict[str, Manifest], made: Path
) -> None:
    context = Context(params, manifests, REPOSITORY, made)
    (made / "data/index/frozen/soundscapes/panns.json").unlink()
    with pytest.raises(EarwitnessError, match="dvc repro extract"):
        PHASES["captioners"](context)
    (made / "data/index/encoded/soundscapes/cnn10-minilm/frames.json").unlink()
    (made / "data/index/frozen/soundscapes/panns.json").write_text('{"width": 8}')
    with pytest.raises(EarwitnessError, match="dvc repro encode"):
        PHASES["captioners"](context)


@pytest.mark.parametrize("index", ["[]", "{}", '{"width": "8"}', '{"width": null}'])
def test_an_altered_index_is_one_line(
    params: Params, manifests: dict[str, Manifest], made: Path, index: str
) -> None:
    path = made / "data/index/frozen/soundscapes/panns.json"
    path.write_text(index, encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"panns\.json: not an index of features; run"):
        Context(params, manifests, REPOSITORY, made).width("soundscapes", "panns")


@pytest.mark.parametrize("model", get_args(get_args(CaptionerModel)[0]))
def test_every_architecture_has_the_module_that_its_plan_digests(model: Any) -> None:
    """The one that the registry takes it from, and a settings file of that name."""
    name = model.model_fields["architecture"].default
    registry = (PACKAGE / "models/captioners/__init__.py").read_text(encoding="utf-8")
    assert f'case "{name}":\n            from pipeline.{architecture(name)} import' in registry
    assert (PACKAGE / "config" / f"{name}.py").is_file()
    assert model.__module__ == f"pipeline.config.{name}"


def test_another_hub_re_extracts_its_own_encoder_alone(tmp_path: Path) -> None:
    """What ``weights: hub`` stands for is part of the code of its encoder's module."""
    package = shutil.copytree(PACKAGE, tmp_path / "pipeline")
    modules = ["convnext", "panns", "htsat", "vggish", "sentence"]

    def digests() -> list[dict[str, str]]:
        return [
            code_digests([f"pipeline.encoders.{name}"], tmp_path, REGISTRIES) for name in modules
        ]

    before = digests()
    module = package / "encoders" / "convnext.py"
    module.write_text(module.read_text().replace("topel/ConvNeXt-Tiny-AT", "someone/else"))
    assert [old != new for old, new in zip(before, digests(), strict=True)] == [True, *[False] * 4]
