from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.config.params import load_params, parse_params, with_settings
from pipeline.errors import EarwitnessError
from pipeline.planning.lookup import (
    all_captioners,
    base_captioner,
    base_retriever,
    text_features,
)
from tests.plans import encoded_features


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
                "training": "edtc",
            }
        },
        "training": {"edtc": {}},
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
        ({"hardware": {"threads": 0}}, "hardware.threads: give auto, or a whole number of at"),
        ({"hardware": {"threads": "two"}}, "hardware.threads: give auto, or a whole number of at"),
        ({"hardware": {"threads": True}}, "hardware: threads: true is neither number nor word"),
        ({"hardware": {"processes": 0}}, "hardware.processes: give auto, or a whole number of at"),
        ({"hardware": {"precison": "auto"}}, "unknown key; did you mean 'precision'?"),
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
    path = tmp_path / "params.yaml"
    whole = {**values(), "training": {"edtc": {"learning_rate": 0.001}}}
    with path.open("w", encoding="utf-8") as stream:
        YAML().dump(whole, stream)
    text = path.read_text(encoding="utf-8")
    assert "learning_rate: 0.001" in text
    path.write_text(text.replace("learning_rate: 0.001", "learning_rate: 1e-05"), encoding="utf-8")
    assert load_params(path).training["edtc"].learning_rate == 1e-5


def second_system(**changes: Any) -> dict[str, Any]:
    """A retriever, its frames as features, a captioner of words, finetuning and an ensemble."""
    base = values(
        text_encoders={"minilm": {"module": "sentence"}},
        sound_towers={"cnn10": {"module": "panns", "model": "cnn10", "input": "logmel"}},
        retrievers={
            "tower": {"datasets": ["synthetic"], "sound": ["cnn10"], "text": "minilm"},
            "frozen": {"datasets": ["synthetic"], "sound": ["panns"], "text": "minilm"},
        },
        adapted={"further": {"retriever": "tower", "datasets": ["synthetic"]}},
        encoded=["tower", "further"],
        finetuned={"better": {"captioner": "words"}},
        systems={"both": {"captioners": ["words", "better"], "combine": "probs"}},
    )
    base["encoders"]["logmel"] = {"module": "logmel"}
    base["captioners"]["words"] = {
        "architecture": "seq2seq",
        "dataset": "synthetic",
        "features": ["further/frames"],
        "training": "edtc",
    }
    return base | changes


def with_words(features: list[str], **changes: Any) -> dict[str, Any]:
    """``changes``, and the captioner of words on other features."""
    captioners = second_system()["captioners"]
    return {**changes, "captioners": {"words": {**captioners["words"], "features": features}}}


def test_a_retrievers_features_are_named_by_what_they_are() -> None:
    """Each has embeddings of both sides; frames are those of a tower over one feature."""
    crnn = {"module": "crnn", "input": "logmel", "beside": ["panns"]}
    base = second_system(encoded=["further", "frozen", "both"])
    base["sound_towers"]["crnn"] = crnn
    base["retrievers"]["both"] = {"datasets": ["synthetic"], "sound": ["crnn"], "text": "minilm"}
    params = parse_params(base)
    names = ("further", "frozen", "both")
    assert {*params.encoders, *encoded_features(params)} - {*text_features(params)} == {
        *params.encoders, "further/frames", *(f"{name}/sound" for name in names),
    }  # fmt: skip
    assert {*text_features(params)} == {"minilm", *(f"{name}/text" for name in names)}


def test_a_finetuned_captioner_and_an_adapted_retriever_know_what_they_began_as() -> None:
    params = parse_params(second_system())
    assert base_captioner(params, "better") is params.captioners["words"]
    assert base_captioner(params, "words") is params.captioners["words"]
    assert base_retriever(params, "further") is params.retrievers["tower"]
    assert list(all_captioners(params)) == ["edtc", "words", "better"]
    assert params.systems["both"].combine == "probs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"systems": {"both": {"captioners": ["words", "bettr"]}}},
            "systems.both.captioners: 'bettr' is not in captioners or finetuned; did you mean "
            "'better'?",
        ),
        ({"systems": {"both": {"captioners": []}}}, "systems.both.captioners: "),
        (
            {"systems": {"both": {"captioners": ["words"], "combine": "logits"}}},
            "systems.both.combine: Input should be 'log_probs' or 'probs'",
        ),
        (
            {"finetuned": {"better": {"captioner": "word"}}},
            "finetuned.better.captioner: 'word' is not in captioners; did you mean 'words'?",
        ),
        (
            {"finetuned": {"words": {"captioner": "words"}}},
            "'words' is in both captioners and finetuned; rename one",
        ),
        (
            {"training": {"xe": {}}},
            "captioners.edtc.training: 'edtc' is not in training; known: xe",
        ),
        (
            with_words(["frozen/frames"], encoded=["frozen"]),
            "captioners.words.features: retriever 'frozen' has no frames, as it trains no tower "
            "over one feature alone; name frozen/sound, or its encoders",
        ),
        (
            with_words(["further"]),
            "captioners.words.features: 'further' is a retriever; name what is encoded with it: "
            "further/frames, further/sound or further/text",
        ),
        (
            with_words(["further/frame"]),
            "captioners.words.features: 'further/frame' is not in encoders or encoded; did you "
            "mean 'further/frames'?",
        ),
        ({"encoders": {"a/b": {"module": "logmel"}}}, "encoders: 'a/b': a name has letters from"),
        ({"encoded": ["towers"]}, "encoded: 'towers' is not in spaces or retrievers or adapted"),
        (
            {"encoded": []},
            "captioners.words.features: retriever 'further' is not in encoded; add it",
        ),
        (
            {"retrievers": {"tower": {"datasets": ["synthetic"], "sound": [], "text": "minilm"}}},
            "retrievers.tower.sound: ",
        ),
        (
            {"adapted": {"further": {"retriever": "better", "datasets": ["synthetic"]}}},
            "adapted.further.retriever: 'better' is not in retrievers",
        ),
        (
            {"sound_towers": {"cnn10": {"module": "panns", "input": "logmels"}}},
            "sound_towers.cnn10.input: 'logmels' is not in encoders; did you mean 'logmel'?",
        ),
    ],
)
def test_a_name_that_is_nowhere_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EarwitnessError) as caught:
        parse_params(second_system(**changes))
    assert str(caught.value).startswith(f"params.yaml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scst", "message"),
    [
        ({"dropout": True}, "needs baseline: others"),
        ({"baseline": "others"}, "baseline: others needs samples of 2 or more"),
        ({"rewards": {"sbert": 1.0}}, "rewards.sbert needs sbert: hub:owner/name"),
        ({"rewards": {"cider_d": 0.0}}, "rewards are all 0; give one a weight"),
        ({"rewards": {"cider": 1.0}}, "unknown key; did you mean 'cider_d'?"),
    ],
)
def test_rewards_that_cannot_be_had_are_refused_at_once(scst: Any, message: str) -> None:
    with pytest.raises(EarwitnessError, match=r"^params\.yaml: scst") as caught:
        parse_params(second_system(scst=scst))
    assert message in str(caught.value)


def test_what_the_papers_ask_for_by_default() -> None:
    """SJTU 3, word by word, where a default is theirs."""
    params = parse_params(second_system())
    retrieval, scst = params.retrieval_training, params.scst
    assert (retrieval.optimizer, retrieval.batch, retrieval.epochs) == ("adam", 128, 20)
    assert (retrieval.schedule, retrieval.warmup_epochs) == ("cosine", 1.0)
    assert retrieval.learning_rate == 1e-4
    assert (scst.epochs, scst.learning_rate, scst.schedule) == (100, 5e-5, "constant")
    words = params.seq2seq
    assert (words.encoder_layers, words.encoder_width, words.encoder_dropout) == (3, 256, 0.5)
    assert (words.decoder, words.decoder_layers, words.width) == ("transformer", 2, 256)


def test_settings_of_one_captioner_go_over_the_shared_ones() -> None:
    params = parse_params(values())
    changed = with_settings(params, {"training.edtc.epochs": 3, "twin.loss": "infonce"}, "here")
    assert (changed.training["edtc"].epochs, changed.twin.loss) == (3, "infonce")
    assert params.training["edtc"].epochs != 3
    with pytest.raises(EarwitnessError, match=r"here: no parameter training\.edtc\.epoch"):
        with_settings(params, {"training.edtc.epoch": 3}, "here")


def test_hardware_is_a_setting_like_any_other() -> None:
    params = parse_params(values())
    changed = with_settings(params, {"hardware.precision": "float32"}, "here")
    assert (params.hardware.precision, changed.hardware.precision) == ("auto", "float32")
    assert with_settings(changed, {"hardware.precision": "auto"}, "here") == params
    with pytest.raises(EarwitnessError, match=r"here: no parameter hardware\.seed"):
        with_settings(params, {"hardware.seed": 2}, "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (  # a key that is called as the kind of its entry
            {"captioners": {"seq2seq": {"architecture": "seq2seq", "seq2seq": 1}}},
            "captioners.seq2seq.",
        ),
        ({"encoders": {"panns": {"module": "panns", "panns": 1}}}, "encoders.panns.panns: unknown"),
        ({"encoders": {"panns": {"module": "pans"}}}, "encoders.panns: Input tag 'pans' found"),
        ({"prefix": {"noise": "much"}}, "prefix.noise: "),
        (
            {"datasets": {"a": {"layout": "soundscapes", "seconds": [1, "x"]}}},
            "datasets.a.seconds.1: ",
        ),
        ({"twin": {"weight": None}}, "twin.weight: "),
        ({"a\nb": 1}, r"a\nb: unknown key"),
        ({"test_sets": ["a\nb"]}, r"test_sets: 'a\nb' is not in datasets"),
    ],
)
def test_the_place_is_what_stands_in_the_file(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EarwitnessError) as caught:
        parse_params(values(**changes))
    assert str(caught.value).startswith(f"params.yaml: {message}")
    assert str(caught.value).isprintable()
