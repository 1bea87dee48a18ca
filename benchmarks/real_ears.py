"""What is understood of real sound: ``python -m benchmarks.real_ears [--search-only]``.

On the 92 evaluation clips of ``realsounds`` (../shared/data, which is no part of this repository):

- search in the tag space, with nothing trained, by one query a kind of sound ("a dog") and by the
  clips' human captions, through CED-tiny and through YAMNet;
- the right kind (benchmarks/kinds.py) of what ``listen``, EDTC and SJTU's captioner write, three
  seeds each, trained in clones of this repository in data/partial/real_ears, which a second run
  finds finished; and by the kinds' names alone, as it was judged before.

The last line is one line of JSON.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.kinds import DESCRIBES, Judge, by_names, judge
from earwitness import params_file
from earwitness.retrieval import RetrievalSystem
from earwitness.spaces import open_space
from pipeline.encoders.labels import read_labels

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
WEIGHTS, SOUNDS = SHARED / "data" / "weights", SHARED / "data" / "realsounds"
FOLDER = REPOSITORY / "data" / "partial" / "real_ears"
CUTOFF = 10  # of mAP@10
LISTEN = ("listen", "listen-greedy", "listen-nearest", "listen-plain")  # systems
PAIRED = ("edtc", "edtc-chosen", "transformer", "transformer-chosen")  # trained on pairs
# AudioSet's classes that YAMNet leaves out (tensorflow/models, yamnet_class_map.csv)
NOT_YAMNETS = {
    "Male speech, man speaking",
    "Female speech, woman speaking",
    "Male singing",
    "Female singing",
    "Battle cry",
    "Funny music",
}


class Clips(NamedTuple):
    """The evaluation clips of realsounds: their files, kinds and captions, N each."""

    files: list[Path]
    kinds: list[str]
    captions: list[list[str]]
    known: list[str]  # the 50 kinds, of which two have no evaluation clip


def evaluation_clips() -> Clips:
    kinds, captions = heard_kinds(), human_captions("evaluation")
    files = [SOUNDS / "evaluation" / name for name in captions]
    own = [kinds[name] for name in captions]
    return Clips(files, own, [*captions.values()], sorted({*kinds.values()}))


def judges() -> tuple[Judge, Judge]:
    """The judge of the right kind, and the one that knows the kinds' names alone."""
    kinds = heard_kinds()
    described: dict[str, list[str]] = {}
    for name, captions in human_captions(DESCRIBES).items():
        described.setdefault(kinds[name], []).extend(captions)
    known = sorted({*kinds.values()})
    return judge(known, described), by_names(known)


def heard_kinds() -> dict[str, str]:
    """File name → the kind that is heard."""
    with (SOUNDS / "events.csv").open(encoding="utf-8") as stream:
        return {row["file_name"]: row["event"] for row in csv.DictReader(stream)}


def human_captions(split: str) -> dict[str, list[str]]:
    """File name → the human captions."""
    with (SOUNDS / f"clotho_captions_{split}.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {
        row["file_name"]: [v for k, v in row.items() if k.startswith("caption") and v]
        for row in rows
    }


def average_precision(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Of all N ranks; ``right``: (N,), the clips that fit the query."""
    found = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precision[found].mean())


def mean_precision(
    similar: NDArray[np.float32], truth: NDArray[np.str_], known: Sequence[str]
) -> float:
    """Of (K, N) similarities of a query a kind to recordings, over the kinds that are there."""
    there = [(scores, kind) for scores, kind in zip(similar, known, strict=True) if kind in truth]
    return mean(average_precision(scores, truth == kind) for scores, kind in there)


def queries(kinds: Sequence[str]) -> list[str]:
    """One a kind, as people ask: "a car horn"."""
    return [f"a {kind.replace('_', ' ')}" for kind in kinds]


class Search(NamedTuple):
    """What a space finds, and the seconds that it took."""

    by_kind: float  # mAP over one query a kind
    by_caption: float  # mAP@10 over the human captions, each of one right clip
    nearest: float  # share of clips whose nearest kind's name is right
    opening: float
    embedding: float


def search(tagger: Path, labels: Path, clips: Clips) -> Search:
    """By the tag space of one tagger and the MiniLM that is installed."""
    start = time.perf_counter()
    system = open_space(str(tagger), labels)
    opened = time.perf_counter()
    sounds = system.embed_audio(clips.files)
    done = time.perf_counter()
    similar, truth = _similar(system, queries(clips.known), sounds), np.array(clips.kinds)
    written = [caption for each in clips.captions for caption in each]
    clip_of = np.repeat(np.arange(len(clips.files)), [len(each) for each in clips.captions])
    similar_texts = _similar(system, written, sounds)
    own = similar_texts[np.arange(len(written)), clip_of]
    ranks = (similar_texts >= own[:, None]).sum(1)
    return Search(
        mean_precision(similar, truth, clips.known),
        float(np.where(ranks <= CUTOFF, 1 / ranks, 0).mean()),
        float((np.array(clips.known)[similar.argmax(0)] == truth).mean()),
        opened - start,
        done - opened,
    )


def _similar(
    system: RetrievalSystem, texts: Sequence[str], sounds: NDArray[np.float32]
) -> NDArray[np.float32]:
    return system.similarity(system.embed_text(texts), sounds)


def chance(kinds: Sequence[str]) -> float:
    """mAP of a ranking at random, by 1,000 draws."""
    draw, truth = np.random.default_rng(0), np.array(kinds)
    every = [
        average_precision(draw.random(len(truth), np.float32), truth == kind)
        for kind in sorted({*kinds})
        for _ in range(1000)
    ]
    return mean(every)


def yamnets_labels(folder: Path) -> Path:
    """AudioSet's names, less those that YAMNet leaves out, in its order."""
    path = folder / "yamnet_labels.txt"
    names = [n for n in read_labels(WEIGHTS / "audioset_labels.csv") if n not in NOT_YAMNETS]
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return path


def trained(recipe: str, dataset: str, seeds: Sequence[int], systems: Sequence[str]) -> Path:
    """A clone where a recipe's systems are trained with each seed; returns its captions' folder."""
    clone = FOLDER / f"{recipe}-{dataset}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    link = FOLDER / "shared"  # the recipes name ../shared
    if not link.is_symlink():
        link.symlink_to(SHARED)
    if not clone.is_dir():
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        tools = REPOSITORY / "data" / "tools"
        (clone / "data").mkdir(exist_ok=True)
        (clone / "data" / "tools").symlink_to(tools)
    jobs = [f"decode@realsounds-{system}" for system in systems]
    run(clone, sys.executable, "-m", "earwitness", "recipe", recipe, dataset)
    params = params_file.read(clone / "params.yaml")
    params["seeds"] = [*seeds]
    keep_only(params, systems)
    with (clone / "params.yaml").open("w", encoding="utf-8") as stream:
        params_file.yaml().dump(params, stream)
    run(clone, sys.executable, "-m", "earwitness", "repro", *jobs)
    return clone / "data" / "predictions" / "realsounds"


def keep_only(params: dict[str, Any], systems: Sequence[str]) -> None:
    """Leaves out of the parameters what these captioning systems do not need to be trained."""
    kept = {name: params["systems"][name] for name in systems}
    captioners = {kept[name]["captioners"] for name in systems}
    choosers = {kept[name].get("set", {}).get("rerank.retriever") for name in systems}
    removed = {*params["retrievers"]} - choosers
    params["systems"], params["finetuned"], params["retrieval_systems"] = kept, {}, {}
    params["captioners"] = {name: params["captioners"][name] for name in captioners}
    params["retrievers"] = {n: r for n, r in params["retrievers"].items() if n not in removed}
    params["encoded"] = [name for name in params["encoded"] if name not in removed]


def run(clone: Path, *command: str) -> None:
    own = {**os.environ, "PYTHONPATH": str(clone)}
    subprocess.run(command, cwd=clone, env=own, check=True, stdout=sys.stderr)


def right_kinds(
    folder: Path, seeds: Sequence[int], system: str, clips: Clips, own_judge: Judge
) -> list[float]:
    """Of a system's captions, by seed."""
    by_name = dict(zip([path.name for path in clips.files], clips.kinds, strict=True))
    with (folder / f"{system}.csv").open(encoding="utf-8") as stream:
        every = list(csv.DictReader(stream))
    shares = []
    for seed in seeds:
        rows = [row for row in every if row["seed"] == str(seed)]
        truth = [_kind(by_name, row["clip_id"]) for row in rows]
        shares.append(own_judge.accuracy([row["caption"] for row in rows], truth))
    return shares


def _kind(kinds: dict[str, str], clip_id: str) -> str:
    return next(kind for name, kind in kinds.items() if Path(name).stem in clip_id)


def table(found: dict[str, Search]) -> str:
    lines = [
        "| tag space of | mAP, a query a kind | mAP@10, human captions | nearest kind is right "
        "| opened in | 92 clips in |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        shares = f"{one.by_kind:.1%} | {one.by_caption:.1%} | {one.nearest:.1%}"
        lines.append(f"| {name} | {shares} | {one.opening:.1f} s | {one.embedding:.1f} s |")
    return "\n".join(lines)


def written(clips: Clips, seeds: Sequence[int]) -> dict[str, Any]:
    """The shares of right kinds: of people, and of what each system writes, by both judges."""
    people, names = judges()
    first = [each[0] for each in clips.captions]
    result: dict[str, Any] = {"human_right_kind": people.accuracy(first, clips.kinds)}
    for recipe, dataset, systems in (
        ("listen", "realsounds", LISTEN),
        ("showcase", "realsounds-ced", PAIRED),
    ):
        folder = trained(recipe, dataset, seeds, systems)
        for system in systems:
            key = f"{system.replace('-', '_')}_right_kind"
            for name, own in ((key, people), (f"{key}_by_names", names)):
                shares = right_kinds(folder, seeds, system, clips, own)
                result[name] = {"mean": mean(shares), "seeds": shares}
    return result


def main(
    search_only: Annotated[bool, typer.Option("--search-only", help="train nothing")] = False,
    seeds: Annotated[list[int] | None, typer.Option(help="of what is trained")] = None,
) -> None:
    """Prints a table of search, the shares of right kinds, and one line of JSON."""
    if not SOUNDS.is_dir():
        raise SystemExit(f"{SOUNDS} is not there; this benchmark needs it")
    clips, seeds = evaluation_clips(), seeds or [1, 2, 3]
    with tempfile.TemporaryDirectory() as own:
        found = {
            "CED-tiny": search(WEIGHTS / "ced-tiny.onnx", WEIGHTS / "audioset_labels.csv", clips),
            "YAMNet": search(WEIGHTS / "yamnet.tflite", yamnets_labels(Path(own)), clips),
        }
    print(table(found), file=sys.stderr)
    result: dict[str, Any] = {
        "search_map": found["CED-tiny"].by_kind,
        "search_map_yamnet": found["YAMNet"].by_kind,
        "search_map10_captions": found["CED-tiny"].by_caption,
        "chance": chance(clips.kinds),
    }
    if not search_only:
        result |= written(clips, seeds)
    rounded = json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 4))
    print(json.dumps(rounded))


if __name__ == "__main__":
    typer.run(main)
