"""Memory decoding against the plain formulas of WSAC 3.2, and blocks against the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.decoding.text_memory import TextMemory, read_sound
from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.tensors import Padded

CAPTIONS, WIDTH, CLIPS = 203, 24, 17


@pytest.fixture
def stored(tmp_path: Path) -> tuple[FeatureBank, np.ndarray]:
    """Captions' embeddings of any length in a file, and as float64 unit rows."""
    values = np.random.default_rng(0).normal(size=(CAPTIONS, WIDTH)).astype(np.float16)
    ids = [f"c{i}#0" for i in range(CAPTIONS)]
    ones = np.ones(CAPTIONS, np.int64)
    write_store(tmp_path / "text.h5", Header("text", {}, "0", 0.0), ids, ones, WIDTH, [values])
    store = FeatureStore.open(tmp_path / "text.h5")
    bank = FeatureBank(store, device_bytes=0, ram_bytes=0)
    assert bank.place == "mapped"
    return bank, unit_rows(values.astype(np.float64))


def unit_rows(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def queries() -> Tensor:
    values = np.random.default_rng(1).normal(size=(CLIPS, WIDTH))
    return torch.from_numpy(unit_rows(values)).float()


@pytest.mark.parametrize("block", [1, 7, CAPTIONS - 1, CAPTIONS, 1000])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_projection_is_the_softmax_weighted_sum(
    stored: tuple[FeatureBank, np.ndarray], block: int, temperature: float
) -> None:
    """Eq. 4 and 5, over the whole matrix of similarities."""
    bank, rows = stored
    weights = np.exp(queries().double().numpy() @ rows.T / temperature)
    weights /= weights.sum(1, keepdims=True)
    found = TextMemory(bank, "projection", temperature, block=block).recall(queries())
    np.testing.assert_allclose(found.numpy(), weights @ rows, atol=2e-5)


@pytest.mark.parametrize("block", [1, 7, CAPTIONS])
def test_nearest_is_the_caption_of_the_highest_cosine(
    stored: tuple[FeatureBank, np.ndarray], block: int
) -> None:
    """Eq. 3."""
    bank, rows = stored
    nearest = rows[(queries().double().numpy() @ rows.T).argmax(1)]
    found = TextMemory(bank, "nearest", block=block).recall(queries())
    np.testing.assert_allclose(found.numpy(), nearest, atol=1e-6)


def test_a_low_temperature_projects_onto_the_nearest(
    stored: tuple[FeatureBank, np.ndarray],
) -> None:
    bank, _ = stored
    sharp = TextMemory(bank, "projection", 1e-5).recall(queries())
    assert sharp.isfinite().all()
    torch.testing.assert_close(sharp, TextMemory(bank, "nearest").recall(queries()))


class Watched:
    """A bank that is never asked for more than a block."""

    views = 1

    def __init__(self, bank: FeatureBank, block: int) -> None:
        self.bank, self.block, self.asked = bank, block, 0

    def __len__(self) -> int:
        return len(self.bank)

    def batch(self, entries: Tensor) -> Padded:
        assert len(entries) <= self.block
        self.asked += len(entries)
        return self.bank.batch(entries)


def test_the_memory_is_read_in_blocks_once_a_batch(stored: tuple[FeatureBank, np.ndarray]) -> None:
    watched = Watched(stored[0], 16)
    TextMemory(watched, "projection", block=16).recall(queries())
    assert watched.asked == CAPTIONS


def test_sound_of_several_frames_and_members_without_a_memory(
    stored: tuple[FeatureBank, np.ndarray],
) -> None:
    """A clip's frames are averaged before they are looked up; other members read as they did."""
    bank, rows = stored
    values = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([4, 1, 3])
    means = [values[i, :length].mean(0).numpy() for i, length in enumerate(lengths.tolist())]
    expected = rows[(unit_rows(np.stack(means)) @ rows.T).argmax(1)]
    sound, other = Padded(values, lengths), Padded(values * 2, lengths)
    first, second = read_sound([TextMemory(bank, "nearest"), None], [(sound,), (other, sound)])
    assert first[0].values.shape == (3, 1, WIDTH) and first[0].lengths.tolist() == [1, 1, 1]
    np.testing.assert_allclose(first[0].values[:, 0].numpy(), expected, atol=1e-6)
    assert second[0] is other and second[1] is sound


def test_an_empty_memory_is_one_line(tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    write_store(tmp_path / "text.h5", Header("text", {}, "0", 0.0), [], none, WIDTH, [])
    bank = FeatureBank(FeatureStore.open(tmp_path / "text.h5"), device_bytes=0, ram_bytes=0)
    with pytest.raises(EarwitnessError, match=r"text.h5: the text memory .* text_memory.method"):
        TextMemory(bank, "projection", source="text.h5")
