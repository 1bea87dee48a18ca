"""A look at a dataset that did not change against reading it all: ``python -m benchmarks.look``.

50,000 recordings, tiny ones: of real ones only the obvious way would take longer.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.timing import compare, print_table
from pipeline.config.datasets import AudioCapsDatasetConfig
from pipeline.outside.digests import Digests
from pipeline.outside.look import Fingerprint, look_at_dataset

FILES, BYTES = 50_000, 500
TARGET = 2.5  # times faster
SECONDS = 3.0  # at most
LATER = 10_000_000_000  # ns; files that were written just now would be read again


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "set" / "train").mkdir(parents=True)
        for number in range(FILES):
            (base / "set" / "train" / f"{number}.wav").write_bytes(number.to_bytes(4) * BYTES)
        settings = AudioCapsDatasetConfig(layout="audiocaps", root="set")

        def look(memory: Path | None) -> Fingerprint:
            with Digests(memory, time.time_ns() + LATER) as digests:
                return look_at_dataset(settings, base, digests)

        assert look(base / "memory.json") == look(None)
        row = compare(
            f"a look at {FILES:,} files, none changed",
            lambda: look(None),
            lambda: look(base / "memory.json"),
            TARGET,
            3,
        )
    print_table([row])
    reached = "reached" if row.fast < SECONDS else "not reached"
    print(f"\n{row.fast:.2f} s; target: under {SECONDS:g} s, {reached}")


if __name__ == "__main__":
    main()
