"""Makes one space of sound and text, without training: ``python -m stages.make_space <space>``."""

from __future__ import annotations

from pipeline.config.plans import SpacePlan
from pipeline.files import replacing_folder
from stages import paths
from stages.run import given, run


def main(space: str) -> None:
    """Writes data/models/retrievers/<space>/ by data/plans/retrievers/<space>.json."""
    from pipeline.device import set_up
    from pipeline.trained.spaces import make_space

    plan = given(SpacePlan, paths.PLANS / "retrievers" / f"{space}.json")
    device = set_up(plan.hardware.device, plan.hardware.threads)
    with replacing_folder(paths.MODELS / "retrievers" / space) as folder:
        made = make_space(plan, device)
        made.save(folder, curves=None)
    print(f"{space}: {made.width} wide")


if __name__ == "__main__":
    run(main)
