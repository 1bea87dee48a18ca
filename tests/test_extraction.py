"""Extraction against one clip at a time; killed, resumed and doubled runs against a quiet one."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from pipeline.config.encoders import LogmelEncoderConfig, SentenceEncoderConfig, SpecAugmentConfig
from pipeline.config.plans import EmbeddingPlan, ExtractionPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.base import Masks, Packed, SoundEncoder, SpectrogramEncoder, TextEncoder
from pipeline.encoders.spectrogram import LogMel
from pipeline.engine.throughput import Report
from pipeline.errors import EarwitnessError
from pipeline.features import embedding
from pipeline.features.embedding import embed
from pipeline.features.extraction import encode_sounds, extract
from pipeline.features.store import FeatureStore, Index
from pipeline.features.windows import PassSettings, make_batches
from pipeline.tensors import Padded

RATE = 8000
WINDOW = 2.0  # seconds
DURATIONS = (0.4, 1.9, 5.4, 0.02, 2.0, 1.1, 0.7, 2.6, 1.3, 0.9, 1.7, 0.3, 1.2, 2.2, 0.8, 1.5)


class Trunk(SpectrogramEncoder):
    """Four log-mel frames to one, then a fixed projection."""

    def __init__(self, seconds: float = 0.0, gain: float = 0.01) -> None:
        super().__init__()
        self.sample_rate, self.width, self.frame_seconds = RATE, 12, 4 * 64 / RATE
        self.logmel = LogMel(RATE, 256, 64, 20, 50.0, 4000.0)
        generator = torch.Generator().manual_seed(0)
        self.projection = torch.nn.Parameter(torch.randn(20, 12, generator=generator))
        self.seconds, self.gain = seconds, gain
        self.batches: list[int] = []

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        time.sleep(self.seconds)
        self.batches.append(len(logmel))
        kept = logmel[:, ::4] * self.gain
        return Padded(kept @ self.projection, (lengths + 3) // 4)


class Pooled(SoundEncoder):
    """One frame a window: its mean power and its mean."""

    pooled = True

    def __init__(self) -> None:
        super().__init__()
        self.sample_rate, self.width, self.frame_seconds = RATE, 2, WINDOW

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        moments = [waveform.square().sum(1), waveform.sum(1)]
        values = torch.stack(moments, dim=1) / lengths[:, None]
        return Padded(values[:, None], torch.ones_like(lengths))


def make_manifest(root: Path) -> Manifest:
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(1)
    clips = []
    for number, seconds in enumerate(DURATIONS):
        samples = generator.uniform(-0.5, 0.5, int(seconds * RATE)) * generator.uniform(0.1, 1)
        path = root / f"{number}.wav"
        soundfile.write(path, samples.astype(np.float32), RATE, subtype="FLOAT")
        captions = tuple(f"sound {number} said {k}" for k in range(1 + number % 3))
        clips.append(Clip(f"clip-{number}", "development", path.name, seconds, captions))
    return Manifest("noise", str(root), tuple(clips))


def make_plan(views: int = 0, batch_seconds: float = 4.0) -> ExtractionPlan:
    settings = LogmelEncoderConfig(
        module="logmel", window_seconds=WINDOW, batch_seconds=batch_seconds, views=views
    )
    augment = SpecAugmentConfig() if views else None
    return ExtractionPlan(
        name="trunk",
        inputs={},
        code={},
        dataset="noise",
        encoder=settings,
        spec_augment=augment,
        weights=None,
    )


def run(
    folder: Path,
    encoder: SoundEncoder,
    manifest: Manifest | None = None,
    plan: ExtractionPlan | None = None,
) -> tuple[Index, Report]:
    manifest = manifest or make_manifest(folder / "raw")
    path = folder / "features" / "noise" / "trunk.h5"
    plan = plan or make_plan()
    return extract(manifest, folder / "raw", encoder, "w", plan, folder / "partial", path)


def opened(folder: Path) -> FeatureStore:
    return FeatureStore.open(folder / "features" / "noise" / "trunk.h5")


def digest(folder: Path) -> str:
    path = folder / "features" / "noise" / "trunk.h5"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def one_by_one(path: Path, encoder: SoundEncoder) -> NDArray[np.float32]:
    """A clip alone, its windows alone: no batch, no thread."""
    samples, _ = soundfile.read(path, dtype="float32")
    count = -(-len(samples) // int(WINDOW * RATE))
    outputs = []
    for piece in np.array_split(samples, count):
        waveform = torch.from_numpy(piece)[None]
        values, lengths = encoder(waveform, torch.tensor([len(piece)]))
        outputs.append(values[0, : lengths[0]].numpy(force=True))
    return np.concatenate(outputs)


def test_entries_equal_each_clip_alone(tmp_path: Path) -> None:
    encoder = Trunk()
    index, report = run(tmp_path, encoder)
    store = opened(tmp_path)
    assert max(encoder.batches) > 3  # there were batches
    assert store.ids == tuple(f"clip-{n}" for n in range(len(DURATIONS)))
    for number in range(len(DURATIONS)):
        alone = one_by_one(tmp_path / "raw" / f"{number}.wav", encoder)
        np.testing.assert_allclose(store.entry(number), alone, rtol=2e-3, atol=2e-3)
    assert (index.entries, index.ids, index.width) == (len(DURATIONS), len(DURATIONS), 12)
    assert report.count == len(DURATIONS)
    assert 0 < report.encoder_seconds <= report.seconds
    assert list((tmp_path / "partial").iterdir()) == []


def test_windows_of_a_pooled_encoder_are_averaged(tmp_path: Path) -> None:
    run(tmp_path, Pooled())
    store = opened(tmp_path)
    assert store.lengths.tolist() == [1] * len(DURATIONS)
    samples, _ = soundfile.read(tmp_path / "raw" / "2.wav")
    windows = np.array_split(samples, 3)  # 5.4 s in windows of 2 s
    mean = np.mean([[(w**2).mean(), w.mean()] for w in windows], axis=0)
    np.testing.assert_allclose(store.entry(2)[0], mean, rtol=2e-3, atol=1e-4)


def test_views_follow_the_clip_and_not_its_batch(tmp_path: Path) -> None:
    """Masks are those of the clip's name and view, in whatever batch and order it comes."""
    manifest = make_manifest(tmp_path / "raw")
    run(tmp_path, Trunk(), manifest, make_plan(views=2))
    store = opened(tmp_path)
    shuffled = replace(manifest, clips=manifest.clips[::-1])
    run(tmp_path / "b", Trunk(), replace_root(shuffled, tmp_path / "b"), make_plan(2, 2.5))
    other = opened(tmp_path / "b")
    run(tmp_path / "c", Trunk())
    clean = opened(tmp_path / "c")
    assert store.views == 3
    last = len(DURATIONS) - 1
    for clip in range(len(DURATIONS)):
        np.testing.assert_allclose(store.entry(clip), clean.entry(clip), atol=2e-3)
        for view in range(3):
            pair = store.entry(clip, view), other.entry(last - clip, view)
            np.testing.assert_allclose(*pair, atol=4e-3)
    long = [store.entry(2, view).astype(np.float32) for view in range(3)]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(long[one] - long[two]).max() > 0.1


def replace_root(manifest: Manifest, folder: Path) -> Manifest:
    make_manifest(folder / "raw")
    return replace(manifest, root=str(folder / "raw"))


def test_files_are_encoded_as_a_dataset_is(tmp_path: Path) -> None:
    run(tmp_path, Trunk())
    store = opened(tmp_path)
    order = [5, 2, 0, 15]
    paths = [tmp_path / "raw" / f"{number}.wav" for number in order]
    for number, values in zip(order, encode_sounds(paths, Trunk(), WINDOW, 4.0), strict=True):
        assert values.dtype == np.float16
        np.testing.assert_allclose(values, store.entry(number), atol=2e-3)
    assert encode_sounds([], Trunk(), WINDOW, 4.0) == []


def test_batches_hold_each_clip_once_within_their_bound() -> None:
    durations = np.random.default_rng(0).uniform(0.1, 30, 500)
    batches = make_batches(durations.tolist(), PassSettings(10.0, 60.0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(b) == 1 or len(b) * durations[b].max() <= 60 for b in batches)
    padded = sum(len(b) * durations[b].max() for b in batches)
    assert padded < 1.1 * durations.sum()


class Stops(Trunk):
    """Is interrupted at its fifth batch."""

    def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
        if len(self.batches) == 4:
            raise KeyboardInterrupt
        return super().trunk(logmel, lengths)


def test_an_interrupted_run_does_the_rest_alone(tmp_path: Path) -> None:
    quiet = Trunk()
    run(tmp_path / "quiet", quiet)
    manifest = make_manifest(tmp_path / "raw")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stops(), manifest)
    (parts,) = (tmp_path / "partial").iterdir()
    kept = len(list(parts.glob("*.values.npy")))
    assert kept > 0
    rest = Trunk()
    _, report = run(tmp_path, rest, manifest)
    assert 0 < report.count < len(DURATIONS)
    assert len(rest.batches) <= len(quiet.batches) - kept
    assert digest(tmp_path) == digest(tmp_path / "quiet")


def test_damaged_parts_are_made_again_to_the_same_bytes(tmp_path: Path) -> None:
    run(tmp_path / "quiet", Trunk())
    manifest = make_manifest(tmp_path / "raw")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stops(), manifest)
    (parts,) = (tmp_path / "partial").iterdir()
    kept = sorted(parts.glob("*.values.npy"))
    assert len(kept) >= 2
    whole = kept[0].read_bytes()  # of the same shape, but other numbers
    kept[0].write_bytes(whole[:-200] + bytes(200))
    kept[1].write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f2', 'shape': (((((")
    run(tmp_path, Trunk(), manifest)
    assert digest(tmp_path) == digest(tmp_path / "quiet")


def test_parts_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "raw")
    with pytest.raises(EarwitnessError):
        run(tmp_path, Trunk(gain=1e30), manifest)
    encoder = Trunk()
    plan = make_plan().model_copy(update={"inputs": {"clips": "changed"}})
    run(tmp_path, encoder, manifest, plan)
    assert sum(encoder.batches) >= len(DURATIONS)


def test_a_vanished_clip_is_named(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "raw")
    (tmp_path / "raw" / "6.wav").unlink()
    hint = r"6\.wav: gone since .* `dvc repro -s -f prepare@noise`"
    with pytest.raises(EarwitnessError, match=hint):
        run(tmp_path, Trunk(), manifest)
    assert not (tmp_path / "features").exists()


def test_a_path_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "raw")
    clip = replace(manifest.clips[0], path="../../etc/passwd")
    with pytest.raises(EarwitnessError, match="leaves"):
        run(tmp_path, Trunk(), replace(manifest, clips=(clip,)))


@pytest.mark.parametrize("value", [7e4, float("nan")])
def test_a_clip_that_does_not_fit_float16_is_named(tmp_path: Path, value: float) -> None:
    class Overflows(Trunk):
        def trunk(self, logmel: Tensor, lengths: Tensor) -> Padded:
            output = super().trunk(logmel, lengths)
            loud = logmel.amax((1, 2)) == logmel.max()
            if abs(float(logmel.max()) - self.loudest) < 1e-4:
                output.values[loud, 0, 3] = value
            return output

    manifest = make_manifest(tmp_path / "raw")
    encoder = Overflows()
    pieces = [soundfile.read(tmp_path / "raw" / c.path, dtype="float32")[0] for c in manifest.clips]
    peaks = [
        float(encoder.logmel(torch.from_numpy(p)[None], torch.tensor([len(p)])).values.max())
        for p in pieces
    ]
    short = [
        peak if len(p) <= WINDOW * RATE else -200.0 for p, peak in zip(pieces, peaks, strict=True)
    ]
    encoder.loudest = max(short)
    with pytest.raises(EarwitnessError, match=rf"^clip-{int(np.argmax(short))} \(.*float16"):
        run(tmp_path, encoder, manifest)


def start_server(folder: Path) -> subprocess.Popen[str]:
    """A process that has imported everything and forks a run for each line it is given."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ask(server: subprocess.Popen[str], seconds: float) -> int:
    """Starts a run that sleeps ``seconds`` in each forward pass; its process id."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{seconds}\n")
    server.stdin.flush()
    return int(server.stdout.readline())


def outcome(server: subprocess.Popen[str]) -> int:
    """How the run ended."""
    assert server.stdout is not None
    return int(server.stdout.readline())


def serve(folder: Path) -> None:
    manifest = make_manifest(folder / "raw")
    torch.set_num_threads(1)
    Trunk()  # what it imports late is imported before the runs
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                run(folder, Trunk(float(line)), manifest)
            except BaseException:
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


def test_killed_twenty_times_it_gives_the_same_bytes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run(tmp_path / "quiet", Trunk())
    expected = digest(tmp_path / "quiet")
    dice = random.Random(5)
    path = tmp_path / "features" / "noise" / "trunk.h5"
    killed, resumed = 0, False
    with start_server(tmp_path) as server:
        while killed < 20:
            pid = ask(server, 0.02)
            time.sleep(dice.uniform(0.01, 0.25))
            with suppress(ProcessLookupError):  # it has ended
                os.kill(pid, signal.SIGKILL)
            status = outcome(server)
            assert status in (0, signal.SIGKILL)
            killed += status == signal.SIGKILL
            resumed |= any((tmp_path / "partial").rglob("*.values.npy"))
            if path.exists():  # whole, or not there
                assert digest(tmp_path) == expected
                path.unlink()
        ask(server, 0.0)
        assert outcome(server) == 0
        assert server.stdin is not None
        server.stdin.close()
    assert resumed
    assert digest(tmp_path) == expected
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_second_run_at_once_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    run(tmp_path / "quiet", Trunk())
    with start_server(tmp_path) as server:
        ask(server, 0.15)
        deadline = time.monotonic() + 20
        while not list(tmp_path.rglob("*.values.npy")) and time.monotonic() < deadline:
            time.sleep(0.005)
        with pytest.raises(EarwitnessError, match="running already"):
            run(tmp_path, Trunk(), Manifest("noise", "", manifest_clips(tmp_path)))
        assert outcome(server) == 0
        assert server.stdin is not None
        server.stdin.close()
    assert digest(tmp_path) == digest(tmp_path / "quiet")


def manifest_clips(folder: Path) -> tuple[Clip, ...]:
    """The clips that a run in ``folder`` made, without writing the files again."""
    names = [f"sound {n} said" for n in range(len(DURATIONS))]
    return tuple(
        Clip(
            f"clip-{n}",
            "development",
            f"{n}.wav",
            seconds,
            tuple(f"{names[n]} {k}" for k in range(1 + n % 3)),
        )
        for n, seconds in enumerate(DURATIONS)
    )


class Letters(TextEncoder):
    """Each word is a vector of its letters' codes."""

    width = 5

    def __init__(self, stop: int = 99, scale: float = 1.0) -> None:
        self.seen: list[str] = []
        self.stop, self.scale = stop, scale

    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        if len(self.seen) >= self.stop:
            raise KeyboardInterrupt
        self.seen += captions
        rows = [self.word(word) for caption in captions for word in caption.split()]
        lengths = np.array([len(caption.split()) for caption in captions])
        return Packed(np.array(rows, dtype) * dtype(self.scale), lengths)

    def word(self, word: str) -> list[int]:
        return [ord(letter) for letter in word.ljust(5)[:5]]


def run_text(folder: Path, encoder: Letters) -> tuple[Index, Report]:
    plan = EmbeddingPlan(
        name="letters",
        inputs={},
        code={},
        dataset="noise",
        encoder=SentenceEncoderConfig(module="sentence"),
    )
    manifest = Manifest("noise", "", manifest_clips(folder))
    path = folder / "noise" / "letters.h5"
    return embed(manifest, encoder, "w", plan, folder / "partial", path)


def test_every_caption_is_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PART", 7)
    encoder = Letters()
    index, _ = run_text(tmp_path, encoder)
    store = FeatureStore.open(tmp_path / "noise" / "letters.h5")
    rows = [
        (f"{clip.clip_id}#{k}", text)
        for clip in manifest_clips(tmp_path)
        for k, text in enumerate(clip.captions)
    ]
    assert store.ids == tuple(name for name, _ in rows)
    for entry, (_, text) in enumerate(rows):
        np.testing.assert_array_equal(store.entry(entry), [encoder.word(w) for w in text.split()])
    assert (index.views, index.frame_seconds, index.entries) == (1, 0.0, len(rows))


def test_interrupted_text_does_the_rest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "PART", 7)
    whole, first, rest = Letters(), Letters(stop=14), Letters()
    run_text(tmp_path / "quiet", whole)
    with pytest.raises(KeyboardInterrupt):
        run_text(tmp_path, first)
    _, report = run_text(tmp_path, rest)
    assert first.seen + rest.seen == whole.seen
    assert report.count == len(rest.seen)
    files = [folder / "noise" / "letters.h5" for folder in (tmp_path, tmp_path / "quiet")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_caption_that_does_not_fit_float16_is_named(tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"^caption clip-0#0: .*float16"):
        run_text(tmp_path, Letters(scale=1e4))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
