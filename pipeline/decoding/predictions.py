"""A split's captions, and the table that they are written to.

``clip_id, caption, log_prob, candidates``: a row a clip, in the manifest's order; ``candidates`` is
JSON, ``[[caption, log_prob], …]``, the other hypotheses of the search, best first. One column
rather than one a hypothesis, so that the table has the same form for every method and any K.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from pipeline.config import Decoding
from pipeline.decoding.predict import Caption, bank_batches, predict
from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank, free_budgets
from pipeline.features.store import FeatureStore
from pipeline.files import replacing

if TYPE_CHECKING:
    from pipeline.training.bundle import Captioner

COLUMNS = ("clip_id", "caption", "log_prob", "candidates")
DIGITS = 4  # of a log-probability: beyond them are the differences between machines


def caption_clips(
    captioner: Captioner, stores: Sequence[FeatureStore], clips: Sequence[str], decoding: Decoding
) -> list[Caption]:
    """The captions of ``clips``, in their order, from the E stored features of the captioner.

    Raises:
        EarwitnessError: features of another width than the captioner was trained on.
    """
    for store, width in zip(stores, captioner.widths, strict=True):
        if store.width != width:
            raise EarwitnessError(
                f"{store.path}: {store.width} wide, but captioner {captioner.plan.name} was "
                f"trained on {width}; extract with the same encoder, or train again"
            )
    device = next(captioner.model.parameters()).device
    on_device, in_ram = free_budgets(device)
    banks = [
        FeatureBank(store, device, device_bytes=on_device, ram_bytes=in_ram, ids=clips)
        for store in stores
    ]
    captions: list[Caption] = []
    batches = predict(captioner, bank_batches(banks, decoding.batch), decoding)
    with tqdm(total=len(clips), desc=captioner.plan.name, unit="clip", disable=None) as bar:
        for batch in batches:
            captions += batch
            bar.update(len(batch))
    return captions


def write_predictions(path: Path, clips: Sequence[str], captions: Sequence[Caption]) -> None:
    """Writes the table whole or not at all; the same captions give the same bytes."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for clip, caption in zip(clips, captions, strict=True):
            others = [[text, round(log_prob, DIGITS)] for text, log_prob in caption.candidates]
            log_prob = f"{caption.log_prob:.{DIGITS}f}"
            writer.writerow([clip, caption.text, log_prob, json.dumps(others, ensure_ascii=False)])
