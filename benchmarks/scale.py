"""What grows with the number of clips, and how fast: ``python -m benchmarks.scale``.

Generated tables, without sound, of 10,000, 100,000 and 400,000 clips with one caption each, as
WavCaps has: from the table to the manifest, the plans of the default's jobs, a vocabulary, a text
memory, and 1,000 queries ranked over all clips, both ways. Each is measured in a process of its
own: seconds of one core, and memory at the peak, which imports are part of. Cost is linear where
the exponent between the two largest sizes, log(time) over log(clips), is at most that of a time
20 % above it.

``python -m benchmarks.scale 1000 10000`` takes other sizes.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

SIZES = (10_000, 100_000, 400_000)
ABOVE_LINEAR = 1.2  # times the time that a linear cost would have at the larger size
SECONDS, MEGABYTES = 20.0, 2000.0  # at most, of all plans, and of anything
QUERIES, WIDTH = 1_000, 128
DATASET = "soundscapes"  # the default parameters plan for it
WORDS = (
    *("a", "the", "dog", "cat", "bird", "man", "woman", "child"),
    *("crowd", "car", "truck", "train", "engine", "bell", "door", "rain"),
    *("wind", "water", "barks", "meows", "sings", "speaks", "laughs", "cries"),
    *("passes", "idles", "rings", "creaks", "falls", "blows", "drips", "runs"),
    *("while", "and", "in", "on", "near", "loudly", "softly", "background"),
    *("distance", "road", "room", "station", "kitchen", "forest"),
)
ODD = ("man-made", "dog's", "5", "o'clock", "Mr.", "cannot")  # which the plain rules do not know


def caption(number: int) -> str:
    """One of some 10 words; of rare ones each stands in a few captions, as in real ones."""
    digits = [int(each) for each in str(number * 7_919 + 10_000_019)]
    words = [WORDS[(17 * at + digit * (at + 3)) % len(WORDS)] for at, digit in enumerate(digits)]
    if number % 10 == 0:
        words[3] = ODD[number // 10 % len(ODD)]
    letters = "".join(chr(97 + int(digit)) for digit in str(number // 20))
    return " ".join([*words, f"rare{letters}"]).capitalize() + "."


def split_of(number: int) -> str:
    return {0: "evaluation", 1: "validation"}.get(number % 100, "development")


def table(folder: Path, clips: int) -> None:
    """Reads tables of captions into a manifest, and writes it."""
    from pipeline.config.datasets import CaptionsDatasetConfig
    from pipeline.corpora.registry import prepare

    settings = CaptionsDatasetConfig(
        layout="captions", root="tables", development=("development.csv",),
        validation=("validation.csv",), evaluation=("evaluation.csv",),
    )  # fmt: skip
    manifest = prepare(DATASET, settings, folder, Path("raw"), progress=False)
    assert len(manifest.clips) == clips
    manifest.save(folder / "prepared.json")


def plan(folder: Path, clips: int) -> None:
    """All phases of the default parameters, each in a process of its own, as DVC runs them."""
    from pipeline.planning import PHASES

    for phase in PHASES:
        command = [sys.executable, "-m", "benchmarks.scale", "--phase", phase, str(folder)]
        subprocess.run(command, check=True)


def one_phase(folder: Path, name: str) -> None:
    """The plans of one phase."""
    from pipeline.config.params import load_params
    from pipeline.planning import PHASES, Context

    repository = Path(__file__).parents[1]
    params = load_params(repository / "params.yaml")
    assert PHASES[name](Context.read(params, repository, folder)) or not params.adapted


def vocabulary(folder: Path, clips: int) -> None:
    """The words of all captions, and their ids."""
    from pipeline.text.vocabulary import Vocabulary

    captions = [caption(number) for number in range(clips)]
    words = Vocabulary.train(captions, 1)
    assert len(words.encode(captions, 30)) == clips


def memory(folder: Path, clips: int) -> None:
    """A bank of an embedding a caption, and a batch of 64 that recalls from it."""
    import torch

    from pipeline.corpora.manifest import Manifest
    from pipeline.decoding.text_memory import TextMemory
    from pipeline.features.bank import open_banks
    from pipeline.features.store import FeatureStore, caption_ids

    torch.set_num_threads(1)
    manifest = Manifest.load(folder / f"data/corpora/{DATASET}.json")
    store = FeatureStore.open(folder / "text.h5")
    (bank,) = open_banks([store], caption_ids(manifest.split("development")), "cpu")
    queries = torch.nn.functional.normalize(torch.randn(64, WIDTH), dim=1)
    TextMemory(bank, "projection").recall(queries)


def ranking(folder: Path, clips: int) -> None:
    """1,000 captions over all clips and all clips over the captions, with both tables."""
    import torch

    from pipeline.metrics.retrieval import Embeddings, ensemble_ranks, scores
    from pipeline.trained.ranking_files import Queries, Ranked, write_ranking, write_sound_ranking

    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(1)
    sounds = torch.nn.functional.normalize(torch.randn(clips, WIDTH, generator=draw), dim=1)
    clip_of = torch.arange(QUERIES) * (clips // QUERIES)
    noise = torch.randn(QUERIES, WIDTH, generator=draw)
    embeddings = Embeddings(torch.nn.functional.normalize(sounds[clip_of] + 0.1 * noise), sounds)
    ranks = ensemble_ranks([embeddings], clip_of)
    seeds = {1: Ranked([embeddings], ranks, scores(ranks, clip_of))}
    asked = [caption(number) for number in range(QUERIES)]
    queries = Queries(asked, [f"{number}#0" for number in range(QUERIES)], clip_of)
    names = [f"{number}.flac" for number in range(clips)]
    write_ranking(folder / "ranking.csv", seeds, queries, names, names)
    write_sound_ranking(folder / "sound.csv", seeds, queries, names)


PARTS: dict[str, Callable[[Path, int], None]] = {
    each.__name__: each for each in (table, plan, vocabulary, memory, ranking)
}


def make(folder: Path, clips: int) -> None:
    """The tables, the manifest of clips with sound, and what the stages before planning leave."""
    from pipeline.corpora.manifest import Clip, Manifest

    (folder / "tables").mkdir(parents=True)
    streams = {
        split: (folder / f"tables/{split}.csv").open("w", encoding="utf-8")
        for split in ("development", "validation", "evaluation")
    }
    for stream in streams.values():
        stream.write("file_name,caption\n")
    rows = []
    for number in range(clips):
        split, text = split_of(number), caption(number)
        streams[split].write(f"{number}.flac,{text}\n")
        digest = f"{number:064x}"
        path = f"FreeSound/{number}.flac"
        rows.append(Clip(f"freesound-{number}", split, path, 10.0, (text,), ("dog",), digest))
    for stream in streams.values():
        stream.close()
    Manifest(DATASET, "sound", tuple(rows)).save(folder / f"data/corpora/{DATASET}.json")
    _made(folder)
    _stored(folder / "text.h5", [f"{row.clip_id}#0" for row in rows])


def _made(folder: Path) -> None:
    """Indices of features and models, which are no larger with more clips."""
    from pipeline.config.params import load_params
    from pipeline.files import write_json
    from pipeline.planning.lookup import all_captioners, all_retrievers

    params = load_params(Path(__file__).parents[1] / "params.yaml")
    encoded = [f"{n}/{kind}" for n in params.encoded for kind in ("frames", "sound", "text")]
    for kind, names in (
        ("frozen", [*params.encoders, *params.text_encoders]),
        ("encoded", encoded),
    ):
        for name in names:
            path = folder / f"data/index/{kind}/{DATASET}/{name}.json"
            write_json(path, {"sha256": name, "width": 8})
    models = [f"encoders/{name}" for name in params.tagging.encoders]
    for kind, made in (("captioners", all_captioners), ("retrievers", all_retrievers)):
        models += [f"{kind}/{name}/{seed}" for name in made(params) for seed in params.seeds]
    for name in models:
        model = folder / "data/models" / name / "model.safetensors"
        model.parent.mkdir(parents=True)
        model.write_bytes(name.encode())


def _stored(path: Path, ids: list[str]) -> None:
    import numpy as np

    from pipeline.features.store import Header, write_store

    random = np.random.default_rng(0)

    def blocks() -> Iterator[np.ndarray]:
        for at in range(0, len(ids), 1 << 14):
            rows = min(1 << 14, len(ids) - at)
            yield random.standard_normal((rows, WIDTH), np.float32).astype(np.float16)

    ones = np.ones(len(ids), np.int64)
    write_store(path, Header("text", {}, "", 0.0), ids, ones, WIDTH, blocks())


def measured(name: str, folder: Path, clips: int) -> tuple[float, float]:
    """Seconds of one core, and MB at the peak, of one part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--part", name, str(folder), str(clips)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def part(name: str, folder: Path, clips: int) -> None:
    """Runs one part, and prints what :func:`measured` reads."""
    start = sum(os.times()[:4])
    PARTS[name](folder, clips)
    own, below = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    peak = max(resource.getrusage(who).ru_maxrss for who in (own, below))
    print(json.dumps([sum(os.times()[:4]) - start, peak / 1000]))


def main(sizes: tuple[int, ...]) -> None:
    heads = [f"{clips:,} clips" for clips in sizes]
    print(f"| what | {' | '.join(heads)} | exponent | target |")
    print(f"|---|{'---:|' * len(sizes)}---:|---|")
    with TemporaryDirectory() as name:
        for clips in sizes:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.scale", "--make", f"{name}/{clips}", str(clips)],
                check=True,
            )
        for each in PARTS:
            found = [measured(each, Path(name) / str(clips), clips) for clips in sizes]
            print(_row(each, sizes, found), flush=True)


def _row(name: str, sizes: tuple[int, ...], found: list[tuple[float, float]]) -> str:
    cells = [f"{seconds:.1f} s, {megabytes:,.0f} MB" for seconds, megabytes in found]
    (before, _), (last, peak) = found[-2:]
    growth = math.log(sizes[-1] / sizes[-2])
    exponent, most = math.log(last / before) / growth, 1 + math.log(ABOVE_LINEAR) / growth
    bounds = [(exponent <= most, f"≤ {most:.2f}"), (peak < MEGABYTES, f"< {MEGABYTES:,.0f} MB")]
    if name == "plan":
        bounds.append((last < SECONDS, f"< {SECONDS:.0f} s"))
    target = ", ".join(text if kept else f"{text} (not reached)" for kept, text in bounds)
    return f"| {name} | {' | '.join(cells)} | {exponent:.2f} | {target} |"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--part", name, folder, clips]:
            part(name, Path(folder), int(clips))
        case ["--phase", phase, folder]:
            one_phase(Path(folder), phase)
        case ["--make", folder, clips]:
            make(Path(folder), int(clips))
        case sizes:
            main(tuple(map(int, sizes)) or SIZES)
