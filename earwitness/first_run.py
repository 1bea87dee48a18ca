"""What ``make repro`` will download and write, said before it does.

``python -m earwitness.first_run``. Only what is missing is named. Sizes of results are those that
``dvc.lock`` has of an earlier run, on any machine; a job that never ran has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from earwitness.dataset_downloads import MEGA, size
from earwitness.downloads import downloads
from earwitness.repository import Repository, find_repository
from pipeline.config.datasets import SoundscapesDatasetConfig
from pipeline.config.params import Params
from pipeline.refusals import reported, show_any_text
from pipeline.yaml_files import read_yaml

SAMPLE = 2  # bytes of a sample in a WAV file of 16 bits


def announcement(repository: Repository) -> Iterator[str]:
    """A line for each download and each kind of file that will be written; none: all is here.

    Raises:
        EarwitnessError: ``params.yaml`` or ``dvc.lock`` cannot be read.
    """
    params = repository.params()
    for each in downloads(repository, params):
        if each.megabytes != 0:  # else it is in the user's cache
            yield f"will download {each}"
    for name, megabytes in _synthesised(repository, params):
        yield f"will write    sound of {name}, made here from a seed: about {size(megabytes)}"
    jobs, megabytes = _results(repository.root)
    if jobs:
        yield (
            f"will write    results of {jobs} jobs below data/, which DVC's cache shares with "
            f"hard links: about {size(megabytes)}"
        )


def _synthesised(repository: Repository, params: Params) -> Iterator[tuple[str, float]]:
    """Datasets whose sound will be made here, in megabytes."""
    for name, settings in params.datasets.items():
        if not isinstance(settings, SoundscapesDatasetConfig):
            continue
        if (repository.data / "raw" / name).is_dir():
            continue
        clips = settings.development + settings.validation + settings.evaluation
        seconds = sum(settings.seconds) / 2
        yield name, clips * seconds * settings.sample_rate * SAMPLE / MEGA


def _results(root: Path) -> tuple[int, float]:
    """Jobs of ``dvc.lock`` with an output that is not there, and the megabytes of these outputs."""
    jobs, total = 0, 0.0
    for outputs in _locked(root / "dvc.lock"):
        missing = [out for out in outputs if not (root / str(out.get("path"))).exists()]
        jobs += bool(missing)
        total += sum(int(out.get("size", 0)) for out in missing)
    return jobs, total / MEGA


def _locked(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Each job's outputs as ``dvc.lock`` has them."""
    if not path.is_file():
        return
    lock = read_yaml(path, "run `earwitness doctor --repair`")
    for job in (lock or {}).get("stages", {}).values():
        yield [out for out in job.get("outs", ()) if isinstance(out, dict)]


def main() -> None:
    """Prints it."""
    show_any_text()
    with reported():
        lines = [*announcement(find_repository(Path.cwd()))]
        print("\n".join(lines) or "nothing to download; DVC runs what changed")


if __name__ == "__main__":
    main()
