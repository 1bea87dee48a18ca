"""A dataset's sound, or any other, as features of one frozen encoder.

The batches depend only on the manifest, so that a run that was killed and continued gives a
byte-identical file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.audio import waveforms
from pipeline.audio.sound_file import SoundFile
from pipeline.config.plans import ExtractionPlan
from pipeline.corpora.manifest import Manifest
from pipeline.encoders.base import SoundEncoder
from pipeline.engine.local import LocalEngine
from pipeline.engine.steps import Engine
from pipeline.engine.throughput import Report
from pipeline.features.forward import SoundSteps, device_of
from pipeline.features.resumable import Parts, folder_name
from pipeline.features.store import Header, Index
from pipeline.features.windows import DecodedRecording, Encoded, PassSettings, make_batches


def extract(
    manifest: Manifest,
    root: Path,
    encoder: SoundEncoder,
    weights: str,
    plan: ExtractionPlan,
    partial: Path,
    path: Path,
    engine: Engine | None = None,
) -> tuple[Index, Report]:
    """Encodes every clip of a dataset into a feature file, in the manifest's order.

    Args:
        root: folder of the dataset's sound.
        encoder: frozen, on its device.
        weights: digest of the encoder's weights.
        partial: folder for the parts that are done, until the file is complete.
        path: of the feature file.
        engine: what does it; None: this process.

    Raises:
        EarwitnessError: a file is missing or broken, values do not fit float16, the GPU has too
            little memory, or another process runs the same job.
    """
    settings = PassSettings(
        plan.encoder.window_seconds,
        plan.encoder.batch_seconds,
        plan.encoder.views + 1,
        plan.spec_augment if plan.encoder.views else None,
    )
    recordings = [
        DecodedRecording(clip.clip_id, manifest.sound_file(root, clip), clip.duration)
        for clip in manifest.sounding
    ]
    batches = make_batches([clip.duration for clip in recordings], settings)
    header = Header(
        encoder=plan.name,
        settings=plan.model_dump(mode="json", include={"encoder", "spec_augment"}),
        weights=weights,
        frame_seconds=encoder.frame_seconds,
        views=settings.views,
        store=plan.store,
    )
    # the folder's name keeps parts of another plan, other clips or another precision apart
    clips = [[clip.clip_id, clip.path, clip.duration, clip.digest] for clip in manifest.sounding]
    engine = engine or LocalEngine()
    content = [plan.model_dump(mode="json"), weights, engine.kind(device_of(encoder)), clips]
    folder = partial / folder_name(f"{plan.dataset}-{plan.name}", content)
    views = np.arange(settings.views)[:, None]
    entries = [(batch * settings.views + views).reshape(-1) for batch in batches]
    with Parts(folder, entries, encoder.width).held(path) as parts:
        in_files = any(isinstance(recording.sound, Path) for recording in recordings)
        steps = SoundSteps(encoder, settings, root if in_files else None)
        report = _encode_missing(parts, recordings, batches, steps, engine)
        index = parts.assemble(path, header, [clip.name for clip in recordings])
        parts.remove()
    return index, report


def encode_sounds(
    sounds: Sequence[SoundFile | waveforms.Waveform],
    encoder: SoundEncoder,
    window_seconds: float,
    batch_seconds: float,
    longest: float = math.inf,
) -> list[NDArray[np.float16]]:
    """Any files and arrays as a feature file would hold them: (T, D) each, in order.

    Args:
        longest: seconds; a file that lasts longer is refused.

    Raises:
        EarwitnessError: a file cannot be decoded or is too long, values do not fit float16, or the
            GPU has too little memory.
    """
    recordings = [
        DecodedRecording(str(sound), sound, waveforms.probe(sound, longest), longest)
        for sound in sounds
    ]
    settings = PassSettings(window_seconds, batch_seconds)
    batches = make_batches([clip.duration for clip in recordings], settings)
    by_clip: dict[int, NDArray[np.float16]] = {}

    def keep(number: int, encoded: Encoded) -> None:
        entries = np.split(encoded.values, np.cumsum(encoded.lengths)[:-1])
        by_clip.update(zip(batches[number].tolist(), entries, strict=True))

    steps, work = SoundSteps(encoder, settings), _work(recordings, batches)
    for _ in LocalEngine().run(steps, work, keep, Report(), len(batches)):
        pass
    return [by_clip[clip] for clip in range(len(recordings))]


def _encode_missing(
    parts: Parts,
    recordings: Sequence[DecodedRecording],
    batches: Sequence[NDArray[np.int64]],
    steps: SoundSteps,
    engine: Engine,
) -> Report:
    missing = parts.missing()
    work = [batches[part] for part in missing]
    report = Report(count=sum(map(len, work)))

    def keep(number: int, encoded: Encoded) -> None:
        parts.save(missing[number], encoded.values, encoded.lengths)

    done = len(recordings) - report.count
    with tqdm(total=len(recordings), initial=done, unit="clip", disable=None) as bar:
        for number in engine.run(steps, _work(recordings, work), keep, report, len(work)):
            bar.update(len(work[number]))
    return report


def _work(
    recordings: Sequence[DecodedRecording], batches: Sequence[NDArray[np.int64]]
) -> Iterator[list[DecodedRecording]]:
    return ([recordings[clip] for clip in batch] for batch in batches)
