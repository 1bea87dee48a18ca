"""Feature files that are cut into several, against one file, plain h5py, and hostile parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from project import Project

from pipeline.config.feature_files import StoredAs
from pipeline.config.params import load_params
from pipeline.errors import EarwitnessError
from pipeline.features.bank import Crop, FeatureBank
from pipeline.features.store import FeatureStore, Header, Index, write_store
from pipeline.features.store_parts import folder_of_parts
from pipeline.planning.context import Context
from pipeline.planning.features import extraction_plans

WIDTH, CLIPS, VIEWS = 6, 9, 2
IDS = [f"clip-{number}" for number in range(CLIPS)]
LENGTHS = np.random.default_rng(1).integers(0, 9, CLIPS * VIEWS)
FRAMES = int(LENGTHS.sum())
HEADER = Header("panns", {"hop": 320}, "abc", 0.01, VIEWS)
PER_FILE = 7  # frames: some entries lie in two files
PLENTY = 1 << 40
BOTH = pytest.mark.parametrize("store", ["float16", "int8"])


def values(seed: int = 0) -> NDArray[np.float16]:
    return np.random.default_rng(seed).standard_normal((FRAMES, WIDTH)).astype(np.float16)


def write(
    path: Path, per_file: int = PER_FILE, store: StoredAs = "float16", seed: int = 0, block: int = 5
) -> Index:
    size = WIDTH * 2 if store == "float16" else WIDTH + 4
    cuts = np.split(values(seed), range(block, FRAMES, block))
    header = replace(HEADER, store=store)
    return write_store(path, header, IDS, LENGTHS, WIDTH, cuts, file_bytes=per_file * size)


def files(path: Path) -> list[Path]:
    """The feature file, and the further ones in order."""
    return [path, *sorted(folder_of_parts(path).glob("*.h5"))]


def contents(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@BOTH
def test_plain_h5py_finds_all_frames_in_the_files_one_after_another(
    tmp_path: Path, store: StoredAs
) -> None:
    write(tmp_path / "cut.h5", store=store)
    write(tmp_path / "one.h5", FRAMES, store)
    names = ["values"] if store == "float16" else ["values", "scales"]
    assert len(files(tmp_path / "one.h5")) == 1
    parts = files(tmp_path / "cut.h5")
    assert len(parts) == -(-FRAMES // PER_FILE) > 5
    for name in names:
        pieces = []
        for path in parts:
            with h5py.File(path) as file:
                assert len(file[name]) <= PER_FILE and file[name].chunks is None
                pieces.append(file[name][:])
        with h5py.File(tmp_path / "one.h5") as file:
            np.testing.assert_array_equal(np.concatenate(pieces), file[name][:])


@BOTH
def test_the_digest_does_not_depend_on_the_cut(tmp_path: Path, store: StoredAs) -> None:
    seen = {
        write(tmp_path / f"{number}.h5", per_file, store, block=block).sha256
        for number, (per_file, block) in enumerate([(FRAMES, 5), (7, 5), (1, 3), (7, FRAMES)])
    }
    assert len(seen) == 1
    assert write(tmp_path / "other.h5", store=store, seed=1).sha256 not in seen


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "panns.h5", block=3 if name == "a" else 11)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@BOTH
def test_it_reads_as_one_file_does(tmp_path: Path, store: StoredAs) -> None:
    write(tmp_path / "cut.h5", store=store)
    write(tmp_path / "one.h5", FRAMES, store)
    cut, one = FeatureStore.open(tmp_path / "cut.h5"), FeatureStore.open(tmp_path / "one.h5")
    whole = np.array(one.values)
    if store == "float16":
        np.testing.assert_array_equal(whole, values())
    assert cut.values.shape == whole.shape and len(cut.values) == len(whole)
    assert (cut.width, cut.header, cut.ids) == (one.width, one.header, one.ids)
    for part in cut.values.parts:
        assert isinstance(part.values, np.memmap) and not part.values.flags.writeable
    for start in range(0, FRAMES, 3):
        for stop in (start, start + 1, start + 9, FRAMES):
            np.testing.assert_array_equal(cut.values[start:stop], whole[start:stop])
    np.testing.assert_array_equal(cut.values[::4], whole[::4])
    rows = np.random.default_rng(0).integers(0, FRAMES, 50)
    np.testing.assert_array_equal(cut.values[rows], whole[rows])
    for clip in range(CLIPS):
        for view in range(VIEWS):
            np.testing.assert_array_equal(cut.entry(clip, view), one.entry(clip, view))


@BOTH
@pytest.mark.parametrize("ram_bytes", [PLENTY, 0], ids=["ram", "mapped"])
@pytest.mark.parametrize("some", [False, True])
def test_batches_of_several_files_are_those_of_one(
    tmp_path: Path, store: StoredAs, ram_bytes: int, some: bool
) -> None:
    write(tmp_path / "cut.h5", store=store)
    write(tmp_path / "one.h5", FRAMES, store)
    ids = ["clip-7", "clip-0", "clip-3"] if some else None
    opened = (FeatureStore.open(tmp_path / name) for name in ("cut.h5", "one.h5"))
    cut, one = (FeatureBank(each, device_bytes=0, ram_bytes=ram_bytes, ids=ids) for each in opened)
    assert cut.place == one.place == ("ram" if ram_bytes else "mapped")
    draw = torch.Generator().manual_seed(0)
    for size in (1, 4, 30):
        entries = torch.randint(len(cut), (size,), generator=draw)
        lengths = cut.lengths[entries] // 2
        for crop in (None, Crop(cut.lengths[entries] - lengths, lengths)):
            found, expected = cut.batch(entries, crop), one.batch(entries, crop)
            assert torch.equal(found.values, expected.values)
            assert torch.equal(found.lengths, expected.lengths)


def test_a_writer_that_fails_leaves_the_old_features_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "panns.h5"
    write(path)
    before = contents(tmp_path)

    def broken() -> Iterator[NDArray[np.float16]]:
        yield values(1)[:20]
        raise OSError("disk full")

    for blocks in (broken(), [values(1)[:20]], [values(1), values(1)[:9]]):
        with pytest.raises((OSError, ValueError)):
            write_store(path, HEADER, IDS, LENGTHS, WIDTH, blocks, file_bytes=PER_FILE * WIDTH * 2)
        assert contents(tmp_path) == before
    np.testing.assert_array_equal(FeatureStore.open(path).values, values())


def test_killed_before_the_last_step_the_old_features_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New parts are there already, and the feature file still is the old one."""
    path = tmp_path / "panns.h5"
    write(path)
    place = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target == path:
            raise KeyboardInterrupt
        return place(self, target)

    with monkeypatch.context() as context:
        context.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write(path, seed=1)
    assert len(files(path)) > -(-FRAMES // PER_FILE)  # of both
    np.testing.assert_array_equal(FeatureStore.open(path).values, values())
    write(path, seed=1)
    assert len(files(path)) == -(-FRAMES // PER_FILE)
    np.testing.assert_array_equal(FeatureStore.open(path).values, values(1))
    write(path, FRAMES, seed=2)
    assert len(files(path)) == 1
    np.testing.assert_array_equal(FeatureStore.open(path).values, values(2))


def missing(path: Path, _: Path) -> None:
    path.unlink()


def swapped(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def of_other_features(path: Path, _: Path) -> None:
    folder = path.parent.parent / "other"
    write(folder / "panns.h5", seed=9)
    shutil.copy(files(folder / "panns.h5")[2], path)


def cut_short(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def a_text(path: Path, _: Path) -> None:
    path.write_text("not HDF5", encoding="utf-8")


def changed(name: str, content: Any) -> Any:
    def change(path: Path, other: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[name]
            if isinstance(content, str):
                file[name] = h5py.ExternalLink(str(other), f"/{name}")
            else:
                file[name] = content

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (missing, "is missing; delete it and run `dvc repro`"),
        (swapped, "it is part 2 of"),
        (of_other_features, "it is part 2 of"),
        (cut_short, "cut short, or another's"),
        (a_text, "cut short, or another's"),
        (changed("values", "link"), "values is a link, which is refused"),
        (changed("values", np.zeros((PER_FILE, WIDTH), np.float32)), "values is float32"),
        (changed("values", np.zeros((PER_FILE, WIDTH + 1), np.float16)), "7 frames of 6 values"),
        (changed("values", np.zeros((PER_FILE - 1, WIDTH), np.float16)), "7 frames of 6 values"),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_one_line(
    tmp_path: Path, damage: Any, reason: str
) -> None:
    path = tmp_path / "panns.h5"
    write(path)
    damage(files(path)[2], files(path)[1])
    with pytest.raises(EarwitnessError, match=reason) as raised:
        FeatureStore.open(path)
    assert "\n" not in str(raised.value) and "run `dvc repro`" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parts", "../../../../etc/passwd"),
        ("parts", "0" * 64),
        ("parts", 3),
        ("frames_per_file", 0),
        ("frames_per_file", -1),
        ("frames_per_file", 6),
        ("frames_per_file", 1 << 62),
        ("frames_per_file", 7.0),
        ("format_version", 1),
    ],
)
def test_what_a_feature_file_says_of_its_parts_is_checked(
    tmp_path: Path, name: str, value: object
) -> None:
    path = tmp_path / "panns.h5"
    write(path)
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(EarwitnessError, match="delete it and run `dvc repro`") as raised:
        FeatureStore.open(path)
    assert "\n" not in str(raised.value)


@BOTH
def test_announced_frames_that_are_nowhere_take_no_memory(tmp_path: Path, store: StoredAs) -> None:
    write(tmp_path / "x.h5", store=store)
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["offsets"][-1] = 1 << 60
    with pytest.raises(EarwitnessError, match=r"is missing|should be"):
        FeatureStore.open(tmp_path / "x.h5")


def planned(root: Path) -> dict[str, Any]:
    """The plan of the extraction, as it is written."""
    context = Context.read(load_params(root / "params.yaml"), root, root)
    return extraction_plans(context)["mine-mel"].model_dump(mode="json")


def test_under_dvc_the_parts_belong_to_the_stage_and_their_size_to_no_plan(tmp_path: Path) -> None:
    """Cut, as it was after a checkout; another size makes nothing anew, int8 does."""
    (tmp_path / "mine/train").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(12):
        sound = draw.uniform(-0.5, 0.5, 2000).astype(np.float32)
        soundfile.write(tmp_path / f"mine/train/{number}.wav", sound, 16000)
    rows = "".join(f"{number}.wav,a dog barks\n" for number in range(12))
    (tmp_path / "mine/train.csv").write_text(f"file_name,caption\n{rows}")
    mel = {"module": "logmel", "sample_rate": 16000, "n_fft": 512, "hop": 320, "fmax": 8000}
    params = {
        "datasets": {"mine": {"layout": "folder", "root": "../mine"}},
        "encoders": {"mel": mel},
        "feature_files": {"max_gigabytes": 1e-6},  # 1,000 bytes: 7 frames of 64 values
        "seeds": [1],
        **{key: {} for key in ("text_encoders", "spaces", "retrievers", "adapted")},
        **{key: {} for key in ("captioners", "finetuned", "systems")},
        **{key: [] for key in ("encoded", "test_sets", "retrieval_test_sets")},
        "tagging": {"encoders": []},
    }
    project = Project(tmp_path, params)
    job, path = "extract@mine-mel", project.root / "data/features/mine/mel.h5"
    assert job in project.run("repro", "extract")
    before = planned(project.root)
    assert "store" not in before  # as it was before there was a choice
    first = np.array(FeatureStore.open(path).values)
    assert len(first) > 70 and len(files(path)) == -(-len(first) // 7)
    shutil.rmtree(folder_of_parts(path))
    project.dvc("checkout", "extract")
    np.testing.assert_array_equal(FeatureStore.open(path).values, first)
    project.edit_params({"feature_files": {"max_gigabytes": 1.0}})
    assert planned(project.root) == before
    project.edit_params({"feature_files": {"int8": ["mel"]}})
    assert planned(project.root) == {**before, "store": "int8"}
