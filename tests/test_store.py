"""The feature file against plain h5py, and against files that are not what they should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import EarwitnessError
from pipeline.features.resumable import Parts
from pipeline.features.store import FeatureStore, Header, Index, write_store

WIDTH = 6
IDS = ["rain", "dög", "a-very-long-name_3"]
LENGTHS = np.array([3, 0, 5, 1, 2, 7])  # two views of each clip
HEADER = Header("panns", {"hop": 320, "fmin": 50.0}, "abc", 0.01, views=2)


def values() -> NDArray[np.float16]:
    random = np.random.default_rng(0)
    return random.standard_normal((LENGTHS.sum(), WIDTH)).astype(np.float16)


def write(path: Path, block: int = 4) -> Index:
    cuts = np.split(values(), range(block, LENGTHS.sum(), block))
    return write_store(path, HEADER, IDS, LENGTHS, WIDTH, cuts)


def test_plain_h5py_reads_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "clotho" / "panns.h5"
    index = write(path)
    with h5py.File(path, "r") as file:
        assert file["values"].dtype == np.float16
        assert file["values"].chunks is None
        assert file["values"].compression is None
        np.testing.assert_array_equal(file["values"][:], values())
        np.testing.assert_array_equal(file["offsets"][:], [0, 3, 3, 8, 9, 11, 18])
        assert file["offsets"].dtype == np.int64
        assert list(file["ids"].asstr()[:]) == IDS
        assert file.attrs["encoder"] == "panns"
        assert file.attrs["settings"] == '{"fmin": 50.0, "hop": 320}'
        assert file.attrs["weights"] == "abc"
        assert file.attrs["frame_seconds"] == 0.01
        assert file.attrs["views"] == 2
        assert file.attrs["format_version"] == 1
    assert (index.entries, index.ids, index.views, index.width) == (6, 3, 2, WIDTH)


def test_entries_are_mapped_read_only_views_of_their_clips(tmp_path: Path) -> None:
    write(tmp_path / "panns.h5")
    store = FeatureStore.open(tmp_path / "panns.h5")
    assert isinstance(store.values, np.memmap)
    assert not store.values.flags.writeable
    assert store.ids == tuple(IDS)
    assert store.header == HEADER
    pieces = np.split(values(), np.cumsum(LENGTHS)[:-1])
    for clip in range(3):
        for view in range(2):
            np.testing.assert_array_equal(store.entry(clip, view), pieces[clip * 2 + view])
    with pytest.raises(IndexError):
        store.entry(0, 2)


def test_bytes_and_fingerprint_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one.h5", 4), write(tmp_path / "other.h5", 18)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()
    assert one == other


def test_fingerprint_sees_values_offsets_and_ids(tmp_path: Path) -> None:
    def fingerprint(block: NDArray[np.float16], lengths: list[int], ids: list[str]) -> str:
        path = tmp_path / "x.h5"
        return write_store(path, HEADER, ids, np.array(lengths), WIDTH, [block]).sha256

    block = values()
    changed = block.copy()
    changed[-1, -1] += np.float16(1)
    lengths = LENGTHS.tolist()
    seen = {
        fingerprint(block, lengths, IDS),
        fingerprint(changed, lengths, IDS),
        fingerprint(block, lengths[::-1], IDS),
        fingerprint(block, lengths, IDS[::-1]),
    }
    assert len(seen) == 4
    assert fingerprint(block, lengths, IDS) in seen


def test_a_file_without_frames_is_readable(tmp_path: Path) -> None:
    write_store(tmp_path / "x.h5", HEADER, ["a"], np.array([0, 0]), WIDTH, [])
    store = FeatureStore.open(tmp_path / "x.h5")
    assert store.entry(0, 1).shape == (0, WIDTH)


def test_fewer_frames_than_announced_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="announced"):
        write_store(tmp_path / "x.h5", HEADER, IDS, LENGTHS, WIDTH, [values()[:-1]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_short_says_what_to_run(tmp_path: Path, share: float) -> None:
    path = tmp_path / "clotho" / "panns.h5"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(EarwitnessError, match=r"delete it and run `dvc repro`$") as error:
        FeatureStore.open(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_text_file_named_h5(tmp_path: Path) -> None:
    path = tmp_path / "clotho" / "minilm.h5"
    with pytest.raises(EarwitnessError, match=r"minilm\.h5: no features; run `dvc repro`$"):
        FeatureStore.open(path)
    path.parent.mkdir()
    path.write_text("not HDF5")
    with pytest.raises(EarwitnessError, match="no feature file"):
        FeatureStore.open(path)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda f: f.attrs.__setitem__("format_version", 9), "format version 9, not 1"),
        (lambda f: f["offsets"].__setitem__(2, 1), "offsets do not rise"),
        (lambda f: f["offsets"].__setitem__(-1, 99), "offsets do not rise"),
        (lambda f: f.attrs.__setitem__("views", 3), "7 offsets for 3 ids of 3 views"),
        (lambda f: f.__delitem__("ids"), "ids"),
        (lambda f: f.attrs.__delitem__("weights"), "weights"),
    ],
)
def test_an_inconsistent_file_is_refused(tmp_path: Path, break_it, reason: str) -> None:
    path = tmp_path / "panns.h5"
    write(path)
    with h5py.File(path, "r+") as file:
        break_it(file)
    with pytest.raises(EarwitnessError, match=reason):
        FeatureStore.open(path)


def test_chunked_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "panns.h5"
    write(path)
    with h5py.File(path, "r+") as file:
        del file["values"]
        file.create_dataset("values", data=values(), chunks=(2, WIDTH))
    with pytest.raises(EarwitnessError, match="values is not one block"):
        FeatureStore.open(path)


def test_ids_are_held_against_the_manifest(tmp_path: Path) -> None:
    write(tmp_path / "clotho" / "panns.h5")
    store = FeatureStore.open(tmp_path / "clotho" / "panns.h5")
    store.check_ids(IDS, "clotho.json")
    with pytest.raises(EarwitnessError, match=r"'rain' where 'snow' should be\); delete it"):
        store.check_ids(["snow", *IDS[1:]], "clotho.json")
    with pytest.raises(EarwitnessError, match="3 ids, not 2"):
        store.check_ids(IDS[:2], "clotho.json")


def test_parts_in_any_order_give_the_same_file(tmp_path: Path) -> None:
    """Whichever parts hold which entries, the file is the one written directly."""
    write(tmp_path / "direct.h5")
    pieces = np.split(values(), np.cumsum(LENGTHS)[:-1])
    entries = [np.array([5, 0]), np.array([1]), np.array([3, 2, 4])]
    parts = Parts(tmp_path / "partial" / "x", entries, WIDTH)
    with parts.held():
        for part in (2, 0, 1):
            held = [pieces[entry] for entry in entries[part]]
            parts.save(part, np.concatenate(held), LENGTHS[entries[part]])
        assert parts.missing() == []
        parts.assemble(tmp_path / "parts.h5", HEADER, IDS)
        parts.remove()
    digests = {
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        for name in ("direct.h5", "parts.h5")
    }
    assert len(digests) == 1
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_part_cut_short_or_of_another_width_is_done_again(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "x", [np.array([0]), np.array([1]), np.array([2])], WIDTH)
    with parts.held():
        for part in (0, 1):
            parts.save(part, np.zeros((4, WIDTH), np.float16), np.array([4]))
        parts.save(2, np.zeros((4, WIDTH - 1), np.float16), np.array([4]))
        cut = tmp_path / "x" / "000001.values.npy"
        cut.write_bytes(cut.read_bytes()[:-1])
        (tmp_path / "x" / ".000003.values.npy.killed").touch()
        assert parts.missing() == [1, 2]
    with parts.held():
        assert not list((tmp_path / "x").glob(".*"))
