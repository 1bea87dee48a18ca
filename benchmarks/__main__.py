"""All benchmarks, each a table of its own: ``python -m benchmarks`` or ``make bench``."""

from __future__ import annotations

import subprocess
import sys

ALL = (
    *("extraction", "bank", "translator", "beam", "cider", "intervals"),
    *("ranking", "scheduled_sampling", "scst", "ensemble", "triplet", "memory", "text_only"),
    *("look", "jobs", "side_by_side", "captioning", "index", "storage"),
)


def main() -> None:
    """Runs each in its own process, so that its threads and memory do not slow the next."""
    for name in ALL:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main()
