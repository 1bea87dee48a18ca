"""Two jobs on one machine: how OpenMP's threads wait decides whether they stop each other.

Each job trains a CNN10 of the default's size, in a process of its own: alone, and two at once. By
OpenMP's default a thread spins while it waits, and takes the core that the other job needs; ours
sleeps (earwitness/process.py). With one thread each nothing waits: ``hardware.threads: 1``.

Run it as ``python -m benchmarks.jobs``; ``python -m benchmarks.jobs 5`` takes fewer steps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.timing import Row, print_table

STEPS, BATCH, FRAMES, CLASSES = 10, 16, 300, 20
TARGET = 1.0  # passive waiting may never be slower with two jobs
POLICIES = {
    "OpenMP's default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "passive, one thread each": {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"},
}


def train(steps: int) -> float:
    """Seconds of the steps, after one that is not timed."""
    import torch

    from pipeline.config.encoders import PannsEncoderConfig
    from pipeline.encoders.registry import tagging_model

    torch.manual_seed(0)
    settings = PannsEncoderConfig(module="panns", model="cnn10", channels=16, weights="tagging")
    model = tagging_model(settings, CLASSES).train()
    optimizer = torch.optim.AdamW(model.parameters())
    logmel = torch.randn(BATCH, FRAMES, 64)
    lengths = torch.full((BATCH,), FRAMES)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.perf_counter()
        loss = model.classify(logmel, lengths).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def run(policy: dict[str, str], jobs: int, steps: int) -> float:
    """Seconds of the slowest of ``jobs`` at once."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    code = f"from benchmarks.jobs import train; print(train({steps}))"
    if not policy:  # importing benchmarks would set it
        code = f"import torch; {code}"
    command = [sys.executable, "-c", code]
    started = [
        subprocess.Popen(command, env=inherited | policy, stdout=subprocess.PIPE, text=True)
        for _ in range(jobs)
    ]
    return max(float(job.communicate()[0]) for job in started)


def measure(steps: int) -> list[Row]:
    seconds = {name: [run(p, n, steps) for n in (1, 2)] for name, p in POLICIES.items()}
    print("| threads wait | alone | two at once | times longer |")
    print("|---|---:|---:|---:|")
    for name, (alone, both) in seconds.items():
        print(f"| {name} | {alone:.1f} s | {both:.1f} s | {both / alone:.2f} |")
    print()
    (_, slow), (_, fast), _ = seconds.values()
    return [Row("two jobs at once", slow, fast, TARGET)]


if __name__ == "__main__":
    print_table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS))
