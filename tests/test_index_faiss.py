"""Searches in inverted lists against numpy's argsort over all rows, and lists of anybody's."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tones import RATE, Words, make_tones
from typer.testing import CliRunner

import earwitness
from earwitness.cli import app
from earwitness.index import grouping
from earwitness.index.grouping import grouped, sentences
from earwitness.index.layout import (
    FILE,
    FOLDER,
    Entries,
    FileTable,
    IndexHeader,
    StoredIndex,
    read_index,
    write_index,
)
from earwitness.index.opened import SoundIndex
from earwitness.index.origin import Origin
from earwitness.index.scoring import Kind, Member, Query
from earwitness.retrieval import RetrievalSystem
from pipeline.errors import EarwitnessError
from pipeline.trained import readers

pytest.importorskip("faiss")
COUNT, WIDTH, CLUSTERS = 3000, 24, 40
OLD = time.time() - 1000
Rows = NDArray[np.float32]


def clustered(count: int = COUNT, seed: int = 0) -> Rows:
    """Unit rows around few directions, as embeddings of real sound are."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((CLUSTERS, WIDTH))
    rows = centres[draw.integers(0, CLUSTERS, count)] + 0.4 * draw.standard_normal((count, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Texts:
    """Sentences as other rows of the same kind, each always the same."""

    def embed_text(self, texts: Sequence[str]) -> Rows:
        return np.concatenate([clustered(1, sum(text.encode())) for text in texts])


def stored(rows: Rows, measure: Kind = "cosine", copies: int = 0) -> StoredIndex:
    """An index without lists; the first ``copies`` sounds have a second file."""
    count = len(rows)
    entries = replace(
        Entries.none(WIDTH),
        digests=np.random.default_rng(5).integers(0, 256, (count, 32), np.uint8),
        seconds=np.ones(count, np.float32), rows=rows, counts=np.zeros(count, np.int64),
    )  # fmt: skip
    owner = np.random.default_rng(6).permutation(np.r_[np.arange(count), np.arange(copies)])
    paths = tuple(f"{number:05d}.wav" for number in range(count + copies))
    size = np.zeros(len(owner), np.int64)
    header = IndexHeader(".", ("",), Origin("x", "", "", "", {}), (Member(WIDTH, measure),), False)
    return StoredIndex(header, entries, FileTable(paths, size, size, owner))


def sorted_file(path: Path, index: StoredIndex) -> StoredIndex:
    """The same with lists, written and read."""
    made = grouped(index.entries, index.header.members, Texts().embed_text)
    place = np.argsort(made.order)
    files = replace(index.files, entry=place[index.files.entry])
    write_index(path, index.header, [(index.entries, made.order)], files, made.lists)
    return read_index(path)


def opened(index: StoredIndex, folder: Path) -> SoundIndex:
    return SoundIndex(index, folder, system=cast(RetrievalSystem, Texts()))


def by_hand(index: StoredIndex, row: Rows, measure: Kind) -> tuple[list[str], dict[str, float]]:
    """All files, best first, and their scores: float64 and argsort."""
    rows = index.entries.rows.astype(np.float64)
    values = rows @ row
    if measure == "distance":
        values = -np.sqrt(((rows - row) ** 2).sum(axis=1))
    own = values[index.files.entry]
    names = [index.files.paths[n] for n in np.argsort(-own, kind="stable")]
    return names, dict(zip(index.files.paths, own.tolist(), strict=True))


@pytest.mark.parametrize("measure", ["cosine", "dot", "distance"])
def test_nearly_all_of_the_exact_best_are_found_with_their_exact_scores(
    tmp_path: Path, measure: Kind
) -> None:
    rows = clustered()
    if measure != "cosine":
        rows *= np.random.default_rng(2).uniform(0.7, 1.4, (len(rows), 1)).astype(np.float32)
    plain = stored(rows, measure, copies=50)
    index = sorted_file(tmp_path / FILE, plain)
    assert index.lists is not None
    assert index.lists.probes <= len(index.lists.centroids) // 4
    searched, shares = opened(index, tmp_path), []
    for number in range(60):
        text = f"sentence {number}"
        hits = searched.search(text)
        names, scores = by_hand(plain, Texts().embed_text([text])[0], measure)
        shares.append(len({hit.path.name for hit in hits} & {*names[:10]}) / 10)
        assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
        assert all(abs(hit.score - scores[hit.path.name]) < 1e-5 for hit in hits)
    first = opened(plain, tmp_path).search("sentence 0")
    names, _ = by_hand(plain, Texts().embed_text(["sentence 0"])[0], measure)
    assert [hit.path.name for hit in first] == names[:10]  # without lists: exactly those
    assert np.mean(shares) >= 0.93


def test_lists_hold_each_entry_once_beside_its_nearest_centroid(tmp_path: Path) -> None:
    index = sorted_file(tmp_path / FILE, stored(clustered()))
    lists = index.lists
    assert lists is not None and lists.ends[-1] == COUNT
    own = np.repeat(np.arange(len(lists.ends)), np.diff(lists.ends, prepend=0))
    far = ((index.entries.rows[:, None].astype(np.float64) - lists.centroids) ** 2).sum(axis=2)
    assert (far[np.arange(COUNT), own] <= far.min(axis=1) + 1e-4).all()
    found = {row.tobytes() for row in index.entries.rows}
    assert found == {row.tobytes() for row in clustered()}


def test_the_recall_that_is_told_is_what_a_search_finds(tmp_path: Path) -> None:
    """Of the held-out queries, each compared with all rows one by one."""
    index = sorted_file(tmp_path / FILE, stored(clustered()))
    assert index.lists is not None
    assert {*index.lists.recall} == {"sound", "text"}
    shares = []
    for row in Texts().embed_text(sentences(grouping.TEXTS)[1::2]):
        query = Query(row, is_sound=False)
        entries, _ = index.lists.search(query, index.entries.rows, index.header.members, 10)
        best = np.argsort(-(index.entries.rows.astype(np.float64) @ row))[:10]
        shares.append(len({*entries.tolist()} & {*best.tolist()}) / 10)
    assert abs(np.mean(shares) - index.lists.recall["text"]) < 1e-9
    assert min(index.lists.recall.values()) >= 0.9


def test_what_lists_are_not_made_for_compares_with_all(tmp_path: Path) -> None:
    """Several queries, which are standardised over the index, and more results than measured."""
    plain = stored(clustered())
    index = opened(sorted_file(tmp_path / FILE, plain), tmp_path)
    exact = opened(plain, tmp_path)
    for options in ({"without": ["b"]}, {"top": 101}, {"top": None}, {"top": 500}):
        found, expected = (each.search("a", **options) for each in (index, exact))
        assert [hit.path for hit in found] == [hit.path for hit in expected]


def change(name: str, content: Any) -> Callable[[h5py.File], None]:
    def changed(file: h5py.File) -> None:
        value = content(file[name][:]) if callable(content) else content
        del file[name]
        if value is not None:
            file[name] = value

    return changed


def about(**lists: Any) -> Callable[[h5py.File], None]:
    def changed(file: h5py.File) -> None:
        values = json.loads(file["header"][:].tobytes())
        values["lists"] = {**values["lists"], **lists}
        del file["header"]
        file["header"] = np.frombuffer(json.dumps(values).encode(), np.uint8)

    return changed


@pytest.mark.parametrize(
    "damage",
    [
        change("centroids", None),
        change("centroids", h5py.ExternalLink("/etc/passwd", "/centroids")),
        change("centroids", lambda value: value[:, :-1]),
        change("centroids", lambda value: value[:-1]),
        change("centroids", lambda value: value.astype(np.float64)),
        change("list_ends", lambda value: value[::-1]),
        change("list_ends", lambda value: value + 1),
        change("list_ends", lambda value: value - 5),
        change("list_ends", lambda value: value[:0]),
        change("list_ends", h5py.SoftLink("/name_ends")),
        about(probes=0),
        about(probes=10**9),
        about(probes="x"),
        about(recall={"text": 2}),
        about(recall={"text": float("nan")}),
        about(recall=[1]),
    ],
)
def test_lists_that_do_not_fit_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[h5py.File], None]
) -> None:
    monkeypatch.setattr(grouping, "SHARE", 1)
    sorted_file(tmp_path / FILE, stored(clustered(400)))
    with h5py.File(tmp_path / FILE, "r+") as file:
        damage(file)
    with pytest.raises(EarwitnessError, match="damaged, or no index") as raised:
        read_index(tmp_path / FILE)
    assert "\n" not in str(raised.value)


# --- the command, on sound files --------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of tones, and a folder of 130 short ones of thirteen pitches."""
    monkeypatch.setattr(readers, "build_text_encoder", lambda settings, device: Words())
    make_tones(tmp_path)
    for number in range(130):
        tone(tmp_path / f"many/{number:03}.wav", 300 * 1.27 ** (number % 13), number)
    return tmp_path


def tone(path: Path, pitch: float, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    steps = np.arange(RATE // 10) / RATE
    noise = 0.01 * np.random.default_rng(seed).normal(size=len(steps))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * steps) + noise, RATE)
    os.utime(path, (OLD, OLD + seed))


def build(root: Path, **options: Any) -> earwitness.IndexSummary:
    given = {"root": root, "device": "cpu", "system": "one", **options}
    return earwitness.build_index([root / "many"], **given)


def test_updates_keep_the_lists_and_find_what_is_new(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New, changed and gone files, of an index that is sorted since it passed the limit."""
    folder = recordings / "many"
    plain = build(recordings)
    assert plain.recall == {} and read_index(folder / FOLDER / FILE).lists is None
    monkeypatch.setattr(grouping, "LIMIT", 120)
    monkeypatch.setattr(grouping, "SHARE", 1)
    assert build(recordings).recall["sound"] >= 0.9  # nothing else changed
    tone(folder / "new.wav", 300.0, 500)
    tone(folder / "001.wav", 6000.0, 501)
    (folder / "002.wav").unlink()
    done = build(recordings)
    assert (done.added, done.changed, done.gone, done.embedded) == (1, 1, 1, 2)
    assert {*done.recall} == {"sound", "text"}
    index = earwitness.open_index(folder, root=recordings, device="cpu")
    assert len(index) == 130 and {*index.paths} >= {"new.wav", "001.wav"}
    for name in ("new.wav", "001.wav", "050.wav"):
        near, everything = (index.similar(folder / name, top=top) for top in (5, None))
        assert len(near) == 5 and name not in {hit.path.name for hit in near}
        scores = {hit.path: hit.score for hit in everything}
        assert all(abs(scores[hit.path] - hit.score) < 1e-5 for hit in near)
        assert abs(near[0].score - everything[0].score) < 1e-5
    stamp = (folder / FOLDER / FILE).stat().st_mtime_ns
    assert build(recordings).recall == done.recall  # told again, and nothing is written
    assert (folder / FOLDER / FILE).stat().st_mtime_ns == stamp
    assert build(recordings, approximate=False).recall == {}
    assert read_index(folder / FOLDER / FILE).lists is None
    assert [path.name for path in (folder / FOLDER).iterdir() if path.suffix == ".h5"] == [FILE]


def test_the_command_says_what_a_search_finds(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "SHARE", 1)
    folder = str(recordings / "many")
    given = ["index", folder, "--approximate", "--system", "one", "--repository", str(recordings)]
    shown = CliRunner().invoke(app, given)
    assert shown.exit_code == 0 and "searched in part: finds " in shown.output
    again = CliRunner().invoke(app, [*given, "--format", "json"])
    values = json.loads(again.stdout)
    assert values["files"] == values["unchanged"] == 130
    assert {*values["recall"]} == {"sound", "text"}


def test_without_faiss_an_index_stays_as_it_is(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(recordings)
    path = recordings / "many" / FOLDER / FILE
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(EarwitnessError, match=r"needs FAISS; .*earwitness\[faiss\]"):
        build(recordings, approximate=True)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir() if "~" in each.name] == []
    lines: list[str] = []
    monkeypatch.setattr(grouping, "LIMIT", 120)
    assert build(recordings, notice=lines.append).recall == {}
    assert len(lines) == 1 and "earwitness[faiss]" in lines[0]
