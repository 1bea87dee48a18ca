"""Two or more systems, or one system now and then, compared metric by metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from earwitness.comparing import captions, rankings
from earwitness.comparing.loaded import ComparedSystem, Loaded
from earwitness.comparing.sources import Revision, WorkingTree
from earwitness.repository import Repository
from pipeline.config.params import Params
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.metrics.evaluate import find_tools
from pipeline.metrics.intervals import Scored
from pipeline.metrics.names import direction, leading, ordered
from pipeline.metrics.pairs import Difference, Pair, compare
from pipeline.metrics.types import Values

LEVEL = 0.05
RESAMPLES = 2000  # where params.yaml asks for no intervals
Kind = Literal["captions", "retrieval"]


class ClipDifference(NamedTuple):
    """One clip, of the two systems that were named first, by one metric."""

    clip_id: str
    difference: float
    a: float
    b: float
    said: tuple[str, ...]  # both captions, of the first seed; of retrieval none
    references: tuple[str, ...]


class Comparison(NamedTuple):
    """``judged``: the metrics that the verdict is about."""

    kind: Kind
    dataset: str
    systems: list[str]
    clips: int
    seeds: list[int]
    pairs: dict[Pair, dict[str, Difference]]
    judged: list[str]
    differing: list[ClipDifference]  # most, by the first of those
    warnings: list[str]

    def verdict(self) -> Literal["same", "better", "worse"]:
        """Of the first system against each other: is any judged metric significantly other?

        ``worse`` where it is worse in one of them, ``better`` where it differs and is worse in
        none; ``same`` where nothing is significant.
        """
        own = [each for pair, each in self.pairs.items() if pair[0] == self.systems[0]]
        ways = [
            np.sign(each[metric].difference) * direction(metric)
            for each in own
            for metric in self.judged
            if metric in each and each[metric].p_holm < LEVEL
        ]
        if not ways:
            return "same"
        return "worse" if -1 in ways else "better"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        pairs = [
            {"a": a, "b": b, "metrics": {name: own._asdict() for name, own in each.items()}}
            for (a, b), each in self.pairs.items()
        ]
        differing = [own._asdict() for own in self.differing]
        own = self._asdict() | {"pairs": pairs, "differing": differing}
        return {"verdict": self.verdict(), **own}


def compare_systems(
    repository: Repository,
    systems: Sequence[str],
    *,
    rev: str | None = None,
    dataset: str | None = None,
    metrics: Sequence[str] = (),
    top: int = 10,
) -> Comparison:
    """Compares systems of the working tree; with ``rev``, one or two with that revision's.

    Args:
        systems: two or more. With ``rev`` one, which is compared with itself then; or two, the
            first now and the second then.
        dataset: the first test set by default.
        metrics: to be shown and judged by; by default all are shown, and one is judged by.
        top: clips that differ most.

    Raises:
        EarwitnessError: names that are not there, results that are not made, or runs that cannot
            be compared.
    """
    params = repository.params()
    sides = _sides(repository, systems, rev)
    kind = _kind(params, systems if rev is None else systems[:1], repository)
    known = params.test_sets if kind == "captions" else params.retrieval_test_sets
    chosen = _dataset(dataset, known, repository)
    if kind == "captions":
        settings = repository.located(params.evaluation)
        loaded = captions.load(sides, chosen, settings, find_tools(None, device="cpu"))
    else:
        loaded = rankings.load(sides, chosen)
    if len(loaded.seeds) == 1:
        loaded.warnings.append("one seed: of these trained models, not of training them again")
    pairs = compare(loaded.systems, params.evaluation.resamples or RESAMPLES)
    pairs, judged = _shown(pairs, metrics)
    differing = _differing(loaded, next(iter(pairs)), judged[0], top)
    labels = [side.label for side in sides]
    return Comparison(
        kind, chosen, labels, len(loaded.clips), loaded.seeds, pairs, judged, differing,
        loaded.warnings,
    )  # fmt: skip


def _sides(repository: Repository, systems: Sequence[str], rev: str | None) -> list[ComparedSystem]:
    now = WorkingTree(repository.root)
    if rev is not None:
        if len(systems) > 2:
            raise EarwitnessError("--rev: name one system, or two: the first now, the second then")
        return [
            ComparedSystem(now, systems[0]),
            ComparedSystem(Revision(repository, rev), systems[-1]),
        ]
    if len(systems) < 2:
        raise EarwitnessError(f"{systems[0]}: name another to compare it with, or give --rev")
    if twice := [name for name in systems if systems.count(name) > 1]:
        raise EarwitnessError(f"{twice[0]} is named twice; give each once")
    return [ComparedSystem(now, name) for name in systems]


def _kind(params: Params, systems: Sequence[str], repository: Repository) -> Kind:
    """What the systems do; a name that is both of a captioning system and another is the first."""
    for kind, known in (("captions", params.systems), ("retrieval", params.retrieval_systems)):
        if all(name in known for name in systems):
            return "captions" if kind == "captions" else "retrieval"
    both = {**params.systems, **params.retrieval_systems}
    if unknown := [name for name in systems if name not in both]:
        raise EarwitnessError(
            f"{repository.params_file}: no system '{unknown[0]}'{nearest(unknown[0], both)}"
        )
    raise EarwitnessError(
        f"{', '.join(systems)}: some caption and some search; compare those of one kind"
    )


def _dataset(name: str | None, known: Sequence[str], repository: Repository) -> str:
    if not known:
        raise EarwitnessError(f"{repository.params_file}: has no test set of this kind; add one")
    if name is not None and name not in known:
        raise EarwitnessError(f"--dataset {name}: no test set of that name{nearest(name, known)}")
    return name or known[0]


def _shown(
    pairs: Mapping[Pair, Mapping[str, Difference]], metrics: Sequence[str]
) -> tuple[dict[Pair, dict[str, Difference]], list[str]]:
    """The pairs with the metrics that are shown, and those that are judged by."""
    made = ordered([*dict.fromkeys(metric for each in pairs.values() for metric in each)])
    if unknown := [name for name in metrics if name not in made]:
        raise EarwitnessError(
            f"--metric {unknown[0]}: was not made of all that are compared"
            f"{nearest(unknown[0], made)}; there are: {', '.join(made)}"
        )
    shown = [*dict.fromkeys(metrics)] or made
    chosen = {
        pair: {name: each[name] for name in shown if name in each} for pair, each in pairs.items()
    }
    return chosen, shown if metrics else [leading(made)]


def _differing(loaded: Loaded, pair: Pair, metric: str, top: int) -> list[ClipDifference]:
    """The clips whose values lie furthest apart, by the mean over seeds."""
    a, b = (_clip_values(loaded.systems[label], metric) for label in pair)
    apart = np.nan_to_num(np.abs(a - b))
    found = []
    for at in np.argsort(-apart, kind="stable")[:top]:
        if apart[at] > 0:
            clip = loaded.clips[at]
            said = tuple(loaded.said[label][clip] for label in pair if label in loaded.said)
            values = (float(a[at] - b[at]), float(a[at]), float(b[at]))
            found.append(ClipDifference(clip, *values, said, loaded.references.get(clip, ())))
    return found


def _clip_values(seeds: Mapping[int, Scored], metric: str) -> Values:
    """(N,) the means over seeds; NaN where a clip has no value."""
    each = [own.measured.sums[metric] for own in seeds.values()]
    return np.asarray(np.mean([sums.formula(sums.clips) for sums in each], axis=0))
