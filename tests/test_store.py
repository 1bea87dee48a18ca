"""The feature file against plain h5py, and against files that are not what they should be."""

from __future__ import annotations

import fcntl
import hashlib
import os
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
    whole = store.values[:]
    assert isinstance(whole, np.memmap)
    assert not whole.flags.writeable
    assert store.ids == tuple(IDS)
    assert store.header == HEADER
    pieces = np.split(values(), np.cumsum(LENGTHS)[:-1])
    for clip in range(3):
        for view in range(2):
            np.testing.assert_array_equal(store.entry(clip, view), pieces[clip * 2 + view])
    with pytest.raises(IndexError):
        store.entry(0, 2)


def test_a_lock_that_is_not_to_be_had_stops_no_reader_and_no_writer(tmp_path: Path) -> None:
    """As on network disks: a file is read while another process holds a lock of it."""
    index = write(tmp_path / "e.h5")
    with (tmp_path / "e.h5").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        store = FeatureStore.open(tmp_path / "e.h5")
        np.testing.assert_array_equal(store.values, values())
        assert write(tmp_path / "e.h5") == index  # beside it, and into its place


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
        (lambda f: f["offsets"].__setitem__(-1, 99), "where 99 frames should be"),
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
    with parts.held(tmp_path / "x.h5"):
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
    with parts.held(tmp_path / "x.h5"):
        for part in (0, 1):
            parts.save(part, np.zeros((4, WIDTH), np.float16), np.array([4]))
        parts.save(2, np.zeros((4, WIDTH - 1), np.float16), np.array([4]))
        cut = tmp_path / "x" / "000001.values.npy"
        cut.write_bytes(cut.read_bytes()[:-1])
        (tmp_path / "x" / ".000003.values.npy.killed").touch()
        assert parts.missing() == [1, 2]
    with parts.held(tmp_path / "x.h5"):
        assert not list((tmp_path / "x").glob(".*"))


def test_a_part_that_is_damaged_anywhere_is_done_again(tmp_path: Path) -> None:
    """Each of its files, emptied or cut, and the arrays with one byte altered, at any place."""
    parts = Parts(tmp_path / "x", [np.array([0])], WIDTH)
    with parts.held(tmp_path / "x.h5"):
        parts.save(0, np.arange(4 * WIDTH).reshape(4, WIDTH).astype(np.float16), np.array([4]))
        assert parts.missing() == []
        files = sorted((tmp_path / "x").iterdir())
        assert len(files) == 3
        for path in files:
            whole = path.read_bytes()
            altered = [b"1", b"{}", b"[0, 0]", b"[" * 100_000]
            if path.suffix == ".npy":
                for at in range(len(whole)):
                    altered.append(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            for damaged in (b"", whole[: len(whole) // 2], *altered):
                path.write_bytes(damaged)
                assert parts.missing() == [0], (path.name, damaged)
            path.unlink()
            assert parts.missing() == [0]
            os.mkfifo(path)  # which nobody writes to
            assert parts.missing() == [0]
            path.unlink()
            path.write_bytes(whole)
        assert parts.missing() == []


# --- files that someone else wrote ------------------------------------------------------------

SECRET = np.full((LENGTHS.sum(), WIDTH), 42, np.float16)  # of a file that may not be read


def replaced(path: Path, name: str) -> h5py.File:
    """A good file, open to be changed, without one of its data sets."""
    write(path)
    file = h5py.File(path, "r+")
    del file[name]
    return file


def secret(folder: Path, name: str) -> Path:
    path = folder / "secret.h5"
    content = {"values": SECRET, "offsets": np.array([0, 3, 3, 8, 9, 11, 18])}
    with h5py.File(path, "w") as file:
        file[name] = content.get(name, np.array([b"a", b"b", b"c"]))
    return path


@pytest.mark.parametrize("name", ["values", "offsets", "ids"])
@pytest.mark.parametrize("way", ["link", "relative link", "storage", "virtual"])
def test_data_of_another_file_are_refused(tmp_path: Path, name: str, way: str) -> None:
    far = secret(tmp_path, name)
    with h5py.File(far) as file:
        shape, dtype, at = file[name].shape, file[name].dtype, file[name].id.get_offset()
    with replaced(tmp_path / "x.h5", name) as file:
        match way:
            case "link" | "relative link":
                file[name] = h5py.ExternalLink(far.name if "relative" in way else far, f"/{name}")
            case "storage":
                size = int(np.prod(shape)) * dtype.itemsize
                file.create_dataset(name, shape, dtype, external=[(far, at, size)])
            case "virtual":
                layout = h5py.VirtualLayout(shape, dtype)
                layout[...] = h5py.VirtualSource(far, name, shape)
                file.create_virtual_dataset(name, layout)
    with h5py.File(tmp_path / "x.h5") as file:  # plain h5py reads the secret
        assert file[name].shape == shape
    with pytest.raises(EarwitnessError, match=rf"{name} .*which is refused.*; delete it"):
        FeatureStore.open(tmp_path / "x.h5")


@pytest.mark.parametrize("name", ["values", "offsets", "ids"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (h5py.SoftLink("/values"), "is a link"),
        ("loop", "is a link"),
        ("group", "is a group"),
        (np.zeros((4, 4, 4), np.float16), "is float16 of"),
        (np.zeros(7, np.complex64), "is complex64 of"),
        (np.array(["a", "b"], h5py.string_dtype()), "is object of"),
        (np.zeros(7, [("a", "f2")]), r"is \[.* of \(7,\)"),
    ],
)
def test_another_thing_in_a_data_sets_place_is_one_line(
    tmp_path: Path, name: str, content: object, reason: str
) -> None:
    with replaced(tmp_path / "x.h5", name) as file:
        if isinstance(content, str) and content == "group":
            file.create_group(name)
        elif isinstance(content, str):
            file["other"] = h5py.SoftLink(f"/{name}")
            file[name] = h5py.SoftLink("/other")
        elif isinstance(content, h5py.SoftLink) and name == "values":
            file[name] = h5py.SoftLink("/offsets")
        else:
            file[name] = content
    with pytest.raises(EarwitnessError, match=rf"no feature file \({name} {reason}") as raised:
        FeatureStore.open(tmp_path / "x.h5")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("chunks", [True, None])
@pytest.mark.parametrize(("name", "dtype"), [("ids", "S6"), ("offsets", "i8"), ("values", "f2")])
def test_a_size_beyond_the_file_takes_no_memory(
    tmp_path: Path, name: str, dtype: str, chunks: bool | None
) -> None:
    """Fill values are zeros that the file does not have: 8 TB of them here."""
    with replaced(tmp_path / "x.h5", name) as file:
        shape = (10**12, 1) if name == "values" else (10**12,)
        file.create_dataset(name, shape, dtype, chunks=chunks)
    with pytest.raises(EarwitnessError, match=f"{name} is not one block within the file"):
        FeatureStore.open(tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("settings", "[" * 100_000),
        ("settings", "[]"),
        ("settings", 3),
        ("views", 2.0),
        ("views", np.array([2, 2])),
        ("views", h5py.Empty("i8")),
        ("frame_seconds", np.nan),
        ("frame_seconds", "x"),
        ("encoder", 3),
        ("weights", np.zeros(2, [("a", "i4")])),
        ("format_version", "1"),
    ],
)
def test_an_attribute_of_another_kind_is_one_line(tmp_path: Path, name: str, value: object) -> None:
    write(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file.attrs[name] = value
    with pytest.raises(EarwitnessError, match=r"no feature file \(.*\); delete it") as raised:
        FeatureStore.open(tmp_path / "x.h5")
    assert "\n" not in str(raised.value)


def test_an_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "x.h5", HEADER, ["a", "a", "b"], LENGTHS, WIDTH, [values()])
    with pytest.raises(EarwitnessError, match="an id occurs twice"):
        FeatureStore.open(tmp_path / "x.h5")
