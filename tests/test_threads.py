"""``hardware.threads`` reaches all that computes, by what each library and the kernel say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

OWN = ("OMP_", "GOMP_", "OPENBLAS_", "RAYON_", "MKL_")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
JOB = """
import os
from pipeline.threads import limit, share
from pipeline.device import set_up
import numpy
set_up("cpu", {threads!r})
import scipy.linalg, tokenizers, torch
from threadpoolctl import threadpool_info

def tasks(): return len(os.listdir("/proc/self/task"))

before = tasks()
values = torch.rand(1500, 1500)
(values @ values).sum()
loaded = numpy.random.default_rng(0).random((1500, 1500))
(loaded @ loaded).sum(), scipy.linalg.lu(loaded)
pools = max(library["num_threads"] for library in threadpool_info())  # BLAS: at most the cores
computing = tasks()
words = tokenizers.Tokenizer(tokenizers.models.WordLevel({{"a": 0}}, unk_token="a"))
words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
words.encode_batch(["a a a"] * 20000)
print(torch.get_num_threads(), pools, share(8), tasks() - computing)
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_all_pools_of_a_job_have_the_threads_it_was_given(threads: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOB.format(threads=threads)],
        cwd=REPOSITORY, env=CLEAN, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.split() == [str(threads)] * 4


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("import earwitness", ""),
        ("import stages.decode", ""),
        ("import stages.decode", "active"),
        ("import benchmarks", ""),
        ("import sys; sys.path[:0] = ['tests']; import conftest", ""),
    ],
)
def test_threads_wait_passively_in_every_process_unless_said_otherwise(
    first: str, said: str
) -> None:
    """By what OpenMP itself reports when torch loads it."""
    done = subprocess.run(
        [sys.executable, "-c", f"{first}; import torch"],
        cwd=REPOSITORY,
        env={**CLEAN, "OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": said} if said else {}),
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert f"OMP_WAIT_POLICY = '{said.upper() or 'PASSIVE'}'" in done.stderr
