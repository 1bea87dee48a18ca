"""Retrieval scores at Clotho's size against a loop over queries: ``python -m benchmarks.ranking``.

Both start from embeddings, 1,045 clips and 5,225 captions of 1,024 values, and rank both ways.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.timing import compare, print_table
from pipeline.metrics.retrieval import Embeddings, ensemble_ranks, scores

CLIPS, CAPTIONS, WIDTH = 1045, 5225, 1024
TARGET = 2.5  # times faster; both spend most of their time on the products
SECONDS = 1.0  # at most


def made() -> tuple[Embeddings, Tensor]:
    """Captions with noise around their clips, five each."""
    draw = torch.Generator().manual_seed(1)
    clip_of = torch.arange(CAPTIONS) % CLIPS
    clips = normalize(torch.randn(CLIPS, WIDTH, generator=draw), dim=1)
    noise = 9.0 * normalize(torch.randn(CAPTIONS, WIDTH, generator=draw), dim=1)
    return Embeddings(normalize(clips[clip_of] + noise, dim=1), clips), clip_of


def query_by_query(embeddings: Embeddings, clip_of: Tensor) -> tuple[float, float]:
    """mAP@10 both ways: one product and one argsort a query."""
    captions, clips, owner = embeddings.captions.numpy(), embeddings.clips.numpy(), clip_of.numpy()
    found = []
    for caption, clip in zip(captions, owner.tolist(), strict=True):
        order = np.argsort(-(clips @ caption))
        rank = int(np.flatnonzero(order == clip)[0]) + 1
        found.append(1 / rank if rank <= 10 else 0.0)
    back = []
    for clip in range(len(clips)):
        order = np.argsort(-(captions @ clips[clip]))
        right = owner[order[:10]] == clip
        precision = np.cumsum(right) / np.arange(1, 11)
        back.append(float(precision[right].sum()) / min(int((owner == clip).sum()), 10))
    return float(np.mean(found)), float(np.mean(back))


def main() -> None:
    embeddings, clip_of = made()

    def ours() -> dict[str, float]:
        return scores(ensemble_ranks([embeddings], clip_of), clip_of)

    result = ours()
    both = (result["t2a_map10"], result["a2t_map10"])
    assert np.allclose(query_by_query(embeddings, clip_of), both, atol=1e-6), both
    name = f"ranking {CLIPS:,} × {CAPTIONS:,} both ways"
    row = compare(name, lambda: query_by_query(embeddings, clip_of), ours, TARGET)
    print_table([row])
    reached = "reached" if row.fast < SECONDS else "not reached"
    print(f"\n{row.fast:.2f} s; target: under {SECONDS:g} s, {reached}")


if __name__ == "__main__":
    main()
