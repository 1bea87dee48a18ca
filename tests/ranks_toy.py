"""Small trainings of every kind, in one process or, by ``python -m tests.ranks_toy``, in several.

Twenty steps of SGD: Adam would turn the rounding of a gradient that is zero into a step. Nothing is
dropped out, which ranks draw differently.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import ranks
from pipeline.collectives import Rank, joined
from pipeline.config.hardware import HardwareConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.retrievers import BiEncoderConfig
from pipeline.config.training import OptimisationConfig, TrainingConfig
from pipeline.corpora.manifest import Manifest
from pipeline.decoding.predict import bank_batches
from pipeline.device import deterministic
from pipeline.features.store import FeatureStore
from pipeline.launching import MEETING
from pipeline.state_dicts import save_weights, weights
from pipeline.trained import inputs
from pipeline.training import contrastive, cross_entropy, finetuning
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.loop import Task, fit
from tests import finetuning_toy, retrieval_toy

CPU = torch.device("cpu")
# 60 clips: 13, 13, 13, 13 and 8 a batch, so that two ranks have 6 and 7 of most
COMMON: dict[str, Any] = {
    "epochs": 4, "batch": 13, "captions": "one", "learning_rate": 0.01, "schedule": "constant",
    "validations_per_epoch": 1, "patience_epochs": 100,
}  # fmt: skip
NONE = {"dropout": 0.0}
TRANSFORMER = finetuning_toy.ENTRIES["transformer"]
FUSED: dict[str, Any] = {
    "features": {"frames": 6, "width": 32},
    "fuser": {"layers": 1, "heads": 4, "reduced": 16, "feed_forward": 64, **NONE},
    "translator": {"encoder_layers": 1, "decoder_layers": 1, "heads": 4, "feed_forward": 64}
    | {"kernel": 5, **NONE},
    "bart": finetuning_toy.bart(**NONE),
}


def captioner(name: str, entry: dict[str, Any], sections: dict[str, Any], **training: Any) -> Any:
    """A task that trains a captioner by cross-entropy."""
    plan = captioner_plan(name, entry, sections, **training)

    def prepare(root: Path) -> tuple[Task[Any], OptimisationConfig]:
        manifest = Manifest.load(root / "captions/data/corpora/toy.json")
        found = [features(root, each) for each in plan.features]
        text = features(root, plan.text) if plan.text else None
        return cross_entropy.prepare(plan, manifest, found, text, CPU)[1], plan.training

    return prepare


def captioner_plan(
    name: str, entry: dict[str, Any], sections: dict[str, Any], **training: Any
) -> CaptionerPlan:
    base = finetuning_toy.make_base("rlssr")  # its tower
    own = TrainingConfig(**COMMON | training)
    tower = base.model.tower if name == "rlssr" else None  # type: ignore[union-attr]
    return finetuning_toy.captioner_plan(entry, sections, own, name=name, tower=tower)


def words(decoder: str) -> dict[str, Any]:
    sections = finetuning_toy.sections(decoder)
    sections["seq2seq"] |= {"feature_dropout": 0.0, "encoder_dropout": 0.0, **NONE}
    return sections


def features(root: Path, name: str) -> FeatureStore:
    return FeatureStore.open(root / f"captions/data/features/toy/{name}.h5")


def scst(baseline: str) -> Any:
    """A task that finetunes an untrained captioner by CIDEr-D and the share of repetitions."""
    base = captioner_plan(
        "transformer", finetuning_toy.ENTRIES["transformer"], words("transformer")
    )
    rewards = {"cider_d": 1.0, "repetition": 0.5}
    own = {"samples": 3, "baseline": baseline, "rewards": rewards, "dropout": baseline == "others"}
    plan = finetuning_toy.make_plan("transformer", **COMMON | own | {"learning_rate": 0.1})

    def prepare(root: Path) -> tuple[Task[Any], OptimisationConfig]:
        manifest = Manifest.load(root / "captions/data/corpora/toy.json")
        found = [features(root, each) for each in base.features]
        trained, _ = cross_entropy.prepare(base, manifest, found, None, CPU)
        thread = ThreadPoolExecutor(1)
        return finetuning.prepare(plan, trained, manifest, found, thread, CPU), plan.scst

    return prepare


def retriever(loss: str, negatives: str = "random", **settings: Any) -> Any:
    """A task that trains the projections of frozen features; 300 pairs, 27 or 28 a batch."""
    training = {**COMMON, "epochs": 2, "batch": 29, "captions": "all"}
    biencoder = BiEncoderConfig(width=16, loss=loss, negatives=negatives, **settings)
    plan = retrieval_toy.make_plan(**training).model_copy(update={"biencoder": biencoder})

    def prepare(root: Path) -> tuple[Task[Any], OptimisationConfig]:
        manifest = Manifest.load(root / "pairs/data/corpora/toy.json")
        sound = {"toy": retrieval_toy.sound(root / "pairs", "one", "two")}
        text = {"toy": [retrieval_toy.words(root / "pairs")]}
        task = contrastive.prepare(plan, {"toy": manifest}, sound, text, None, CPU)[1]
        return task, plan.training

    return prepare


EDTC = {"architecture": "edtc", "features": ("one", "two"), "text": "clap-text"}
CASES: dict[str, Callable[[Path], tuple[Task[Any], OptimisationConfig]]] = {
    "edtc": captioner("edtc", EDTC, {**FUSED, "twin": {}}),
    "edtc-infonce": captioner("edtc", EDTC, {**FUSED, "twin": {"loss": "infonce"}}),
    "rlssr": captioner(
        "rlssr", finetuning_toy.ENTRIES["rlssr"],
        {"rlssr": {**finetuning_toy.sections("rlssr")["rlssr"], "spec_augment": False}},
    ),
    # the last batch of an epoch, 60 − 59, is smaller than the number of ranks
    "small": captioner("transformer", TRANSFORMER, words("transformer"), batch=59, epochs=10),
    "accumulated": captioner(
        "gru", finetuning_toy.ENTRIES["gru"], words("gru"), accumulate=2, epochs=7,
        average_epochs=2, teacher_forcing=0.7, schedule="plateau",
    ),
    "scst": scst("greedy"),
    "scst-others": scst("others"),
    "infonce": retriever("infonce"),
    "unmasked": retriever("infonce", mask_same_clip=False),
    "triplet": retriever("triplet", margin=1.0, similarity="dot"),
    "hardest": retriever("triplet", "hardest", margin=1.0, similarity="dot"),
    "exp_distance": retriever("exp_distance", similarity="dot"),
}  # fmt: skip


def make_data(root: Path) -> None:
    finetuning_toy.make_data(root / "captions")
    retrieval_toy.make_data(root / "pairs")


def sgd(model: nn.Module, training: OptimisationConfig) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=training.learning_rate, momentum=0.5)


def keep(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return values


class Stopped(Exception):
    """A training ends in its midst."""


def run(name: str, root: Path, output: Path, stop: int = -1, **changes: Any) -> None:
    """Trains one case, or up to step ``stop``; the first rank writes its weights and curves."""
    dropout, F.dropout = F.dropout, keep
    cross_entropy.bank_batches = lambda banks, size: bank_batches(banks, 4)  # type: ignore[attr-defined]
    inputs.BATCH_FRAMES["cpu"] = 100
    try:
        with deterministic(CPU), suppress(Stopped):
            _train(name, root, output, stop, changes)
    finally:
        F.dropout = dropout


def _train(name: str, root: Path, output: Path, stop: int, changes: dict[str, Any]) -> None:
    torch.manual_seed(5)
    task, training = CASES[name](root)

    def before_step(step: int, steps: int) -> None:
        if step == stop:
            raise Stopped
        task.before_step(step, steps)

    first = ranks.is_first()
    with Checkpoints(output / "checkpoints", name, "ab", owner=first) as saved:
        ranks.wait()
        progress = fit(
            replace(task, optimizer=sgd, before_step=before_step),
            training.model_copy(update=changes),
            HardwareConfig(device="cpu"),
            saved,
            name,
        )
    if first:
        save_weights(weights(task.model), output / f"{name}.safetensors")
        (output / f"{name}.json").write_text(json.dumps(progress.curves), encoding="utf-8")


def check_exchanges(number: int, count: int) -> None:
    """Lists of other lengths in each rank, of which one is empty; the first rank decides."""
    everyone = [[f"é {rank}-{n}" for n in range(3 * rank)] for rank in range(count)]
    assert ranks.all_texts(everyone[number]) == [text for each in everyone for text in each]
    rows = [torch.full((2 * rank, 3), float(rank)) for rank in range(count)]
    assert torch.equal(ranks.all_rows(rows[number]), torch.cat(rows))
    assert ranks.from_first([number + 0.1, -float("inf")]) == [0.1, -float("inf")]
    parts = [ranks.part(10, 10 + size) for size in (1, 2, 7)]
    own = [(slice(10, 11), 0), (slice(10 + number, 11 + number), 2)]
    assert parts == [*own, (slice(10, 13) if number == 0 else slice(13, 17), 7)]


def main(root: str, *jobs: str) -> None:
    """``jobs``: a folder, a case, and changes of its training, as ``two/edtc:{"epochs": 1}``."""
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    with joined(Rank(number, count, count, CPU), os.environ[MEETING]):
        check_exchanges(number, count)
        for job in jobs:
            place, _, changes = job.partition(":")
            folder, name = place.split("/")
            run(name, Path(root), Path(root) / folder, **json.loads(changes or "{}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
