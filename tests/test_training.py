"""Batches against loops that are slow and obvious, and what the loop promises."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.config.hardware import HardwareConfig
from pipeline.config.training import TrainingConfig
from pipeline.device import resolve_device
from pipeline.errors import EarwitnessError
from pipeline.features.bank import FeatureBank
from pipeline.features.store import FeatureStore, Header, write_store
from pipeline.tensors import pad_tokens
from pipeline.training.caption_batches import CaptionBatches
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.loop import Task, curves_csv, fit
from pipeline.training.optimizers import adamw, build_optimizer
from pipeline.training.schedules import cyclic_cosine

CPU = torch.device("cpu")
COUNTS = [2, 1, 3, 5, 1, 2, 4]  # captions of each clip
PAD = 1


def make_bank(path: Path, names: list[str], views: int, width: int, seed: int) -> FeatureBank:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, len(names) * views)
    values = random.normal(size=(int(lengths.sum()), width)).astype(np.float16)
    write_store(path, Header("x", {}, "0", 0.1, views), names, lengths, width, [values])
    return FeatureBank(FeatureStore.open(path), device_bytes=0, ram_bytes=10**9)


@pytest.fixture
def banks(tmp_path: Path) -> list[FeatureBank]:
    names = [f"clip{i}" for i in range(len(COUNTS))]
    rows = [f"clip{i}#{k}" for i, count in enumerate(COUNTS) for k in range(count)]
    return [
        make_bank(tmp_path / "a.h5", names, 1, 4, 1),
        make_bank(tmp_path / "b.h5", names, 3, 6, 2),
        make_bank(tmp_path / "text.h5", rows, 1, 5, 3),
    ]


def caption_rows() -> list[list[int]]:
    random = np.random.default_rng(4)
    return [[0, *random.integers(3, 50, random.integers(1, 9)), 2] for _ in range(sum(COUNTS))]


def make_batches(
    banks: list[FeatureBank], draw: str = "all", seed: int = 3, bucket: int = 1
) -> CaptionBatches:
    tokens, lengths = pad_tokens(caption_rows(), PAD)
    return CaptionBatches(
        banks[:2],
        torch.tensor(COUNTS),
        tokens,
        lengths,
        banks[2],
        batch=4,
        draw=draw,
        seed=seed,
        device=CPU,
        bucket=bucket,
    )


def test_every_batch_equals_a_plain_loops(banks: list[FeatureBank]) -> None:
    clip_of = [clip for clip, count in enumerate(COUNTS) for _ in range(count)]
    rows, batches = caption_rows(), make_batches(banks)
    order = batches.order(2).tolist()
    seen = []
    for number, batch in enumerate(batches.epoch(2)):
        expected = order[number * 4 : number * 4 + 4]
        seen += expected
        longest = max(len(rows[row]) for row in expected)
        assert batch.tokens.tolist() == [
            rows[row] + [PAD] * (longest - len(rows[row])) for row in expected
        ]
        assert batch.clips.tolist() == [clip_of[row] for row in expected]
        assert batch.text is not None
        for at, row in enumerate(expected):
            plain = banks[2].entry(row)
            assert torch.equal(batch.text.values[at, : len(plain)], plain)
            plain = banks[0].entry(clip_of[row])
            assert torch.equal(batch.features[0].values[at, : len(plain)], plain)
            length = int(batch.features[1].lengths[at])
            views = [banks[1].entry(clip_of[row], view) for view in range(3)]
            assert any(torch.equal(batch.features[1].values[at, :length], view) for view in views)
    assert sorted(seen) == list(range(len(rows)))  # each caption once an epoch
    assert number + 1 == batches.steps


def test_a_bucket_batches_the_drawn_captions_by_length(banks: list[FeatureBank]) -> None:
    """18 captions in batches of 4: three batches of the first bucket, two of the second."""
    lengths = [len(row) for row in caption_rows()]
    plain, bucketed = make_batches(banks), make_batches(banks, bucket=3)
    shuffled, padding = set(), {1: 0, 3: 0}
    for epoch in range(60):
        drawn, order = plain.order(epoch).tolist(), bucketed.order(epoch).tolist()
        first = sorted(drawn[:12], key=lambda row: lengths[row])  # ties stay as they were drawn
        batches = [order[at : at + 4] for at in range(0, 12, 4)]
        expected = [first[at : at + 4] for at in range(0, 12, 4)]
        assert sorted(batches) == sorted(expected)
        shuffled.add(tuple(expected.index(batch) for batch in batches))
        assert order[12:] == sorted(drawn[12:], key=lambda row: lengths[row])
        for bucket, made in ((1, plain), (3, bucketed)):
            padding[bucket] += sum(int((b.tokens == PAD).sum()) for b in made.epoch(epoch))
    assert len(shuffled) == 6  # all orders of three batches
    assert padding[3] < 0.7 * padding[1]
    again = list(make_batches(banks, bucket=3).epoch(4, start=2))
    for whole, rest in zip(list(bucketed.epoch(4))[2:], again, strict=True):
        assert torch.equal(whole.tokens, rest.tokens)
        assert torch.equal(whole.features[1].values, rest.features[1].values)


def test_all_views_are_drawn(banks: list[FeatureBank]) -> None:
    batches = make_batches(banks)
    generator = torch.Generator().manual_seed(0)
    clips = torch.arange(7).repeat(300)
    views = batches._entries(banks[1], clips, generator) - clips * 3
    counts = Counter(views.tolist())
    assert set(counts) == {0, 1, 2} and min(counts.values()) > 600


def test_one_caption_of_each_clip_drawn_evenly(banks: list[FeatureBank]) -> None:
    batches = make_batches(banks, "one")
    assert batches.steps == 2
    counts: Counter[int] = Counter()
    for epoch in range(600):
        order = batches.order(epoch)
        assert sorted(batches.clip_of[order].tolist()) == list(range(7))
        counts.update(order.tolist())
    five = [
        counts[row] for row in range(6, 11)
    ]  # the clip of five captions: 120 each, give or take
    assert sum(five) == 600 and min(five) > 120 - 4 * math.sqrt(96)


def test_epochs_and_seeds_differ_and_repeat(banks: list[FeatureBank]) -> None:
    batches = make_batches(banks)
    orders = {
        tuple(make_batches(banks, seed=seed).order(epoch).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
    assert torch.equal(batches.order(1), make_batches(banks).order(1))


def test_an_epoch_from_the_middle_is_the_rest_of_it(banks: list[FeatureBank]) -> None:
    batches = make_batches(banks)
    whole, rest = list(batches.epoch(4))[3:], list(batches.epoch(4, start=3))
    assert len(rest) == batches.steps - 3 == len(whole)
    for a, b in zip(whole, rest, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.features[1].values, b.features[1].values)


def test_clip_without_caption_is_refused(banks: list[FeatureBank]) -> None:
    tokens, lengths = pad_tokens([[0, 2]], PAD)
    with pytest.raises(EarwitnessError, match="no caption"):
        CaptionBatches(
            [], torch.tensor([1, 0]), tokens, lengths, None, batch=1, draw="all", seed=1, device=CPU
        )


class Losses(NamedTuple):
    total: Tensor


class Line(nn.Module):
    """y = a x + b, and a hook that lets a test bend the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.told: list[tuple[int, int]] = []  # what before_step was given

    def before_step(self, step: int, steps: int) -> None:
        self.told.append((step, steps))

    def loss(self, batch: Tensor) -> Losses:
        x, y = batch.unbind(-1)
        return Losses(((x * self.weight[0] + self.bias - y) ** 2).mean())


class Points:
    steps = 10

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        for number in range(start, self.steps):
            x = torch.randn(16, generator=torch.Generator().manual_seed(100 * epoch + number))
            yield torch.stack([x, 3 * x - 1], -1)


def run(
    folder: Path,
    training: TrainingConfig,
    scores: list[float] | None = None,
    model: Line | None = None,
) -> tuple[Line, Progress]:
    model = model or Line()
    given = iter(scores or [])

    def validate() -> dict[str, float]:
        score = next(given) if scores else -abs(model.weight.item() - 3)
        return {"other": -1.0, "score": score}

    task = Task(
        model=model,
        batches=Points(),
        loss=model.loss,
        validate=validate,
        score="score",
        before_step=model.before_step,
        optimizer=adamw,
        schedule=cyclic_cosine,
    )
    with Checkpoints(folder, "line", "ab") as checkpoints:
        progress = fit(task, training, HardwareConfig(), checkpoints, "line")
    return model, progress


SETTINGS = TrainingConfig(
    epochs=12, learning_rate=0.1, validations_per_epoch=3, patience_epochs=100, weight_decay=0.0,
    gradient_clip=0.0,
)  # fmt: skip


def test_against_adamw_by_hand(tmp_path: Path) -> None:
    """The same steps written out with torch's own optimizer end at the same numbers."""
    training = SETTINGS.model_copy(update={"gradient_clip": 0.5, "weight_decay": 0.1})
    plain = Line()
    optimizer = torch.optim.AdamW(
        [{"params": [plain.weight], "weight_decay": 0.1},
         {"params": [plain.bias], "weight_decay": 0.0}], lr=0.1,
    )  # fmt: skip
    best, best_score = (0.0, 0.0), -math.inf
    for step in range(120):
        epoch = step / 10
        rate = 0.5 ** int(epoch / 4) * (0.55 + 0.45 * math.cos(2 * math.pi * epoch / 4))
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * rate
        batch = next(Points().epoch(step // 10, step % 10))
        optimizer.zero_grad()
        plain.loss(batch).total.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        if step % 10 in (3, 6, 9):  # after 4, 7 and 10 steps of 10
            score = -abs(plain.weight.item() - 3)
            if score > best_score:
                best, best_score = (plain.weight.item(), plain.bias.item()), score
    model, progress = run(tmp_path, training)
    assert (model.weight.item(), model.bias.item()) == pytest.approx(best, rel=1e-6)
    assert [row["step"] for row in progress.curves][:4] == [4, 7, 10, 14]
    assert progress.best_score == pytest.approx(best_score, abs=1e-6)


def test_the_model_ends_with_the_mean_of_the_last_epochs(tmp_path: Path) -> None:
    """Of their ends, whichever validated best; its own score is one more row of the curves."""
    ends = []
    for epochs in range(1, 6):  # the rate does not depend on how many there are
        settings = {"epochs": epochs, "patience_epochs": 100, "average_epochs": 1}
        model, _ = run(tmp_path / str(epochs), SETTINGS.model_copy(update=settings))
        ends.append((model.weight.item(), model.bias.item()))
    training = SETTINGS.model_copy(update={"epochs": 5, "average_epochs": 3})
    model, progress = run(tmp_path / "mean", training)
    assert len({weight for weight, _ in ends}) == 5
    mean = np.mean(ends[-3:], axis=0)
    assert (model.weight.item(), model.bias.item()) == pytest.approx(tuple(mean), rel=1e-6)
    assert len(progress.curves) == len(progress.scores) == 5 * 3 + 1
    last, again = progress.curves[-2:]
    assert again["step"] == last["step"] == 50
    assert again["score"] == progress.scores[-1] == -abs(model.weight.item() - 3) != last["score"]


def test_fewer_epochs_than_are_to_be_averaged(tmp_path: Path) -> None:
    both = [SETTINGS.model_copy(update={"epochs": 2, "average_epochs": n}) for n in (2, 9)]
    two, nine = (run(tmp_path / str(n), training)[0] for n, training in enumerate(both))
    assert torch.equal(two.weight, nine.weight)


def test_before_step_gets_each_step_and_their_number(tmp_path: Path) -> None:
    """A run that goes on from a checkpoint is told the steps that are left."""
    model, _ = run(tmp_path, SETTINGS.model_copy(update={"epochs": 2}))
    assert model.told == [(step, 20) for step in range(20)]

    class Stops(Line):
        def loss(self, batch: Tensor) -> Losses:
            if len(self.told) == 13:  # after the validation of step 10
                raise KeyboardInterrupt
            return super().loss(batch)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", SETTINGS.model_copy(update={"epochs": 2}), model=Stops())
    model, _ = run(tmp_path / "killed", SETTINGS.model_copy(update={"epochs": 2}))
    assert model.told == [(step, 20) for step in range(10, 20)]


def test_every_score_is_in_the_curves_and_one_chooses_the_best(tmp_path: Path) -> None:
    """``other`` never rises; the run is chosen by ``score`` alone."""
    _, progress = run(tmp_path, SETTINGS.model_copy(update={"epochs": 1}), [1.0, 3.0, 2.0])
    assert [row["other"] for row in progress.curves] == [-1.0] * 3
    assert [row["score"] for row in progress.curves] == progress.scores == [1.0, 3.0, 2.0]
    assert progress.best_score == 3.0 and progress.best == "best-00000007.safetensors"


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_the_named_optimizer_is_torchs(name: str) -> None:
    """Adam takes no weight decay, whatever the setting says; AdamW takes it."""
    training = TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.3)  # type: ignore[arg-type]
    own, plain = Line(), Line()
    theirs: torch.optim.Optimizer
    if name == "adam":
        theirs = torch.optim.Adam(plain.parameters(), lr=0.1)
    else:
        groups = [
            {"params": [plain.weight], "weight_decay": 0.3},
            {"params": [plain.bias], "weight_decay": 0.0},
        ]
        theirs = torch.optim.AdamW(groups, lr=0.1)
    for model, optimizer in ((own, build_optimizer(own, training)), (plain, theirs)):
        for batch in Points().epoch(0):
            optimizer.zero_grad()
            model.loss(batch).total.backward()
            optimizer.step()
    assert torch.equal(own.weight, plain.weight) and torch.equal(own.bias, plain.bias)


def test_the_curves_are_means_since_the_last_validation(tmp_path: Path) -> None:
    """At a learning rate of nearly nothing the loss is that of the untrained line."""
    training = SETTINGS.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    _, progress = run(tmp_path, training)
    losses = [float(Line().loss(batch).total) for batch in Points().epoch(0)]
    expected = [np.mean(losses[:4]), np.mean(losses[4:7]), np.mean(losses[7:])]
    assert [row["total"] for row in progress.curves] == pytest.approx(expected, rel=1e-5)
    lines = curves_csv(progress.curves).splitlines()
    assert lines[0] == "step,epoch,learning_rate,total,gradient_norm,other,score"
    assert lines[3].startswith("10,1,")
    assert len(lines) == 4


def test_stops_after_patience_without_gain_and_keeps_the_best(tmp_path: Path) -> None:
    training = SETTINGS.model_copy(update={"patience_epochs": 1.0})  # three validations
    scores = [1.0, 2.0, 1.5, 2.0, 1.9, 5.0]
    model, progress = run(tmp_path, training, scores)
    assert progress.scores == scores[:5] and progress.step == 17
    early, _ = run(tmp_path / "short", SETTINGS.model_copy(update={"epochs": 1}), [1.0, 2.0, 0.0])
    assert torch.equal(model.weight, early.weight)  # both are the weights after seven steps


def test_patience_is_in_epochs_where_an_epoch_has_fewer_steps_than_validations(
    tmp_path: Path,
) -> None:
    settings = {"validations_per_epoch": 40, "patience_epochs": 1.0}  # ten steps: ten validations
    _, progress = run(tmp_path, SETTINGS.model_copy(update=settings), [1.0] * 120)
    assert progress.step == 11


def test_a_loss_that_is_not_a_number_says_what_to_do(tmp_path: Path) -> None:
    class Explodes(Line):
        def loss(self, batch: Tensor) -> Losses:
            return Losses(super().loss(batch).total * math.inf)

    with pytest.raises(EarwitnessError, match=r"not a number by step 4: .*learning_rate"):
        run(tmp_path, SETTINGS, model=Explodes())
    assert not (tmp_path / "line-ab" / "state.safetensors").exists()


def test_gradients_that_are_not_numbers_are_never_saved(tmp_path: Path) -> None:
    class Corner(Line):
        def loss(self, batch: Tensor) -> Losses:
            return Losses(super().loss(batch).total + torch.sqrt(self.bias - self.bias).sum())

    with pytest.raises(EarwitnessError, match="is not a number"):
        run(tmp_path, SETTINGS, model=Corner())
    assert not (tmp_path / "line-ab" / "state.safetensors").exists()


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 bytes")],
)
def test_out_of_memory_names_the_batch(tmp_path: Path, error: Exception) -> None:
    class Large(Line):
        def loss(self, batch: Tensor) -> Losses:
            raise error

    with pytest.raises(EarwitnessError, match=r"step 1 with a batch of 32; set a smaller"):
        run(tmp_path, SETTINGS, model=Large())


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    model = nn.ModuleDict(
        {"embed": nn.Embedding(5, 4), "norm": nn.LayerNorm(4), "out": nn.Linear(4, 5),
         "mix": nn.Conv1d(4, 4, 3), "frozen": nn.Linear(4, 4)}
    )  # fmt: skip
    model["out"].weight = model["embed"].weight  # tied
    model["frozen"].requires_grad_(False)
    decayed, others = adamw(model, TrainingConfig(weight_decay=0.2)).param_groups
    assert decayed["weight_decay"] == 0.2 and others["weight_decay"] == 0
    assert [id(p) for p in decayed["params"]] == [id(model["mix"].weight)]
    assert {id(p) for p in others["params"]} == {
        id(model["embed"].weight), id(model["norm"].weight), id(model["norm"].bias),
        id(model["out"].bias), id(model["mix"].bias),
    }  # fmt: skip


def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    with pytest.raises(EarwitnessError, match="not a device"):
        resolve_device("gpu0")
    if not torch.cuda.is_available():
        assert resolve_device("auto") == CPU
        with pytest.raises(EarwitnessError, match="no CUDA here"):
            resolve_device("cuda")


def test_one_validation_clip_is_refused_in_words() -> None:
    """Every epoch would score 0, so that the first one would be kept in silence."""
    from pipeline.corpora.manifest import Clip
    from pipeline.training.cross_entropy import validation

    clips = [Clip("one", "validation", "one.wav", 1.0, ("a dog barks", "dogs bark"))]
    with pytest.raises(EarwitnessError, match="validation: CIDEr-D of 1 clip"):
        validation(None, clips, [], torch.device("cpu"))  # type: ignore[arg-type]
