"""Part 4 of the page: what captioners looked at, word by word, and inside EDTC's encoder."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from earwitness.report.run import Run
from pipeline.errors import EarwitnessError
from pipeline.tables import read_rows

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


class SeedCaptions(NamedTuple):
    """A system's captions of a test set, by clip, made with one seed."""

    seed: str
    captions: dict[str, str]


def data(run: Run) -> Any:
    """Of some clips of each test set; None where no captioner attends to anything."""
    if not run.params.report.attention_clips:
        return None
    sets = [_dataset(run, name) for name in run.params.test_sets if name in run.manifests]
    shown = [each for each in sets if each["systems"] or each["captioners"]]
    return {"datasets": shown} if shown else None


def _dataset(run: Run, name: str) -> dict[str, Any]:
    systems = run.params.systems
    tables = run.tables("predictions", name, systems)
    made = {system: _captions(tables[system]) for system in systems if system in tables}
    made = {system: each for system, each in made.items() if each.captions}
    order = [clip.clip_id for clip in run.clips(name)]
    clips = spread(
        order, [each.captions for each in made.values()], run.params.report.attention_clips
    )
    found: dict[str, Any] = {
        "name": name, "clips": clips, "systems": [], "without": [], "missing": [],
        "captioners": {},
    }  # fmt: skip
    for system, captioned in made.items() if clips else ():
        try:
            own = _system(run, name, system, captioned, clips, found["captioners"])
        except EarwitnessError as error:
            found["missing"].append(f"{system}: {error}")
            continue
        if own:
            found["systems"].append({
                "name": system, "seed": captioned.seed,
                "captioners": list(systems[system].captioners), "clips": own,
            })  # fmt: skip
        else:
            found["without"].append(system)
    return found


def _captions(path: Path) -> SeedCaptions:
    """Those of the first seed."""
    rows = [row.values for row in read_rows(path, ("seed", "clip_id", "caption"))]
    seed = rows[0]["seed"]
    own = {row["clip_id"]: row["caption"] for row in rows if row["seed"] == seed}
    return SeedCaptions(seed, own)


def spread(order: Sequence[str], captions: Sequence[Mapping[str, str]], count: int) -> list[str]:
    """Clips that all systems caption, evenly from most to least disagreement.

    Args:
        order: N clips.
        captions: of each system, by clip.
    """
    known = [clip for clip in order if captions and all(clip in own for own in captions)]
    known.sort(key=lambda clip: -disagreement([own[clip] for own in captions]))
    places = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
    return [known[place] for place in places.tolist()]


def disagreement(captions: Sequence[str]) -> float:
    """As page/words.js has it: 1 − the words that two share, of those that one has, on average."""
    sets = [{*WORD.findall(caption.lower())} for caption in captions]
    length = sum(map(len, sets)) / len(sets)
    if len(sets) < 2 or not length:
        return 0.0
    shared = [len(one & other) for at, one in enumerate(sets) for other in sets[:at]]
    return 1 - sum(shared) / len(shared) / length


def _system(
    run: Run,
    dataset: str,
    name: str,
    captioned: SeedCaptions,
    clips: Sequence[str],
    captioners: dict[str, Any],
) -> dict[str, Any]:
    """Clip → words and weights; none where its members attend to no time.

    Args:
        captioners: gets the weights inside the encoders of members that are not in it yet.

    Raises:
        EarwitnessError: a captioner or features are not there, or cannot be opened.
    """
    from pipeline.decoding.attention import word_attention
    from pipeline.decoding.predict import bank_batches
    from pipeline.features.bank import open_banks
    from pipeline.features.store import open_stores
    from pipeline.trained.captioner import load_captioner

    names = run.params.systems[name].captioners
    models = run.data / "models" / "captioners"
    members = [load_captioner(models / each / captioned.seed, "cpu") for each in names]
    features = run.data / "features" / dataset
    stores = [open_stores(features, each.plan.features) for each in members]
    batches = [bank_batches(open_banks(own, clips, "cpu"), 1) for own in stores]
    found = {}
    for clip, *sounds in zip(clips, *batches, strict=True):
        read = word_attention(members, sounds, captioned.captions[clip])
        if read is not None:
            found[clip] = {"words": read.words, **packed(read.weights)}
        for member, sound, each in zip(members, sounds, names, strict=True):
            _encoder(member, sound, clip, captioners, f"{each}/{captioned.seed}")
    return found


def _encoder(member: Any, sound: Any, clip: str, captioners: dict[str, Any], key: str) -> None:
    """Adds the weights inside a captioner's encoder, once."""
    from pipeline.decoding.encoder_weights import encoder_weights

    own = captioners.get(key, {}).get("clips", {})
    if clip in own or (weights := encoder_weights(member, sound)) is None:
        return
    entry = captioners.setdefault(key, {"features": list(member.plan.features), "clips": {}})
    given = weights._asdict().items()
    entry["clips"][clip] = {name: packed(value) for name, value in given if value is not None}


def packed(weights: ArrayLike) -> dict[str, Any]:
    """(rows, columns) from 0 on → base64 of bytes, of which 255 is ``top``."""
    values = np.asarray(weights, np.float64)
    top = float(values.max()) or 1.0
    content = np.round(255 * values / top).astype(np.uint8).tobytes()
    return {
        "rows": values.shape[0], "columns": values.shape[1], "top": float(f"{top:.4g}"),
        "weights": base64.b64encode(content).decode(),
    }  # fmt: skip
