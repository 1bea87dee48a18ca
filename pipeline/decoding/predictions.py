"""A split's captions, and the table that they are written to.

``seed, clip_id, caption, log_prob, candidates``: one row a clip, in the manifest's order, for each
seed in turn. ``candidates`` is JSON, ``[[caption, log_prob], …]``: the other hypotheses of the
search, best first. They are one column, so that the table has the same columns for every method and
any K.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from pipeline.config.evaluation import DecodingConfig
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import Caption, bank_batches, predict
from pipeline.decoding.text_memory import TextMemory, read_sound
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore
from pipeline.files import replacing
from pipeline.tensors import Padded

COLUMNS = ("seed", "clip_id", "caption", "log_prob", "candidates")
DIGITS = 4  # of a log-probability; machines differ beyond them


def caption_clips(
    ensemble: Ensemble,
    stores: Sequence[Sequence[FeatureStore]],
    clips: Sequence[str],
    decoding: DecodingConfig,
    name: str,
    memories: Sequence[TextMemory | None] = (),
    seed: int = 1,
) -> list[Caption]:
    """The captions of ``clips``, in their order.

    Args:
        stores: M × E, the stored features of each captioner; those of several are loaded once.
        name: of the system, for the progress bar.
        memories: M, the text memory of each captioner; empty where none has one.
        seed: of sampling.

    Raises:
        EarwitnessError: features of another width than a captioner was trained on.
    """
    for captioner, each in zip(ensemble.captioners, stores, strict=True):
        captioner.check_widths([store.width for store in each], [store.path for store in each])
    gathered: Iterable[Sequence[tuple[Padded, ...]]] = _batches(
        stores, clips, ensemble.device, decoding.batch
    )
    if any(memories):
        gathered = (read_sound(memories, batch) for batch in gathered)
    batches = predict(ensemble, gathered, decoding, seed)
    captions: list[Caption] = []
    with tqdm(total=len(clips), desc=name, unit="clip", disable=None) as bar:
        for batch in batches:
            captions += batch
            bar.update(len(batch))
    return captions


def _batches(
    stores: Sequence[Sequence[FeatureStore]],
    clips: Sequence[str],
    device: torch.device,
    size: int,
) -> Iterator[list[tuple[Padded, ...]]]:
    """M × E × (B, T, D) of ``size`` clips at a time; each store is loaded, and gathered, once."""
    distinct = {store.path: store for each in stores for store in each}
    banks = open_banks(list(distinct.values()), clips, device)
    for gathered in bank_batches(banks, size):
        values = dict(zip(distinct, gathered, strict=True))
        yield [tuple(values[store.path] for store in each) for each in stores]


def write_predictions(
    path: Path, clips: Sequence[str], captions: Mapping[int, Sequence[Caption]]
) -> None:
    """Writes the whole table or nothing; the same captions give the same bytes.

    Args:
        captions: of each seed, those of ``clips``.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for seed, own in captions.items():
            writer.writerows(
                [seed, clip, *_cells(caption)] for clip, caption in zip(clips, own, strict=True)
            )


def _cells(caption: Caption) -> list[str]:
    others = [[text, round(log_prob, DIGITS)] for text, log_prob in caption.candidates]
    log_prob = f"{caption.log_prob:.{DIGITS}f}"
    return [caption.text, log_prob, json.dumps(others, ensure_ascii=False)]
