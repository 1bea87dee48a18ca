"""``dvc repro`` as one process, or with jobs that do not wait for each other side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from earwitness.jobs.graph import JobGraph
from earwitness.jobs.lanes import Lanes, Said, cards, dvc_environment


def repro(
    folder: Path,
    targets: Sequence[str] = (),
    at_once: int = 1,
    *,
    root: Path | None = None,
    bars: bool = False,
    spread: bool = True,
) -> Iterator[Said]:
    """Brings targets up to date as ``dvc repro`` does, and says what each job says.

    After one that failed no more are begun; those that run end. Left before its end, as by Ctrl-C,
    all that runs is ended.

    Args:
        folder: where DVC runs.
        targets: see :class:`JobGraph`; none: all.
        at_once: jobs that run at the same time. With one, DVC runs them itself, and all that it
            says is of the job "".
        root: of untracked files, where that is another folder; see :func:`dvc_environment`.
        bars: whether the jobs show their progress bars.
        spread: whether jobs at the same time take GPUs in turn, where there are several.

    Raises:
        EarwitnessError: see :class:`JobGraph`.
    """
    environment = dvc_environment(root or folder)
    if not bars:
        environment["TQDM_DISABLE"] = "1"
    if at_once == 1:
        with Lanes(folder, environment, 1, bars=bars) as alone:
            alone.begin("", targets)
            while alone.running:
                yield alone.next()
        return
    environment["EARWITNESS_JOBS"] = str(at_once)  # the first leaves the others their cores
    graph = JobGraph(folder, targets)
    with Lanes(folder, environment, at_once, cards() if spread else (), bars=bars) as several:
        yield from _in_order(graph, several)


def _in_order(graph: JobGraph, several: Lanes) -> Iterator[Said]:
    """Each job once what it waits for has ended; those first for which the most others wait."""
    waiting = sorted(graph.waits, key=lambda name: -len(graph.after([name])))
    while waiting or several.running:
        if not several.running:  # it costs a second, in which nothing else would be done
            changed = graph.changed(waiting)
            waiting = [name for name in waiting if name in changed]
        unfinished = several.running.union(waiting)
        for name in [each for each in waiting if not graph.waits[each] & unfinished]:
            if several.full:
                break
            waiting.remove(name)
            several.begin(name, ("--single-item", name))
        if several.running:
            yield (said := several.next())
            if said.code:
                waiting.clear()
