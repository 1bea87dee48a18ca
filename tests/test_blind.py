"""Blind test sets: recordings without captions, from `prepare` to the report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from blind_project import LISTED, QUERIES, blind_project, write_set
from conftest import REPOSITORY
from dcase_rules import accepted
from project import Project
from pydantic import TypeAdapter
from report_run import block
from tiny_repository import make_repository

from earwitness.own import given
from earwitness.recipes import compose
from pipeline.config.datasets import BlindDatasetConfig, DatasetConfig
from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.plans import EmbeddingPlan, EncodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.registry import prepare
from pipeline.encoders.registry import build_text_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.embedding import embed
from pipeline.features.store import open_stores
from pipeline.metrics.retrieval import Embeddings
from pipeline.trained.encoding import encode
from pipeline.trained.ranking_files import Queries, write_blind_ranking
from pipeline.trained.retriever import load_retriever


def prepared(base: Path, **settings: object) -> Manifest:
    values = {"layout": "blind", "root": "set", **settings}
    checked = TypeAdapter(DatasetConfig).validate_python(values)
    return prepare("x", checked, base, Path("raw"), progress=False)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_says_which_sound_is_in_the_set_and_what_it_is_called(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    found = prepared(tmp_path, table="set.csv", queries="asked.csv")
    assert found.blind and not any(clip.captions for clip in found.sounding)
    assert [clip.file_name for clip in found.recordings("evaluation")] == [*LISTED]
    assert found.sounding[0].path == "sound/dogs_ bark.wav"
    # to the letter, two spaces too: a submission names queries by their text
    assert [clip.captions for clip in found.asked("evaluation")] == [(each,) for each in QUERIES]
    found.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == found


def test_it_is_tested_whole_whichever_split_others_are(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    found = prepared(tmp_path, table="set.csv", queries="asked.csv")
    assert found.recordings("validation") == found.sounding
    assert len(found.asked("validation")) == len(QUERIES)


def test_sixteen_are_ranked_and_of_equal_ones_the_first_of_the_set(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    captions = torch.from_numpy(draw.integers(-1, 2, (6, 3))).float()
    clips = torch.from_numpy(draw.integers(-1, 2, (40, 3))).float()  # many products are equal
    names = [f"{number}.wav" for number in range(40)]
    queries = Queries([f"query {k}" for k in range(6)], [], torch.zeros(0, dtype=torch.int64))
    write_blind_ranking(tmp_path / "x.csv", {1: [Embeddings(captions, clips)]}, queries, names)
    products = captions.numpy() @ clips.numpy().T
    for row, own in zip(rows(tmp_path / "x.csv"), products, strict=True):
        best = sorted(range(40), key=lambda clip, own=own: (-own[clip], clip))[:16]
        assert [row[f"fname_{place}"] for place in range(1, 17)] == [names[clip] for clip in best]


def test_without_queries_there_are_files_of_text_without_entries(tmp_path: Path) -> None:
    make_repository(tmp_path)
    features = tmp_path / "data/features/toy"
    known = Manifest.load(tmp_path / "data/corpora/toy.json")
    clips = tuple(replace(clip, captions=()) for clip in known.clips)
    manifest = replace(known, clips=clips, blind=True)
    text = build_text_encoder(SentenceEncoderConfig(module="sentence"))
    own = {"inputs": {}, "code": {}, "dataset": "toy"}
    plan = EmbeddingPlan(name="minilm", encoder=SentenceEncoderConfig(module="sentence"), **own)
    index, _ = embed(manifest, text, "0", plan, tmp_path / "partial", features / "minilm.h5")
    assert (index.ids, index.entries, index.width) == (0, 0, text.width)
    retriever = load_retriever(tmp_path / "data/models/retrievers/tower/1", "cpu")
    indexes, _ = encode(
        EncodingPlan(name="tower", frames=True, **own),
        manifest,
        open_stores(features, ["logmel"]),
        open_stores(features, ["minilm"]),
        retriever,
        "0",
        tmp_path / "partial",
        tmp_path / "encoded",
    )
    assert {part: index.ids for part, index in indexes.items()} == {
        "frames": len(clips),
        "sound": len(clips),
        "text": 0,
    }


def test_without_a_table_all_sound_below_the_root_is_the_set(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    names = [clip.file_name for clip in prepared(tmp_path).recordings("evaluation")]
    there = sorted(path.name for path in (tmp_path / "set/sound").iterdir())
    assert names == there and len(names) == len(LISTED) + 1


def test_captions_of_the_table_are_not_read(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    table = "file_name,caption_1\nrain.flac,rain falls\nwind.wav,wind blows\n"
    (tmp_path / "set/known.csv").write_text(table)
    found = prepared(tmp_path, table="known.csv")
    assert [(c.file_name, c.captions) for c in found.clips] == [("rain.flac", ()), ("wind.wav", ())]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file_name\nrain.flac\nrain.flac\n", "line 3: 'rain.flac' occurs twice"),
        ("file_name\nrain.flac\nthunder.wav\n", "thunder.wav"),
        ("file_name\n../rain.flac\n", "leaves the dataset's folder"),
        ("name\nrain.flac\n", "file_name"),
    ],
)
def test_a_set_that_is_not_whole_is_refused(tmp_path: Path, table: str, message: str) -> None:
    write_set(tmp_path / "set")
    (tmp_path / "set/wrong.csv").write_text(table)
    with pytest.raises(EarwitnessError, match=message):
        prepared(tmp_path, table="wrong.csv")


@pytest.mark.parametrize("field", ["table", "queries"])
def test_tables_stay_below_the_root(tmp_path: Path, field: str) -> None:
    write_set(tmp_path / "set")
    (tmp_path / "outside.csv").write_text("file_name,caption\nrain.flac,rain\n")
    with pytest.raises(EarwitnessError, match="outside"):
        prepared(tmp_path, **{field: "../outside.csv"})


def test_one_broken_recording_stops_it(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    (tmp_path / "set/sound/wind.wav").write_text("no sound")
    with pytest.raises(EarwitnessError, match=r"wind\.wav"):
        prepared(tmp_path, table="set.csv")


def test_a_dataset_that_lost_its_captions_is_no_blind_one(tmp_path: Path) -> None:
    (tmp_path / "set/evaluation").mkdir(parents=True)
    soundfile.write(tmp_path / "set/evaluation/a.wav", np.zeros(16000), 16000)
    (tmp_path / "set/clotho_captions_evaluation.csv").write_text("file_name,caption_1\na.wav,\n")
    for layout in ("clotho", "folder"):
        with pytest.raises(EarwitnessError, match="no caption"):
            prepared(tmp_path, layout=layout)


def test_a_recipe_adds_a_blind_set(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    queries = tmp_path / "set/asked.csv"
    own = given(None, [], None, [], REPOSITORY, tmp_path / "set", queries)
    params = compose(REPOSITORY / "recipes", "showcase", "soundscapes", own).params
    found = params.datasets["blind"]
    assert isinstance(found, BlindDatasetConfig)
    assert (found.root, found.queries) == (str(tmp_path / "set"), "asked.csv")
    assert params.test_sets == params.retrieval_test_sets == ("soundscapes", "blind")
    alone = given(None, [], None, [], REPOSITORY, tmp_path / "set")
    params = compose(REPOSITORY / "recipes", "showcase", "soundscapes", alone).params
    assert params.test_sets == ("soundscapes", "blind")
    assert params.retrieval_test_sets == ("soundscapes",)
    (tmp_path / "elsewhere.csv").write_text("caption\nrain\n")
    outside = tmp_path / "set", tmp_path / "elsewhere.csv"
    for folder, table in ((None, queries), (tmp_path / "no", None), outside):
        with pytest.raises(EarwitnessError, match=r"--blind|--queries"):
            given(None, [], None, [], REPOSITORY, folder, table)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Run once, whole."""
    project = blind_project(tmp_path_factory.mktemp("blind"))
    project.shown = project.dvc("repro")  # type: ignore[attr-defined]
    project.commit("reproduced")
    return project


def test_a_blind_set_goes_through_the_whole_pipeline(project: Project) -> None:
    root = project.root
    ids = Manifest.load(root / "data/corpora/test.json").sounding.ids()
    captioned = rows(root / "data/predictions/test/alone.csv")
    assert [row["clip_id"] for row in captioned] == ids and len(ids) == len(LISTED)
    for system in ("frozen", "captioned"):
        ranking = rows(root / f"data/rankings/test/{system}.csv")
        assert [row["caption"] for row in ranking] == [*QUERIES]
        for row in ranking:
            listed = [row[f"fname_{place}"] for place in range(1, len(LISTED) + 1)]
            assert sorted(listed) == sorted(LISTED)
            assert row["fname_16"] == "" and "rank" not in row


def test_it_has_no_scores_and_says_so(project: Project) -> None:
    root, count = project.root, len(LISTED)
    said = project.shown  # type: ignore[attr-defined]
    assert f"test: {count} clips; no scores, as a blind set has no references" in said
    assert "no scores: of a blind set the answers are not known" in said
    assert json.loads((root / "metrics/test/alone.json").read_text()) == {"N": count}
    found = json.loads((root / "metrics/retrieval/test/frozen.json").read_text())
    assert found == {"N": count, "captions": len(QUERIES)}
    shown = json.loads(project.dvc("metrics", "show", "--json"))[""]["data"]
    assert shown["metrics/test/alone.json"]["data"] == {"N": count}
    assert "cider_d" in shown["metrics/soundscapes/alone.json"]["data"]
    assert not list((root / "metrics/test").glob("yardstick_*"))


def test_the_report_shows_its_captions(project: Project) -> None:
    page = (project.root / "data/report.html").read_text(encoding="utf-8")
    shown = {each["name"]: each for each in block(page, "clips")["datasets"]}
    assert shown["test"]["blind"] and not shown["soundscapes"]["blind"]
    assert shown["test"]["metrics"] == [] and shown["soundscapes"]["metrics"] != []
    assert not any(references for *_, references in shown["test"]["clips"])
    (system,) = shown["test"]["systems"]
    assert system["name"] == "alone" and not any(system["scores"].values())
    clips = [clip for clip, *_ in shown["test"]["clips"]]
    captioned = dict(zip(clips, system["captions"]["1"], strict=True))
    predicted = rows(project.root / "data/predictions/test/alone.csv")
    assert captioned == {row["clip_id"]: row["caption"] for row in predicted}


def test_a_submission_of_it_is_as_the_rules_ask(project: Project, tmp_path: Path) -> None:
    author = {
        "lastname": "Doe",
        "firstname": "Jo",
        "email": "jo@example.org",
        "corresponding": True,
        "affiliation": {"institute": "Home University", "location": "Tampere, Finland"},
    }
    systems = {name: {"name": name, "abbreviation": name} for name in ("alone", "frozen")}
    team = {"author": "Doe", "institute": "HOME", "authors": [author], "systems": systems}
    (project.root / "submission.yaml").write_text(json.dumps(team))  # JSON is YAML
    for kind, system, listed in (("captioning", "alone", 0), ("retrieval", "frozen", 16)):
        out = tmp_path / kind
        done = project.earwitness("submit", kind, system, "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert accepted(out, "task6", LISTED, QUERIES, listed)
        raw = project.root / "data/raw/test"
        tables = ["--files", str(raw / "set.csv"), "--queries", str(raw / "asked.csv")]
        done = project.earwitness("submit", "check", str(out), *tables)
        assert done.returncode == 0 and "all is as the rules ask" in done.stdout, done.stderr


def test_nothing_more_is_to_do_and_new_queries_encode_no_sound(project: Project) -> None:
    assert project.run("repro") == set()
    asked = project.root / "data/raw/test/asked.csv"
    asked.write_text("caption\nthunder\nsomebody laughs\n")
    ran = project.run("repro")
    assert {"prepare@test", "embed@test-minilm", "rank@test"} <= ran
    assert not {"extract@test-logmel", "decode@test-alone"} & ran
    ranking = rows(project.root / "data/rankings/test/frozen.csv")
    assert [row["caption"] for row in ranking] == ["thunder", "somebody laughs"]
