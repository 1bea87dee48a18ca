"""Captions of kinds of sound, a row a kind: ``label`` and ``caption_1`` ….

The table that comes with earwitness, descriptions.csv beside this file, has three for each of
AudioSet's 527 kinds (Gemmeke et al., 2017). It was written for this project: a tag space lies by
it, and a captioner learns from it where no public captions are at hand.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.config.datasets import DescriptionsDatasetConfig
from pipeline.corpora.captions import text_manifest
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.recordings import Recording
from pipeline.corpora.tables import captions, checked_name
from pipeline.errors import EarwitnessError
from pipeline.storage.places import folder_at
from pipeline.tables import captioned_rows

# the table that comes with earwitness
TABLE = Path(__file__).with_suffix(".csv")


def prepare(
    name: str, settings: DescriptionsDatasetConfig, base: Path, raw: Path, progress: bool = True
) -> Manifest:
    """The table below ``settings.root``, which is relative to ``base`` or absolute.

    A label is a clip of development with all its captions, but for a share of the labels: one
    caption of each of these is a clip of validation. So each label is learned, and what is held out
    is of labels that were learned. A hash of seed and label decides, so that a label's captions
    stay where they are when others are added, as long as the number of labels is about the same.

    Raises:
        EarwitnessError: the table cannot be used; see tables.py. Or a label occurs twice, or none
            has two captions.
    """
    path = folder_at(base, settings.root) / settings.table
    by_label = captions_by_label(path)
    # one that has a single caption keeps it to be learned
    several = [label for label, texts in by_label.items() if len(texts) > 1]
    if not several:
        raise EarwitnessError(
            f"{path}: no label has two captions, so that none can be held out; write more"
        )
    draws = {label: _draw(settings.seed, label) for label in several}
    count = max(1, round(settings.validation_share * len(several)))
    chosen = set(sorted(several, key=lambda label: draws[label])[:count])
    learned, held_out = [], []
    for label, texts in by_label.items():
        out = draws[label][-1] % len(texts) if label in chosen else None
        rest = tuple(text for place, text in enumerate(texts) if place != out)
        learned.append(Recording("development", f"development/{label}", rest))
        if out is not None:
            held_out.append(Recording("validation", f"validation/{label}", (texts[out],)))
    return text_manifest(name, settings.root, learned + held_out)


def _draw(seed: int, label: str) -> bytes:
    """The same 32 bytes always; no label's depend on another's."""
    return hashlib.sha256(f"{seed} {label}".encode()).digest()


def captions_by_label(path: Path) -> dict[str, tuple[str, ...]]:
    """The captions of each label of a table, in its order.

    Raises:
        EarwitnessError: the table cannot be used; see tables.py. Or a label occurs twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for row in captioned_rows(path, ["label"]):
        where = f"{path}: line {row.line}"
        label = checked_name(row.values["label"], "label", where)
        if label in found:
            raise EarwitnessError(f"{where}: label {label!r} occurs twice; put both into one row")
        found[label] = captions(row, path, label)
    return found
