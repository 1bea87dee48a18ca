"""The pipeline under DVC itself, on a corpus of seconds: what runs again, and what does not."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from project import Project
from tiny import TINY

from pipeline.corpora.manifest import Manifest
from pipeline.planning import PHASES

FURTHER = {"plan_adapt@adapted", "plan_finetune@transformer-scst"}
PLANS = {f"plan@{phase}" for phase in PHASES if phase not in ("adapted", "finetuned")} | FURTHER
# rank can search by a system's captions, so new predictions rank anew: seconds
PAGE = {"report"}  # it shows all parameters
AFTER_DECODE = {"evaluate@soundscapes", "rank@soundscapes", "report"}
AFTER_CAPTION = {"decode@soundscapes-edtc"} | AFTER_DECODE


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("pipeline"), TINY, forked=True)
    done = project.earwitness("repro")  # two jobs at a time
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ran = project.stages(done.stdout)
    assert {"train_captioner@edtc-1", "train_captioner@plain-1", "extract@soundscapes-panns"} <= ran
    assert {
        "train_retriever@cnn10-minilm-1",
        "adapt@adapted-1",
        "encode@soundscapes-cnn10-minilm",
        "make_space@tags",
        "encode@soundscapes-tags",
    } <= ran
    assert {"train_captioner@gru-1", "finetune@transformer-scst-1", "rank@soundscapes"} <= ran
    project.commit("reproduced")
    return project


def test_repro_leaves_scores_and_has_nothing_more_to_do(project: Project) -> None:
    scores = json.loads((project.root / "metrics/soundscapes/edtc.json").read_text())
    assert scores["N"] == 6
    assert {"cider_d", "bleu_4", "rouge_l", "meteor"} <= scores.keys()
    assert (project.root / "metrics/soundscapes/yardstick_constant.json").is_file()
    found = json.loads((project.root / "metrics/retrieval/soundscapes/both.json").read_text())
    assert found["N"] == 6 and 0 <= found["t2a_map10"] <= 1
    shown = project.dvc("metrics", "show")
    assert "metrics/soundscapes/ensemble.json" in shown
    assert "metrics/retrieval/soundscapes/both.json" in shown
    assert project.run("repro") == set()


def test_dvc_draws_a_curve_of_every_training(project: Project) -> None:
    shown = json.loads(project.dvc("plots", "show", "--json"))
    assert not shown.get("errors")
    plots = {name: filled(one) for name, (one,) in shown["data"].items()}
    models = project.root / "data" / "models"
    for kind, score in (
        ("encoders", "validation_map"),
        ("retrievers", "validation_map10"),
        ("captioners", "validation_cider_d"),
    ):
        for path in sorted((models / kind).glob("**/curves.csv")):
            name = path.parent.relative_to(models / kind).as_posix().replace("/", "-")
            plot = plots.pop(f"data/curves/{kind}/{name}.csv")
            with path.open(encoding="utf-8") as stream:
                rows = [(row["epoch"], row[score]) for row in csv.DictReader(stream)]
            assert [(at["epoch"], at["score"]) for at in plot["data"]["values"]] == rows
    check_histograms(project.root, plots)
    assert not plots


def filled(plot: dict[str, Any]) -> dict[str, Any]:
    """A template with its data; DVC gives its own as text, and a user's as it was read."""
    content = plot["content"]
    return json.loads(content) if isinstance(content, str) else content


def check_histograms(root: Path, plots: dict[str, Any]) -> None:
    """Takes out those of ``plots``; their values are counted again from the tables."""
    for kind, name, column in (
        ("scores", "soundscapes/cider_d", "cider_d"),
        ("rankings", "retrieval/soundscapes/rank", "rank"),
    ):
        plot = plots.pop(f"data/histograms/{name}.csv")
        assert plot["encoding"]["row"]["field"] == "system"
        assert plot["encoding"]["x"]["field"] == "value"
        shown = plot["data"]["values"]
        for path in (root / "data" / kind / "soundscapes").glob("*.csv"):
            with path.open(encoding="utf-8") as stream:
                values = [float(row[column]) for row in csv.DictReader(stream)]
            first = next(row for row in shown if row["system"] == path.stem)
            lowest = 0.25 if column == "cider_d" else 2
            expected = 100 * sum(value < lowest for value in values) / len(values)
            assert float(first["percent"]) == pytest.approx(expected, rel=1e-3)


def test_a_person_captions_files_of_any_format(project: Project, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (24000, 2))
    for name in ("a.wav", "b.ogg", "c.mp3", "d.flac"):
        soundfile.write(tmp_path / name, noise, 24000)
    (tmp_path / "e.wav").write_text("not a sound")
    files = sorted(str(path) for path in tmp_path.iterdir())
    done = project.earwitness("caption", *files, "--out", str(tmp_path / "captions.csv"))
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1 and "e.wav" in done.stderr
    with (tmp_path / "captions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == files[:4]
    # a stored clip gets the caption that the pipeline gave it
    with (project.root / "data/predictions/soundscapes/edtc.csv").open(encoding="utf-8") as stream:
        first = next(csv.DictReader(stream))
    manifest = Manifest.load(project.root / "data/corpora/soundscapes.json")
    path = next(clip.path for clip in manifest.clips if clip.clip_id == first["clip_id"])
    done = project.earwitness("caption", f"{manifest.root}/{path}")
    assert done.returncode == 0 and done.stdout.split("  ", 1)[1].strip() == first["caption"]


def test_the_doctor_says_what_is_there(project: Project) -> None:
    done = project.earwitness("doctor")
    assert "ok    captioner edtc" in done.stdout and "ok    dataset soundscapes" in done.stdout
    project.edit_params({"datasets": {**TINY["datasets"], "mine": MINE}})
    done = project.earwitness("doctor")
    project.git("checkout", "-q", "params.yaml")
    assert done.returncode == 1 and "MISS  dataset mine" in done.stdout


def test_the_graph_has_the_data_edges_that_dvc_does_not_show(project: Project) -> None:
    shown = project.earwitness("graph").stdout
    reads = dict(re.findall(r"^(\S+)\n    reads (.+)$", shown, re.MULTILINE))
    encoders = {f"extract@soundscapes-{name}" for name in TINY["captioners"]["edtc"]["features"]}
    assert encoders <= {*reads["train_captioner@edtc-1"].split(", ")}
    assert "encode@soundscapes-cnn10-minilm" in reads["train_captioner@gru-1"].split(", ")
    assert "tagging@panns" in reads["extract@soundscapes-panns"].split(", ")
    assert not any(name.startswith("plan@") for name in reads)
    picture = project.earwitness("graph", "--format", "mermaid").stdout
    nodes = dict(re.findall(r'^    (job\d+)\["(.+)"\]$', picture, re.MULTILINE))
    edges = re.findall(r"^    (job\d+) --> (job\d+)$", picture, re.MULTILINE)
    assert {*nodes.values()} == {line for line in shown.splitlines() if not line.startswith(" ")}
    assert ("tagging@panns", "extract@soundscapes-panns") in {
        (nodes[before], nodes[after]) for before, after in edges
    }


def test_why_says_what_differs_from_the_plan_of_the_last_run(
    project: Project, tmp_path: Path
) -> None:
    assert "up to date" in project.earwitness("why", "train_captioner@edtc-1").stdout
    elsewhere = project.earwitness(
        "why", "train_captioner@edtc-1", "--repository", str(project.root), folder=tmp_path
    )
    assert "train_captioner@edtc-1: up to date" in elsewhere.stdout
    assert "did you mean 'train_captioner@edtc-1'" in (
        project.earwitness("why", "train_captioner@etdc-1").stderr
    )
    source = project.root / "pipeline/models/layers/fuser.py"
    code = source.read_text(encoding="utf-8")
    source.write_text(code + "\n\nEXTRA = 1\n", encoding="utf-8")
    project.edit_params({"fuser": {**TINY["fuser"], "layers": 2}})
    found = project.earwitness("why", "train_captioner@edtc-1").stdout
    assert found.startswith("train_captioner@edtc-1 runs again:\n")
    assert "    model.fuser.layers: 1 → 2\n" in found
    assert "    code pipeline/models/layers/fuser.py changed\n" in found
    after = project.earwitness("why", "decode@soundscapes-edtc").stdout
    assert "before it, train_captioner@edtc-1 runs:" in after
    assert "up to date" in project.earwitness("why", "train_captioner@gru-1").stdout
    source.write_text(code, encoding="utf-8")
    project.git("checkout", "-q", "params.yaml")


def test_a_fuser_setting_reruns_only_what_has_a_fuser(project: Project) -> None:
    model = project.root / "data/models/captioners/edtc/1/model.safetensors"
    before = model.stat().st_size
    ran = project.run("exp", "run", "-S", "fuser.layers=3")
    assert ran == PLANS | {"train_captioner@edtc-1"} | AFTER_CAPTION
    assert model.stat().st_size > before
    changed = json.loads(project.dvc("metrics", "diff", "--json"))
    assert set(changed) == {
        "metrics/soundscapes/edtc.json",
        "metrics/retrieval/soundscapes/captioned.json",  # ranks by edtc's captions
    }
    shown = json.loads(project.dvc("plots", "diff", "--json"))
    (plot,) = shown["data"]["data/histograms/soundscapes/cider_d.csv"]
    values = filled(plot)["data"]["values"]
    assert {value["rev"] for value in values} == {"workspace", "HEAD"}
    project.git("checkout", "-q", ".")
    project.dvc("checkout", "-q")
    assert project.run("repro") == set()


def test_switching_a_tracker_on_trains_nothing_again(project: Project) -> None:
    assert project.run("exp", "run", "-S", "tracking=tensorboard") == PLANS | PAGE
    project.git("checkout", "-q", ".")
    project.dvc("checkout", "-q")


def test_a_reward_reruns_only_the_finetuning_and_what_follows(project: Project) -> None:
    ran = project.run("exp", "run", "-S", "scst.samples=2", "-S", "tracking=tensorboard")
    tracked = project.root / "data/tracking/tensorboard"
    (run,) = tracked.iterdir()
    assert run.name.startswith("captioner-transformer-scst-seed1-") and [*run.iterdir()]
    assert not project.git("status", "--porcelain", "data")
    assert ran == PLANS | AFTER_DECODE | {
        "finetune@transformer-scst-1",
        "decode@soundscapes-ensemble",
    }
    project.git("checkout", "-q", ".")
    project.dvc("checkout", "-q")


def test_docstrings_and_the_command_line_rerun_no_training(project: Project) -> None:
    for name in (
        "pipeline/models/layers/fuser.py",
        "pipeline/encoders/panns.py",
        "earwitness/cli.py",
    ):
        path = project.root / name
        path.write_text(re.sub(r'\A"""', '"""Changed. ', path.read_text(encoding="utf-8")))
    (project.root / "earwitness/cli.py").write_text("def main() -> None:\n    print()\n")
    assert project.run("repro") == PLANS
    project.git("checkout", "-q", ".")
    assert project.run("repro") <= PLANS  # DVC remembers these from before


def test_an_encoders_module_reruns_that_encoder_alone(project: Project) -> None:
    path = project.root / "pipeline/encoders/logmel.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nADDED = True\n", encoding="utf-8")
    # the features come out the same, so no captioner is trained again
    assert project.run("repro") == PLANS | {"extract@soundscapes-logmel"}
    project.git("checkout", "-q", ".")
    project.dvc("checkout", "-q")


def test_a_new_encoder_or_dataset_runs_only_what_is_new(project: Project) -> None:
    encoders = {**TINY["encoders"], "wave": {"module": "waveform", "frame": 3200}}
    project.edit_params({"encoders": encoders})
    assert project.run("repro") == PLANS | PAGE | {"extract@soundscapes-wave"}
    project.edit_params({"datasets": {**TINY["datasets"], "other": OTHER}})
    ran = project.run("repro")
    assert ran == PLANS | PAGE | {
        "prepare@other",
        *(f"extract@other-{name}" for name in encoders),
        "embed@other-minilm",
        "encode@other-cnn10-minilm",
        "encode@other-tags",
    }


OTHER = {
    "layout": "soundscapes",
    "seed": 8,
    "development": 2,
    "validation": 1,
    "evaluation": 1,
    "seconds": [1.0, 1.5],
}
MINE = {"layout": "clotho", "root": "nowhere"}
