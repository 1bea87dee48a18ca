"""Training and decoding as stages: on sound whose kind the stored features give away."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.hardware import DeviceConfig
from pipeline.config.plans import CaptionerPlan, DecodingPlan
from pipeline.config.training import TrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import Caption
from pipeline.decoding.predictions import caption_clips, write_predictions
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.tensors import Padded
from pipeline.trained.captioner import TrainedCaptioner, load_captioner
from pipeline.training.checkpoints import STATE
from pipeline.training.cross_entropy import train_captioner
from stages import decode
from tests.learning import until_learned
from tests.plans import captioner_plan

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("dog barks", "bell rings", "engine idles", "bird sings", "rain falls")
FRAMES = ("a {}", "a {} outside", "somewhere a {}")
SIZES = {"development": 100, "validation": 15, "evaluation": 20}
KILLS = int(os.environ.get("EARWITNESS_KILLS", "3"))
FINISHED = {"model.safetensors", "model.json", "plan.json", "tokenizer.json", "curves.csv"}


def make_plan(
    name: str = "tiny", vocabulary: int = 100, seed: int = 1, **training: Any
) -> CaptionerPlan:
    sections = {
        "features": {"frames": 8, "width": 32},
        "fuser": {"layers": 1, "heads": 4, "reduced": 16, "feed_forward": 64},
        "translator": {
            "encoder_layers": 1, "decoder_layers": 1, "kernel": 5, "heads": 4, "feed_forward": 64,
        },
        "bart": {
            "pretrained": None, "vocabulary": vocabulary, "encoder_layers": 1, "decoder_layers": 1,
            "heads": 4, "width": 32, "feed_forward": 64, "max_tokens": 24,
        },
    }  # fmt: skip
    own = TrainingConfig(
        **{
            **until_learned(2), "batch": 20, "learning_rate": 6e-3, "validations_per_epoch": 3,
            "warmup_epochs": 0.5, **training,
        }
    )  # fmt: skip
    entry = {"architecture": "edtc", "features": ("one", "two"), "text": "words"}
    return captioner_plan(entry, sections, own, name=name, seed=seed)


def make_data(root: Path) -> Manifest:
    """A manifest and three feature files; a clip's kind is a direction of its features."""
    draw = np.random.default_rng(0)
    clips, kinds = [], []
    for split, count in SIZES.items():
        for number in range(count):
            kind = number % len(KINDS)
            captions = tuple(frame.format(KINDS[kind]) for frame in FRAMES)
            clips.append(Clip(f"{split}-{number}", split, f"{number}.wav", 1.0, captions))
            kinds.append(kind)
    manifest = Manifest("toy", "audio", tuple(clips))
    manifest.save(root / "data/corpora/toy.json")
    names = [clip.clip_id for clip in clips]
    rows = [f"{name}#{k}" for name in names for k in range(len(FRAMES))]
    texts = np.repeat(kinds, len(FRAMES))
    for encoder, ids, of, width, views in (
        ("one", names, kinds, 24, 2), ("two", names, kinds, 40, 1), ("words", rows, texts, 12, 1),
    ):  # fmt: skip
        directions = draw.normal(size=(len(KINDS), width))
        lengths = draw.integers(3, 10, len(ids) * views)
        which = np.repeat(np.repeat(of, views), lengths)
        values = directions[which] + 0.3 * draw.normal(size=(len(which), width))
        path = root / f"data/features/toy/{encoder}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = Header(encoder, {}, "0", 0.1, views)
        write_store(path, header, ids, lengths, width, [values.astype(np.float16)])
    return manifest


def stores(root: Path) -> tuple[list[FeatureStore], FeatureStore]:
    folder = root / "data/features/toy"
    sounds = [FeatureStore.open(folder / f"{name}.h5") for name in ("one", "two")]
    return sounds, FeatureStore.open(folder / "words.h5")


def train(root: Path, manifest: Manifest, plan: CaptionerPlan, output: str) -> Path:
    sounds, text = stores(root)
    train_captioner(plan, manifest, sounds, text, root / output, root / "data/checkpoints")
    return root / output


def stage(root: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DVC_ROOT"},
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=root, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A repository with one captioner, trained without interruption in this process."""
    root = tmp_path_factory.mktemp("repository")
    manifest = make_data(root)
    plan = make_plan()
    plan.save(root / "data/plans/captioners/tiny/1.json")
    train(root, manifest, plan, "data/models/captioners/tiny/1")
    return root, manifest


def accuracy(clips: list[str], captions: list[str]) -> float:
    kinds = [KINDS[int(clip.split("-")[1]) % len(KINDS)] for clip in clips]
    return float(np.mean([kind in text for kind, text in zip(kinds, captions, strict=True)]))


def test_the_captioner_names_the_kind(trained: tuple[Path, Manifest]) -> None:
    root, manifest = trained
    folder = root / "data/models/captioners/tiny/1"
    assert set(contents(folder)) == FINISHED
    assert list((root / "data/checkpoints").iterdir()) == []
    clips = [clip.clip_id for clip in manifest.split("evaluation")]
    tiny = Ensemble((load_captioner(folder, "cpu"),))
    captions = caption_clips(tiny, [stores(root)[0]], clips, DecodingConfig(), "tiny")
    assert accuracy(clips, [caption.text for caption in captions]) >= 0.9
    with (folder / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["cross_entropy"]) < float(rows[0]["cross_entropy"])
    assert max(float(row["validation_cider_d"]) for row in rows) > 3
    assert CaptionerPlan.load(folder / "plan.json") == make_plan()


def test_log_probs_are_those_of_the_teacher_forced_model(trained: tuple[Path, Manifest]) -> None:
    """Of every candidate, from the logits of the whole caption at once."""
    root, manifest = trained
    captioner = load_captioner(root / "data/models/captioners/tiny/1", "cpu")
    clips = [clip.clip_id for clip in manifest.split("evaluation")]
    tiny = Ensemble((captioner,))
    found = caption_clips(tiny, [stores(root)[0]], clips, DecodingConfig(beams=3), "tiny")
    compared = 0
    for clip, caption in zip(clips, found, strict=True):
        assert len(caption.candidates) == 2
        for text, log_prob in ((caption.text, caption.log_prob), *caption.candidates):
            # a search may spell a caption otherwise than the tokenizer does
            compared += abs(log_prob_of(captioner, root, clip, text) - log_prob) < 1e-3
    assert compared >= 0.8 * 3 * len(found)


@torch.no_grad()
def log_prob_of(captioner: TrainedCaptioner, root: Path, clip: str, text: str) -> float:
    """Of one caption, as the tokenizer spells it."""
    values = [store.entry(store.ids.index(clip)) for store in stores(root)[0]]
    features = tuple(
        Padded(torch.from_numpy(np.array(v)).float()[None], torch.tensor([len(v)])) for v in values
    )
    ids = torch.tensor(captioner.tokenizer.encode([text], 24))
    logits = captioner.model.logits(captioner.model.encode(features), ids[:, :-1])
    return float(logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).sum())


def wait_for_checkpoints(process: subprocess.Popen[str], root: Path, count: int) -> None:
    """Until the stage is at work and has written ``count`` checkpoints, or has ended."""
    began, seen = time.monotonic(), set()
    while process.poll() is None and time.monotonic() - began < 120:
        for state in root.glob(f"data/checkpoints/*/{STATE}"):
            with suppress(FileNotFoundError):
                seen.add(state.stat().st_mtime_ns)
        if len(seen) >= count and list(root.glob("data/checkpoints/*.lock")):
            return
        time.sleep(0.01)


def test_killed_stages_end_with_the_same_bytes(
    trained: tuple[Path, Manifest], tmp_path: Path
) -> None:
    root, _ = trained
    make_data(tmp_path)
    make_plan().save(tmp_path / "data/plans/captioners/tiny/1.json")
    output = tmp_path / "data/models/captioners/tiny/1"
    draw, kills, resumed = random.Random(1), 0, 0
    while True:
        process = stage(tmp_path, "stages.train_captioner", "tiny", "1")
        if kills == KILLS:
            code, out, err = finish(process)
            assert (code, err) == (0, "") and out.startswith("tiny: validation CIDEr-D ")
            break
        wait_for_checkpoints(process, tmp_path, draw.randint(0, max(1, 18 // KILLS)))
        time.sleep(draw.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        finish(process)
        kills += 1
        resumed += bool(list(tmp_path.glob(f"data/checkpoints/*/{STATE}")))
        if output.exists():  # it was there before the kill: then it is whole
            assert contents(output) == contents(root / "data/models/captioners/tiny/1")
    assert contents(output) == contents(root / "data/models/captioners/tiny/1")
    assert resumed > 0
    assert list((tmp_path / "data/checkpoints").iterdir()) == []
    assert [path.name for path in output.parent.iterdir()] == ["1"]


def save_system(
    root: Path, name: str, *captioners: str, combine: Any = "log_probs", **settings: Any
) -> None:
    DecodingPlan(
        name=name,
        inputs={},
        code={},
        dataset="toy",
        split="evaluation",
        captioners=captioners,
        combine=combine,
        **{"decoding": DecodingConfig(), **settings},
    ).save(root / f"data/plans/systems/toy-{name}.json")


def test_decode_writes_the_same_table_twice(
    trained: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, manifest = trained
    save_system(root, "tiny", "tiny")
    save_system(root, "five", "tiny", "tiny", "none")
    path = root / "data/predictions/toy/tiny.csv"
    code, out, err = finish(stage(root, "stages.decode", "toy", "tiny"))
    assert code == 0, err
    assert out.startswith("tiny on toy: 20 clips, ") and "clips per second" in out
    tables = [path.read_bytes()]
    monkeypatch.chdir(root)
    decode.main("toy", "tiny")
    tables.append(path.read_bytes())
    assert tables[0] == tables[1]
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["seed", "clip_id", "caption", "log_prob", "candidates"]
    clips = [row["clip_id"] for row in rows]
    assert clips == [clip.clip_id for clip in manifest.split("evaluation")]
    assert accuracy(clips, [row["caption"] for row in rows]) >= 0.9
    for row in rows:
        others = json.loads(row["candidates"])
        assert len(others) == 3 and all(log_prob < 0 for _, log_prob in others)
    with pytest.raises(EarwitnessError, match=r"none/1: no captioner; run `dvc repro"):
        decode.main("toy", "five")
    with pytest.raises(EarwitnessError, match="run `dvc repro plan`"):
        decode.main("toy", "three")


def test_decode_uses_the_plans_seed_and_threads(
    trained: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = trained
    monkeypatch.chdir(root)
    tables, before = [], torch.get_num_threads()
    models = root / "data/models/captioners/tiny"
    shutil.copytree(models / "1", models / "2")  # so that the draws alone differ
    for seed in (1, 1, 2):
        hardware = DeviceConfig(device="cpu", threads=seed + 1)
        sample = DecodingConfig(method="sample")
        save_system(root, "drawn", "tiny", decoding=sample, seeds=(seed,), hardware=hardware)
        decode.main("toy", "drawn")
        assert torch.get_num_threads() == seed + 1
        with (root / "data/predictions/toy/drawn.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row.pop("seed") for row in rows} == {str(seed)}
        tables.append(rows)
    shutil.rmtree(models / "2")
    torch.set_num_threads(before)
    assert tables[0] == tables[1] != tables[2]


def test_decode_with_two_captioners(
    trained: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of different seeds: a caption's log-probability is the mean of what both give it."""
    root, manifest = trained
    folder = root / "data/models/captioners"
    train(root, manifest, make_plan("second", seed=2), "data/models/captioners/second/1")
    fewer = make_plan("fewer", vocabulary=64, epochs=1)
    train(root, manifest, fewer, "data/models/captioners/fewer/1")
    monkeypatch.chdir(root)
    save_system(root, "two", "tiny", "second")
    decode.main("toy", "two")
    with (root / "data/predictions/toy/two.csv").open(encoding="utf-8") as file:
        rows = {row["clip_id"]: row for row in csv.DictReader(file)}
    assert accuracy(list(rows), [row["caption"] for row in rows.values()]) >= 0.9
    members = [load_captioner(folder / name / "1", "cpu") for name in ("tiny", "second")]
    compared = 0
    for clip, row in rows.items():
        each = [log_prob_of(member, root, clip, row["caption"]) for member in members]
        compared += abs(sum(each) / 2 - float(row["log_prob"])) < 1e-3
    assert compared >= 0.8 * len(rows)
    save_system(root, "odd", "tiny", "second", "fewer", combine="probs")
    with pytest.raises(EarwitnessError, match="captioners tiny and fewer write in different voc"):
        decode.main("toy", "odd")


def test_predictions_are_csv_whatever_the_caption(tmp_path: Path) -> None:
    caption = Caption('a "dog", barks', -1.23456, (("émile\nsings", -2.0),))
    write_predictions(tmp_path / "p.csv", ["a,b"], {1: [caption]})
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["clip_id"] == "a,b" and row["caption"] == 'a "dog", barks'
    assert row["log_prob"] == "-1.2346"
    assert json.loads(row["candidates"]) == [["émile\nsings", -2.0]]


def test_seeds_differ(trained: tuple[Path, Manifest]) -> None:
    root, manifest = trained
    first = train(root, manifest, make_plan("a", epochs=1, seed=1), "a")
    again = train(root, manifest, make_plan("a", epochs=1, seed=1), "b")
    other = train(root, manifest, make_plan("a", epochs=1, seed=2), "c")
    assert contents(first) == contents(again)
    weights = "model.safetensors"
    assert contents(first)[weights] != contents(other)[weights]


def test_errors_of_the_user(trained: tuple[Path, Manifest], tmp_path: Path) -> None:
    root, manifest = trained
    sounds, text = stores(root)
    captioner = load_captioner(root / "data/models/captioners/tiny/1", "cpu")
    with pytest.raises(EarwitnessError, match=r"two.h5: 40 wide, but captioner tiny was trained"):
        caption_clips(
            Ensemble((captioner,)), [sounds[::-1]], ["evaluation-0"], DecodingConfig(), "tiny"
        )
    with pytest.raises(
        EarwitnessError, match=r"no captioner; run `dvc repro train_captioner finetune`"
    ):
        load_captioner(root / "data/models/captioners/none")
    bare = Clip("bare", "development", "x.wav", 1.0, ())
    with pytest.raises(EarwitnessError, match=r"'bare' of development has no caption"):
        with_bare = Manifest("toy", "audio", (*manifest.clips, bare))
        train_captioner(make_plan(), with_bare, sounds, text, tmp_path / "o", tmp_path / "c")
    code, _, err = finish(stage(root, "stages.train_captioner", "none", "1"))
    assert (
        code == 1 and err.count("\n") == 1 and "none/1.json: not there; run `dvc repro plan`" in err
    )


def test_a_pickle_in_place_of_weights(trained: tuple[Path, Manifest], tmp_path: Path) -> None:
    for name, content in contents(trained[0] / "data/models/captioners/tiny/1").items():
        (tmp_path / name).write_bytes(content)
    torch.save({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(EarwitnessError, match=r"model.safetensors: not safetensors"):
        load_captioner(tmp_path)


def test_a_folder_of_an_older_layout_is_refused(
    trained: tuple[Path, Manifest], tmp_path: Path
) -> None:
    """Its plan had a module's settings beside each other, its form no token ids."""
    files = contents(trained[0] / "data/models/captioners/tiny/1")
    plan, form = json.loads(files["plan.json"]), json.loads(files["model.json"])
    model = plan.pop("model")
    older = {
        "plan.json": {**plan, **model, "seq2seq": None},
        "model.json": {"widths": form["widths"], "model": form["configuration"]},
    }
    for name, values in older.items():
        for each, content in files.items():
            (tmp_path / each).write_bytes(content)
        (tmp_path / name).write_text(json.dumps(values))
        with pytest.raises(EarwitnessError, match="run `dvc repro") as caught:
            load_captioner(tmp_path)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
