"""How a terminal shows things: durations, and colours unless ``NO_COLOR`` is set."""

from __future__ import annotations

import os
import sys
from typing import TextIO

CODES = {"name": "1", "time": "36", "number": "2", "unsure": "33"}


def has_colours(stream: TextIO) -> bool:
    """See https://no-color.org: any value but an empty one turns colours off."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def styled(text: str, kind: str) -> str:
    """Text for stdout, in the colour of what it is."""
    return f"\x1b[{CODES[kind]}m{text}\x1b[0m" if has_colours(sys.stdout) else text


def duration(seconds: float) -> str:
    """``0:42``, ``12:05``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
