"""Settings by dotted keys, such as ``fuser.layers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def leaves(value: Any, at: str = "") -> dict[str, Any]:
    """Dotted key → value; lists are values."""
    if not isinstance(value, Mapping) or not value:
        return {at: value}
    found: dict[str, Any] = {}
    for key, child in value.items():
        found |= leaves(child, f"{at}.{key}" if at else key)
    return found
