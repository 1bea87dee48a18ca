"""``earwitness.load``: any trained system by its name, or a model by its folder."""

from __future__ import annotations

from pathlib import Path

from earwitness.captioning import CaptioningSystem
from earwitness.places import place_of
from earwitness.retrieval import RetrievalSystem
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError


def load(
    name: str | Path,
    *,
    root: str | Path | None = None,
    device: str = "auto",
    seed: int | None = None,
) -> CaptioningSystem | RetrievalSystem:
    """A trained captioning or retrieval system; to say which, call either class's ``load``.

    Args:
        name: a system of ``params.yaml``, of ``systems`` or ``retrieval_systems``; or the folder of
            one model, ``…/data/models/captioners/NAME`` or ``…/retrievers/NAME``, of one seed
            ``…/NAME/2``: a ``Path``, or text with a ``/``; or a folder that ``earwitness export``
            wrote, or ``hub:ORG/NAME``.
        root: the repository; where it is not given it is found, see docs/api.md.
        device: ``auto``, ``cpu``, ``cuda`` …
        seed: that its models were trained with, one of ``seeds``; None: the first.

    Raises:
        EarwitnessError: there is no such system, or it is not trained, or not with that seed.
    """
    place = place_of(name, root)
    if place.model is not None:
        kinds = {place.model.parent.name, place.model.parent.parent.name}
        if "captioners" in kinds:
            return CaptioningSystem.open(place, device, seed)
        if "retrievers" in kinds:
            return RetrievalSystem.open(place, device, seed)
        raise EarwitnessError(
            f"{name}: not a model's folder; give …/data/models/captioners/NAME or "
            "…/data/models/retrievers/NAME"
        )
    repository, name = place.repository, str(place.name)
    params = repository.params()
    captioning, retrieval = name in params.systems, name in params.retrieval_systems
    if captioning and retrieval:
        raise EarwitnessError(
            f"{repository.params_file}: '{name}' is in systems and in retrieval_systems; say which "
            "by CaptioningSystem.load or RetrievalSystem.load"
        )
    if captioning:
        return CaptioningSystem.open(place, device, seed)
    if retrieval:
        return RetrievalSystem.open(place, device, seed)
    known = [*params.systems, *params.retrieval_systems]
    raise EarwitnessError(f"{repository.params_file}: no system '{name}'{nearest(name, known)}")
