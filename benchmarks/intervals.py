"""Resampled test sets against scoring each anew: ``python -m benchmarks.intervals``.

Clotho's size: 1,045 clips with five references, 2,000 resampled sets, ten systems. Then how often
an interval of CIDEr-D has the truth in it, with the document frequencies of each resampled set (as
we do) and with those of the whole test set, on drawn test sets of 100 clips.
"""

from __future__ import annotations

import random

import numpy as np

from benchmarks.cider import caption
from benchmarks.timing import compare, print_table, seconds
from pipeline.metrics.bleu import bleu
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.intervals import limits_of
from pipeline.metrics.resampling import Measured, draws, replicates
from pipeline.metrics.results import Scores
from pipeline.metrics.types import ScoredSet, Values

CLIPS, SYSTEMS, RESAMPLES = 1045, 10, 2000
FEW = 60  # sets that the obvious way scores, of one system
TARGET = 20.0
SECONDS = 15.0  # at most, of all
SETS, SMALL, DRAWN = 300, 100, 400  # test sets, their clips, and resampled sets of each


def clip(draw: random.Random) -> tuple[str, list[str]]:
    """A candidate and five references, which share words."""
    words = caption(draw).split()

    def said() -> str:
        return " ".join(w if draw.random() < 0.6 else caption(draw).split()[0] for w in words)

    return said(), [said() for _ in range(5)]


def drawn_set(draw: random.Random, clips: int) -> ScoredSet:
    rows = [clip(draw) for _ in range(clips)]
    return ScoredSet([candidate for candidate, _ in rows], [row for _, row in rows])


def measured(chosen: ScoredSet) -> Measured:
    """CIDEr-D and BLEU, which are no means of clips."""
    scores = Scores({}, tokens=chosen)
    scores.put("cider_d", CiderD(chosen.references).score(chosen.candidates))
    for order, values in enumerate(bleu(*chosen), start=1):
        scores.put(f"bleu_{order}", values)
    return scores.measured()


def one_by_one(chosen: ScoredSet, resamples: int) -> list[tuple[float, float]]:
    """Each resampled set is written out and scored."""
    found = []
    for weights in np.concatenate([*draws(len(chosen.candidates), resamples)]):
        places = np.repeat(np.arange(len(weights)), weights.astype(int)).tolist()
        candidates = [chosen.candidates[at] for at in places]
        references = [chosen.references[at] for at in places]
        cider_d = CiderD(references).score(candidates).corpus
        found.append((cider_d, bleu(candidates, references)[3].corpus))
    return found


def covered(draw: random.Random) -> None:
    """Prints how many intervals have the expected CIDEr-D of such a test set in them."""
    sets = [drawn_set(draw, SMALL) for _ in range(SETS)]
    each = [measured(chosen) for chosen in sets]
    truth = float(np.mean([own.values()["cider_d"] for own in each]))
    weights = np.concatenate([*draws(SMALL, DRAWN)])
    inside, spread = {"own": 0, "whole": 0}, {"own": 0.0, "whole": 0.0}
    for own in each:
        clips = own.cider_d_clips
        assert clips is not None
        ways: dict[str, Values] = {
            "own": replicates({"one": own}, DRAWN)["one"]["cider_d"],
            "whole": weights @ clips / SMALL,
        }
        for name, values in ways.items():
            limits = limits_of(float(clips.mean()), values, SMALL, clips[:1])
            assert limits is not None
            inside[name] += limits[0] <= truth <= limits[1]
            spread[name] += float(values.std()) / SETS
    real = float(np.std([own.values()["cider_d"] for own in each]))
    for name, count in inside.items():
        print(
            f"document frequencies of the {name} set: {100 * count / SETS:.1f} % of {SETS} "
            f"intervals have the truth in them; spread {spread[name]:.4f}, of real sets {real:.4f}"
        )


def main() -> None:
    draw = random.Random(1)
    chosen = drawn_set(draw, CLIPS)
    alone = {"one": measured(chosen)}
    ours = replicates(alone, FEW)["one"]
    assert np.allclose(one_by_one(chosen, 2), [*zip(ours["cider_d"], ours["bleu_4"])][:2])  # noqa: B905
    row = compare(
        f"{FEW} resampled sets of one system",
        lambda: one_by_one(chosen, FEW),
        lambda: replicates(alone, FEW),
        TARGET,
        repeats=1,
        warm=False,
    )
    print_table([row])
    systems = {}
    for name in map(str, range(SYSTEMS)):
        candidates = [clip(draw)[0] if draw.random() < 0.3 else c for c in chosen.candidates]
        systems[name] = measured(ScoredSet(candidates, chosen.references))
    took = seconds(lambda: replicates(systems, RESAMPLES))
    reached = "reached" if took < SECONDS else "not reached"
    print(
        f"\n{RESAMPLES:,} sets of {SYSTEMS} systems: {took:.1f} s; under {SECONDS:g} s: {reached}"
    )
    covered(draw)


if __name__ == "__main__":
    main()
