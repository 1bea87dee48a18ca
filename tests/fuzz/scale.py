"""Loaders of what large corpora bring: int8 features, files in parts, indexes, tar shards."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from earwitness.index.layout import (
    FILE,
    Entries,
    FileTable,
    IndexHeader,
    read_index,
    write_index,
)
from earwitness.index.lists import InvertedLists
from earwitness.index.opened import SoundIndex
from earwitness.index.origin import Origin
from earwitness.index.scoring import Member
from earwitness.retrieval import RetrievalSystem
from pipeline.config.datasets import WebDatasetDatasetConfig
from pipeline.corpora.registry import prepare
from pipeline.features.store import write_store
from tests.fuzz.binary import HEADER, IDS, WIDTH, load_store
from tests.fuzz.case import Loader
from tests.fuzz.formats import HDF5
from tests.fuzz.harm import BYTES
from tests.fuzz.sound import samples

LENGTHS = np.array([3, 0, 5, 1, 2, 7])
SOUNDS, TEXT = 6, "a dog barks"


def frames() -> NDArray[np.float16]:
    return np.random.default_rng(0).standard_normal((LENGTHS.sum(), WIDTH)).astype(np.float16)


def make_int8(good: Path) -> None:
    (good / "one").mkdir()
    header = replace(HEADER, store="int8")
    write_store(good / "one/x.h5", header, IDS, LENGTHS, WIDTH, [frames()])


def make_parts(good: Path) -> None:
    """In three files of eight frames, in each form."""
    for store, size in (("float16", 2 * WIDTH), ("int8", WIDTH + 4)):
        (good / store).mkdir()
        header = replace(HEADER, store=store)
        path = good / store / "x.h5"
        write_store(path, header, IDS, LENGTHS, WIDTH, [frames()], file_bytes=8 * size)


class Texts:
    """A retriever that knows one text."""

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(len(texts), WIDTH, dtype=np.float32)


def make_indexes(good: Path) -> None:
    """Without lists, and with three."""
    rows = np.random.default_rng(1).standard_normal((SOUNDS, WIDTH)).astype(np.float32)
    entries = replace(
        Entries.none(WIDTH),
        digests=np.arange(SOUNDS * 32, dtype=np.uint8).reshape(SOUNDS, 32),
        seconds=np.ones(SOUNDS, np.float32), rows=rows, counts=np.zeros(SOUNDS, np.int64),
    )  # fmt: skip
    whole, zeros = np.arange(SOUNDS), np.zeros(SOUNDS, np.int64)
    files = FileTable(tuple(f"{number}.wav" for number in whole), zeros, zeros, whole)
    header = IndexHeader(".", ("",), Origin("x", "", "", "", {}), (Member(WIDTH, "dot"),), False)
    lists = InvertedLists(rows[::2], np.array([2, 4, SOUNDS]), 2, {"sound": 1.0, "text": 1.0})
    for name, own in (("plain", None), ("lists", lists)):
        (good / name).mkdir()
        write_index(good / name / FILE, header, [(entries, whole)], files, own)


def load_index(home: Path) -> None:
    index = SoundIndex(read_index(home / FILE), home, system=cast(RetrievalSystem, Texts()))
    for hit in index.search(TEXT, top=3):
        assert hit.path.parent == home, f"{hit.path} is not in its folder"


def make_shards(good: Path) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, samples(), 8000, format="WAV")
    files = {
        "a.wav": stream.getvalue(), "a.json": b'{"captions": ["a dog barks"], "tags": ["dog"]}',
        "b.wav": stream.getvalue(), "b.txt": b"rain falls\nit rains\n",
    }  # fmt: skip
    for name, kind in (("ustar", tarfile.USTAR_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        (good / name).mkdir()
        with tarfile.open(good / name / "x.tar", "w", format=kind) as archive:
            for member, content in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def load_shards(home: Path) -> None:
    settings = WebDatasetDatasetConfig(layout="webdataset", root=f"{home}/*.tar")
    found = prepare("mine", settings, home.parent, Path("raw"), progress=False)
    assert all(clip.captions for clip in found.clips)


def tar_changed(draw: Random, path: Path, outside: Path) -> None:
    """Members that lead outside, are links, devices, sparse, repeated, or larger than the tar."""
    with tarfile.open(path) as archive:
        members = [(info, archive.extractfile(info).read()) for info in archive]  # type: ignore
    info, content = draw.choice(members)
    match draw.randrange(7):
        case 0:
            info.name = draw.choice(("../outside/canary.wav", "/a.wav", "", "n" * 5000, "a/../b"))
        case 1:
            info.type = draw.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
            info.linkname = draw.choice((str(outside / "canary.wav"), "a.wav", "../outside"))
        case 2:
            info.type = draw.choice(
                (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S", b"?")
            )
        case 3:
            members.append((info, content))
        case 4:
            content = draw.randbytes(draw.choice((0, 40, 5000)))
        case 5:
            info.pax_headers = {"GNU.sparse.major": "1", "size": draw.choice(("-1", "9" * 30, "x"))}
        case 6:
            info.pax_headers = {"path": draw.choice(("../outside/canary.wav", "a\0b", "\udcff"))}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for own, data in members:
            data = content if own is info else data
            own.size = len(data)
            archive.addfile(own, io.BytesIO(data))
    if draw.random() < 0.3:  # a member's size is another than what is there
        data = bytearray(path.read_bytes())
        at = draw.choice(range(0, len(data), 512))
        data[at + 124 : at + 136] = draw.choice(
            (b"77777777777\0", b"\x80" + b"\xff" * 11, b"x" * 12)
        )
        path.write_bytes(bytes(data))


LOADERS = (
    Loader("feature files in int8", make_int8, load_store, {"x.h5": HDF5}),
    Loader("feature files in parts", make_parts, load_store, {"x.h5": HDF5, "x.parts/*.h5": HDF5}),
    Loader("indexes", make_indexes, load_index, {FILE: HDF5}),
    Loader("tar shards", make_shards, load_shards, {"x.tar": (*BYTES * 2, *(tar_changed,) * 2)}),
)
