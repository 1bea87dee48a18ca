"""docs/extending.md, as a reader follows it: each diff is applied and each command is run.

All in one copy of the working tree, where the parts build on each other. What needs the copy's code
is computed by ``MEASURE``, there, and compared here.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY
from ruamel.yaml import YAML

from pipeline.corpora.manifest import Manifest
from pipeline.encoders.spectrogram import LogMel
from pipeline.features.store import FeatureStore

LIMITS = {"A dataset layout": 3, "An encoder": 3, "A captioner": 4, "A loss": 2, "A metric": 2}
RATE = 16000
KINDS = {"horn": "a horn blows", "whistle": "a high whistle", "waves": "waves wash the shore"}
SOUNDS = {"horn": (0.8, 200, 1e-3), "whistle": (0.02, 3000, 1e-3), "waves": (0, 0, 0.1)}
SPLITS = {"development": range(8), "validation": range(8, 10), "evaluation": range(10, 12)}
MEASURE = """
import json, sys
from pathlib import Path
import torch
import earwitness
from pipeline.config.datasets import JsonlDatasetConfig
from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError
from pipeline.metrics.evaluate import Tools, evaluate
from pipeline.models.biencoder import BiEncoder, Pairs, StoredMeans
from pipeline.tensors import Padded

asked, found = json.loads(sys.argv[1]), {}
found["captions"] = [c.text for c in earwitness.load("pooled").caption(asked["sounds"])]

candidates, references = asked["captions"]
settings, tools = EvaluationConfig(spice=False, sbert=None), Tools(java=None, spice=None)
scores = evaluate({"mine": candidates}, references, settings, tools).scores["mine"]
found["metric"] = [scores.corpus["length_ratio"], scores.clips["length_ratio"].tolist()]

found["refused"] = []
for line in asked["lines"]:
    Path("lines").mkdir(exist_ok=True)
    Path("lines/clips.jsonl").write_text(line)
    try:
        prepare("lines", JsonlDatasetConfig(layout="jsonl", root="lines"), Path(), Path())
    except EarwitnessError as error:
        found["refused"].append(str(error))

torch.manual_seed(0)
settings = BiEncoderConfig(width=8, loss="cosface", margin=0.3, temperature=0.2)
model = BiEncoder(StoredMeans([5]), StoredMeans([4]), settings)
sound = Padded(torch.randn(4, 3, 5), torch.tensor([3, 2, 3, 1]))
text = Padded(torch.randn(4, 2, 4), torch.full((4,), 2))
pairs = Pairs((sound,), (text,), torch.tensor([0, 0, 1, 2]))
losses = model.loss(pairs)
sides = [model.embed_sound(pairs.sound).tolist(), model.embed_text(pairs.text).tolist()]
both = [losses.audio_to_text.item(), losses.text_to_audio.item()]
losses.total.backward()
torch.optim.SGD(model.parameters(), 0.01).step()
found["loss"] = {
    "sides": sides, "both": both, "temperature": losses.temperature.item(),
    "slope": model.log_scale.grad.item(), "after": model.loss(pairs).total.item(),
}
print(json.dumps(found))
"""


def sections() -> dict[str, str]:
    """Heading → text, of the sections that have a diff."""
    page = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    parts = (part.split("\n", 1) for part in page.split("\n## ")[1:])
    return {heading: text for heading, text in parts if "```diff\n" in text}


SECTIONS = sections()


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)


def merge(values: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = value


class Copy:
    """A copy of this working tree, to which the page's diffs are applied."""

    def __init__(self, root: Path) -> None:
        self.root = root / "copy"
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CEILING_DIRECTORIES": str(root),
            "OMP_NUM_THREADS": "1",
        }
        self.params: dict[str, Any] = {"encoders": {}}
        listed = ["git", "ls-files", "-co", "--exclude-standard"]
        names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        for name in names.stdout.splitlines():
            if (REPOSITORY / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, self.root / name)

    def run(self, *command: str, given: str | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def plan(self, kind: str, name: str) -> dict[str, Any]:
        path = self.root / "data" / "plans" / kind / f"{name}.json"
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return plan

    def follow(self, section: str) -> list[tuple[str, str, str]]:
        """Adds the section's parameters; each command, what it is to print and what it prints."""
        for block in blocks(section, "yaml"):
            merge(self.params, YAML(typ="safe").load(block))
        with (self.root / "params.yaml").open("w", encoding="utf-8") as stream:
            YAML().dump(self.params, stream)
        followed = []
        for block in blocks(section, "console"):
            for command, expected in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.M):
                followed.append((command, expected, self.run("bash", "-c", command)))
        return followed


def write_sounds(folder: Path) -> None:
    """Recordings of three kinds, and their table, as the page says."""
    folder.mkdir(parents=True)
    draw, time = np.random.default_rng(1), np.arange(RATE // 2) / RATE
    lines = []
    for kind, caption in KINDS.items():
        for split, numbers in SPLITS.items():
            for number in numbers:
                level, pitch, noise = SOUNDS[kind]
                sound = level * np.sin(2 * np.pi * pitch * draw.uniform(0.9, 1.1) * time)
                sound += draw.normal(0, noise, len(time))
                name = f"{kind}-{number}.wav"
                soundfile.write(folder / name, sound, RATE)
                lines.append(json.dumps({"file": name, "split": split, "captions": [caption]}))
    (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """With all diffs applied, each of which must apply to the tree as it is."""
    copy = Copy(tmp_path_factory.mktemp("extending"))
    for section in SECTIONS:
        for diff in blocks(section, "diff"):
            copy.run("git", "apply", "--check", given=diff)
    for section in SECTIONS:
        for diff in blocks(section, "diff"):
            copy.run("git", "apply", given=diff)
    write_sounds(copy.root / "data" / "raw" / "harbour")
    return copy


@pytest.fixture(scope="module")
def followed(copy: Copy) -> dict[str, list[tuple[str, str, str]]]:
    return {section: copy.follow(section) for section in SECTIONS}


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    return {
        "sounds": [f"data/raw/harbour/{kind}-11.wav" for kind in KINDS],
        "captions": [
            ["a dog barks", "it rains heavily on a roof"],
            [["dogs", "one dog barks twice"], ["rain falls on a roof"]],
        ],
        "lines": [
            "{",
            '{"file": "../a.wav", "split": "development", "captions": ["a"]}',
            '{"file": "a.wav", "split": "development", "caption": ["a"]}',
        ],
    }


@pytest.fixture(scope="module")
def found(
    copy: Copy, followed: dict[str, list[tuple[str, str, str]]], asked: dict[str, Any]
) -> dict[str, Any]:
    """What the copy's code makes of ``asked``."""
    out = copy.run("python", "-c", MEASURE, json.dumps(asked))
    values: dict[str, Any] = json.loads(out.splitlines()[-1])
    return values


def test_each_kind_is_on_the_page() -> None:
    assert SECTIONS.keys() == LIMITS.keys()


@pytest.mark.parametrize("section", LIMITS)
def test_few_files_are_touched(copy: Copy, section: str) -> None:
    (diff,) = blocks(section, "diff")
    touched = copy.run("git", "apply", "-R", "--numstat", given=diff).splitlines()
    assert 1 <= len(touched) <= LIMITS[section], touched


@pytest.mark.parametrize("section", LIMITS)
def test_commands_print_what_the_page_says(
    followed: dict[str, list[tuple[str, str, str]]], section: str
) -> None:
    assert followed[section]
    for command, expected, printed in followed[section]:
        pattern = ".*".join(map(re.escape, expected.split("…")))
        assert re.fullmatch(pattern, printed), f"{command}\n{printed}"


def test_the_house_still_stands(copy: Copy) -> None:
    """Rooms, circles, fields and registries, in the copy; and the diffs are formatted."""
    tests = [
        *("tests/test_rooms.py", "tests/test_config_holds_fields.py"),
        "tests/test_corpora.py::test_every_layout_of_the_parameters_is_registered",
    ]
    copy.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    copy.run("ruff", "check", "--no-cache", "pipeline")
    copy.run("ruff", "format", "--no-cache", "--check", "pipeline")


def test_the_layout_becomes_a_manifest(copy: Copy, found: dict[str, Any]) -> None:
    manifest = Manifest.load(copy.root / "data" / "corpora" / "harbour.json")
    clips = {clip.clip_id: clip for clip in manifest.clips}
    assert len(clips) == 36 and manifest.root == "data/raw/harbour"
    for kind, caption in KINDS.items():
        for split, numbers in SPLITS.items():
            for number in numbers:
                clip = clips[f"{kind}-{number}"]
                assert (clip.split, clip.captions, clip.duration) == (split, (caption,), 0.5)
    where = "lines/clips.jsonl: line 1"
    broken, outside, misspelt = found["refused"]
    assert broken.startswith(f"{where}: not JSON (")
    assert outside == f"{where}: file '../a.wav' leaves the dataset's folder; correct it"
    assert misspelt.startswith(f"{where}: caption") and "captions" in misspelt


def test_the_encoder_describes_the_spectrum(copy: Copy, found: dict[str, Any]) -> None:
    """In every frame, by a loop in float64."""
    store = FeatureStore.open(copy.root / "data" / "features" / "harbour" / "moments.h5")
    logmel = LogMel(RATE, 1024, 1600, 64, 50.0, 8000.0)
    bands = np.arange(64) / 63
    for kind in KINDS:
        path = copy.root / f"data/raw/harbour/{kind}-3.wav"
        sound = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        expected = []
        for frame in logmel(sound[None], torch.tensor([len(sound)])).values[0].double().numpy():
            power = 10 ** (frame / 10)
            centroid = np.average(bands, weights=power)
            spread = math.sqrt(np.average((bands - centroid) ** 2, weights=power))
            flatness = np.log10(power).mean() - math.log10(power.mean())
            expected.append([math.log10(power.mean()), centroid, spread, flatness])
        stored = store.entry(store.ids.index(f"{kind}-3"))
        np.testing.assert_allclose(stored, expected, rtol=2e-3, atol=2e-3)


def test_the_captioner_captions(found: dict[str, Any]) -> None:
    assert found["captions"] == [*KINDS.values()]


def test_an_edit_of_one_captioner_trains_no_other(
    copy: Copy, followed: dict[str, list[tuple[str, str, str]]], found: dict[str, Any]
) -> None:
    other = {**copy.params["captioners"]["pooled"], "architecture": "seq2seq"}
    merge(copy.params, {"captioners": {"other": other}})
    with (copy.root / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(copy.params, stream)
    file = copy.root / "pipeline" / "models" / "captioners" / "pooled.py"
    own, plans = file.read_text(encoding="utf-8"), []
    for line in ("# a comment", "LAYERS = 3"):
        file.write_text(f"{own}\n{line}\n", encoding="utf-8")
        copy.run("python", "-m", "stages.plan", "captioners")
        plans.append({name: copy.plan("captioners", f"{name}/1") for name in ("pooled", "other")})
    file.write_text(own, encoding="utf-8")
    before, after = plans
    assert before["other"] == after["other"]
    assert before["pooled"].pop("code") != after["pooled"].pop("code")
    assert before["pooled"] == after["pooled"]


def test_the_loss_is_its_formula(copy: Copy, found: dict[str, Any]) -> None:
    """The retriever of the page has it by its setting; a step by its gradients lowers it."""
    assert copy.plan("retrievers", "cosface/1")["biencoder"]["loss"] == "cosface"
    loss = found["loss"]
    audio, text = loss["sides"]
    clips, margin, scale = [0, 0, 1, 2], 0.3, 1 / 0.2
    for one, other, value in ((audio, text, loss["both"][0]), (text, audio, loss["both"][1])):
        total = 0.0
        for i, vector in enumerate(one):
            cosines = [sum(a * b for a, b in zip(vector, own, strict=True)) for own in other]
            pair = math.exp(scale * (cosines[i] - margin))
            others = sum(
                math.exp(scale * cosine) for j, cosine in enumerate(cosines) if clips[j] != clips[i]
            )
            total -= math.log(pair / (pair + others)) / len(one)
        assert value == pytest.approx(total, rel=1e-4)
    assert loss["temperature"] == pytest.approx(0.2) and loss["slope"] != 0
    assert loss["after"] < sum(loss["both"])


def test_the_metric_is_among_the_scores(found: dict[str, Any]) -> None:
    corpus, clips = found["metric"]
    assert clips == pytest.approx([3 / 2.5, 6 / 5]) and corpus == pytest.approx(1.2)
