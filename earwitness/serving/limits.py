"""What the server takes at most."""

from __future__ import annotations

import os
from dataclasses import dataclass

LINGER_SECONDS, LINGER_BYTES = 1.0, 1 << 20  # of what comes after a refusal
PRIMITIVES = 64  # of oneDNN that are kept


@dataclass(frozen=True)
class Limits:
    upload_bytes: int = 50 << 20
    longest_minutes: float = 10.0  # of a sound
    timeout: float = 60.0  # seconds, of a request with its upload and its answer
    pause: float = 10.0  # seconds without a byte from a client that has not finished its request
    queue: int = 64  # requests that upload, wait or are worked on; more are refused
    batch: int = 16  # sounds captioned in one call
    gather: float = 0.01  # seconds that a batch waits for more


def keep_memory_small() -> None:
    """Called before anything is computed.

    torch's oneDNN keeps a compiled primitive for each shape that it has seen, 1,024 of them, and
    sounds have all lengths: some 60 MB in the first thousand requests.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES))
