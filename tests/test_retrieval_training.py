"""Training of retrievers: batches against loops, resumption to the bit, and what is learned."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from retrieval_toy import (
    FRAME_SECONDS,
    build_tiny_tower,
    make_data,
    make_plan,
    sound,
    words,
)
from torch import Tensor

from pipeline.config.plans import RetrieverPlan
from pipeline.config.sides import StoredSoundSide, TextTowerSide
from pipeline.config.training import RetrievalTrainingConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.base import Packed, TextEncoder
from pipeline.errors import EarwitnessError
from pipeline.features.mixture import open_mixture
from pipeline.models.biencoder import Pairs
from pipeline.tensors import Tokens
from pipeline.trained.inputs import TokenTable
from pipeline.trained.readers import TokenReader
from pipeline.trained.retriever import TrainedRetriever, load_retriever
from pipeline.training.checkpoints import STATE, Checkpoints, Progress
from pipeline.training.contrastive import mixture_clips, prepare, train_retriever
from pipeline.training.pair_batches import PairBatches, draw_crop

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
KILLS = int(os.environ.get("EARWITNESS_KILLS", "1"))
FINISHED = {"model.safetensors", "model.json", "plan.json", "curves.csv"}
KINDS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "scratch": {"scratch": True},
    "tower": {"tower": True, "scratch": True},
}


@pytest.fixture(autouse=True)
def tiny_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    import pipeline.models.towers.registry

    monkeypatch.setattr(pipeline.models.towers.registry, "build_sound_tower", build_tiny_tower)


def train(
    root: Path, plan: RetrieverPlan, output: str, start: str | None = None
) -> tuple[Path, Progress]:
    manifests = {d: Manifest.load(root / f"data/corpora/{d}.json") for d in plan.datasets}
    features = {d: sound(root, *plan.sound.features, dataset=d) for d in plan.datasets}
    text = {d: sound(root, *plan.text.features, dataset=d) for d in plan.datasets}
    began = root / start if start else None
    checkpoints = root / "data/checkpoints"
    progress = train_retriever(plan, manifests, features, text, began, root / output, checkpoints)
    return root / output, progress


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("repository")
    return root, make_data(root)


@pytest.fixture(scope="module")
def trained(toy: tuple[Path, Manifest]) -> dict[str, tuple[Path, Progress]]:
    """One retriever of each kind, trained without interruption."""
    with pytest.MonkeyPatch.context() as patch:
        import pipeline.models.towers.registry

        patch.setattr(pipeline.models.towers.registry, "build_sound_tower", build_tiny_tower)
        return {
            name: train(toy[0], make_plan(name, **kind), f"data/models/retrievers/{name}")
            for name, kind in KINDS.items()
        }


def embedded(
    retriever: TrainedRetriever, root: Path, clips: Sequence[Clip]
) -> tuple[Tensor, Tensor]:
    """Of the toy's clips, and of all their captions, from the stored features."""
    names = [clip.clip_id for clip in clips]
    stores = sound(root, *retriever.plan.sound.features)
    text = sound(root, *retriever.plan.text.features)
    return (
        retriever.embed_sound(retriever.sound.stored(stores, names)),
        retriever.embed_text(retriever.text.captions([clips], [text])),
    )


def rank_of_own(retriever: TrainedRetriever, root: Path, manifest: Manifest) -> list[int]:
    """Of each evaluation caption, the rank of its clip, by a loop over pairs."""
    clips = manifest.split("evaluation")
    audio, captions = embedded(retriever, root, clips)
    ranks = []
    for number, text in enumerate(captions.tolist()):
        score = [sum(x * y for x, y in zip(text, one, strict=True)) for one in audio.tolist()]
        ranks.append(sum(s >= score[number // 2] for s in score))
    return ranks


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_trained_retriever_ranks_the_clips(
    toy: tuple[Path, Manifest], trained: dict[str, tuple[Path, Progress]], kind: str
) -> None:
    folder, progress = trained[kind]
    assert set(contents(folder)) == FINISHED | ({"tokenizer.json"} if kind != "frozen" else set())
    ranks = rank_of_own(load_retriever(folder, "cpu"), *toy)
    chance = sum(1 / rank for rank in range(1, 11)) / 26
    found = np.mean([1 / rank if rank <= 10 else 0 for rank in ranks])
    assert found > 5 * chance
    with (folder / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert max(float(row["validation_map10"]) for row in rows) == pytest.approx(
        progress.best_score, rel=1e-6
    )
    assert float(rows[-1]["total"]) < 0.5 * float(rows[0]["total"])
    total = float(rows[0]["audio_to_text"]) + float(rows[0]["text_to_audio"])
    assert float(rows[0]["total"]) == pytest.approx(total, rel=1e-5)
    assert float(rows[-1]["temperature"]) != pytest.approx(0.1, rel=1e-3)


def test_validation_is_the_best_of_whole_clips_ranked(
    toy: tuple[Path, Manifest], trained: dict[str, tuple[Path, Progress]]
) -> None:
    root, manifest = toy
    moved = {"validation": "evaluation", "evaluation": "other", "development": "other"}
    clips = tuple(replace(clip, split=moved[clip.split]) for clip in manifest.clips)
    for folder, progress in trained.values():
        ranks = rank_of_own(load_retriever(folder, "cpu"), root, replace(manifest, clips=clips))
        found = np.mean([1 / rank if rank <= 10 else 0 for rank in ranks])
        assert progress.best_score == pytest.approx(found, abs=1e-6)


def make_batches(root: Path, seed: int = 3, **changes: Any) -> tuple[PairBatches, list[Any]]:
    """Of two datasets, all clips of each, in an order of their own."""
    names = [[f"{d}-{i}" for i in own] for d, own in (("toy", (5, 2, 9)), ("more", (1, 8, 3, 0)))]
    stores = [[sound(root, name, dataset=d)[0] for d in ("toy", "more")] for name in ("one", "two")]
    banks = [open_mixture(own, names, CPU) for own in stores]
    texts = TokenTable([[7, n] * (1 + n % 3) for n in range(14)], 0, CPU)
    settings = {"batch": 4, "draw": "all", "seed": seed, "crop_seconds": 0.8, **changes}
    periods = [FRAME_SECONDS, 2 * FRAME_SECONDS]
    counts = torch.full((7,), 2)
    return PairBatches(banks, periods, counts, texts, device=CPU, **settings), banks


@pytest.fixture(scope="module")
def two(toy: tuple[Path, Manifest]) -> Path:
    make_data(toy[0], "more")
    return toy[0]


def test_every_batch_equals_a_plain_loops(two: Path) -> None:
    batches, banks = make_batches(two)
    order = batches.order(5).tolist()
    assert sorted(order) == list(range(14))
    seen: list[int] = []
    for batch in batches.epoch(5):
        size = len(batch.clips)
        assert 3 <= size <= 4  # 14 pairs in four batches: none is left alone
        expected = order[len(seen) : len(seen) + size]
        assert isinstance(batch.text, Tokens)
        for row, caption in enumerate(expected):
            tokens = [7, caption] * (1 + caption % 3)
            assert batch.text.ids[row, : batch.text.lengths[row]].tolist() == tokens
            assert int(batch.clips[row]) == caption // 2
            for bank, padded, frames in zip(banks, batch.sound, (8, 4), strict=True):
                views = [bank.batch(torch.tensor([caption // 2 * bank.views + v])).values[0]
                         for v in range(bank.views)]  # fmt: skip
                found = padded.values[row, : padded.lengths[row]]
                assert len(found) == min(frames, max(len(v) for v in views)) or any(
                    len(found) == len(v) for v in views
                )
                inside = [
                    torch.equal(found, view[at : at + len(found)])
                    for view in views
                    for at in range(len(view) - len(found) + 1)
                    if len(found) == min(frames, len(view))
                ]
                assert any(inside)
        seen += expected
    assert seen == order


def test_epochs_repeat_and_continue(two: Path) -> None:
    whole = list(make_batches(two)[0].epoch(2))
    for start in (0, 2):
        rest = list(make_batches(two)[0].epoch(2, start))
        assert len(rest) == len(whole) - start
        for a, b in zip(whole[start:], rest, strict=True):
            assert torch.equal(a.sound[0].values, b.sound[0].values)
            assert torch.equal(a.clips, b.clips)
    others = [next(make_batches(two, seed=s)[0].epoch(e)) for s, e in ((4, 2), (3, 1))]
    for other in others:
        assert not torch.equal(other.clips, whole[0].clips)
    whole_clips, banks = make_batches(two, crop_seconds=None)
    lengths = torch.cat([batch.sound[1].lengths for batch in whole_clips.epoch(0)])
    assert lengths.sort().values.tolist() == banks[1].lengths.repeat(2).sort().values.tolist()


def test_one_caption_of_each_clip(two: Path) -> None:
    batches, _ = make_batches(two, draw="one")
    orders = [batches.order(epoch) for epoch in range(200)]
    assert all(sorted((order // 2).tolist()) == list(range(7)) for order in orders)
    second = torch.stack([order % 2 for order in orders]).float().mean()
    assert second == pytest.approx(0.5, abs=0.05)


def test_crops_are_inside_and_uniform() -> None:
    lengths = torch.tensor([10, 3, 7, 8]).repeat(4000)
    place = torch.rand(
        len(lengths), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    crop = draw_crop(lengths, 7, place)
    assert crop.length.tolist()[:4] == [7, 3, 7, 7]
    assert int(crop.start.min()) == 0 and bool((crop.start + crop.length <= lengths).all())
    counts = torch.bincount(crop.start[::4])
    assert len(counts) == 4 and counts.min() > 900  # of 1000 each


class Killed(BaseException):
    """As a signal would be: nothing that the code catches."""


def kill_at(patch: pytest.MonkeyPatch, checkpoints: int, steps: int) -> None:
    """Raises so many ``steps`` after so many ``checkpoints``, or while the next is due."""
    save, epoch = Checkpoints.save, PairBatches.epoch
    saves: list[None] = []

    def counted(self: Checkpoints, *args: Any, **named: Any) -> None:
        save(self, *args, **named)
        saves.append(None)
        if len(saves) == checkpoints and steps == 0:
            raise Killed

    def cut(self: PairBatches, epoch_: int, start: int = 0) -> Iterator[Pairs]:
        for number, batch in enumerate(epoch(self, epoch_, start)):
            if len(saves) == checkpoints and number == steps:
                raise Killed
            yield batch

    patch.setattr(Checkpoints, "save", counted)
    patch.setattr(PairBatches, "epoch", cut)


@pytest.mark.parametrize("kind", list(KINDS))
def test_resumed_runs_end_with_the_same_bytes(
    toy: tuple[Path, Manifest],
    trained: dict[str, tuple[Path, Progress]],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped twice: just after a checkpoint, and between two of them."""
    root = toy[0]
    output = f"data/models/retrievers/again-{kind}"
    plan = make_plan(kind, **KINDS[kind])
    for checkpoints, steps in ((4, 0), (3, 2)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, checkpoints, steps)
            train(root, plan, output)
        assert not (root / output).exists()
        assert list(root.glob(f"data/checkpoints/*/{STATE}"))
        torch.manual_seed(99)  # as a new process would not have it either
    folder, progress = train(root, plan, output)
    assert contents(folder) == contents(trained[kind][0])
    assert progress == trained[kind][1]
    assert list((root / "data/checkpoints").iterdir()) == []


def stage(root: Path, *arguments: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=root,
        env={**kept, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_checkpoints(process: subprocess.Popen[str], root: Path, count: int) -> None:
    began, seen = time.monotonic(), set[int]()
    while process.poll() is None and time.monotonic() - began < 120 and len(seen) < count:
        for state in root.glob(f"data/checkpoints/*/{STATE}"):
            with suppress(FileNotFoundError):
                seen.add(state.stat().st_mtime_ns)
        time.sleep(0.01)


def test_killed_stages_end_with_the_same_bytes(
    trained: dict[str, tuple[Path, Progress]], tmp_path: Path
) -> None:
    make_data(tmp_path)
    make_plan("scratch", scratch=True).save(tmp_path / "data/plans/retrievers/scratch/1.json")
    draw = random.Random(1)
    for _ in range(KILLS):
        process = stage(tmp_path, "stages.train_retriever", "scratch", "1")
        wait_for_checkpoints(process, tmp_path, draw.randint(1, 4))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert list(tmp_path.glob(f"data/checkpoints/*/{STATE}"))
    process = stage(tmp_path, "stages.train_retriever", "scratch", "1")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("scratch: validation mAP@10 ")
    output = tmp_path / "data/models/retrievers/scratch/1"
    assert contents(output) == contents(trained["scratch"][0])
    assert [path.name for path in output.parent.iterdir()] == ["1"]


def test_adaptation_starts_from_the_given_weights(
    toy: tuple[Path, Manifest], trained: dict[str, tuple[Path, Progress]]
) -> None:
    root, manifest = toy
    plan = make_plan("adapted", **KINDS["tower"], start="tower", epochs=1, learning_rate=1e-9)
    features = {"toy": sound(root, "one")}
    begun = load_retriever(trained["tower"][0], "cpu")
    ready, _ = prepare(plan, {"toy": manifest}, features, {"toy": []}, trained["tower"][0], CPU)
    for name, tensor in begun.model.state_dict().items():
        assert torch.equal(ready.model.state_dict()[name], tensor), name
    assert isinstance(ready.text, TokenReader) and isinstance(begun.text, TokenReader)
    own, other = ready.text.tokenizer, begun.text.tokenizer
    assert own.digest() == other.digest()  # type: ignore[attr-defined]
    folder, progress = train(root, plan, "data/adapted", "data/models/retrievers/tower")
    assert progress.scores[0] == pytest.approx(trained["tower"][1].best_score, abs=0.05)
    later = load_retriever(folder, "cpu")
    assert later.plan.start == "tower"
    torch.testing.assert_close(later.model.log_scale, begun.model.log_scale, atol=1e-6, rtol=0)


def test_a_start_that_does_not_fit(
    toy: tuple[Path, Manifest], trained: dict[str, tuple[Path, Progress]]
) -> None:
    plan = make_plan("adapted", **KINDS["tower"], start="tower")
    assert plan.text.kind == "tower" and plan.sound.kind == "tower"
    layers = plan.text.tower.model_copy(update={"layers": 3})
    channels = plan.sound.tower.model_copy(update={"channels": 8})
    wider = plan.biencoder.model_copy(update={"width": 16})
    two = plan.sound.model_copy(update={"features": ("two",)})
    for change, what in (
        ({"biencoder": wider}, r"biencoder\.width is not the same \(32, not 16\)"),
        ({"text": TextTowerSide(tower=layers)}, r"text\.tower\.layers .* \(1, not 3\)"),
        (
            {"sound": plan.sound.model_copy(update={"tower": channels})},
            r"sound\.tower\.channels .* \(64, not 8\)",
        ),
        (
            {"sound": StoredSoundSide(features=("one",))},
            r"sound\.kind .* \(tower, not stored\)",
        ),
        ({"sound": two}, r"sound\.features .* \(\('one',\), not \('two',\)\)"),
    ):
        with pytest.raises(EarwitnessError, match=f"whose {what}; take") as raised:
            train(toy[0], plan.model_copy(update=change), "x", "data/models/retrievers/tower")
        assert "\n" not in str(raised.value)
    with pytest.raises(EarwitnessError, match="run `dvc repro make_space train_retriever adapt`"):
        train(toy[0], plan, "x", "data/models/retrievers/none")


def test_a_checkpoint_of_another_start_is_not_used(
    toy: tuple[Path, Manifest], trained: dict[str, tuple[Path, Progress]], tmp_path: Path
) -> None:
    from pipeline.training.contrastive import _digest

    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert len({_digest(start) for start in (None, tmp_path, trained["tower"][0])}) == 3


def test_a_dataset_without_validation_is_for_training_only(two: Path) -> None:
    """As MACS: its clips are in the batches, and the score is the other dataset's."""
    macs = make_data(two, "macs", ("development",))
    names = ("toy", "macs", "more")
    manifests = {d: Manifest.load(two / f"data/corpora/{d}.json") for d in names}
    clips, held_out = mixture_clips(manifests, RetrievalTrainingConfig())
    assert list(clips) == list(names) and list(held_out) == ["toy", "more"]
    assert len(clips["macs"]) == len(macs.clips)
    plan = make_plan("mixed", datasets=names, epochs=1)
    features = {d: sound(two, *plan.sound.features, dataset=d) for d in names}
    text = {d: [words(two, d)] for d in names}
    retriever, task = prepare(plan, manifests, features, text, None, CPU)
    assert len(list(task.batches.epoch(0))) == 900 // 30
    retriever.model.eval()
    both = task.validate()
    single = []
    for name in ("toy", "more"):
        own = make_plan("one", datasets=(name,))
        other, alone = prepare(own, manifests, features, text, None, CPU)
        other.model.load_state_dict(retriever.model.state_dict())
        other.model.eval()
        single.append(alone.validate())
    for key, value in both.items():
        assert value == pytest.approx((single[0][key] + single[1][key]) / 2)
    with pytest.raises(EarwitnessError, match="no validation split in macs; add a dataset"):
        mixture_clips({"macs": macs}, RetrievalTrainingConfig())
    bare = replace(macs, clips=(*macs.clips, Clip("bare", "development", "x.wav", 1.0, ())))
    with pytest.raises(EarwitnessError, match="'bare' has no caption"):
        mixture_clips({"macs": bare}, RetrievalTrainingConfig())


class Words(TextEncoder):
    """What wrote the stored text features: it gives them again."""

    def __init__(self, root: Path, rows: list[int]) -> None:
        self.store, self.rows, self.width = words(root), rows, words(root).width

    def encode(self, captions: Any, dtype: Any = np.float32) -> Packed:
        values = [self.store.entry(row) for row in self.rows]
        return Packed(np.concatenate(values).astype(dtype), np.array([len(v) for v in values]))


def test_every_way_to_embed_gives_the_same(
    toy: tuple[Path, Manifest],
    trained: dict[str, tuple[Path, Progress]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one batch or in many, from a store, from arrays, by name or as free text."""
    root, manifest = toy
    clips = manifest.clips[40:70]
    names = [clip.clip_id for clip in clips]
    captions = [caption for clip in clips for caption in clip.captions]
    ids = [f"{name}#{k}" for name in names for k in range(2)]
    live = Words(root, [words(root).ids.index(name) for name in ids])
    monkeypatch.setattr("pipeline.trained.readers.build_text_encoder", lambda *_: live)
    for kind, (folder, _) in trained.items():
        retriever = load_retriever(folder, "cpu")
        stores = sound(root, *retriever.plan.sound.features)
        audio, text = embedded(retriever, root, clips)
        for found, size in ((audio, 30), (text, 60)):
            assert found.dtype == torch.float32 and found.shape == (size, 32)
            torch.testing.assert_close(found.norm(dim=1), torch.ones(size))
        arrays = [[np.array(s.entry(s.ids.index(n))) for n in names] for s in stores]
        same = lambda a, b: torch.testing.assert_close(a, b, atol=2e-6, rtol=0)  # noqa: E731
        for size in (1 << 14, 60):
            monkeypatch.setattr("pipeline.trained.inputs.BATCH_FRAMES", {"cpu": size})
            monkeypatch.setattr("pipeline.trained.inputs.BATCH_TOKENS", {"cpu": size})
            for found, expected in zip(
                embedded(retriever, root, clips), (audio, text), strict=True
            ):
                same(found, expected)
            same(retriever.embed_sound(retriever.sound.arrays(arrays)), audio)
            same(retriever.embed_text(retriever.text.queries(captions)), text)
        single = retriever.sound.arrays([[own[3]] for own in arrays])
        same(retriever.embed_sound(single)[0], audio[3])
        assert retriever.embed_text(retriever.text.queries([])).shape == (0, 32), kind
        nothing = retriever.sound.arrays([[] for _ in stores])
        assert retriever.embed_sound(nothing).shape == (0, 32), kind


def test_a_saved_retriever_is_the_one_that_was_trained(
    toy: tuple[Path, Manifest], trained: dict[str, tuple[Path, Progress]], tmp_path: Path
) -> None:
    for kind, (folder, _) in trained.items():
        retriever = load_retriever(folder, "cpu")
        again = tmp_path / kind
        again.mkdir()
        retriever.save(again, (folder / "curves.csv").read_text(encoding="utf-8"))
        assert contents(again) == contents(folder)
    first, second = (
        embedded(load_retriever(path, "cpu"), toy[0], toy[1].clips)
        for path in (trained["tower"][0], tmp_path / "tower")
    )
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_errors_of_the_user(
    toy: tuple[Path, Manifest],
    trained: dict[str, tuple[Path, Progress]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, _ = toy
    one, two = sound(root, "one", "two")
    frozen = load_retriever(trained["frozen"][0], "cpu")
    narrow = Words(root, [0])
    narrow.width = 3
    monkeypatch.setattr("pipeline.trained.readers.build_text_encoder", lambda *_: narrow)
    clip = Clip("toy-1", "", "", 1.0, ("a dog",))
    for call, message in (
        (lambda: frozen.sound.stored([two, one], ["toy-1"]), "two.h5: 10 wide, .* one, 24 wide"),
        (lambda: frozen.sound.stored([one], ["toy-1"]), r"reads 2 features \(one, two\), not 1"),
        (lambda: frozen.sound.stored([one, two], ["cat"]), "no features of 'cat'"),
        (
            lambda: frozen.sound.arrays([[np.zeros((2, 24))], [np.zeros((2, 9))]]),
            "these features: 9 wide, .* two, 10 wide",
        ),
        (lambda: frozen.sound.arrays([[]]), r"reads 2 features \(one, two\), not 1"),
        (lambda: frozen.text.captions([[clip]], [[]]), r"reads 1 features \(words\), not 0"),
        (lambda: frozen.text.captions([[clip]], [[one]]), "with words, 12 wide"),
        (lambda: frozen.text.queries(["a dog"]), "encoder: 3 wide, .* words, 12 wide"),
        (lambda: frozen.tower, "trains projections alone"),
        (
            lambda: load_retriever(tmp_path / "none"),
            "no retriever; run `dvc repro make_space train_retriever adapt`",
        ),
    ):
        with pytest.raises(EarwitnessError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
    for name, content in contents(trained["scratch"][0]).items():
        (tmp_path / name).write_bytes(content)
    torch.save({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(EarwitnessError, match=r"model.safetensors: not safetensors"):
        load_retriever(tmp_path)
    weights = contents(trained["scratch"][0])["model.safetensors"]
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "model.json").write_text('{"sound": [24]}')
    with pytest.raises(EarwitnessError, match="not a retriever's form"):
        load_retriever(tmp_path)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_retriever_of_the_old_layout_is_refused(
    trained: dict[str, tuple[Path, Progress]], tmp_path: Path, kind: str
) -> None:
    """As its plan was before a side was one thing."""
    for name, content in contents(trained[kind][0]).items():
        (tmp_path / name).write_bytes(content)
    plan = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    own, text = plan["sound"], plan["text"]
    old = {
        "features": own["features"],
        "sound": own.get("tower"),
        "input": own.get("input"),
        "weights": own.get("weights"),
        "text": text.get("tower"),
        "text_features": (text["features"] or [None])[0],
        "text_encoder": text.get("encoder"),
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan | old), encoding="utf-8")
    with pytest.raises(EarwitnessError) as raised:
        load_retriever(tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path}/plan.json: of another version (")
    again = "dvc repro make_space train_retriever adapt"
    assert message.endswith(f"delete {tmp_path} and run `{again}`")
    assert "\n" not in message
