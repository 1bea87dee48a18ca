"""The tagging stage: it learns, and killed or repeated it ends with the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score

from pipeline.config.encoders import HtsatEncoderConfig, PannsEncoderConfig, TaggingConfig
from pipeline.config.plans import TaggingPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.errors import EarwitnessError
from pipeline.training import tagging
from pipeline.training.tagging import (
    TaggedBatches,
    event_names,
    make_logmels,
    mean_average_precision,
    one_cycle,
    train_tagging,
)

RATE = 8000
TONES = {"low": 300.0, "middle": 900.0, "high": 2700.0}
PANNS = PannsEncoderConfig(
    module="panns",
    model="cnn10",
    weights="tagging",
    channels=4,
    sample_rate=RATE,
    n_fft=256,
    hop=128,
    mels=32,
    fmax=4000.0,
    window_seconds=2.0,
)
HTSAT = HtsatEncoderConfig(
    module="htsat",
    weights="tagging",
    embed_dim=8,
    depths=(1, 1),
    heads=(2, 2),
    window=4,
    spec_size=64,
    sample_rate=RATE,
    n_fft=256,
    hop=128,
    mels=32,
    fmax=4000.0,
    window_seconds=2.0,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Noise with none to three tones in it; one clip is longer than a window."""
    root = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    clips = []
    for number in range(80):
        seconds = 4.0 if number == 5 else random.uniform(0.6, 1.2)
        time = np.arange(int(seconds * RATE)) / RATE
        events = tuple(name for name in TONES if random.random() < 0.4)
        sound = random.normal(0, 0.02, len(time))
        for name in events:
            sound += 0.1 * np.sin(2 * np.pi * TONES[name] * time)
        split = "validation" if number >= 60 else "development"
        soundfile.write(root / f"{number}.wav", sound.astype(np.float32), RATE)
        clips.append(Clip(f"c{number}", split, f"{number}.wav", len(time) / RATE, (), events))
    return Manifest("tones", str(root), tuple(clips))


def make_plan(
    encoder: PannsEncoderConfig | HtsatEncoderConfig = PANNS, epochs: int = 4
) -> TaggingPlan:
    settings = TaggingConfig(dataset="tones", epochs=epochs, batch=8, learning_rate=3e-3)
    return TaggingPlan(name=encoder.module, inputs={}, code={}, encoder=encoder, tagging=settings)


def train(folder: Path, manifest: Manifest, plan: TaggingPlan) -> float:
    root = Path(manifest.root)
    return train_tagging(plan, manifest, root, folder / plan.name, folder / "checkpoints")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_it_learns_the_events_and_the_encoder_loads_it(tmp_path: Path, manifest: Manifest) -> None:
    plan = make_plan(epochs=6)
    score = train(tmp_path, manifest, plan)
    chance = np.mean([len(clip.events) / 3 for clip in manifest.split("validation")])
    assert score > 0.95 > chance + 0.3
    assert set(contents(tmp_path / "panns")) >= {"model.safetensors", "labels.json", "curves.csv"}
    header, *rows = (tmp_path / "panns" / "curves.csv").read_text().splitlines()
    assert header.endswith("validation_map")
    assert len(rows) == 6
    path = tmp_path / "panns" / "model.safetensors"
    encoder = build_sound_encoder(PANNS, path)
    saved = load_file(path)
    own = encoder.state_dict()
    assert all(torch.equal(own[name], saved[name]) for name in own)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_vanished_clip_is_named(tmp_path: Path, manifest: Manifest) -> None:
    """As after `dvc pull`, which brings what DVC holds, and not the sound."""
    clips = (replace(manifest.clips[0], path="away.wav"), *manifest.clips[1:])
    with pytest.raises(EarwitnessError, match=r"away\.wav: gone .* -f prepare@tones`"):
        train(tmp_path, replace(manifest, clips=clips), make_plan(epochs=1))


@pytest.mark.parametrize("encoder", [PANNS, HTSAT], ids=["panns", "htsat"])
def test_killed_after_any_epoch_it_ends_with_the_same_bytes(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, encoder: PannsEncoderConfig
) -> None:
    plan = make_plan(encoder, epochs=3)
    train(tmp_path / "quiet", manifest, plan)
    for stop in (5, 13, 10):  # steps of this process; an epoch has 8
        with monkeypatch.context() as patch:
            patch.setattr(tagging, "loss_of", stopping_after(stop))
            try:
                train(tmp_path / "killed", manifest, plan)
            except KeyboardInterrupt:
                torch.manual_seed(stop)  # what a new process has is not what this one had
                torch.rand(stop)
    train(tmp_path / "killed", manifest, plan)
    assert contents(tmp_path / "killed" / plan.name) == contents(tmp_path / "quiet" / plan.name)


def stopping_after(steps: int):
    whole = tagging.loss_of

    def loss_of(model):
        left = iter(range(steps))
        loss = whole(model)

        def stopping(batch):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return loss(batch)

        return stopping

    return loss_of


def test_a_second_run_at_once_is_refused(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan()

    def second(*args: object) -> None:
        with pytest.raises(EarwitnessError, match="running already"):
            train(tmp_path, manifest, plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(tagging, "make_logmels", second)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, manifest, plan)


def test_a_dataset_without_events_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    bare = replace(manifest, clips=tuple(replace(clip, events=()) for clip in manifest.clips))
    with pytest.raises(EarwitnessError, match="tones has no event labels"):
        train(tmp_path, bare, make_plan())


@pytest.mark.parametrize("encoder", [PANNS, HTSAT], ids=["panns", "htsat"])
def test_a_batch_gives_each_clip_alone(manifest: Manifest, encoder: PannsEncoderConfig) -> None:
    """Logits from gathered, half-precision log-mels are those of the waveform alone."""
    torch.manual_seed(0)
    model = tagging_model(encoder, 3).eval()
    cpu = torch.device("cpu")
    root = Path(manifest.root)
    clips = make_logmels(
        model, make_plan(encoder), manifest, root, "validation", event_names(manifest), cpu
    )
    batch = clips.batch(torch.arange(len(clips)))
    with torch.no_grad():
        logits = model.classify(batch.logmel, batch.lengths)
        for row, clip in enumerate(manifest.split("validation")):
            samples, _ = soundfile.read(root / clip.path, dtype="float32")
            alone = model(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
            torch.testing.assert_close(logits[row], alone[0], atol=5e-3, rtol=5e-3)
            expected = [float(name in clip.events) for name in ("high", "low", "middle")]
            assert batch.events[row].tolist() == expected


def test_a_long_clip_is_as_many_examples_as_it_has_windows(manifest: Manifest) -> None:
    model = tagging_model(PANNS, 3)
    classes, root = event_names(manifest), Path(manifest.root)
    clips = make_logmels(
        model, make_plan(), manifest, root, "development", classes, torch.device("cpu")
    )
    assert len(clips) == 60 + 1  # the sixth is 4 s long, a window 2 s
    assert torch.equal(clips.events[5], clips.events[6])


def test_every_epoch_has_each_clip_once_and_can_start_in_the_middle(manifest: Manifest) -> None:
    model = tagging_model(PANNS, 3)
    classes, root = event_names(manifest), Path(manifest.root)
    clips = make_logmels(
        model, make_plan(), manifest, root, "development", classes, torch.device("cpu")
    )
    clips.events = torch.arange(len(clips))[:, None].float()  # the clip's number in its place
    batches = TaggedBatches(clips, 8, seed=3)
    epochs = [[batch.events[:, 0].tolist() for batch in batches.epoch(e)] for e in (0, 1)]
    for epoch in epochs:
        assert len(epoch) == batches.steps
        assert sorted(number for batch in epoch for number in batch) == list(range(len(clips)))
    assert epochs[0] != epochs[1]
    rest = [batch.events[:, 0].tolist() for batch in batches.epoch(1, start=5)]
    assert rest == epochs[1][5:]


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = (random.random((40, 6)) < 0.2).astype(np.float32)
    truth[:, 5] = 0  # no clip has it
    scores = random.integers(-9, 9, truth.shape).astype(np.float32)  # with ties
    exact = scores.astype(np.float64)  # scikit-learn computes in its input's precision
    there = [c for c in range(6) if truth[:, c].any()]
    expected = np.mean([average_precision_score(truth[:, c], exact[:, c]) for c in there])
    assert mean_average_precision(scores, truth) == pytest.approx(expected, abs=1e-12)


def test_the_rate_is_one_cycle() -> None:
    factors = [one_cycle(200)(step, []) for step in range(201)]
    top = int(np.argmax(factors))
    assert 0 < factors[0] < 0.1
    assert top == pytest.approx(0.15 * 200, abs=1)
    assert factors[top] == pytest.approx(1.0, abs=0.01)
    assert all(np.diff(factors[:top]) > 0)
    assert all(np.diff(factors[top + 1 :]) < 0)
    assert factors[200] == 0
