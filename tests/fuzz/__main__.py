"""``python -m tests.fuzz``: the table by loader; exit code 1 if any input did harm."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.fuzz.loaders import LOADERS
from tests.fuzz.runner import bad, run_loader, table


def main() -> int:
    parser = argparse.ArgumentParser(description="Hostile input to every loader.")
    parser.add_argument("--cases", type=int, default=2800, help="over all loaders")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loader", action="append", help="only this one; may be given again")
    parser.add_argument("--number", type=int, help="one case alone")
    parser.add_argument("--show", action="store_true", help="every case, not only the bad ones")
    options = parser.parse_args()
    chosen = [one for one in LOADERS if not options.loader or one.name in options.loader]
    share = -(-options.cases // len(chosen))
    numbers = range(share) if options.number is None else [options.number]
    results = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for loader in chosen:
            for result in run_loader(loader, numbers, options.seed, Path(folder) / loader.name):
                results.append(result)
                if options.show or bad([result]):
                    kind, detail = result.outcome
                    print(
                        f"{kind}: {loader.name} {result.number} ({result.file}): {detail}",
                        flush=True,
                    )
    print(table(results))
    return 1 if bad(results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
