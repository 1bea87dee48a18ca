"""Features in 8 bits against a quantiser in plain Python, and what reads them."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.params import parse_params
from pipeline.config.plans import ExtractionPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank
from pipeline.features.extraction import encode_sounds, extract
from pipeline.features.frames import as_stored, quantised
from pipeline.features.store import FeatureStore, Header, write_store

CPU = torch.device("cpu")
PLENTY = 1 << 40


def rows(count: int, width: int, seed: int = 0) -> NDArray[np.float16]:
    """Of very different sizes; the first are zeros, one value, and the smallest and largest."""
    draw = np.random.default_rng(seed)
    found = draw.standard_normal((count, width)) * 10.0 ** draw.uniform(-4, 3, (count, 1))
    found[0] = 0
    found[1, 1:] = 0
    found[2], found[3] = 2.0**-24, 65504
    return found.astype(np.float16)


def by_hand(row: list[float]) -> tuple[list[int], float]:
    """One frame, value by value, in double precision."""
    largest = max(abs(value) for value in row)
    scale = largest / 127
    whole = [0 if scale == 0 else round(value / scale) for value in row]
    return whole, scale


def test_a_frame_is_its_largest_value_in_127_steps() -> None:
    frames = rows(60, 7)
    found, scales = quantised(frames)
    assert found.dtype == np.int8 and scales.dtype == np.float32
    for row, own, scale in zip(frames.tolist(), found.tolist(), scales.tolist(), strict=True):
        whole, expected = by_hand(row)
        assert math.isclose(scale, expected, rel_tol=1e-6)
        exact = [0.0 if expected == 0 else value / expected for value in row]
        for value, one, near in zip(own, whole, exact, strict=True):
            assert value == one or abs(abs(near % 1) - 0.5) < 1e-4  # halves go either way


def test_a_value_is_off_by_half_a_step_and_by_float16() -> None:
    frames = rows(500, 64)
    exact, read = frames.astype(np.float64), as_stored(frames, "int8").astype(np.float64)
    assert np.isfinite(read).all()
    largest = np.abs(exact).max(axis=1, keepdims=True)
    allowed = largest / 254 * (1 + 1e-6) + np.abs(read) * 2.0**-11 + 2.0**-25
    assert (np.abs(read - exact) <= allowed).all()
    np.testing.assert_array_equal(as_stored(frames, "float16"), frames)


def test_every_reader_gives_the_same_float16(tmp_path: Path) -> None:
    lengths = np.array([3, 0, 9, 5, 1])
    frames = rows(int(lengths.sum()), 6)
    ids = [f"clip-{number}" for number in range(5)]
    write_store(
        tmp_path / "x.h5", Header("e", {}, "", 0.1, store="int8"), ids, lengths, 6, [frames]
    )
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["values"].dtype == np.int8 and file.attrs["format_version"] == 2
        whole = file["values"][:].astype(np.float32) * file["scales"][:][:, None]
    expected = whole.astype(np.float16)
    store = FeatureStore.open(tmp_path / "x.h5")
    assert store.header.store == "int8"
    np.testing.assert_array_equal(store.values, expected)
    np.testing.assert_array_equal(as_stored(frames, "int8"), expected)
    pieces = np.split(expected, np.cumsum(lengths)[:-1])
    for ram_bytes in (PLENTY, 0):
        bank = FeatureBank(store, device_bytes=0, ram_bytes=ram_bytes)
        batch = bank.batch(torch.arange(5))
        for clip, piece in enumerate(pieces):
            np.testing.assert_array_equal(store.entry(clip), piece)
            np.testing.assert_array_equal(batch.values[clip, : len(piece)], piece)
            assert not batch.values[clip, len(piece) :].any()


def test_it_takes_half_of_the_disk_and_of_the_memory(tmp_path: Path) -> None:
    lengths, frames = np.full(10, 400), rows(4000, 256)
    ids = [f"clip-{number}" for number in range(10)]
    size = {}
    for store in ("float16", "int8"):
        path = tmp_path / f"{store}.h5"
        write_store(path, Header("e", {}, "", 0.1, store=store), ids, lengths, 256, [frames])
        size[store] = path.stat().st_size
    assert size["int8"] < 0.52 * size["float16"]
    opened = FeatureStore.open(tmp_path / "int8.h5")
    needed = 4000 * (256 + 4)
    places = [
        FeatureBank(opened, device_bytes=0, ram_bytes=most).place for most in (needed, needed - 1)
    ]
    assert places == ["ram", "mapped"]


@pytest.mark.parametrize("name", ["scales", "values"])
def test_a_file_whose_scales_do_not_fit_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.h5"
    for damage in ("gone", "short", "linked", "another type"):
        write_store(
            path, Header("e", {}, "", 0.1, store="int8"), ["a"], np.array([9]), 4, [rows(9, 4)]
        )
        with h5py.File(path, "r+") as file:
            content = file[name][:]
            del file[name]
            match damage:
                case "short":
                    file[name] = content[:-1]
                case "linked":
                    file[name] = h5py.ExternalLink(str(path), "/offsets")
                case "another type":
                    file[name] = content.astype(np.float64)
        with pytest.raises(EarwitnessError, match="delete it and run `dvc repro`") as raised:
            FeatureStore.open(path)
        assert "\n" not in str(raised.value)


def test_a_new_sound_is_read_as_the_features_that_training_read(tmp_path: Path) -> None:
    """What earwitness computes of a file is what the file of features holds of it."""
    from earwitness.sound_features import _encoding

    draw, clips = np.random.default_rng(0), []
    for number in range(2):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, draw.uniform(-0.4, 0.4, 16000), 16000, subtype="PCM_16")
        clips.append(Clip(str(number), "development", path.name, 1.0, ("a dog",), (), "0"))
    config = LogmelEncoderConfig(module="logmel", sample_rate=16000, n_fft=512, hop=320, fmax=8000)
    encoder = build_sound_encoder(config, None, CPU)
    plan = ExtractionPlan(
        name="mel", inputs={}, code={}, dataset="toy", encoder=config, spec_augment=None,
        weights=None, store="int8",
    )  # fmt: skip
    manifest = Manifest("toy", str(tmp_path), tuple(clips), synthetic=False)
    path = tmp_path / "mel.h5"
    index, _ = extract(manifest, tmp_path, encoder, "", plan, tmp_path / "partial", path)
    store = FeatureStore.open(path)
    assert store.header.store == "int8" and index.width == store.width
    sounds = [tmp_path / "0.wav", tmp_path / "1.wav"]
    plain = encode_sounds(sounds, encoder, 10.0, 120.0)
    for clip, own in enumerate(_encoding(encoder, config, "int8")(sounds, math.inf)):
        np.testing.assert_array_equal(own, store.entry(clip))
        assert (own != plain[clip]).any()


def test_what_is_stored_in_int8_is_named_and_must_be_there() -> None:
    values = {
        "datasets": {"mine": {"layout": "folder", "root": "x"}},
        "encoders": {"mel": {"module": "logmel"}},
        "feature_files": {"int8": "mel"},
    }
    assert parse_params(values).feature_files.int8 == ("mel",)
    values["feature_files"] = {"int8": ["mell"]}
    with pytest.raises(EarwitnessError, match=r"'mell' is not in .*did you mean 'mel'\?"):
        parse_params(values)
