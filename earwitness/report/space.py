"""Part 6 of the page: the modality gap of a shared space (Liang et al. 2022), as a picture.

Embeddings of sound and of captions lie apart in a space that both share. WSAC bridges the gap by a
shift, the mean of sound's less the mean of captions' embeddings in training (its eq. 2); the
picture is drawn without it and with it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from earwitness.report.run import Run
from pipeline.corpora.manifest import Clip
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore, caption_ids

DRAWN = 500  # pairs at most
Matrix = NDArray[np.float64]


class Gap(NamedTuple):
    """How far apart sound and captions lie."""

    distance: float  # of the two means
    pairs: float  # mean cosine of a clip and a caption of its own
    others: float  # … and of a clip and a caption of another


def data(run: Run) -> Any:
    """One entry a space and test set; None where no encoded retriever has both sides stored."""
    found = [
        space
        for dataset in run.manifests
        for name in run.params.encoded
        if (space := _space(run, dataset, name)) is not None
    ]
    return {"spaces": found} if found else None


def _space(run: Run, dataset: str, name: str) -> dict[str, Any] | None:
    folder = run.data / "features" / dataset / name
    if not all((folder / f"{side}.h5").is_file() for side in ("sound", "text")):
        return None
    clips = [clip for clip in run.clips(dataset) if clip.captions and clip.path]
    if len(clips) < 2:
        return None
    sound, text = FeatureStore.open(folder / "sound.h5"), FeatureStore.open(folder / "text.h5")
    sounds = unit_rows(sound, [clip.clip_id for clip in clips])
    texts = unit_rows(text, caption_ids(clips))
    owner = np.repeat(np.arange(len(clips)), [len(clip.captions) for clip in clips])
    trained = [clip for clip in run.manifests[dataset].split("development") if clip.captions]
    shift = _shift(sound, text, trained)
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(DRAWN, len(clips))).round().astype(int))
    first = np.searchsorted(owner, chosen)  # each chosen clip's first caption
    drawn = {"plain": _drawn(sounds, texts, owner, chosen, first)}
    if shift is not None:
        drawn["shifted"] = _drawn(sounds, _unit(texts + shift), owner, chosen, first)
    return {
        "dataset": dataset, "name": name,
        "pairs": [[clips[at].clip_id, clips[at].captions[0]] for at in chosen.tolist()],
        **drawn,
    }  # fmt: skip


def unit_rows(store: FeatureStore, names: Sequence[str]) -> Matrix:
    """(n, W), each the mean of an entry's frames, scaled to length 1.

    Raises:
        EarwitnessError: an entry is not there.
    """
    number = {name: at for at, name in enumerate(store.ids)}
    if missing := [name for name in names if name not in number]:
        raise EarwitnessError(f"{store.path}: has no {missing[0]!r}; run `dvc repro encode`")
    return _unit(np.stack([store.entry(number[n]).astype(np.float64).mean(0) for n in names]))


def _unit(rows: Matrix) -> Matrix:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _shift(sound: FeatureStore, text: FeatureStore, clips: Sequence[Clip]) -> Matrix | None:
    """(W,), WSAC's Δ of the development split; None where that has no pairs."""
    recorded = [clip.clip_id for clip in clips if clip.path]
    if not recorded:
        return None
    mean: Matrix = unit_rows(sound, recorded).mean(0) - unit_rows(text, caption_ids(clips)).mean(0)
    return mean


def _drawn(
    sounds: Matrix, texts: Matrix, owner: NDArray[np.int64], clips: Any, captions: Any
) -> dict[str, Any]:
    points, shares = plane(sounds, texts)
    found = gap(sounds, texts, owner)
    return {
        **{name: round(value, 4) for name, value in found._asdict().items()},
        "shares": [round(float(share), 4) for share in shares],
        "sound": _packed(points[clips]),
        "text": _packed(points[len(sounds) + captions]),
    }


def gap(sounds: Matrix, texts: Matrix, owner: NDArray[np.int64]) -> Gap:
    """Of (N, W) and (M, W) unit embeddings; ``owner``: (M,), the clip of each caption."""
    own = np.einsum("mw,mw->m", texts, sounds[owner])
    others = sounds.sum(0) @ texts.sum(0) - own.sum()
    return Gap(
        float(np.linalg.norm(sounds.mean(0) - texts.mean(0))),
        float(own.mean()),
        float(others / (len(sounds) * len(texts) - len(texts))),
    )


def plane(sounds: Matrix, texts: Matrix) -> tuple[Matrix, Matrix]:
    """The first two principal components of both together: (N + M, 2), and their shares (2,).

    Each direction's largest weight is positive, so that the same embeddings give the same picture.
    """
    both = np.concatenate([sounds, texts])
    centred = both - both.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    first = directions[:, ::-1][:, :2]
    first = first * np.sign(first[np.abs(first).argmax(0), np.arange(first.shape[1])])
    points = centred @ first
    return points, variances[::-1][:2] / max(float(variances.sum()), 1e-12)


def _packed(points: Matrix) -> str:
    return base64.b64encode(points.round(4).astype("<f4").tobytes()).decode()
