from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml
from ruamel.yaml import YAML
from typer.testing import CliRunner

from earwitness import recipes
from earwitness.cli import app
from pipeline.config.bart import BartConfig
from pipeline.config.cmu import CmuConfig
from pipeline.config.encoders import EventsEncoderConfig, LogmelEncoderConfig, VggishEncoderConfig
from pipeline.config.params import Params, load_params, with_settings
from pipeline.config.rlssr import RlssrCaptionerConfig
from pipeline.config.training import OptimisationConfig, ScstConfig, TrainingConfig
from pipeline.errors import EarwitnessError
from pipeline.planning.lookup import (
    all_captioners,
    all_retrievers,
    base_retriever,
    tower_inputs,
)

FOLDER = REPOSITORY / "recipes"
DATASETS = ["soundscapes", "clotho", "audiocaps", "realsounds"]
WITH_CLOTHO = {"clotho", "audiocaps", "macs"}  # what SJTU's captioners' retriever hears
WORDS = {  # whose captions wsac-domains learns from, for the sound of each dataset
    "soundscapes": "others",
    "clotho": "audiocaps",
    "audiocaps": "clotho",
    "realsounds": "audiocaps-captions",
}


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a clone begins with; whatever experiment params.yaml holds now."""
    path = tmp_path_factory.mktemp("default") / "params.yaml"
    recipes.apply(path, FOLDER, "showcase", "soundscapes")
    return path.read_text(encoding="utf-8")


@pytest.fixture
def params(default: str, tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(default, encoding="utf-8")
    return path


def applied(params: Path, paper: str, dataset: str) -> Params:
    recipes.apply(params, FOLDER, paper, dataset)
    return load_params(params)


def test_the_default_is_a_recipe(default: str) -> None:
    """Byte for byte, in what is committed; or here, before it is."""
    committed = git(REPOSITORY, "show", "HEAD:params.yaml")
    assert default in (committed, (REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    assert len(default.splitlines()) <= 350
    assert sum(line.startswith("# ----") for line in default.splitlines()) == 5


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8").stdout


@pytest.mark.parametrize("paper", recipes.available(FOLDER, "paper"))
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_recipe_holds_together_and_leads_back(
    default: str, params: Path, paper: str, dataset: str
) -> None:
    now = applied(params, paper, dataset)
    words = WORDS[dataset] if paper == "wsac-domains" else dataset
    if (paper, dataset) == ("listen", "realsounds"):
        words = "public-captions"
    mixture = WITH_CLOTHO if paper == "sjtu" and dataset in WITH_CLOTHO else set()
    assert next(iter(now.datasets)) == dataset
    assert set(now.datasets) == {dataset, words} | mixture
    assert {captioner.dataset for captioner in now.captioners.values()} == {words}
    assert now.test_sets == (dataset,)
    values = YAML(typ="safe").load(params.read_text(encoding="utf-8"))
    loops = re.findall(r"\$\{(\w+)[.}\w]*", (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    loops = {*loops} - {"item", "key"}
    assert loops <= values.keys() and "encoders" in values["tagging"]
    assert {name for name, value in values.items() if value in ({}, [])} <= loops
    check_that_all_is_used(now)
    lines = params.read_text(encoding="utf-8").splitlines()
    assert not [x for x in lines if "{" in x and len(x.partition(" #")[0]) > 80]  # DVC wraps them
    applied(params, "showcase", "soundscapes")
    assert params.read_text(encoding="utf-8") == default


@pytest.mark.parametrize("first", [("edtc", "clotho"), ("sjtu", "audiocaps"), ("wsac", "clotho")])
def test_other_ways_lead_back_too(default: str, params: Path, first: tuple[str, str]) -> None:
    """From any recipe and by others, and with what DVC makes of the file when it sets a value."""
    recipes.apply(params, FOLDER, *first)
    begun = params.read_text(encoding="utf-8")
    for paper, dataset in (("rlssr", "soundscapes"), ("cmu-retrieval", "realsounds"), first):
        with modify_yaml(str(params)) as values:
            values["evaluation"]["spice"] = not values["evaluation"]["spice"]
        recipes.apply(params, FOLDER, paper, dataset)
    assert params.read_text(encoding="utf-8") == begun
    recipes.apply(params, FOLDER, "showcase", "soundscapes")
    assert params.read_text(encoding="utf-8") == default


def test_recipes_are_found_from_any_folder_below(
    default: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the one rule of all commands, `find_repository`; so are paths in the parameters."""
    shutil.copytree(FOLDER, tmp_path / "recipes")
    (tmp_path / "params.yaml").write_text(default, encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (below := tmp_path / "data/models").mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("EARWITNESS_REPOSITORY", raising=False)
    done = CliRunner().invoke(app, ["recipe", "edtc", "clotho"])
    assert done.exit_code == 0, done.output
    assert [*load_params(tmp_path / "params.yaml").captioners] == ["edtc"]
    assert [path.name for path in below.iterdir()] == []
    with pytest.raises(EarwitnessError, match=r"nowhere: no recipes there; give the folder of"):
        recipes.listing(Path("nowhere"))
    with pytest.raises(EarwitnessError, match=r"nowhere: no paper recipes there; give the folder"):
        recipes.apply(Path("params.yaml"), Path("nowhere"), "edtc", "clotho")


def test_the_list_says_what_every_recipe_is() -> None:
    listed = recipes.listing(FOLDER)
    assert "three captions a kind:" in " ".join(listed.split())  # "kind:" inside a comment
    for kind in recipes.KINDS:
        for name, about in recipes.available(FOLDER, kind).items():
            assert f"  {name} " in listed and len(about.split()) > 4, name
    assert "captioners trained on captions alone" in listed
    assert max(len(line) for line in listed.splitlines()) <= recipes.WIDTH


def test_captions_alone_teach_wsacs_decoder(params: Path) -> None:
    now = applied(params, "wsac-text", "clotho-captions")
    (captioner,) = now.captioners.values()
    assert captioner.features == (captioner.text,) == ("minilm-mean",)
    assert not now.encoders and not captioner.resolve(now, pytest.fail).model.reads.sound
    check_that_all_is_used(now)


def test_across_domains_sound_is_heard_where_it_is(params: Path) -> None:
    for dataset, words in WORDS.items():
        now = applied(params, "wsac-domains", dataset)
        heard = {name: captioner.sound_dataset for name, captioner in now.captioners.items()}
        sound = {"wsac-es": dataset, "wsac-ni-es": dataset}
        assert heard == {"wsac": None, "wsac-ni": None, **sound}
        assert {retriever.datasets for retriever in now.retrievers.values()} <= {(dataset,)}
        assert words in now.datasets and now.test_sets == (dataset,)


def check_that_all_is_used(now: Params) -> None:
    """dvc.yaml makes a stage of every entry."""
    captioners = {m for s in now.systems.values() for m in s.captioners}
    captioners |= {now.finetuned[name].captioner for name in captioners & {*now.finetuned}}
    assert {*all_captioners(now)} == captioners
    heard = {f for own in now.captioners.values() for f in getattr(own, "features", ())}
    read = heard | {getattr(captioner, "text", None) for captioner in now.captioners.values()}
    assert {*now.encoded} == {str(Path(name).parent) for name in read if name and "/" in name}
    retrievers = {m for s in now.retrieval_systems.values() for m in s.retrievers}
    retrievers |= {*now.encoded}
    retrievers |= {now.adapted[name].retriever for name in retrievers & {*now.adapted}}
    assert {*all_retrievers(now)} == retrievers
    pairs = (*now.retrievers.values(), *now.spaces.values())
    sides = {side for pair in pairs for side in (*pair.sound, pair.text)}
    sides |= {c.tower for c in now.captioners.values() if isinstance(c, RlssrCaptionerConfig)}
    assert {*now.sound_towers, *now.text_towers} <= sides
    inputs = {name for tower in now.sound_towers.values() for name in tower_inputs(tower)}
    starts = (*now.sound_towers.values(), *now.encoders.values())
    inputs |= {tagger for one in starts if (tagger := one.weights.tagger())}
    assert {*now.encoders} <= inputs | sides | heard
    assert {*now.training} == {c.training for c in now.captioners.values()}


def test_the_papers_values_are_the_defaults_of_the_sections(params: Path) -> None:
    """EDTC 3 and 4.3, as pipeline/config cites them."""
    now = applied(params, "edtc", "clotho")
    for section in ("features", "fuser", "translator", "twin"):
        assert getattr(now, section) == type(getattr(now, section))(), section
    assert now.training == {"edtc": TrainingConfig()}
    assert now.bart.pretrained == "facebook/bart-base"
    assert now.captioners["edtc"].features == ("panns", "htsat", "convnext")
    assert now.decoding.beams == 4


def test_sjtus_values_are_the_defaults_of_the_sections(params: Path) -> None:
    """SJTU 3 and its code, as pipeline/config cites them."""
    now = applied(params, "sjtu", "clotho")
    for section in ("biencoder", "retrieval_training", "seq2seq", "sound_towers", "text_towers"):
        value: Any = getattr(now, section)
        values = list(value.values()) if isinstance(value, dict) else [value]
        for one in values:
            told = one.model_dump(include={"module", "input", "weights"} & one.model_fields_set)
            assert one == type(one)(**told), section
    assert now.scst == type(now.scst)(validation_share=0.1)
    training = now.training["sjtu"]
    assert (training.epochs, training.batch, training.optimizer) == (25, 64, "adam")
    assert training.learning_rate == 5e-4 and training.warmup_steps == 3000
    assert training.schedule == "exponential"
    assert training.learning_rate * training.decay_to == pytest.approx(5e-7)
    assert (training.label_smoothing, training.teacher_forcing) == (0.1, 0.7)
    assert (training.average_epochs, training.validation_share) == (5, 0.1)
    assert now.decoding.beams == 3
    assert {str(t.weights) for t in now.text_towers.values()} == {
        "hub:google-bert/bert-base-uncased",
        "hub:prajjwal1/bert-medium",
        "hub:FacebookAI/roberta-base",
    }


def decoder(params: Params, name: str) -> tuple[str, int, int, int]:
    """A captioner's decoder, its layers and width, and its training (SJTU Table 1)."""
    own = params.captioners[name].set
    shared = params.seq2seq
    return (
        own.get("seq2seq.decoder", shared.decoder),
        own.get("seq2seq.decoder_layers", shared.decoder_layers),
        own.get("seq2seq.width", shared.width),
        params.captioners[name].seed_offset,
    )


def test_every_row_of_sjtus_table_3_is_a_system(params: Path) -> None:
    now = applied(params, "sjtu", "clotho")
    two, four, gru = (("transformer", 2, 256), ("transformer", 4, 256), ("gru", 1, 512))
    rows = {
        *(((*model, 0),) for model in (two, four, gru)),
        tuple((*two, seed) for seed in (0, 100)),
        tuple((*model, seed) for model in (two, four) for seed in (0, 100)),
        tuple((*model, seed) for model in (two, four, gru) for seed in (0, 100)),
    }
    found: dict[bool, set[Any]] = {False: set(), True: set()}
    for system in now.systems.values():
        rewarded = {name in now.finetuned for name in system.captioners}
        members = [
            now.finetuned[name].captioner if name in now.finetuned else name
            for name in system.captioners
        ]
        found[rewarded.pop()].add(tuple(decoder(now, name) for name in members))
        assert not rewarded  # of one kind
    assert found == {False: rows, True: rows}


def test_every_row_of_sjtus_table_4_and_each_submission_is_a_retrieval_system(
    params: Path,
) -> None:
    now = applied(params, "sjtu", "clotho")
    rows = first, second, third, fourth, _ = (
        ("wlcnn14", "bert-base"),
        ("cnn14", "bert-medium"),
        ("cnn14", "bert-base"),
        ("cnn14", "roberta-base"),
        ("ast", "bert-base"),
    )
    systems = [
        tuple((base_retriever(now, m).sound[0], base_retriever(now, m).text) for m in s.retrievers)
        for s in now.retrieval_systems.values()
    ]
    assert systems == [
        *((row,) for row in rows),
        rows,
        rows[:4],
        (first, third, fourth),
        (first, second, third),
    ]
    for system in now.retrieval_systems.values():
        for name in system.retrievers:
            adapted = now.adapted[name]
            assert now.retrievers[adapted.retriever].datasets == ("audiocaps",)
            assert adapted.datasets == ("clotho",)
            assert adapted.set["retrieval_training.learning_rate"] == 2e-5
    (heard,) = now.encoded
    assert set(now.retrievers[heard].datasets) == WITH_CLOTHO


def test_rlssrs_values_are_the_defaults_of_the_sections(params: Path) -> None:
    """RLSSR 3 and 4, as pipeline/config cites them."""
    now = applied(params, "rlssr", "clotho")
    told = now.rlssr.model_copy(update={"reconstruction": type(now.rlssr)().reconstruction})
    assert told == type(now.rlssr)()
    assert now.rlssr.reconstruction == type(told.reconstruction)(distance="none")
    assert now.encoders["logmel"] == LogmelEncoderConfig(module="logmel", window_seconds=30.0)
    training = now.training["rlssr"]
    assert (training.epochs, training.batch, training.accumulate) == (200, 64, 4)
    assert (training.learning_rate, training.label_smoothing) == (3e-4, 0.0)
    assert training.patience_epochs < training.epochs  # early stopping
    assert now.decoding.beams == 4


@pytest.mark.parametrize("dataset", ["clotho", "soundscapes"])
def test_every_row_of_rlssrs_tables_is_a_system(params: Path, dataset: str) -> None:
    """Weights, distance and layers of the Transformer encoder; Tables 1 and 2, and 3.3."""
    now = applied(params, "rlssr", dataset)
    pann = {"clotho": "hub", "soundscapes": "tagging:panns"}[dataset]
    layers = now.rlssr.encoder_layers
    rows = set()
    for system in now.systems.values():
        (name,) = system.captioners
        captioner = now.captioners[name]
        assert isinstance(captioner, RlssrCaptionerConfig)
        tower = now.sound_towers[captioner.tower]
        assert tower.module == "panns" and tower.model == "cnn10" and tower.input == "logmel"
        own = with_settings(now, captioner.set, "test").rlssr
        rows.add((str(tower.weights), own.reconstruction.distance, own.encoder_layers))
    assert layers == 2 and rows == {
        *((weights, "none", count) for weights in ("scratch", pann) for count in (layers, 0)),
        *((weights, distance, 2) for weights in ("scratch", pann) for distance in ("l1", "l2")),
        *((pann, distance, 2) for distance in ("cosine", "huber")),
    }
    assert len(rows) == len(now.systems)


def test_every_row_of_cmus_table_10_is_a_retrieval_system(params: Path) -> None:
    """And what was proposed and not run. The settings of each, as its plan will have them."""
    now = applied(params, "cmu-retrieval", "clotho")

    def row(name: str) -> tuple[Any, ...]:
        (member,) = now.retrieval_systems[name].retrievers
        retriever = now.retrievers[member]
        own = with_settings(now, retriever.set, "test")
        tower: Any = own.sound_towers[retriever.sound[0]]
        heard = tuple(own.encoders[encoder].module for encoder in tower_inputs(tower))
        space = own.biencoder
        assert (space.project, space.margin) == ("none", 1.0)
        return (heard, tower.cell, 2 * tower.width, retriever.text, space.loss, space.similarity,
                space.negatives, space.shared)  # fmt: skip

    first = (("logmel",), "gru", 300, "word2vec", "triplet", "dot", "random", 0)
    expected: dict[str, dict[int, Any]] = {  # place in the row → what differs from the baseline
        "baseline": {},
        "lstm": {1: "lstm"},
        "vggish-crnn": {0: ("vggish",)},
        "shared-space": {7: 1024},
        "sentence-transformer": {2: 384, 3: "sentence"},
        "exp-distance": {4: "exp_distance"},
        "sound-events": {0: ("logmel", "events")},
        "official": {5: "cosine"},
        "hardest": {6: "hardest"},
    }
    for name, changes in expected.items():
        assert row(name) == tuple(changes.get(n, value) for n, value in enumerate(first)), name
    captions = now.retrieval_systems["captions"]
    assert (captions.captions_of, captions.text) == ("final", "sentence")
    assert {*now.retrieval_systems} == {*expected, "captions"}
    training = now.retrieval_training
    assert (training.epochs, training.batch, training.optimizer) == (50, 32, "adam")
    assert (training.learning_rate, training.schedule) == (1e-3, "plateau")
    logmel: Any = now.encoders["logmel-40ms"]
    assert (logmel.mels, logmel.win_length / 44100, logmel.hop / 44100) == (64, 0.04, 0.02)
    assert logmel.n_fft == 2048


def test_small_datasets_have_cmus_retrievers_but_no_word_vectors(params: Path) -> None:
    for dataset in ("soundscapes", "realsounds"):
        now = applied(params, "cmu-retrieval", dataset)
        assert {*now.text_encoders} == {"sentence"}
        assert len(now.retrieval_systems) == 9 and "sentence-transformer" not in now.retrievers
        widths = {2 * tower.width for tower in now.sound_towers.values()}  # type: ignore[union-attr]
        assert widths == {384}


def test_captioning_submissions_are_named(params: Path) -> None:
    now = applied(params, "sjtu", "clotho")
    lines = params.read_text(encoding="utf-8").splitlines()
    named = {line.split(":")[0].strip(): line[-1] for line in lines if "# submission " in line}
    counts = {number: len(now.systems[name].captioners) for name, number in named.items()}
    assert counts == {"1": 1, "2": 2, "3": 4, "4": 6}


def test_small_recordings_are_retrieved_by_frozen_features(params: Path) -> None:
    for paper in ("sjtu", "showcase"):
        now = applied(params, paper, "realsounds")
        assert not now.sound_towers and not now.text_towers and not now.encoded
        assert {(r.sound, r.text) for r in now.retrievers.values()} == {(("yamnet",), "minilm")}
        assert {name for c in now.captioners.values() for name in c.features} == {"yamnet"}
        assert [r.seed_offset for r in now.retrievers.values()] == [0, 100, 200]


def test_comments_on_values_that_stay_are_kept(params: Path) -> None:
    text = params.read_text(encoding="utf-8")
    for old, new in (
        ("fuser: # of EDTC\n", "# above\nfuser: # my own note\n"),
        ("  kernel: 7\n  reduced: 64\n", "  # why\n  kernel: 7 # mine\n  reduced: 64 # of 128\n"),
        ("\n# ---- data", "# my experiment\n\n# ---- data"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    params.write_text(text, encoding="utf-8")
    for dataset, layers in (("clotho", 3), ("soundscapes", 1)):
        recipes.apply(params, FOLDER, "edtc", dataset)
        after = params.read_text(encoding="utf-8")
        assert f"\n# above\nfuser: # my own note\n  layers: {layers}\n" in after
        assert "\n  # why\n  kernel: 7 # mine\n" in after
        assert "# of 128" not in after  # what stood there was about another value
        assert after.count("# my experiment\n") == 1
    recipes.apply(params, FOLDER, "sjtu", "clotho")
    assert "\nfuser:" not in params.read_text(encoding="utf-8")


def test_a_wrong_name_gives_the_nearest_and_changes_nothing(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(EarwitnessError, match="did you mean 'clotho'"):
        recipes.apply(params, FOLDER, "edtc", "cloto")
    assert params.read_bytes() == before


def test_on_audiocaps_the_encoder_never_heard_its_test(params: Path) -> None:
    for paper in ("edtc", "edtc-ablation"):
        weights = str(applied(params, paper, "audiocaps").encoders["convnext"].weights)
        assert weights == "hub:convnext_tiny_465mAP_BL_AC_70kit"
    assert str(applied(params, "edtc", "clotho").encoders["convnext"].weights) == "hub"


def test_the_ablation_has_every_row_of_table_2(params: Path) -> None:
    now = applied(params, "edtc-ablation", "clotho")
    rows = {(c.features, c.fuser, c.translator, c.twin) for c in now.captioners.values()}
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


def variant(params: Params, name: str) -> tuple[Any, ...]:
    """What a row of CMU's tables is: where BART is from, encoder, memory, adapter, layers."""
    own, cmu, bart = params.captioners[name].set, params.cmu, params.bart
    return (
        own.get("bart.pretrained", bart.pretrained),
        own.get("cmu.encoder", cmu.encoder),
        own.get("cmu.memory", cmu.memory),
        own.get("cmu.adapter_layers", cmu.adapter_layers),
        own.get("bart.encoder_layers", bart.encoder_layers),
        own.get("bart.decoder_layers", bart.decoder_layers),
    )


def test_every_row_of_cmus_captioning_tables_is_a_system(params: Path) -> None:
    """Tables 1 to 9 without retrieval's, and what 7 proposes."""
    now = applied(params, "cmu-captioning", "clotho")
    rows = {
        "pretrained": ("facebook/bart-base", "bart", "last", 1, 6, 6),
        "scratch": (None, "bart", "last", 1, 6, 6),
        "crnn": (None, "crnn", "last", 1, 6, 6),
        "mean": (None, "bart", "mean", 1, 6, 6),
        "last-two": (None, "bart", "last_two", 1, 6, 6),
        "adapter-2": (None, "bart", "last", 2, 6, 6),
        "layers-7": (None, "bart", "last", 1, 7, 7),
        "final": (None, "bart", "last_two", 2, 7, 7),
        "final-events": (None, "bart", "last_two", 2, 7, 7),
    }
    assert {name: variant(now, name) for name in now.captioners} == rows
    assert {name: system.captioners for name, system in now.systems.items()} == {
        name: (name,) for name in rows
    }
    heard = {name: now.captioners[name].features for name in rows}
    assert heard.pop("final-events") == ("vggish", "events")
    assert set(heard.values()) == {("vggish",)}
    assert now.encoders["vggish"] == VggishEncoderConfig(module="vggish")
    assert now.encoders["events"] == EventsEncoderConfig(module="events")
    assert now.cmu == CmuConfig()
    bart = BartConfig(pretrained=None, tokenizer="facebook/bart-base", punctuation="none")
    assert now.bart == bart


def test_cmus_training_and_decoding_are_the_baselines(params: Path) -> None:
    now = applied(params, "cmu-captioning", "clotho")
    training = now.training["cmu"]
    assert (training.epochs, training.batch, training.accumulate) == (20, 4, 2)
    assert (training.optimizer, training.learning_rate) == ("adamw", 1e-5)
    assert (training.label_smoothing, training.gradient_clip) == (0.0, 1.0)
    decoding = now.decoding
    assert (decoding.beams, decoding.min_length, decoding.max_length) == (4, 3, 97)
    assert decoding.early_stopping and not decoding.exact_stop  # the baseline's code
    assert decoding.no_repeat_ngram == 3


def test_cmus_small_rows_differ_and_need_no_hub(params: Path) -> None:
    for dataset in ("soundscapes", "realsounds"):
        now = applied(params, "cmu-captioning", dataset)
        rows = {(variant(now, name), own.features) for name, own in now.captioners.items()}
        assert len(rows) == len(now.systems) == 8
        assert now.bart.encoder_layers == 2  # else both means would be the same
        used = [now.bart.pretrained, now.bart.tokenizer]
        used += [str(encoder.weights) for encoder in now.encoders.values()]
        assert not any(str(name).startswith(("hub", "facebook")) for name in used)


# settings that stand nowhere in the default, because what is chosen there does not read them
UNREAD = {
    "features": {"time_width", "channel_width"},
    "twin": {"infonce_temperature"},
    "biencoder": {"margin", "negatives"},
    "decoding": {"temperature", "top_p"},
    "rerank": {"weight"},
    "evaluation": {"fluency_threshold", "fluency_penalty"},
    "systems": {f"{name}.combine" for name in ("edtc", "transformer", "gru", "transformer-scst")},
}
SCHEDULES = {
    "cosine": {"decay_to"},
    "exponential": {"decay_to"},
    "plateau": {"decay_to", "plateau_factor", "plateau_epochs"},
    "cyclic_cosine": {"cycle_epochs", "cycle_floor", "halve_epochs"},
    "step": {"step_epochs", "step_factor"},
    "constant": set[str](),
}


def unread(training: OptimisationConfig) -> set[str]:
    """What this schedule and this optimizer do not read."""
    others = set[str]().union(*SCHEDULES.values()) - SCHEDULES[training.schedule]
    others |= {"weight_decay"} if training.optimizer == "adam" else set()
    return others | ({"sbert"} if isinstance(training, ScstConfig) else set())


def leaves(node: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(node, dict) or not node or place.endswith(".set"):
        return {place[1:]: node}
    return {k: v for key, at in node.items() for k, v in leaves(at, f"{place}.{key}").items()}


def test_every_setting_that_is_read_can_be_set(params: Path) -> None:
    """By ``-S``, that is: with DVC's own code, which refuses what is not there."""
    written = YAML(typ="safe").load(params.read_text(encoding="utf-8"))
    now = load_params(params)
    whole = leaves(now.model_dump(mode="json", include=set(written)))
    there = leaves(written)
    own = (".set", ".seeds", ".seed_offset")  # that an entry leaves out
    missing = {name for name in whole if name not in there and not name.endswith(own)}
    expected = {f"{section}.{name}" for section, names in UNREAD.items() for name in names}
    trainings = {f"training.{name}": one for name, one in now.training.items()}
    trainings |= {"retrieval_training": now.retrieval_training, "scst": now.scst}
    expected |= {f"{place}.{name}" for place, one in trainings.items() for name in unread(one)}
    # one kind or the other: retrievers, or captions_of and text
    kinds = {f"{name}.{key}" for name in now.retrieval_systems for key in ("captions_of", "text")}
    assert missing == expected | {f"retrieval_systems.{name}" for name in kinds}

    def lines() -> list[str]:
        return params.read_text(encoding="utf-8").replace(": null\n", ":\n").splitlines()

    before = lines()
    numbers = {n: v for n, v in there.items() if type(v) in (int, float)}
    assert len(numbers) > 150
    apply_overrides(str(params), [f"{name}={value}" for name, value in numbers.items()])
    assert lines() == before  # no comment is lost
    apply_overrides(str(params), ["fuser.layers=3"])
    assert [line for line in lines() if line not in before] == ["  layers: 3"]


def test_an_experiment_in_params_yaml_fails_no_test(tmp_path: Path) -> None:
    """What README tells people to do: an encoder and a captioner more, in a copy of this tree."""
    for name in git(REPOSITORY, "ls-files", "-co", "--exclude-standard").splitlines():
        if (REPOSITORY / name).is_file() and not name.startswith(
            ("metrics/", "intervals/", "data/", "docs/")
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, tmp_path / name)
    params = tmp_path / "params.yaml"
    recipes.apply(params, FOLDER, "showcase", "soundscapes")
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "as it was")):
        git(tmp_path, *arguments)
    yaml = YAML()
    values = yaml.load(params.read_text(encoding="utf-8"))
    values["encoders"]["mine"] = {"module": "waveform", "frame": 3200}
    values["captioners"]["mine"] = {**values["captioners"]["edtc"], "features": ["mine"]}
    values["systems"]["mine"] = {"captioners": "mine"}
    with params.open("w", encoding="utf-8") as stream:
        yaml.dump(values, stream)
    assert load_params(params).encoders["mine"].module == "waveform"
    some = "default or can_be_set or comments or (holds_together and showcase)"
    tests = ["tests/test_recipes.py", "tests/test_config.py", "-k", some]
    command = [sys.executable, "-m", "pytest", "-rp", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("\nPASSED ") >= 8


def test_the_recipe_of_the_documentation_works(params: Path, tmp_path: Path) -> None:
    """docs/extending.md, as a reader types it."""
    text = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    folder = Path(shutil.copytree(FOLDER, tmp_path / "recipes"))
    blocks = re.findall(r"`recipes/([\w-]+\.yaml)`[^`]*?:\n\n```yaml\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["mine.yaml", "deep-fuser.yaml"]
    for name, block in blocks:
        (folder / name).write_text(block, encoding="utf-8")
    assert "deep-fuser" in recipes.available(folder, "paper")
    recipes.apply(params, folder, "deep-fuser", "mine")
    now = load_params(params)
    assert [*now.systems] == ["edtc", "deep"] and [*now.datasets] == ["mine"] == [*now.test_sets]
    layers = [
        with_settings(now, now.captioners[name].set, "test").fuser.layers for name in now.systems
    ]
    assert layers == [1, 6] and now.training["edtc"].epochs == 40
    assert now.captioners["deep"].features == ("panns", "htsat", "convnext")
    assert "    epochs: 40 # there are few of them\n" in params.read_text(encoding="utf-8")


# --- the rules, on overlays small enough to see through ---------------------------------------


def overlays(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


SETS = """kind: dataset
names: {logmel: mine}
datasets:
  first: {layout: clotho, root: a}
  second: {layout: clotho, root: b}
  third: {layout: clotho, root: c}
encoders:
  mine: {module: logmel}
  other: {module: logmel}
papers:
  base:
    retrieval_systems:
      $remove: all
      only: {retrievers: [b]}
"""
BASE = """kind: paper
names: {mixture: [$dataset, second]}
text_encoders: {text: {module: sentence}}
retrievers:
  a: {datasets: $mixture, sound: [$logmel], text: text}
  b: {datasets: $mixture, sound: [$logmel], text: text}
retrieval_systems: {one: {retrievers: [a]}}
retrieval_test_sets: [$dataset]
"""


def test_names_bases_and_what_a_dataset_says_for_one_paper(tmp_path: Path) -> None:
    texts = {"base": BASE, "twice": "kind: paper\nbase: [base, base]\n", "alone": BASE}
    folder = overlays(tmp_path / "recipes", sets=SETS, **texts)
    for paper, system, retriever in (("base", "only", "b"), ("twice", "only", "b")):
        now = applied_to(tmp_path, folder, paper)
        assert list(now.retrieval_systems) == [system] and list(now.retrievers) == [retriever]
        assert now.retrievers[retriever].datasets == ("first", "second")
        assert now.retrievers[retriever].sound == ("mine",)
        assert set(now.datasets) == {"first", "second"} and set(now.encoders) == {"mine"}
    now = applied_to(tmp_path, folder, "alone")
    assert list(now.retrieval_systems) == ["one"] and list(now.retrievers) == ["a"]


def applied_to(base: Path, folder: Path, paper: str) -> Params:
    recipes.apply(base / "params.yaml", folder, paper, "sets")
    return load_params(base / "params.yaml")


def test_a_base_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    folder = overlays(tmp_path / "recipes", sets=SETS, lost="kind: paper\nbase: nowhere\n")
    with pytest.raises(EarwitnessError, match=r"nowhere\.yaml: not there"):
        applied_to(tmp_path, folder, "lost")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("kind: paper\nsystms: {}\n", "systms: unknown section; did you mean 'systems'"),
        ("kind: paper\nencoders:\n  panns:\n", "encoders: give entries with settings, or {}"),
        ("kind: paper\nencoded: {a: {}}\n", "encoded: give a list of names"),
        ("kind: paper\nsystems: {one: {captioners: nobody}}\n", "'nobody' is not in captioners"),
        ("kind: paper\ndatasets: {$remove: all}\nencoders: [\n", "not YAML"),
    ],
)
def test_a_recipe_that_does_not_hold_is_one_line(tmp_path: Path, recipe: str, message: str) -> None:
    folder = overlays(tmp_path / "recipes", sets=SETS, wrong=recipe)
    with pytest.raises(EarwitnessError) as caught:
        applied_to(tmp_path, folder, "wrong")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "params.yaml").exists()
