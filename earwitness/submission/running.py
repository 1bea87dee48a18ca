"""A system as it runs, for what is measured of it and said of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from earwitness.captioning import CaptioningSystem
from earwitness.repository import Repository
from earwitness.retrieval import RetrievalSystem
from earwitness.submission.rules import Kind
from pipeline.config.plans import CaptionerPlan, RetrieverPlan, SpacePlan
from pipeline.encoders.registry import build_text_encoder
from pipeline.trained.captioner import TrainedCaptioner
from pipeline.trained.retriever import TrainedRetriever

MemberPlan = CaptionerPlan | RetrieverPlan | SpacePlan


@dataclass(frozen=True)
class Running:
    """A loaded system.

    ``run`` takes sounds and their sampling rate; ``models`` are as
    :func:`earwitness.submission.measure.measure` takes them.
    """

    plans: tuple[MemberPlan, ...]  # of its captioners or retrievers, and of what reranks
    models: tuple[tuple[str, nn.Module, Iterable[str] | None], ...]
    run: Callable[[Sequence[Any], int], object]
    seed: int  # that its models were trained with


def load_running(
    kind: Kind, name: str, repository: Repository, query: str, seed: int | None = None
) -> Running:
    """A captioning or retrieval system; one of retrieval embeds ``query`` with the sounds.

    Raises:
        EarwitnessError: there is no such system, or it is not trained.
    """
    systems = repository.params().retrieval_systems
    own = systems.get(name) if kind == "retrieval" else None
    if kind == "captioning":
        return _captioning(name, repository, seed)
    if own is None or own.captions_of is None or own.text is None:
        return _retrieval(name, repository, query, seed)
    base = _captioning(own.captions_of, repository, seed)
    settings = repository.located(repository.params().text_encoders[own.text])
    encoder = build_text_encoder(settings)

    def ranked(sounds: Sequence[Any], rate: int) -> object:
        return base.run(sounds, rate), encoder.encode([query])

    return Running(base.plans, base.models, ranked, base.seed)


def _captioning(name: str, repository: Repository, seed: int | None) -> Running:
    system = CaptioningSystem.load(name, root=repository.root, seed=seed)
    members: tuple[TrainedCaptioner, ...] = system.ensemble.captioners
    chooser = [] if system.reranker is None else [system.reranker.retriever]
    return Running(
        (*(member.plan for member in members), *map(_known, chooser)),
        (
            *(
                (f"captioner {each.plan.name}", each.model, [*each.model.inference_state_dict()])
                for each in members
            ),
            *((f"retriever {each.plan.name}", each.model, None) for each in chooser),
        ),
        lambda sounds, rate: system.caption(sounds, sample_rate=rate),
        system.seed,
    )


def _retrieval(name: str, repository: Repository, query: str, seed: int | None) -> Running:
    system = RetrievalSystem.load(name, root=repository.root, seed=seed)
    members: tuple[TrainedRetriever, ...] = system.members

    def ranked(sounds: Sequence[Any], rate: int) -> object:
        return system.embed_audio(sounds, sample_rate=rate), system.embed_text([query])

    return Running(
        tuple(_known(member) for member in members),
        tuple((f"retriever {member.plan.name}", member.model, None) for member in members),
        ranked,
        system.seed,
    )


def _known(member: TrainedRetriever) -> MemberPlan:
    assert isinstance(member.plan, RetrieverPlan | SpacePlan)
    return member.plan
