"""What metrics are given: one system's candidates with their references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ScoredSet(NamedTuple):
    """N candidates, and for each the captions that it is compared with (one or more)."""

    candidates: Sequence[str]  # N
    references: Sequence[Sequence[str]]  # N × R
