"""How is a tag space made best? ``python -m benchmarks.tag_space``, with ../shared/data.

Variants of :class:`pipeline.config.spaces.TagsConfig` through CED-tiny and MiniLM, with nothing
trained, on the 322 recordings of ``realsounds`` that no table scores and, behind them, on the 92
evaluation clips: how often the nearest of the 50 kinds' names is right, how often the nearest of
Clotho's and AudioCaps' captions names the right kind (benchmarks/kinds.py), and mAP by one query a
kind. Embeds 64,000 captions first, some six minutes of one core.
"""

from __future__ import annotations

from typing import NamedTuple

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.judge import learned_captions
from benchmarks.kinds import embed
from benchmarks.real_ears import SOUNDS, WEIGHTS, heard_kinds, judges, mean_precision, queries
from pipeline.config.encoders import OnnxEncoderConfig
from pipeline.config.spaces import TagsConfig
from pipeline.corpora.descriptions import TABLE, captions_by_label
from pipeline.encoders.labels import read_labels
from pipeline.encoders.registry import build_sound_encoder
from pipeline.models.tags import TagSound, name_embeddings
from pipeline.tensors import Padded

LABELS = WEIGHTS / "audioset_labels.csv"
NEAREST = 20  # captions, that may say what a tag is in the place of descriptions
# what a tag lies at, and how its weights are fitted; earwitness began with the first
VARIANTS: tuple[tuple[str, TagsConfig], ...] = tuple(
    (at, TagsConfig(ridge=ridge, **weights))
    for weights in ({}, {"temperature": 1.5, "top": 10}, {"temperature": 1.0})
    for at in ("name", "name, 3 descriptions", "name, 2 descriptions", "name, nearest captions")
    for ridge in (None, 0.3, 0.5, 1.0, 3.0)
)


class Recordings(NamedTuple):
    """N recordings: their kinds, their tags' probabilities, and which are evaluation clips."""

    truth: NDArray[np.str_]
    probabilities: Tensor  # (N, 527)
    scored: NDArray[np.bool_]


def recordings() -> Recordings:
    kinds = heard_kinds()
    settings = {"module": "onnx", "weights": str(WEIGHTS / "ced-tiny.onnx")}
    tagger = build_sound_encoder(
        OnnxEncoderConfig.model_validate({**settings, "output": "probabilities"})
    )
    files, found = sorted(SOUNDS.glob("*/*.ogg")), []
    for path in files:
        samples, _ = librosa.load(path, sr=tagger.sample_rate)
        heard = tagger(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        found.append(heard.values[0, 0])
    scored = np.array([path.parent.name == "evaluation" for path in files])
    return Recordings(np.array([kinds[path.name] for path in files]), torch.stack(found), scored)


def places(captions: NDArray[np.float32]) -> dict[str, list[Tensor]]:
    """What each tag lies at, by the name of the variant: 527 × (n, D)."""
    names = read_labels(LABELS)
    own = torch.from_numpy(embed(names))
    by_label = captions_by_label(TABLE)
    written = embed([text for name in names for text in by_label[name]])
    described = torch.from_numpy(written).split([len(by_label[name]) for name in names])
    learned, centre = torch.from_numpy(captions), own.mean(0)
    fit = _unit(own - centre) @ _unit(learned - centre).T
    near = learned[fit.topk(NEAREST).indices].mean(1)
    return {
        "name": [*own.split(1)],
        "name, 3 descriptions": [
            torch.cat([a[None], b]) for a, b in zip(own, described, strict=True)
        ],
        "name, 2 descriptions": [
            torch.cat([a[None], b[:2]]) for a, b in zip(own, described, strict=True)
        ],
        "name, nearest captions": [torch.stack([a, b]) for a, b in zip(own, near, strict=True)],
    }


def _unit(values: Tensor) -> Tensor:
    return torch.nn.functional.normalize(values, dim=-1)


def shares(right: NDArray[np.bool_], scored: NDArray[np.bool_]) -> str:
    return f"{right[~scored].mean():.1%}; {right[scored].mean():.1%}"


def main() -> None:
    if not SOUNDS.is_dir():
        raise SystemExit(f"{SOUNDS} is not there; this benchmark needs it")
    heard, texts = recordings(), learned_captions()
    captions = embed(texts)
    judge, _ = judges()
    named = np.array(judge.kinds)[(captions @ judge.places.T).argmax(1)]
    asking = torch.from_numpy(embed(queries(judge.kinds)))
    lies_at = places(captions)
    print("| a tag lies at | its weights | nearest name | nearest caption | mAP, a query a kind |")
    print("|---|---|---:|---:|---:|")
    for at, settings in VARIANTS:
        tags, centre = name_embeddings(lies_at[at], settings.centre, settings.ridge)
        sound = TagSound(tags.shape[0], tags.shape[1], settings)
        sound.names.copy_(tags)
        one = torch.ones(len(heard.truth), dtype=torch.int64)
        clips = _unit(sound.embed([Padded(heard.probabilities[:, None], one)]))
        asked = (_unit(asking - centre) @ clips.T).numpy()
        learned = (clips @ _unit(torch.from_numpy(captions) - centre).T).argmax(1).numpy()
        by_name = np.array(judge.kinds)[asked.argmax(0)] == heard.truth
        found = [
            mean_precision(asked[:, part], heard.truth[part], judge.kinds)
            for part in (~heard.scored, heard.scored)
        ]
        weights = f"{settings.top or 'all'}, temperature {settings.temperature:g}"
        weights += ", summed" if settings.ridge is None else f", ridge {settings.ridge:g}"
        cells = shares(by_name, heard.scored), shares(named[learned] == heard.truth, heard.scored)
        print(f"| {at} | {weights} | {cells[0]} | {cells[1]} | {found[0]:.1%}; {found[1]:.1%} |")


if __name__ == "__main__":
    main()
