"""One plan a seed, of a model that is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pipeline.config.plans import Plan, TrainingPlan, UnaskedPlan


def seeded(
    plan: TrainingPlan,
    offset: int,
    seeds: Sequence[int],
    asked: Collection[int],
    start: Mapping[int, Mapping[str, str]] | None = None,
) -> dict[str, Plan]:
    """``<model>/<seed>`` → plan, one that trains nothing where nothing asks for that seed.

    Args:
        plan: of any seed.
        offset: added to each seed, in what is drawn.
        asked: those of ``seeds`` that something needs.
        start: of each seed, the digest of what training starts from, by its path.
    """
    plans: dict[str, Plan] = {}
    for seed in seeds:
        if seed in asked:
            inputs = {**plan.inputs, **(start or {}).get(seed, {})}
            own: Plan = plan.model_copy(update={"seed": seed + offset, "inputs": inputs})
        else:
            own = UnaskedPlan(name=plan.name, inputs={}, code={})
        plans[f"{plan.name}/{seed}"] = own
    return plans
