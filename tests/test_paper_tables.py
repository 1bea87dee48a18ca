"""The papers' tables as data: each row can be made, and each number is the paper's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from ruamel.yaml import YAML

from earwitness import recipes
from earwitness.tables.reading import listing, read_table, read_tables
from earwitness.tables.resolving import chosen_rows, code_of, own_values, runs_of
from earwitness.tables.running import members, progress, trainings
from pipeline.errors import EarwitnessError

FOLDER = REPOSITORY / "recipes"
TABLES = {each.name: each for each in read_tables(FOLDER)}
PAPERS = {  # of each paper, its tables with results, by number
    "edtc": (1, 2, 3),
    "sjtu": (3, 4),
    "wsac": (1,),
    "rlssr": (1, 2, 3),
    "cmu": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
}
# copied from the papers' own tables, as they are printed there: a row a line, its numbers last
PRINTED = {
    ("edtc-1", "clotho"): """
        zhang      0.566 0.161 0.375 0.176 0.409 0.121 0.265 -
        ye         0.577 0.174 0.377 0.174 0.419 0.119 0.269 -
        komatsu    0.601 0.166 0.388 0.194 0.454 0.127 0.291 0.289
        wu         - - - 0.187 0.474 0.134 0.304 0.303
        ours       0.597 0.177 0.391 0.188 0.483 0.135 0.309 0.304
        mei        0.601 0.180 0.400 0.185 0.488 0.133 0.310 -
        wu-rerank  - - - 0.193 0.506 0.146 0.326 0.326""",
    ("edtc-1", "audiocaps"): """
        liu        0.698 0.281 0.494 0.237 0.711 0.172 0.442 -
        m-kim      0.713 0.309 0.503 0.240 0.733 0.177 0.455 -
        deshmukh   0.691 0.253 0.482 0.232 0.752 0.182 0.467 -
        e-kim      0.700 0.289 0.502 0.242 0.769 0.181 0.475 -
        mei        0.707 0.283 0.507 0.249 0.787 0.182 0.485 -
        ours       0.702 0.280 0.507 0.254 0.806 0.180 0.493 0.484""",
    ("edtc-2", "clotho"): """
        cnn14             0.169 0.405 0.115 0.260 0.257
        htsat             0.178 0.426 0.126 0.276 0.274
        convnext          0.172 0.398 0.122 0.260 0.256
        fuser             0.185 0.463 0.131 0.297 0.293
        htsat-fuser       0.184 0.454 0.133 0.293 0.292
        fuser-translator  0.186 0.470 0.135 0.302 0.297
        htsat-translator  0.182 0.450 0.133 0.290 0.288
        htsat-twin        0.182 0.453 0.132 0.293 0.286
        all               0.188 0.483 0.135 0.309 0.304""",
    ("edtc-3", "clotho"): """
        baseline     0.186 0.470 0.135 0.302 0.297
        baseline-wu  0.186 0.458 0.134 0.296 0.294
        text         0.188 0.483 0.135 0.309 0.304
        text-wu      0.187 0.474 0.134 0.304 0.303
        rerank-wu    0.193 0.506 0.146 0.326 0.326""",
    ("sjtu-3", "clotho"): """
        gru                 16.4 38.6 18.1 42.1 12.6 27.4
        gru-scst            17.2 40.9 18.1 48.7 12.1 30.4
        transformer-2       16.6 37.8 17.9 42.1 12.7 27.4
        transformer-2-scst  18.2 41.2 18.6 50.9 12.0 31.5
        transformer-4       16.0 37.9 18.1 41.1 12.5 26.8
        transformer-4-scst  17.4 41.3 18.0 50.0 12.2 31.1
        ensemble-2          17.4 38.5 18.3 43.2 13.0 28.1
        ensemble-2-scst     18.7 41.3 18.8 52.4 12.6 32.5
        ensemble-4          17.6 39.0 18.4 43.8 13.1 28.5
        ensemble-4-scst     18.3 41.5 18.6 51.3 12.6 32.0
        ensemble-6          17.4 39.4 18.5 43.9 13.2 28.5
        ensemble-6-scst     18.3 41.5 18.6 51.3 12.6 32.0""",
    ("sjtu-4", "clotho"): """
        wlcnn14-bert-base   15.4 38.9 53.0 25.6
        cnn14-bert-medium   15.0 38.2 52.0 25.1
        cnn14-bert-base     14.9 38.1 52.3 24.9
        cnn14-roberta-base  16.2 38.3 52.0 25.8
        ast-bert-base       14.6 37.6 50.2 24.4
        ensemble            18.8 44.7 58.7 29.9""",
    ("rlssr-1", "clotho"): """
        base             0.516 0.330 0.219 0.142 0.348 0.152 0.319 0.102 0.210
        pann             0.542 0.363 0.248 0.163 0.362 0.161 0.369 0.108 0.242
        no-encoder       0.523 0.337 0.227 0.151 0.353 0.153 0.332 0.102 0.211
        no-encoder-pann  0.538 0.350 0.235 0.153 0.362 0.158 0.348 0.106 0.227""",
    ("rlssr-2", "clotho"): """
        base     0.516 0.330 0.219 0.142 0.348 0.152 0.319 0.102 0.210
        base-l2  0.518 0.335 0.228 0.152 0.352 0.151 0.326 0.102 0.214
        base-l1  0.515 0.338 0.234 0.159 0.351 0.151 0.325 0.098 0.212
        pann     0.542 0.363 0.248 0.163 0.362 0.161 0.369 0.108 0.242
        pann-l2  0.552 0.370 0.251 0.166 0.369 0.163 0.375 0.112 0.240
        pann-l1  0.551 0.369 0.252 0.168 0.373 0.165 0.38 0.111 0.246""",
    ("rlssr-3", "clotho"): """
        baseline  0.389 0.136 0.055 0.015 0.262 0.084 0.074 0.033 0.054
        precnn    0.534 0.343 0.230 0.151 0.356 0.160 0.346 0.108 0.227
        at-cnn10  0.556 0.363 0.242 0.159 0.368 0.169 0.377 0.115 -
        pann-l1   0.551 0.369 0.252 0.168 0.373 0.165 0.380 0.111 0.246""",
    ("cmu-3", "clotho"): """
        benchmark  0.03 0.11 0.19 0.07
        baseline   0.02 0.09 0.16 0.05""",
    ("cmu-9", "clotho"): """
        pretrained  0.555 0.358 0.239 0.156 0.164 0.364 0.358 0.109 0.233
        scratch     0.506 0.331 0.219 0.135 0.140 0.346 0.237 0.093 0.165
        crnn        0.318 0.142 0.065 0.022 0.100 0.253 0.031 0.035 0.033
        mean        0.486 0.315 0.211 0.127 0.134 0.341 0.198 0.088 0.143
        last-two    0.508 0.333 0.221 0.136 0.143 0.349 0.244 0.094 0.169
        adapter-2   0.509 0.336 0.225 0.139 0.141 0.348 0.248 0.093 0.171
        layers-7    0.507 0.337 0.226 0.141 0.141 0.351 0.248 0.091 0.170
        final       0.553 0.357 0.236 0.147 0.159 0.361 0.321 0.104 0.213""",
    ("cmu-10", "clotho"): """
        baseline              0.02 0.09 0.16 0.05
        lstm                  0.02 0.08 0.15 0.04
        vggish                0.02 0.08 0.14 0.04
        shared-space          0.02 0.10 0.17 0.06
        sentence-transformer  0.04 0.16 0.25 0.09""",
}


def test_every_table_of_the_five_papers_is_there() -> None:
    wanted = {f"{paper}-{number}" for paper, numbers in PAPERS.items() for number in numbers}
    for name in wanted:
        assert read_table(FOLDER, name).table.paper == name.partition("-")[0]
    also = {name for each in TABLES.values() for name in each.table.also}
    assert {*TABLES} | also == wanted
    shown = listing(FOLDER)
    assert all(name in shown for name in wanted)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_can_be_made_on_every_dataset(name: str) -> None:
    """By parameters that hold together, with the row's system; planning needs no more."""
    named = TABLES[name]
    for dataset in named.table.datasets:
        rows = chosen_rows(named, [], dataset)
        made: dict[str, Any] = {}
        for run in runs_of(named, rows, dataset, [1, 2, 3], FOLDER):
            assert run.params.seeds == (1, 2, 3)
            there = {*run.params.systems, *run.params.retrieval_systems}
            assert {row.system or row.retrieval_system for row in run.rows.values()} <= there
            made |= dict.fromkeys(run.rows)
            for row, settings in run.rows.items() if dataset == named.table.dataset else ():
                own = own_values(run, settings)
                systems = own["systems"], own["retrieval_systems"]
                assert (settings.system or settings.retrieval_system) in {
                    **systems[0],
                    **systems[1],
                }
                made[row] = own, code_of(own, REPOSITORY)
            ends = {"rank" if row.retrieval_system else "evaluate" for row in run.rows.values()}
            assert {f"{end}@{dataset}" for end in ends} <= {*run.targets}
        assert {*made} == {row for row, settings in rows.items() if settings.is_ours}
        if dataset == named.table.dataset:  # no two rows are one
            assert len({repr(each) for each in made.values()}) == len(made)
    lacking = {row for row, each in named.table.rows.items() if each.is_ours and each.datasets}
    assert lacking <= {"pretrained", "sentence-transformer"}


@pytest.mark.parametrize(("name", "dataset"), PRINTED)
def test_the_numbers_are_the_papers(name: str, dataset: str) -> None:
    rows = TABLES[name].table.rows
    printed = dict(line.split(maxsplit=1) for line in PRINTED[name, dataset].strip().splitlines())
    assert printed.keys() == {row for row, each in rows.items() if dataset in each.paper}
    for row, text in printed.items():
        factor = 1 if name.startswith("sjtu") else 100
        numbers = [None if each == "-" else factor * float(each) for each in text.split()]
        assert rows[row].paper[dataset] == pytest.approx(numbers, abs=1e-9), row


def test_no_number_is_without_its_second_transcription() -> None:
    there = {
        (name, dataset)
        for name, each in TABLES.items()
        for row in each.table.rows.values()
        for dataset in row.paper
    }
    assert there == {*PRINTED}
    assert [name for name in TABLES if name not in {name for name, _ in PRINTED}] == ["wsac-1"]


def test_rows_that_share_settings_share_a_run() -> None:
    """So that the features and the captioners that several rows need are made once."""
    rows = chosen_rows(TABLES["wsac-1"], [], "soundscapes")
    (run,) = runs_of(TABLES["wsac-1"], rows, "soundscapes", [1], FOLDER)
    assert {*run.params.captioners} == {
        "wsac", "wsac-ni", "wsac-es", "wsac-ni-es", "wsac-supervised"
    }  # fmt: skip
    rows = chosen_rows(TABLES["wsac-1"], ["wsac-pd"], "soundscapes")
    (run,) = runs_of(TABLES["wsac-1"], rows, "soundscapes", [1], FOLDER)
    assert {*run.params.captioners} == {"wsac"} and {*run.params.systems} == {"wsac-pd"}


def test_what_is_searched_by_its_captions_is_captioned() -> None:
    rows = chosen_rows(TABLES["cmu-10"], ["captions"], "soundscapes")
    (run,) = runs_of(TABLES["cmu-10"], rows, "soundscapes", [1], FOLDER)
    assert {*run.params.systems} == {"final"} and {*run.params.retrievers} == set()
    assert run.targets == ["evaluate@soundscapes", "rank@soundscapes"]


def test_a_table_by_its_row_has_the_base_row_too() -> None:
    named = read_table(FOLDER, "cmu-4")
    assert (named.name, named.only) == ("cmu-9", ("scratch", "crnn"))
    assert {*chosen_rows(named, [], "soundscapes")} == {"scratch", "crnn"}


def test_rows_of_other_settings_have_runs_of_their_own(tmp_path: Path) -> None:
    folder = own_table(tmp_path, {"base": None, "rows": {
        "one": {"label": "one", "system": "base"},
        "two": {"label": "two", "system": "base", "set": {"decoding.beams": 7}},
    }})  # fmt: skip
    named = read_table(folder, "own-1")
    one, two = runs_of(named, named.table.rows, "soundscapes", [4], folder)
    assert (one.params.decoding.beams, two.params.decoding.beams) == (4, 7)
    assert one.name != two.name and (*one.rows, *two.rows) == ("one", "two")
    assert one.params.seeds == two.params.seeds == (4,)


def own_table(folder: Path, changes: dict[str, Any]) -> Path:
    """A folder of recipes whose one table is RLSSR's first with ``changes``."""
    for path in FOLDER.glob("*.yaml"):
        (folder / path.name).write_bytes(path.read_bytes())
    values = YAML(typ="safe").load((FOLDER / "tables" / "rlssr-1.yaml").read_text(encoding="utf-8"))
    values |= changes
    values = {key: value for key, value in values.items() if value is not None}
    (folder / "tables").mkdir()
    with (folder / "tables" / "own-1.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(values, stream)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "bas"}, r"own-1\.yaml: base: 'bas' is not in rows; did you mean 'base'\?"),
        ({"columns": {"SPIDEr": "spider"}},
         r"rows\.base\.paper\.clotho: 9 numbers for 1 columns; give null where the paper has none"),
        ({"recipes": "rlssr"}, "recipes: unknown key; did you mean 'recipe'"),
        ({"recipe": None}, "recipe: missing; add it"),
        ({"dataset": "cloto"}, "dataset: 'cloto' is not in datasets; did you mean 'clotho'"),
        ({"seeds": 0}, "seeds: Input should be greater than or equal to 1"),
        ({"rows": {}}, "rows: Dictionary should have at least 1 item"),
        ({"rows": {"base": {"label": "x", "system": "a", "retrieval_system": "b"}}},
         "rows.base: has a system and a retrieval_system; name one of them"),
        ({"rows": {"base": {"label": "x", "set": {"a": 1}}}},
         "rows.base: set: is of a row with a system; name one"),
        ({"rows": {"base": {"label": "x"}}}, "base: row base has no system"),
        ({"rows": {"../x": {"label": "x", "system": "a"}}, "base": None}, "rows: .*: a name has"),
        ({"also": {"own-2": "bas"}}, "also: 'bas' is not in rows"),
        ({"rows": {"base": {"label": "x", "system": "a", "datasets": ["mars"]}}},
         r"rows\.base\.datasets: 'mars' is not in datasets"),
    ],
)  # fmt: skip
def test_a_table_out_of_form_is_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EarwitnessError, match=message) as caught:
        read_table(own_table(tmp_path, changes), "own-1")
    assert "own-1.yaml: " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"system": "bsae"}, r"table own-1 on soundscapes: no system 'bsae'; did you mean 'base'"),
        ({"retrieval_system": "base"}, "no retrieval_system 'base'"),
        ({"system": "base", "set": {"decoding.beam": 7}}, "decoding.beam: unknown key; did you"),
        ({"system": "base", "set": {"spaces.x.y": 7}}, "spaces"),
    ],
)
def test_a_row_that_its_recipe_has_not_is_one_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    folder = own_table(tmp_path, {"rows": {"base": {"label": "x", **row}}})
    named = read_table(folder, "own-1")
    with pytest.raises(EarwitnessError, match=re.escape(message) if "?" in message else message):
        runs_of(named, named.table.rows, "soundscapes", [1], folder)


@pytest.mark.parametrize("text", ["", "[]", "rows: [", "- a\n"])
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "own-1.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"own-1\.yaml: .*see docs/tables\.md"):
        read_table(tmp_path, "own-1")


def test_a_name_that_is_no_table_has_the_nearest() -> None:
    with pytest.raises(EarwitnessError, match="no table 'etdc-2'; did you mean 'edtc-2'"):
        read_table(FOLDER, "etdc-2")
    with pytest.raises(EarwitnessError, match="no tables there"):
        read_table(FOLDER / "tables", "edtc-2")
    assert "tables" not in recipes.available(FOLDER, "paper")  # they are no recipes


def test_progress_says_which_row_which_seed_and_what_remains() -> None:
    rows = chosen_rows(TABLES["sjtu-3"], ["transformer-2", "ensemble-2", "ensemble-4"], "clotho")
    (run,) = runs_of(TABLES["sjtu-3"], rows, "clotho", [1, 2], FOLDER)
    waiting = trainings(run)
    named = {job: str(each) for job, each in waiting.items() if job.startswith("train_captioner")}
    assert named["train_captioner@transformer-2-2"] == (
        "transformer-2, ensemble-2 and 1 more, seed 2"
    )
    assert named["train_captioner@transformer-4-1"] == "ensemble-4, seed 1"
    assert len(named) == 2 * 4 and len(waiting) == 2 * 5  # and the retriever that all hear through
    line = progress("Running stage 'train_captioner@transformer-4-1':\n", waiting)
    assert line == "train_captioner@transformer-4-1 (ensemble-4, seed 1); 9 more trainings after it"
    assert (
        progress("Stage 'train_captioner@transformer-4-2' didn't change, skipping", waiting) == ""
    )
    cached = (
        "Stage 'train_captioner@transformer-2-2' is cached - skipping run, checking out outputs"
    )
    assert progress(cached, waiting) == "" and len(waiting) == 7
    assert progress("Running stage 'decode@clotho-ensemble-4':", waiting) == (
        "decode@clotho-ensemble-4"
    )
    assert progress("epoch 1 of 3", waiting) == ""


def test_search_by_captions_needs_its_captioner() -> None:
    rows = chosen_rows(TABLES["cmu-10"], ["captions"], "soundscapes")
    (run,) = runs_of(TABLES["cmu-10"], rows, "soundscapes", [1], FOLDER)
    assert [*trainings(run)] == ["train_captioner@final-1"] and members(run, "captions") == [
        "final"
    ]
