"""SPIDEr-FL (DCASE 2023, task 6a): SPIDEr with FENSE's penalty for fluency errors."""

from __future__ import annotations

from pipeline.metrics.fense import fense

spider_fl = fense  # the same function, of SPIDEr in place of the SBERT similarity
