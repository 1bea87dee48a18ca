"""Values that no stage can use are refused when ``params.yaml`` is read: every field is tried.

The walk goes by the models' own fields, so that a new one is tried too. Which zeros and negative
numbers may stand is in ``ZERO`` and ``NEGATIVE``, by what they mean; nothing else may.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from pipeline.config.params import Params, check_entries, load_params, parse_params
from pipeline.config.section import Section
from pipeline.errors import EarwitnessError
from tests.conftest import REPOSITORY

NUMBERS = [0, -1, 2**32, 10**12, 2**63, -(2**63), True, False]
NUMBERS += [0.0, -1.0, 1e12, 1e300, math.nan, math.inf, -math.inf]
ZERO = {  # where 0 may stand, and what it means there
    "off": "views time_masks channel_masks frequency_masks warmup_epochs warmup_steps "
    "weight_decay gradient_clip average_epochs no_repeat_ngram shared cider_d bleu_4 sbert "
    "repetition bad_ending label_smoothing dropout feature_dropout encoder_dropout "
    "fluency_penalty resamples attention_clips audio_megabytes RayConfig.gpus RayConfig.retries",
    "none of them: the next reads what was before": "FuserConfig.layers BartConfig.encoder_layers "
    "RlssrConfig.encoder_layers",
    "a mask of no width": "time_width channel_width frequency_width",
    "a weight, or a share, of nothing": "TwinConfig.weight TwinConfig.momentum teacher_forcing "
    "ReconstructionConfig.weight RlssrConfig.cross_entropy_weight decay_to margin "
    "RerankConfig.weight",
    "log p as it is": "length_penalty",
    "a seed": "seed Params.seeds seed_offset",
    "the lowest frequency": "fmin",
    "captions of any length": "min_length",
    "all tokens are frames": "class_tokens",
    "what is before the first layer": "layer",
}
NEGATIVE = {"longer captions are dearer": "length_penalty", "the last layer": "layer"}
REQUIRED: dict[str, Any] = {
    "weights": "./file", "input": "logmel", "root": "folder", "development": "table.csv",
    "dataset": "set", "training": "edtc", "features": ["logmel"], "text": "minilm",
    "datasets": ["set"], "sound": ["logmel"], "retriever": "other", "captioner": "other",
    "captioners": ["other"], "tower": "cnn10", "encoders": {},
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {  # without which a section cannot stand, or would not read it
    "EdtcCaptionerConfig": {"twin": False},
    "RetrievalSystemConfig": {"retrievers": ["other"]},
    "CrnnTowerConfig": {"weights": "scratch"},
    "Params": {"datasets": {}},
}


def sections(annotation: Any) -> Iterator[type[Section]]:
    """All that params.yaml may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for part in get_args(annotation):
        yield from sections(part)


SECTIONS = {section.__name__: section for section in sections(Params)}


def base(section: type[Section]) -> dict[str, Any]:
    """Values that the section takes."""
    values = {}
    for name, field in section.model_fields.items():
        if field.is_required():
            kinds = get_args(field.annotation)
            values[name] = REQUIRED[name] if name in REQUIRED else kinds[0]
    return {**values, **CHANGES.get(section.__name__, {})}


def numbers(annotation: Any) -> bool:
    return annotation in (int, float) or any(map(numbers, get_args(annotation)))


def places(section: type[Section]) -> Iterator[tuple[str, FieldInfo, int | None]]:
    """Each number, and each of a list."""
    for name, field in section.model_fields.items():
        if not numbers(field.annotation):
            continue
        default = field.get_default()
        many = range(len(default)) if isinstance(default, tuple) else [None]
        yield from ((name, field, index) for index in many)


FIELDS = [(s, name, index) for s in SECTIONS for name, _, index in places(SECTIONS[s])]


def reason(kinds: dict[str, str], section: str, name: str) -> str | None:
    owners = [section, *(c.__name__ for c in SECTIONS[section].__mro__)]
    called = {name, *(f"{owner}.{name}" for owner in owners)}
    return next((why for why, names in kinds.items() if called & {*names.split()}), None)


def allowed(section: str, name: str, value: float) -> bool:
    if isinstance(value, bool) or not math.isfinite(value):
        return False
    if value == 0:
        return reason(ZERO, section, name) is not None
    return value == -1 and reason(NEGATIVE, section, name) is not None


@pytest.mark.parametrize(("section", "name", "index"), FIELDS)
def test_no_field_takes_what_no_stage_can_use(section: str, name: str, index: int | None) -> None:
    model = SECTIONS[section]
    good = base(model)
    model.model_validate(good)  # so that what is refused is the value
    for value in NUMBERS:
        whole: Any = value
        if index is not None:
            default = [*model.model_fields[name].get_default()]
            whole = [*default[:index], value, *default[index + 1 :]]
        try:
            model.model_validate({**good, name: whole})
        except ValidationError:
            assert not allowed(section, name, value), f"{section}.{name}: {value} means something"
        else:
            assert allowed(section, name, value), f"{section}.{name} takes {value}"


def test_every_section_is_tried() -> None:
    assert {"HtsatEncoderConfig", "WavegramTowerConfig", "DecodingConfig"} <= SECTIONS.keys()
    assert len(SECTIONS) > 50 and len(FIELDS) > 220
    tried = {name for _, name, _ in FIELDS}
    listed = " ".join((*ZERO.values(), *NEGATIVE.values())).split()
    assert {name.rpartition(".")[2] for name in listed} <= tried


def test_nothing_takes_a_list_of_none() -> None:
    for name in ("depths", "heads", "widths", "channels", "seconds"):
        for section in SECTIONS.values():
            if name in section.model_fields and numbers(section.model_fields[name].annotation):
                field = section.model_fields[name]
                if isinstance(field.get_default(), tuple):
                    with pytest.raises(ValidationError):
                        section.model_validate({**base(section), name: []})


PANNS = {"module": "panns", "weights": "./file"}


@pytest.mark.parametrize(
    ("section", "changes", "reason"),
    [
        ("PannsEncoderConfig", {"fmin": 14000.0}, "fmin 14000 is not below fmax 14000"),
        ("LogmelEncoderConfig", {"fmax": 40.0}, "fmin 50 is not below fmax 40"),
        ("ConvNextEncoderConfig", {"sample_rate": 16000}, "above half of sample_rate 16000"),
        ("HtsatEncoderConfig", {"hop": 2000}, "hop 2000 is above n_fft 1024"),
        ("WavegramTowerConfig", {"hop": 2000}, "hop 2000 is above n_fft 1024"),
        ("WavCapsEncoderConfig", {"n_fft": 64}, "hop 320 is above n_fft 64"),
        ("LogmelEncoderConfig", {"mels": 514}, "mels 514 is more than the 513 bins"),
        ("ConvNextEncoderConfig", {"depths": [1, 1]}, "depths and widths must be equally long"),
        ("PannsEncoderConfig", {"window_seconds": 1e-12}, "greater than or equal to 0.01"),
        ("VggishEncoderConfig", {"hop_seconds": 1e-12}, "greater than or equal to 0.01"),
        ("SoundscapesDatasetConfig", {"seconds": [8, 4]}, "seconds: 8 is above 4"),
        ("DecodingConfig", {"min_length": 5, "max_length": 4}, "min_length 5 is above max_length"),
        ("AstTowerConfig", {"heads": 7}, "width 768 is not a multiple of heads 7"),
        ("AstTowerConfig", {"patch": 64, "max_frames": 32}, "max_frames 32 is below patch 64"),
        ("TextTowerConfig", {"weights": "scratch", "heads": 3}, "width 128 is not a multiple of"),
        ("Seq2SeqConfig", {"heads": 3}, "width 256 is not a multiple of heads 3"),
        ("RlssrConfig", {"heads": 5}, "width 192 is not a multiple of heads 5"),
        ("PrefixConfig", {"heads": 5}, "width 768 is not a multiple of heads 5"),
        ("BartConfig", {"pretrained": None, "heads": 5}, "width 768 is not a multiple of heads 5"),
        ("EvaluationConfig", {"split": "test"}, "'development', 'validation' or 'evaluation'"),
        ("ClothoDatasetConfig", {"root": "a\0b"}, "root: has a zero byte"),
        ("EdtcCaptionerConfig", {"features": ["a\0"]}, "features: has a zero byte"),
    ],
)
def test_values_that_do_not_fit_each_other(
    section: str, changes: dict[str, Any], reason: str
) -> None:
    model = SECTIONS[section]
    with pytest.raises(ValidationError, match="1 validation error") as caught:
        model.model_validate({**base(model), **changes})
    assert reason in str(caught.value)


def repository(**sections: Any) -> dict[str, Any]:
    return {
        "datasets": {"set": {"layout": "clotho", "root": "set"}},
        "encoders": {"panns": PANNS, "logmel": {"module": "logmel"}},
        "training": {"xe": {}},
        "captioners": {
            "words": {"architecture": "seq2seq", "dataset": "set", "training": "xe",
                      "features": "panns"},
            "edtc": {"architecture": "edtc", "dataset": "set", "training": "xe",
                     "features": "panns", "twin": False},
        },
        "systems": {"words": {"captioners": "words"}},
        "test_sets": ["set"],
        **sections,
    }  # fmt: skip


ODD = ["v2.1", "my data", "mine@x", "mine/2024", 'mine"q', "a,b", "é", "a:b", "a{b", "$x", "-x",
       "a\n", "", "a'b", "x" * 101, "٣", "a\\b", "a*"]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_names_that_dvc_or_the_shell_cannot_take_are_refused(name: str) -> None:
    named = [
        section for section, field in Params.model_fields.items()
        if str(field.annotation).startswith("dict[")
    ]  # fmt: skip
    assert len(named) == 13
    kinds = {
        "datasets": {"layout": "clotho", "root": "set"}, "encoders": PANNS,
        "text_encoders": {"module": "sentence"}, "text_towers": {}, "training": {},
        "sound_towers": {"module": "panns", "input": "logmel"},
        "retrievers": {"datasets": "set", "sound": "panns", "text": "t"},
        "adapted": {"retriever": "r", "datasets": "set"},
        "captioners": repository()["captioners"]["words"],
        "finetuned": {"captioner": "words"}, "systems": {"captioners": "words"},
        "retrieval_systems": {"retrievers": "r"},
        "spaces": {"module": "clap", "sound": "panns", "text": "t"},
    }  # fmt: skip
    good = repository(
        text_encoders={"t": {"module": "sentence"}},
        retrievers={"r": {"datasets": "set", "sound": "panns", "text": "t"}},
    )
    parse_params(good)
    for section in named:
        with pytest.raises(EarwitnessError) as caught:
            parse_params({**good, section: {**good.get(section, {}), name: kinds[section]}})
        message = str(caught.value)
        assert message.startswith(f"params.yaml: {section}: {name!r}: a name has letters")
        assert message.endswith("rename it") and "\n" not in message


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (
            {"datasets": {n: {"layout": "clotho", "root": "set"} for n in ("set", "set-a")},
             "encoders": {"panns": PANNS, "a-panns": PANNS}},
            "encoders: set and a-panns would be one job with set-a and panns (set-a-panns)",
        ),
        (
            {"datasets": {n: {"layout": "clotho", "root": "set"} for n in ("set", "rank-set")},
             "test_sets": ["set", "rank-set"], "retrieval_test_sets": ["set"]},
            "systems: rank-set would be one job with rank and set (rank-set)",
        ),
        ({"systems": {"yardstick_top": {"captioners": "words"}}}, "is called as yardsticks are"),
    ],
)  # fmt: skip
def test_names_of_which_two_jobs_become_one_are_refused(
    sections: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EarwitnessError) as caught:
        parse_params(repository(**sections))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (
            {"systems": {"words": {"captioners": "words", "set": {"decoding.beam": 1}}}},
            "systems.words.set: no parameter decoding.beam",
        ),
        (
            {"systems": {"words": {"captioners": "words", "set": {"decoding.beams": 0}}}},
            "systems.words.set: decoding.beams: Input should be greater than or equal to 1",
        ),
        (
            {"systems": {"words": {"captioners": "words", "set": {"decoding.top_p": math.nan}}}},
            "systems.words.set: decoding: top_p: nan is not a finite number",
        ),
        ({"fuser": {"heads": 5}}, "edtc: features.width 768 is not a multiple of fuser.heads 5"),
        (
            {"features": {"width": 60}, "fuser": {"heads": 5}},
            "edtc: features.width 60 is not a multiple of translator.heads 8",
        ),
    ],
)
def test_an_entrys_own_settings_are_looked_at_when_the_file_is_read(
    tmp_path: Path, sections: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "params.yaml"
    with path.open("w") as stream:
        YAML().dump(repository(**sections), stream)
    with pytest.raises(EarwitnessError) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: ") and reason in str(caught.value)
    with path.open("w") as stream:
        YAML().dump(repository(), stream)
    assert load_params(path).captioners.keys() == {"words", "edtc"}


def mappings(node: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(node, dict):
        yield at
        for key, value in node.items():
            yield from mappings(value, (*at, key))


WHOLE = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
SIMPLE = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
    | st.sampled_from(["panns", "hub:", "tagging", "x/frames", "1e-5", "\ud800", "a\nb", "beam"])
)  # fmt: skip
ANY = st.recursive(
    SIMPLE,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(SIMPLE.filter(lambda key: key == key), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(data=st.data())
def test_whatever_stands_anywhere_is_taken_or_is_one_line(data: st.DataObject) -> None:
    values = copy.deepcopy(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from([*mappings(values)]))
        node = values
        for key in place:
            node = node[key]
        if not node or data.draw(st.booleans()):
            odd = ["epochs", "set", "seq2seq", "panns", "layout", "x.y", "a\nb", "\ud800"]
            node[data.draw(st.sampled_from([*WHOLE, *odd]))] = data.draw(ANY)
        else:
            node[data.draw(st.sampled_from([*node]))] = data.draw(ANY)
    try:
        params = parse_params(values)
        check_entries(params, "params.yaml")
    except EarwitnessError as error:
        message = str(error)
        assert message.startswith("params.yaml: ") and message.isprintable()
    else:
        assert parse_params(params.model_dump(mode="json")) == params
