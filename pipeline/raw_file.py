"""A file of known size that is read from elsewhere: what its kinds have in common."""

from __future__ import annotations

import io
import os


class RawFile(io.RawIOBase):
    """Readable and seekable, within its size; a kind adds ``readinto``, or ``read`` itself."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._at = size, 0  # bytes, and the position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._at, self._size)[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at
