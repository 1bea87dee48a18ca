"""Extraction against the encoder alone, and the obvious loop: ``python -m benchmarks.extraction``.

The encoder is PANNs' CNN10 at its published size with random weights; it reads 44.1 kHz FLAC files
at 32 kHz. ``encoder alone`` is the forward passes on the same batches, decoded before: the whole
extraction (decoding, resampling, unpacking, writing) may take little more. The obvious way is a
loop over the clips: librosa.load, one forward pass, an append to HDF5.

Decoding alone, in as many processes as threads: threads leave Python's lock while they decode and
resample, so that processes would add nothing but the copies between them.

Where the real CED-tiny is (../shared/data), its extraction is held against onnxruntime alone, as it
runs the file, on the same windows.
"""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import librosa
import numpy as np
import onnxruntime
import soundfile
import torch
from pydantic import TypeAdapter

from benchmarks.timing import Row, compare, print_table
from pipeline.audio import waveforms
from pipeline.config.encoders import EncoderConfig, PannsEncoderConfig
from pipeline.config.plans import ExtractionPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.panns import PannsEncoder
from pipeline.encoders.registry import build_sound_encoder
from pipeline.features import windows
from pipeline.features.extraction import extract
from pipeline.features.forward import forward
from pipeline.threads import share

CLIPS, SOURCE_RATE, REPEATS = 16, 44100, 3
PANNS = PannsEncoderConfig(module="panns", model="cnn10", weights="none", batch_seconds=24.0)
TO_ENCODER, TO_LOOP = 1.15, 1.0
DECODED, DECODERS, TO_THREADS = 24, 2, 1.0
CED = Path(__file__).parents[2] / "shared/data/weights/ced-tiny.onnx"
CED_TOKENS = {"output": "frames", "frames": "view_17", "layout": "b (f t) d", "bands": 4}
CED_CLIPS, TO_ONNXRUNTIME = 48, 1.1


def write_clips(root: Path, count: int = CLIPS, kind: str = "flac") -> Manifest:
    random = np.random.default_rng(0)
    clips = []
    for number in range(count):
        seconds = random.uniform(4, 6)
        samples = random.uniform(-0.5, 0.5, int(seconds * SOURCE_RATE))
        soundfile.write(root / f"{number}.{kind}", samples, SOURCE_RATE)
        clips.append(Clip(str(number), "development", f"{number}.{kind}", seconds, ()))
    return Manifest("noise", str(root), tuple(clips))


def obvious(manifest: Manifest, encoder: PannsEncoder, path: Path) -> None:
    """One clip after another; the file grows by each."""
    with h5py.File(path, "w") as file, torch.inference_mode():
        shape = (0, encoder.width)
        values = file.create_dataset("values", shape, np.float16, maxshape=(None, encoder.width))
        for clip in manifest.clips:
            samples, _ = librosa.load(Path(manifest.root) / clip.path, sr=encoder.sample_rate)
            output = encoder(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
            values.resize(len(values) + output.values.shape[1], axis=0)
            values[-output.values.shape[1] :] = output.values[0].half().numpy()


def decoded(manifest: Manifest, rate: int, settings: windows.PassSettings) -> list[windows.Decoded]:
    """The batches that extraction makes, in memory."""
    recordings = [
        windows.DecodedRecording(clip.clip_id, Path(manifest.root) / clip.path, clip.duration)
        for clip in manifest.clips
    ]
    batches = []
    for batch in windows.make_batches([one.duration for one in recordings], settings):
        chosen = [recordings[clip] for clip in batch]
        samples = [waveforms.load(one.sound, rate) for one in chosen]
        batches.append(windows.cut(chosen, samples, rate, settings))
    return batches


def plan_of(encoder: EncoderConfig) -> ExtractionPlan:
    return ExtractionPlan(
        name="encoder",
        inputs={},
        code={},
        dataset="noise",
        encoder=encoder,
        spec_augment=None,
        weights=None,
    )


def measure() -> list[Row]:
    torch.manual_seed(0)
    encoder = PannsEncoder(PANNS).eval().requires_grad_(False)
    settings = windows.PassSettings(PANNS.window_seconds, PANNS.batch_seconds)
    with TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_clips(folder)
        batches = decoded(manifest, encoder.sample_rate, settings)

        def whole() -> None:
            partial, path = folder / "partial", folder / "ours.h5"
            extract(manifest, folder, encoder, "", plan_of(PANNS), partial, path)

        def alone() -> None:
            for batch in batches:
                forward(batch, encoder, settings)

        def loop() -> None:
            obvious(manifest, encoder, folder / "obvious.h5")

        rows = [
            compare("extraction / encoder alone", whole, alone, TO_ENCODER, REPEATS, at_most=True),
            compare("extraction, clip by clip", loop, whole, TO_LOOP, REPEATS),
        ]
    rows += [processes_for_threads(kind) for kind in ("flac", "mp3")]
    return [*rows, against_onnxruntime()] if CED.exists() else rows


def processes_for_threads(kind: str) -> Row:
    """Decoding and resampling of files of a kind in processes, and in as many threads."""
    with (
        TemporaryDirectory() as name,
        ThreadPoolExecutor(DECODERS) as threads,
        ProcessPoolExecutor(DECODERS, get_context("forkserver")) as processes,
    ):
        manifest = write_clips(Path(name), DECODED, kind)
        paths = [Path(name) / clip.path for clip in manifest.clips]

        def decode(pool: Executor) -> None:
            for _ in pool.map(partial(waveforms.load, sample_rate=32000), paths):
                pass

        ways = partial(decode, processes), partial(decode, threads)
        title = f"decoding {kind.upper()} in {DECODERS} processes / threads"
        return compare(title, *ways, TO_THREADS, REPEATS)


def against_onnxruntime() -> Row:
    """CED's frames, extracted, and by onnxruntime alone."""
    with TemporaryDirectory() as name:
        return _against_onnxruntime(Path(name), write_clips(Path(name), CED_CLIPS))


def _against_onnxruntime(folder: Path, manifest: Manifest) -> Row:
    values = {"module": "onnx", "weights": str(CED), **CED_TOKENS}
    plan = plan_of(TypeAdapter[EncoderConfig](EncoderConfig).validate_python(values))
    encoder = build_sound_encoder(plan.encoder)
    settings = windows.PassSettings(plan.encoder.window_seconds, plan.encoder.batch_seconds)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = share(32)
    model = onnxruntime.InferenceSession(str(CED), options, providers=["CPUExecutionProvider"])
    clips = [
        row[None, :length].numpy()
        for batch in decoded(manifest, encoder.sample_rate, settings)
        for waveform, lengths, _ in batch.passes
        for row, length in zip(waveform, lengths.tolist(), strict=True)
    ]

    def whole() -> None:
        extract(manifest, folder, encoder, "", plan, folder / "partial", folder / "ced.h5")

    def alone() -> None:
        for clip in clips:
            model.run(None, {"waveform": clip})

    name = "extraction of CED / onnxruntime alone"
    return compare(name, whole, alone, TO_ONNXRUNTIME, REPEATS, at_most=True)


if __name__ == "__main__":
    print_table(measure())
