"""Several seeds, under DVC itself: what is trained anew, what is not, and who reads which model."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import Project
from tiny import TINY, WORDS

import earwitness
from earwitness.exporting.reading import open_export
from earwitness.loading import load
from earwitness.repository import Repository
from pipeline.config.params import parse_params, with_settings
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.planning.lookup import captioner_seeds, retriever_seeds, system_seeds

MODELS = "data/models"
SMALL: dict[str, Any] = {
    **{key: TINY[key] for key in TINY if key not in ("prefix", "cmu", "rlssr", "text_memory")},
    "encoders": {"logmel": TINY["encoders"]["logmel"]},
    "tagging": {"encoders": []},
    "retrievers": {
        **TINY["retrievers"],
        "frozen": {**TINY["retrievers"]["frozen"], "sound": "logmel"},
    },
    "spaces": {},
    "encoded": ["cnn10-minilm"],
    "training": {"words": TINY["training"]["words"]},
    "captioners": {
        "transformer": WORDS,
        "again": {**WORDS, "seed_offset": 100},
        "once": {**WORDS, "set": {"seq2seq.decoder": "gru"}},
    },
    "decoding": {"beams": 2, "max_length": 8},
    "systems": {
        "transformer": {"captioners": "transformer"},
        "scst": {"captioners": "transformer-scst"},
        "pair": {"captioners": ["transformer", "again"]},
        "once": {"captioners": "once", "seeds": [1]},
    },
    "retrieval_systems": {
        "both": {"retrievers": ["cnn10-minilm", "adapted"]},
        "captioned": {"captions_of": "once", "text": "minilm"},
    },
}
del SMALL["features"], SMALL["fuser"], SMALL["translator"], SMALL["twin"], SMALL["bart"]
TRAINED = {
    "train_retriever@cnn10-minilm",
    "train_retriever@frozen",
    "adapt@adapted",
    "train_captioner@transformer",
    "train_captioner@again",
    "train_captioner@once",
    "finetune@transformer-scst",
}
TRAINING = tuple(sorted({name.partition("@")[0] for name in TRAINED}))


def models(root: Path, seed: int) -> dict[str, bytes]:
    """Every file of the models of one seed."""
    folders = [*(root / MODELS).glob(f"*/*/{seed}")]
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(folder.iterdir())
    }


def rows(root: Path, system: str) -> list[dict[str, str]]:
    with (root / f"data/predictions/soundscapes/{system}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def scores(root: Path, system: str = "transformer") -> dict[str, float]:
    found: dict[str, float] = json.loads(
        (root / f"metrics/soundscapes/{system}.json").read_text(encoding="utf-8")
    )
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("seeds"), SMALL, forked=True)
    ran = project.run("repro")
    assert {f"{name}-1" for name in TRAINED} <= ran
    project.commit("seed 1")
    return project


@pytest.fixture(scope="module")
def two(project: Project) -> Iterator[tuple[Project, dict[str, Any]]]:
    """The project with two seeds, and what it had with one."""
    root = project.root
    before = {
        "models": models(root, 1),
        "rows": rows(root, "transformer"),
        "scores": scores(root),
    }
    before["ran"] = project.run("exp", "run", "-S", "seeds=[1,2]")
    yield project, before


def test_a_second_seed_trains_that_alone(two: tuple[Project, dict[str, Any]]) -> None:
    project, before = two
    trained = {name for name in before["ran"] if name.startswith(TRAINING)}
    assert trained == {f"{name}-2" for name in TRAINED}
    assert not {name for name in before["ran"] if name.startswith(("encode", "extract", "tagging"))}
    assert models(project.root, 1) == before["models"]
    found = models(project.root, 2)
    for place in ("captioners/transformer", "captioners/transformer-scst", "retrievers/adapted"):
        name = f"{MODELS}/{place}/{{}}/model.safetensors"
        assert found[name.format(2)] != before["models"][name.format(1)]
    plans = {
        name: json.loads((project.root / MODELS / f"captioners/{name}/2/plan.json").read_bytes())
        for name in ("transformer", "again")
    }
    assert {name: plan["seed"] for name, plan in plans.items()} == {"transformer": 2, "again": 102}
    # a finetuned one began as the one of its own seed
    done = json.loads((project.root / "data/plans/finetuned/transformer-scst/2.json").read_bytes())
    assert f"{MODELS}/captioners/transformer/2" in done["inputs"]
    assert f"{MODELS}/captioners/transformer/1" not in done["inputs"]


def test_what_no_system_asks_for_is_not_trained(two: tuple[Project, dict[str, Any]]) -> None:
    project, _ = two
    folder = project.root / MODELS / "captioners/once"
    assert sorted(path.name for path in (folder / "1").iterdir()) and not [
        *(folder / "2").iterdir()
    ]
    done = project.dvc("repro", "-s", "-f", "train_captioner@once-2")
    assert "once: not trained with seed 2, as no system asks for it" in done


def test_captions_of_all_seeds_are_in_one_table(two: tuple[Project, dict[str, Any]]) -> None:
    project, before = two
    found = rows(project.root, "transformer")
    assert [*found[0]] == ["seed", "clip_id", "caption", "log_prob", "candidates"]
    assert [row["seed"] for row in found] == ["1"] * 6 + ["2"] * 6
    assert found[:6] == before["rows"]  # one seed is what it was
    assert [row["clip_id"] for row in found[:6]] == [row["clip_id"] for row in found[6:]]
    assert [row["log_prob"] for row in found[:6]] != [row["log_prob"] for row in found[6:]]
    assert {row["seed"] for row in rows(project.root, "once")} == {"1"}


def test_a_person_names_the_seed(
    two: tuple[Project, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = two
    root = project.root
    manifest = Manifest.load(root / "data/corpora/soundscapes.json")
    paths = {clip.clip_id: clip.path for clip in manifest.clips}
    for seed, row in ((1, rows(root, "pair")[0]), (2, rows(root, "pair")[6])):
        sound = root / manifest.root / paths[row["clip_id"]]
        (caption,) = load("pair", root=root, device="cpu", seed=seed).caption([sound])  # type: ignore[union-attr]
        assert (caption.text, f"{caption.log_prob:.2f}") == (
            row["caption"],
            f"{float(row['log_prob']):.2f}",
        )
    said = project.earwitness("caption", str(sound), "--system", "pair", "--seed", "2", "-q")
    assert said.stdout.split("  ", 1)[1].strip() == rows(root, "pair")[6]["caption"]
    first = load("pair", root=root, device="cpu")
    assert first.seed == 1
    folder = root / MODELS / "captioners/transformer"
    assert load(folder, device="cpu").seed == 1 and load(folder / "2", device="cpu").seed == 2
    searching = {s: load("both", root=root, device="cpu", seed=s) for s in (1, 2)}
    vectors = [own.embed_text(["a dog barks"]) for own in searching.values()]  # type: ignore[union-attr]
    assert not np.allclose(*vectors)


def test_a_seed_that_is_not_there_is_one_line(two: tuple[Project, dict[str, Any]]) -> None:
    project, _ = two
    root = project.root
    with pytest.raises(EarwitnessError, match=r"'pair' is not made with seed 3 \(known: 1, 2\)"):
        load("pair", root=root, seed=3)
    with pytest.raises(EarwitnessError, match=r"'once' is not made with seed 2 \(known: 1\)"):
        load("once", root=root, seed=2)
    with pytest.raises(EarwitnessError, match="not trained with seed 3; there: 1, 2"):
        load(root / MODELS / "captioners/transformer", seed=3)
    with pytest.raises(EarwitnessError, match="is of seed 2"):
        load(root / MODELS / "captioners/transformer/2", seed=1)
    done = project.earwitness("caption", "a.wav", "--system", "once", "--seed", "2")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr


def test_an_exported_system_has_its_seed(
    two: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    project, _ = two
    root = project.root
    made = earwitness.export("transformer", tmp_path / "out", root=root, seed=2)
    export = open_export(made)
    params = export.params()
    assert params.seeds == (1, 2) and system_seeds(params) == {"transformer": (2,)}
    # the frames that it reads are those of the first seed's retriever, whatever its own seed
    folders = {
        p.parent.relative_to(made).as_posix() for p in (made / MODELS).glob("*/*/*/plan.json")
    }
    assert folders == {f"{MODELS}/captioners/transformer/2", f"{MODELS}/retrievers/cnn10-minilm/1"}
    manifest = Manifest.load(root / "data/corpora/soundscapes.json")
    sound = root / manifest.root / manifest.split("evaluation")[0].path
    here = load("transformer", root=root, device="cpu", seed=2).caption([sound])  # type: ignore[union-attr]
    there = load(made, device="cpu")
    assert there.seed == 2 and there.caption([sound]) == here  # type: ignore[union-attr]


def test_why_and_the_graph_know_seeds(two: tuple[Project, dict[str, Any]]) -> None:
    project, _ = two
    assert "up to date" in project.earwitness("why", "train_captioner@transformer-2").stdout
    shown = project.earwitness("graph").stdout
    reads = shown.split("finetune@transformer-scst-2\n    reads ")[1].splitlines()[0].split(", ")
    assert "train_captioner@transformer-2" in reads and "train_captioner@transformer-1" not in reads
    project.edit_params({"scst": {**SMALL["scst"], "samples": 2}})
    said = project.earwitness("why", "finetune@transformer-scst-2").stdout
    project.git("checkout", "-q", "params.yaml")
    project.edit_params({"seeds": [1, 2]})
    assert said.startswith("finetune@transformer-scst-2 runs again:\n    scst.samples: 1 → 2\n")


def test_a_number_in_the_place_of_a_list_is_explained(project: Project, tmp_path: Path) -> None:
    text = (project.root / "params.yaml").read_text(encoding="utf-8")
    project.edit_params({"seeds": 3})
    done = {each: project.earwitness(each) for each in ("why", "graph")}
    (project.root / "params.yaml").write_text(text, encoding="utf-8")
    for each in done.values():
        assert each.returncode == 1 and each.stderr.count("\n") == 1
        assert "seeds: give a list: [3], or on the command line -S 'seeds=[3]'" in each.stderr


def test_one_seed_again_trains_nothing(two: tuple[Project, dict[str, Any]]) -> None:
    project, before = two
    ran = project.run("exp", "run", "-S", "seeds=[1]")
    assert not {name for name in ran if name.startswith((*TRAINING, "encode"))}
    assert models(project.root, 1) == before["models"]
    assert rows(project.root, "transformer") == before["rows"]
    assert scores(project.root) == before["scores"]


def test_the_first_seed_makes_what_is_made_once(project: Project) -> None:
    from pipeline.planning import PHASES, Context

    root = project.root
    tagged = {name: TINY[name] for name in ("encoders", "tagging")}
    for seeds in ((1,), (2, 1)):
        now = parse_params({**SMALL, **tagged, "seeds": list(seeds)})
        context = Context.read(now, root, root)
        (tagging,) = PHASES["tagging"](context).values()
        assert tagging.model_dump()["seed"] == seeds[0]
        (encoding,) = PHASES["encoding"](context).values()
        assert [path for path in encoding.inputs if path.startswith(MODELS)] == [
            f"{MODELS}/retrievers/cnn10-minilm/{seeds[0]}"
        ]


def _pair(seeds: list[int]) -> dict[str, Any]:
    return {**SMALL["systems"], "pair": {"captioners": "again", "seeds": seeds}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds: empty; give one or more"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 stands twice"),
        ({"seeds": [-1]}, "seeds.0: "),
        ({"seeds": [1 << 31]}, "seeds.0: "),
        ({"seeds": 3}, "seeds: give a list: [3], or on the command line -S 'seeds=[3]'"),
        ({"seeds": None}, "seeds: "),
        ({"seed": 1}, "seed: is a list now; write seeds: [1]"),
        ({"systems": _pair([2])}, "systems.pair.seeds: 2 is not in seeds (1)"),
        ({"systems": _pair([])}, "systems.pair.seeds: empty"),
        (
            {
                "seeds": [1, 2],
                "retrieval_systems": {
                    "words": {"captions_of": "once", "text": "minilm", "seeds": [2]}
                },
            },
            "retrieval_systems.words.seeds: 2 is not in systems.once.seeds (1)",
        ),
    ],
)
def test_seeds_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    given = {
        key: value for key, value in SMALL.items() if not (key == "seeds" and "seed" in changes)
    }
    with pytest.raises(EarwitnessError) as caught:
        parse_params({**given, **changes})
    assert str(caught.value).startswith(f"params.yaml: {message}")


def test_a_seed_is_no_setting_of_one_entry() -> None:
    params = parse_params(SMALL)
    for name in ("seed", "seeds"):
        with pytest.raises(EarwitnessError, match="give a model a seed_offset"):
            with_settings(params, {name: 2}, "here")


def test_a_model_is_trained_with_the_seeds_that_somebody_asks_for() -> None:
    changes = {
        "seeds": [3, 1, 2],
        "systems": {
            "transformer": {"captioners": "transformer", "seeds": [2, 3]},
            "scst": {"captioners": "transformer-scst", "seeds": [1]},
            "again": {"captioners": "again", "set": {"rerank.retriever": "frozen"}, "seeds": [2]},
        },
        "retrieval_systems": {"words": {"captions_of": "again", "text": "minilm"}},
        "adapted": {},
    }
    params = parse_params({**SMALL, **changes})
    assert captioner_seeds(params) == {
        "transformer": (3, 1, 2),  # of its own system, and what the finetuned one begins as
        "again": (2,),
        "once": (3, 1, 2),  # in no system: for itself
        "transformer-scst": (1,),
    }
    # features are of the first seed; frozen reranks with the seed of the system
    assert retriever_seeds(params) == {"cnn10-minilm": (3,), "frozen": (2,)}


def test_an_export_of_one_seed_from_before_is_still_read(tmp_path: Path) -> None:
    from tiny_repository import make_repository

    root = tmp_path / "repository"
    root.mkdir()
    make_repository(root)
    sound = root / "sounds/1.wav"
    made = earwitness.export("three", tmp_path / "out", root=root)
    expected = load(made, device="cpu").caption([sound])  # type: ignore[union-attr]
    _as_before_seeds(made)
    old = load(made, device="cpu")
    assert isinstance(old, earwitness.CaptioningSystem)
    assert old.seed == 1 and old.caption([sound]) == expected
    assert Repository(root).params().seeds == (1,)


def _as_before_seeds(made: Path) -> None:
    """As exports were: `seed: 1`, one's own by `set`, and no folders of seeds."""
    from pipeline.files import sha256

    text = (made / "params.yaml").read_text(encoding="utf-8")
    head, _, rest = text.partition("seeds:")
    rest = rest.partition("- 1\n")[2].replace("    seeds:\n    - 1\n", "")
    assert "    set: {}\n" in rest
    rest = rest.replace("    set: {}\n", "    set: {seed: 2}\n", 1)
    (made / "params.yaml").write_text(f"{head}seed: 1\n{rest}", encoding="utf-8")
    for folder in [*(made / MODELS).glob("*/*/1")]:
        for path in [*folder.iterdir()]:
            path.rename(folder.parent / path.name)
        folder.rmdir()
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    files = {name.replace("/1/", "/"): about for name, about in manifest["files"].items()}
    params = made / "params.yaml"
    files["params.yaml"] = {"sha256": sha256(params), "bytes": params.stat().st_size}
    manifest["files"] = files
    (made / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
