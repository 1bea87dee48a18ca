"""Where the models of one name lie: of each seed in a folder of its own, ``<name>/<seed>/``.

A space is not trained: it has no seeds, and lies in ``<name>/`` itself.
"""

from __future__ import annotations

from pathlib import Path

PLAN = "plan.json"  # every model's folder has one


def seeds_in(folder: Path) -> list[int]:
    """The seeds that the model of a name is trained with; none of a space."""
    names = [path.parent.name for path in folder.glob(f"*/{PLAN}")]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def model_of(folder: Path, seed: int) -> Path:
    """The folder of one seed's model; of a space, which has no seed, ``folder`` itself."""
    is_space = (folder / PLAN).is_file() and not seeds_in(folder)
    return folder if is_space else folder / str(seed)
