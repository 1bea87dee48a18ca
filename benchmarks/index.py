"""The index of recordings: ``python -m benchmarks.index``; only the times: ``… times``.

Times are of 100,000 generated embeddings of 512 values: to write the index, to open it, and to
search it once the text is embedded. The obvious way keeps them in JSON and compares the rows one
after another; it is given fewer of them where it would take minutes, and ours as few.

Moments are of the evaluation split of soundscapes, whose events' times are known: as clips of 4 to
8 seconds, and as recordings of twenty of them. A query says what happens ("a dog barks"). It is
found where the best moment of the recording has an intersection over union of 0.5 or more with one
of its events. By chance: the same spans, put anywhere in the recording.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

import earwitness
from benchmarks.timing import compare, print_table, seconds
from earwitness.index.layout import (
    FILE,
    Entries,
    FileTable,
    IndexHeader,
    read_index,
    write_index,
)
from earwitness.index.moments import window_spans
from earwitness.index.opened import SoundIndex
from earwitness.index.origin import Origin
from earwitness.index.scoring import Member
from earwitness.repository import find_repository
from earwitness.retrieval import RetrievalSystem
from pipeline.config.datasets import SoundscapesDatasetConfig
from pipeline.corpora.soundscapes import synthesise
from pipeline.corpora.synthesis.words import EVENT_WORDS
from pipeline.features.frames import quantised

CLIPS, WIDTH, FEW = 100_000, 512, 4_000
RECORDINGS, LENGTH = 10_000, 10.0  # of the moments' times: 28 hours
LOAD, QUERY = 1.0, 0.1  # seconds, at most
TO_JSON, TO_LOOP = 20.0, 3.0
TOGETHER = 20  # clips of one recording
WEIGHTS = Path(__file__).parents[2] / "shared/data/weights"
SPLIT, DRAWS, ENOUGH = "evaluation", 200, 0.5


class Text:
    """A text encoder that takes no time."""

    def __init__(self, row: NDArray[np.float32]) -> None:
        self.row = row

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.row for _ in texts])


def generated(count: int, windows: bool = False) -> tuple[Entries, FileTable]:
    """Unit rows; with ``windows``, those of recordings of ten seconds."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((count, WIDTH), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    spans = np.tile(window_spans(LENGTH), (count if windows else 0, 1)).astype(np.float32)
    own = draw.standard_normal((len(spans), WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
    entries = Entries(
        draw.integers(0, 256, (count, 32), np.uint8),
        np.full(count, LENGTH, np.float32),
        rows,
        np.full(count, len(spans) // count),
        spans,
        *quantised(own),
    )
    paths = tuple(f"station {n % 50:02}/2026-{n:06}.flac" for n in range(count))
    size = np.full(count, 441_000)
    return entries, FileTable(paths, size, size, np.arange(count))


def write(path: Path, entries: Entries, files: FileTable) -> None:
    origin = Origin("generated", "", "", "", {})
    moments = bool(len(entries.windows))
    header = IndexHeader(".", ("",), origin, (Member(WIDTH, "cosine"),), moments)
    write_index(path, header, [(entries, np.arange(len(entries)))], files)


def opened(path: Path, row: NDArray[np.float32]) -> SoundIndex:
    return SoundIndex(read_index(path), path.parent, system=cast(RetrievalSystem, Text(row)))


def loop(rows: NDArray[np.float32], paths: Sequence[str], row: NDArray[np.float32]) -> list[str]:
    """The obvious way: row after row, then all sorted."""
    found = sorted(
        ((float(np.dot(one, row)), path) for one, path in zip(rows, paths, strict=True)),
        reverse=True,
    )
    return [path for _, path in found[:10]]


def times(folder: Path) -> None:
    entries, files = generated(CLIPS)
    few, few_files = generated(FEW)
    whole, small, listed = folder / FILE, folder / "few.h5", folder / "few.json"
    built = seconds(lambda: write(whole, entries, files))
    write(small, few, few_files)
    table = [list(few_files.paths), few.rows.tolist()]
    listed.write_text(json.dumps(table), encoding="utf-8")
    row = entries.rows[77]
    loads = compare(
        f"open {FEW:,}",
        lambda: [np.array(each) for each in json.loads(listed.read_text(encoding="utf-8"))],
        lambda: opened(small, row),
        TO_JSON,
    )
    index = opened(whole, row)
    expected = loop(entries.rows, files.paths, row)
    assert [str(hit.path.relative_to(folder)) for hit in index.search("it")] == expected
    queries = compare(
        f"search {CLIPS:,} × {WIDTH}",
        lambda: loop(entries.rows, files.paths, row),
        lambda: index.search("it"),
        TO_LOOP,
    )
    print_table([loads, queries])
    load = seconds(lambda: opened(whole, row))
    print(f"\nof {CLIPS:,}: written in {built:.2f} s, open in {load * 1000:.0f} ms ", end="")
    print(f"(target {LOAD:g} s, {reached(load, LOAD)}), ", end="")
    print(f"search {queries.fast * 1000:.0f} ms (target {QUERY:g} s, ", end="")
    print(f"{reached(queries.fast, QUERY)})")
    many, many_files = generated(RECORDINGS, windows=True)
    write(whole, many, many_files)
    index = opened(whole, row)
    index.search("it", moments=True)
    took = seconds(lambda: index.search("it", moments=True))
    hours = RECORDINGS * LENGTH / 3600
    print(f"moments of {hours:.0f} hours, {len(many.windows):,} windows: {took * 1000:.0f} ms")


def reached(value: float, target: float) -> str:
    return "reached" if value <= target else "not reached"


class Event(NamedTuple):
    kind: str
    start: float
    end: float


class Recording(NamedTuple):
    name: str
    seconds: float
    events: list[Event]


def recordings(settings: SoundscapesDatasetConfig, folder: Path, together: int) -> list[Recording]:
    """Written into a folder: clips of the split, so many one behind the other."""
    found = []
    for first in range(0, settings.evaluation - together + 1, together):
        sounds, events, at = [], [], 0.0
        for number in range(first, first + together):
            _, scene, content = synthesise(settings, SPLIT, number)
            samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
            for one in scene.soundings:
                end = min(one.start + one.seconds, scene.seconds)
                events.append(Event(one.kind, at + one.start, at + end))
            sounds.append(samples)
            at += len(samples) / rate
        name = f"{together}-{first}.wav"
        soundfile.write(folder / name, np.concatenate(sounds), rate)
        found.append(Recording(name, at, events))
    return found


def overlap(start: float, end: float, events: Sequence[Event]) -> float:
    """The best intersection over union with one of them."""
    both = [max(0.0, min(end, one.end) - max(start, one.start)) for one in events]
    return max(
        own / (end - start + one.end - one.start - own)
        for own, one in zip(both, events, strict=True)
    )


def recall(folder: Path, made: Sequence[Recording]) -> tuple[int, float, float]:
    """Queries, the share of them that is found, and that by chance."""
    index = earwitness.open_index(folder)
    best: dict[tuple[str, str], earwitness.Hit] = {}
    kinds = sorted({event.kind for one in made for event in one.events})
    for kind in kinds:
        wording = EVENT_WORDS[kind].wordings[0]
        text = f"{wording.subject} {wording.verb}".replace("~", "")
        for hit in index.search(text, top=None, moments=True):
            best.setdefault((hit.path.name, kind), hit)
    draw = np.random.default_rng(0)
    found, chance = [], []
    for one in made:
        for kind in sorted({event.kind for event in one.events}):
            hit = best[one.name, kind]
            assert hit.start is not None and hit.end is not None
            own = [event for event in one.events if event.kind == kind]
            found.append(overlap(hit.start, hit.end, own) >= ENOUGH)
            length = hit.end - hit.start
            starts = draw.uniform(0, one.seconds - length, DRAWS).tolist()
            chance += [overlap(start, start + length, own) >= ENOUGH for start in starts]
    return len(found), float(np.mean(found)), float(np.mean(chance))


def moments(folder: Path) -> None:
    repository = find_repository()
    settings = repository.params().datasets["soundscapes"]
    assert isinstance(settings, SoundscapesDatasetConfig)
    tagger, labels = WEIGHTS / "ced-tiny.onnx", WEIGHTS / "audioset_labels.csv"
    systems: dict[str, tuple[str, str, Path | None]] = {
        "retrieval-ensemble": ("retrieval-ensemble", "", None)
    }
    if tagger.is_file():
        systems["tag space of CED-tiny"] = ("", str(tagger), labels)
    print("\n| system | recordings | queries | found | chance |\n|---|---|---:|---:|---:|")
    for together in (1, TOGETHER):
        place = folder / str(together)
        place.mkdir()
        made = recordings(settings, place, together)
        long = float(np.mean([one.seconds for one in made]))
        for name, (system, model, names) in systems.items():
            earwitness.build_index(
                [place],
                system=system,
                model=model,
                labels=names,
                moments=True,
                root=repository.root,
            )
            queries, share, chance = recall(place, made)
            what = f"{len(made)} of {long:.0f} s"
            print(f"| {name} | {what} | {queries} | {share:.1%} | {chance:.1%} |", flush=True)


def main(only: str = "") -> None:
    warnings.simplefilter("ignore", earwitness.SyntheticSoundWarning)
    with TemporaryDirectory() as folder:
        if only in ("", "times"):
            times(Path(folder))
    with TemporaryDirectory() as folder:
        if only in ("", "moments"):
            moments(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
