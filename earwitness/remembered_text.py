"""A text encoder that embeds the names and descriptions of a tag space once for all commands.

2,000 short sentences take some five seconds of two cores, more than most searches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from pipeline.encoders.base import Packed, TextEncoder
from pipeline.files import replacing

MANY = 256  # texts that are worth a file


class RememberedText(TextEncoder):
    """As ``encoder``, which gives one embedding a text; of many texts, they are kept in ``folder``.

    Args:
        same: says all that its embeddings depend on.
    """

    def __init__(self, encoder: TextEncoder, same: str, folder: Path) -> None:
        self.encoder, self.same, self.folder = encoder, same, folder
        self.width, self.device = encoder.width, encoder.device

    def encode(self, captions: Sequence[str], dtype: DTypeLike = np.float32) -> Packed:
        if len(captions) < MANY:
            return self.encoder.encode(captions, dtype)
        said = json.dumps([self.same, str(np.dtype(dtype)), *captions])
        path = self.folder / f"{sha256(said.encode()).hexdigest()}.npy"
        with suppress(OSError, ValueError, EOFError):  # not there, or broken: it is made again
            values = np.load(path, allow_pickle=False)
            if values.shape == (len(captions), self.width) and values.dtype == np.dtype(dtype):
                return Packed(values, np.ones(len(captions), np.int64))
        found = self.encoder.encode(captions, dtype)
        with (
            suppress(OSError),  # where nothing can be kept, the next command embeds them again
            replacing(path) as temporary,
            temporary.open("wb") as stream,
        ):
            np.save(stream, found.values, allow_pickle=False)
        return found
