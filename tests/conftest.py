"""What all tests share: where the real data is, if it is, and how many threads a process has.

One thread, in the tests' own process and in those that they start. ``EARWITNESS_TEST_THREADS=2``
gives two: sums are then made in another order, as on another make of CPU, and every test must
hold. So must it under ``ATEN_CPU_CAPABILITY=default`` or ``avx2``, and ``ONEDNN_MAX_CPU_ISA=AVX2``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

import earwitness  # noqa: F401 - before torch, as every process of ours does

import torch  # isort: skip

REPOSITORY = Path(__file__).resolve().parents[1]

THREADS = int(os.environ.get("EARWITNESS_TEST_THREADS", "1"))

# the same examples every time, whatever else the machine does, and no folder of its own
settings.register_profile("earwitness", deadline=None, derandomize=True, database=None)
settings.load_profile("earwitness")

os.environ["OMP_NUM_THREADS"] = str(THREADS)
torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings, captions, weights and scores; not part of the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest file first: a worker takes a whole file, and the others fill up the rest."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")
