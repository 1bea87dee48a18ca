"""The Python API: docs/api.md runs, and gives what the stages and the command line give."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from onnx_models import CLASSES, tagger
from tiny_repository import RATE, SECONDS, make_repository
from typer.testing import CliRunner

import earwitness
from earwitness import repository as places
from earwitness.cli import app
from earwitness.repository import NoRepositoryError, find_repository
from pipeline.config.encoders import (
    OnnxEncoderConfig,
    VitEncoderConfig,
    WavCapsTextEncoderConfig,
)
from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import DecodingPlan
from pipeline.config.sides import StoredTextSide
from pipeline.errors import EarwitnessError
from pipeline.features.store import FeatureStore
from pipeline.metrics import java
from pipeline.trained.retriever import load_retriever
from pipeline.weights import Weights
from stages import decode
from tests.conftest import REPOSITORY

EXAMPLES = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/api.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: one that is in no repository."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(places.VARIABLE, raising=False)
    return folder


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its programs take seconds; test_evaluate.py runs them."""
    monkeypatch.setattr(java, "installed_java", lambda: None)


def sounds(root: Path) -> list[Path]:
    return [root / f"sounds/{number}.wav" for number in range(len(SECONDS))]


def captioner(root: Path, name: str | Path) -> earwitness.CaptioningSystem:
    return earwitness.CaptioningSystem.load(name, root=root, device="cpu")


def test_importing_is_light() -> None:
    code = (
        "import sys, earwitness\n"
        "assert not {'torch', 'numpy', 'pydantic'} & sys.modules.keys()\n"
        "assert dir(earwitness) == earwitness.__all__\n"
        "assert all(getattr(earwitness, name).__name__ == name for name in earwitness.__all__)\n"
        "assert not hasattr(earwitness, 'lod')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_the_page_runs(
    repository: Path,
    elsewhere: Path,
    no_java: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every example, in order, in a folder of its own; and what it shows is so."""
    monkeypatch.setenv(places.VARIABLE, str(repository))
    files = {"street.wav": sounds(repository)[1], "birds.mp3": sounds(repository)[3]}
    for name, source in files.items():
        samples, rate = soundfile.read(source)
        soundfile.write(elsewhere / name, np.stack([samples, 0.5 * samples], axis=1), rate)
    tagger(elsewhere / "ced-tiny.onnx", outputs=["probabilities"])
    rows = "".join(f"{number},name {number}\n" for number in range(CLASSES))
    (elsewhere / "class_labels_indices.csv").write_text(f"index,display_name\n{rows}")
    page: dict[str, Any] = {}
    for example in EXAMPLES:
        exec(example.replace("/path/to/earwitness", str(repository)), page)
    printed = capsys.readouterr().out
    for example in EXAMPLES:
        for shown in re.findall(r"print\((?:error|scores\.missing.*)\)  # (.*)", example):
            assert shown in printed
    own = page["captioner"].caption(["street.wav", "birds.mp3"])
    assert printed.startswith("".join(f"{c.text} ({c.log_prob:.2f})\n" for c in own))
    assert own == page["same"].caption(["street.wav", "birds.mp3"])
    assert len(page["best"].candidates) == 2
    expected = captioner(repository, "edtc").caption(["street.wav"], beams=8)
    assert page["best"].text == expected[0].text
    assert page["street"].seconds == SECONDS[1] and len(page["street"].windows) == 2
    assert [own.start for own in page["street"].windows] == [0, 1]
    assert "gone.wav: not there; check the name\n" in printed
    assert page["found"].shape == (1, 1)
    assert page["similarity"].shape == (2, 2) and page["similarity"].dtype == np.float32
    assert page["scores"].clips["rouge_l"].shape == (2,)


@pytest.mark.parametrize(
    ("system", "members"), [("three", ("heard", "encoded", "other")), ("edtc", ("edtc",))]
)
def test_captions_are_what_the_stage_and_the_command_line_write(
    repository: Path,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    members: tuple[str, ...],
) -> None:
    """Text, log-probability and candidates: of an ensemble over stored and encoded features, and
    of an encoder that was trained in the repository, whose plan names a relative path.
    """
    plan = DecodingPlan(
        name=system, inputs={}, code={}, dataset="toy", split="evaluation", captioners=members,
        combine="probs", decoding=DecodingConfig(beams=4, batch=2, max_length=12),
    )  # fmt: skip
    plan.save(repository / f"data/plans/systems/toy-{system}.json")
    monkeypatch.chdir(repository)
    decode.main("toy", system)
    monkeypatch.chdir(elsewhere)
    with (repository / f"data/predictions/toy/{system}.csv").open(encoding="utf-8") as stream:
        stored = [*csv.DictReader(stream)]
    found = captioner(repository, system).caption(sounds(repository))
    assert len(found) == len(stored) == len(SECONDS)
    for own, row in zip(found, stored, strict=True):
        assert own.text == row["caption"]
        assert own.log_prob == pytest.approx(float(row["log_prob"]), abs=1e-3)
        others = json.loads(row["candidates"])
        assert [text for text, _ in own.candidates] == [text for text, _ in others]
        values = [log_prob for _, log_prob in own.candidates]
        assert values == pytest.approx([log_prob for _, log_prob in others], abs=1e-3)
    files = [str(path) for path in sounds(repository)]
    options = ["--system", system, "--repository", str(repository)]
    done = CliRunner().invoke(app, ["caption", *files, *options])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{file}  {caption.text}" for file, caption in zip(files, found, strict=True)
    ]


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_arrays_are_heard_as_their_files_are(repository: Path, tmp_path: Path, rate: int) -> None:
    draw = np.random.default_rng(rate)
    stereo = [draw.uniform(-0.5, 0.5, (2, int(rate * own))).astype(np.float32) for own in SECONDS]
    arrays: list[NDArray[Any]] = [*stereo, stereo[0].mean(axis=0).astype(np.float64)]
    files = []
    for number, array in enumerate(arrays):
        files.append(tmp_path / f"{number}.wav")
        soundfile.write(files[-1], array.T, rate, subtype="FLOAT")
    three = captioner(repository, "three")
    assert three.caption(arrays, sample_rate=rate) == three.caption(files)
    mixed = three.caption([str(files[0]), arrays[1]], sample_rate=rate)
    assert mixed == three.caption(files[:2])
    retriever = earwitness.RetrievalSystem.load("mixed", root=repository, device="cpu")
    embeddings = retriever.embed_audio(arrays, sample_rate=rate)
    np.testing.assert_array_equal(embeddings, retriever.embed_audio(files))
    other = retriever.embed_audio(arrays, sample_rate=RATE // 2)
    assert np.abs(other - embeddings).max() > 1e-3  # the rate is heard


def test_settings_of_one_call(repository: Path) -> None:
    files = sounds(repository)
    three = captioner(repository, "three")
    narrow = captioner(repository, "narrow").caption(files)
    assert [c.text for c in three.caption(files, beams=1)] == [c.text for c in narrow]
    assert [c.text for c in three.caption(files, batch=3)] == [c.text for c in three.caption(files)]
    for caption, whole in zip(
        three.caption(files, candidates=2), three.caption(files), strict=True
    ):
        assert len(whole.candidates) == 3 and caption.candidates == whole.candidates[:2]
    with pytest.raises(EarwitnessError, match="decoding: beam: unknown key; did you mean 'beams'"):
        three.caption(files, beam=2)
    with pytest.raises(EarwitnessError, match="finds 3 beside the best"):
        three.caption(files, candidates=4)
    with pytest.raises(EarwitnessError, match="finds 0 beside the best"):
        three.caption(files, candidates=1, method="greedy")
    assert three.caption([]) == []


def test_similarity_is_the_mean_over_stored_embeddings(repository: Path) -> None:
    """Of a trained tower and two projections, one of them by distance; text by the library."""
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.sources import Hub, locate

    texts = ["a low tone", "a bird that sings higher and higher"]
    side = load_retriever(repository / "data/models/retrievers/flat/1", "cpu").plan.text
    assert isinstance(side, StoredTextSide)
    library = SentenceTransformer(str(locate(side.encoder.weights, "text", Hub())), device="cpu")
    tokens = library.encode(texts, output_value="token_embeddings")
    store = FeatureStore.open(repository / "data/features/toy/logmel.h5")
    total: NDArray[np.float64] = np.zeros((len(texts), len(SECONDS)))
    retriever = earwitness.load("mixed", root=repository, device="cpu")
    assert isinstance(retriever, earwitness.RetrievalSystem)
    sound, text = retriever.embed_audio(sounds(repository)), retriever.embed_text(texts)
    parts = np.cumsum(retriever.widths)[:-1]
    for name, own, words in zip(
        ("tower", "flat", "far"),
        np.split(sound, parts, axis=1),
        np.split(text, parts, axis=1),
        strict=True,
    ):
        member = load_retriever(repository / "data/models/retrievers" / name / "1", "cpu")
        ids = [str(number) for number in range(len(SECONDS))]
        stored = member.embed_sound(member.sound.stored([store], ids))
        np.testing.assert_allclose(own, stored.numpy(), atol=2e-3)
        means = torch.stack([each.float().mean(0) for each in tokens])
        with torch.no_grad():
            alone = member.model.embed_text((as_one_frame(means),))
        np.testing.assert_allclose(words, alone.numpy(), atol=2e-3)
        for row, one in enumerate(words):
            apart = np.linalg.norm(own - one, axis=1)
            total[row] += -apart if name == "far" else own @ one
    found = retriever.similarity(text, sound)
    np.testing.assert_allclose(found, total / 3, atol=1e-5)
    done = CliRunner().invoke(
        app, ["search", texts[0], str(repository / "sounds"), "--system", "mixed", "--repository",
              str(repository), "--out", "found.csv"],
    )  # fmt: skip
    assert done.exit_code == 0
    with Path("found.csv").open(encoding="utf-8") as stream:
        scores = {Path(row["file"]): float(row["score"]) for row in csv.DictReader(stream)}
    assert scores == pytest.approx(
        dict(zip(sounds(repository), found[0].tolist(), strict=True)), abs=1e-5
    )
    assert retriever.embed_audio([]).shape == (0, sum(retriever.widths))


def test_a_repository_is_found(
    repository: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By argument before variable before the current folder before the installed package."""
    roots = {}
    for name in ("argument", "variable", "current", "installed"):
        roots[name] = tmp_path / name
        (roots[name] / "earwitness").mkdir(parents=True)
        for mark in ("params.yaml", "dvc.yaml"):
            (roots[name] / mark).touch()
    monkeypatch.setattr(places, "__file__", str(elsewhere / "site" / "earwitness" / "x.py"))
    with pytest.raises(
        NoRepositoryError, match=f"no params.yaml and dvc.yaml in {elsewhere}.*site"
    ):
        find_repository()
    monkeypatch.setattr(places, "__file__", str(roots["installed"] / "earwitness" / "x.py"))
    assert find_repository().root == roots["installed"]
    monkeypatch.chdir(roots["current"] / "earwitness")
    assert find_repository().root == roots["current"]
    monkeypatch.setenv(places.VARIABLE, str(roots["variable"]))
    assert find_repository().root == roots["variable"]
    assert find_repository("../../argument").root == roots["argument"]
    (roots["argument"] / "dvc.yaml").unlink()
    with pytest.raises(EarwitnessError, match=r"argument: .*dvc\.yaml is not there"):
        find_repository(roots["argument"])
    monkeypatch.setenv(places.VARIABLE, str(elsewhere))
    with pytest.raises(EarwitnessError, match=r"EARWITNESS_REPOSITORY .*elsewhere: not an earw"):
        find_repository()


def test_models_are_loaded_by_folder(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system of the one model; the folder's repository is the one that it lies in."""
    monkeypatch.setenv(places.VARIABLE, str(tmp_path))  # not asked
    files = sounds(repository)
    own = earwitness.load(repository / "data/models/captioners/heard/1", device="cpu")
    assert isinstance(own, earwitness.CaptioningSystem)
    assert own.caption(files) == captioner(repository, "alone").caption(files)
    monkeypatch.chdir(repository / "data" / "models")
    tower = earwitness.load("./retrievers/tower", device="cpu")
    towers = earwitness.load("towers", root=repository, device="cpu")
    assert isinstance(tower, earwitness.RetrievalSystem)
    assert isinstance(towers, earwitness.RetrievalSystem)
    np.testing.assert_array_equal(tower.embed_audio(files), towers.embed_audio(files))
    shutil.copytree(repository / "data/models/retrievers/tower/1", tmp_path / "retrievers/tower")
    with pytest.raises(
        EarwitnessError, match=r"retrievers/tower: no params\.yaml and dvc\.yaml in th"
    ):
        earwitness.load(tmp_path / "retrievers/tower")
    moved = earwitness.load(tmp_path / "retrievers/tower", root=repository, device="cpu")
    assert isinstance(moved, earwitness.RetrievalSystem)
    np.testing.assert_array_equal(moved.embed_audio(files), towers.embed_audio(files))
    with pytest.raises(EarwitnessError, match="no captioner; run `dvc repro"):
        earwitness.load(repository / "data/models/captioners/none")
    with pytest.raises(EarwitnessError, match="sounds: not a model's folder"):
        earwitness.load(repository / "sounds")


def test_weights_in_a_plan_are_of_the_repository(repository: Path, tmp_path: Path) -> None:
    """A relative path is looked up there, and never in the current folder."""
    found = find_repository(repository)
    (repository / "hub").mkdir()
    here, away = str(repository / "sounds"), str(tmp_path)
    for name, absolute in (
        *(("./sounds", here), (away, away)),
        *((same, same) for same in ("hub", "hub:sounds", "package:sounds", "tagging", "none")),
    ):
        vit = found.located(VitEncoderConfig(module="vit", weights=name))
        assert vit.weights == Weights.parse(absolute)
    for name, absolute in (("sounds", here), ("owner/name", "owner/name")):
        text = WavCapsTextEncoderConfig(module="wavcaps_text", weights="./x", tokenizer=name)
        assert found.located(text).tokenizer == absolute
    settings = OnnxEncoderConfig(module="onnx", weights="./a.onnx", labels="params.yaml", input="x")
    (repository / "a.onnx").touch()
    located = found.located(settings)  # and the names of tensors stay
    assert located == settings.model_copy(
        update={
            "weights": Weights("path", str(repository / "a.onnx")),
            "labels": str(repository / "params.yaml"),
        }
    )


def test_names_that_are_wrong(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EarwitnessError, match=r"params\.yaml: no system 'towrs'; did you mean 'towe"
    ):
        earwitness.load("towrs", root=repository)
    with pytest.raises(EarwitnessError, match="'captioned' ranks by captions and reads no sound"):
        earwitness.load("captioned", root=repository)
    with pytest.raises(EarwitnessError, match="no retrieval system 'towrs'; did you mean 'towers'"):
        earwitness.RetrievalSystem.load("towrs", root=repository)
    twice = tmp_path / "twice"
    twice.mkdir()
    (twice / "dvc.yaml").touch()
    text = (repository / "params.yaml").read_text().replace("  towers:", "  alone:")
    (twice / "params.yaml").write_text(text)
    with pytest.raises(EarwitnessError, match="'alone' is in systems and in retrieval_systems"):
        earwitness.load("alone", root=twice)


@pytest.mark.parametrize(
    ("given", "rate", "reason"),
    [
        ("street.wav", None, r"give \[sound\]"),
        (Path("street.wav"), None, r"give \[sound\]"),
        (np.zeros(99, np.float32), RATE, r"give \[sound\]"),
        ([np.zeros(99, np.float32)], None, r"sounds\[0\]: an array needs sample_rate"),
        ([np.zeros(99), np.zeros(99, np.int16)], RATE, r"sounds\[1\]: an array of int16"),
        ([np.zeros((99, 2))], RATE, r"sounds\[0\]: 99 channels of 2 samples; transpose it"),
        ([np.zeros((2, 2, 2))], RATE, r"of shape \(2, 2, 2\)"),
        ([np.zeros(0)], RATE, r"of shape \(0,\)"),
        ([np.array([0.1, np.nan, 0.2])], RATE, r"sounds\[0\]: has samples that are NaN"),
        ([np.zeros(99)], 0, "sample_rate 0 Hz, which no recording has"),
        (["none.wav"], None, "none.wav: not there; check the name"),
        (["broken.wav"], None, "broken.wav: not sound that can be decoded"),
    ],
)
def test_sounds_that_cannot_be_used_are_named(
    repository: Path, given: Any, rate: int | None, reason: str
) -> None:
    Path("broken.wav").write_text("no sound", encoding="utf-8")
    for use in (
        captioner(repository, "alone").caption,
        earwitness.RetrievalSystem.load("towers", root=repository, device="cpu").embed_audio,
    ):
        with pytest.raises(EarwitnessError, match=reason) as caught:
            use(given, sample_rate=rate)
        assert "\n" not in str(caught.value)


def test_texts_and_embeddings_that_cannot_be_used(repository: Path) -> None:
    towers = earwitness.RetrievalSystem.load("towers", root=repository, device="cpu")
    with pytest.raises(EarwitnessError, match=r"give \[text\]"):
        towers.embed_text("a dog")
    with pytest.raises(EarwitnessError, match=r"texts\[1\] is empty"):
        towers.embed_text(["a dog", " "])
    assert towers.widths == (8,)
    row = np.zeros((1, 8), np.float32)
    for wrong in (row[0], np.zeros((1, 9), np.float32)):
        for pair in ((wrong, row), (row, wrong)):
            with pytest.raises(EarwitnessError, match="this system's are"):
                towers.similarity(*pair)


CANDIDATES = ["a dog barks loudly", "rain falls", "an engine idles while people talk"]
REFERENCES = [
    ["a dog is barking", "the dog barks loudly"],
    ["rain is falling on a roof"],
    ["people talk over an idling engine", "an engine idles", "a motor runs"],
]


def test_scores_are_those_of_pycocoevalcap_and_of_the_command_line(
    repository: Path, no_java: None
) -> None:
    """Corpus and clips, of words that its tokenizer would leave as they are."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    found = earwitness.score(CANDIDATES, REFERENCES, root=repository)
    references = dict(enumerate(REFERENCES))
    candidates = {number: [text] for number, text in enumerate(CANDIDATES)}
    bleu, bleus = Bleu(4).compute_score(references, candidates, verbose=0)
    for order in range(4):
        assert found.corpus[f"bleu_{order + 1}"] == pytest.approx(bleu[order], abs=1e-9)
        np.testing.assert_allclose(found.clips[f"bleu_{order + 1}"], bleus[order], atol=1e-9)
    rouge, rouges = Rouge().compute_score(references, candidates)
    assert found.corpus["rouge_l"] == pytest.approx(rouge)
    np.testing.assert_allclose(found.clips["rouge_l"], rouges)
    assert found.corpus["N"] == 3
    assert found.missing["spice"] == "evaluation.spice is false"
    assert found.missing["meteor"].startswith("no Java; `pip install")
    assert found.tokenizer.startswith("in-process PTB tokenizer (no Java")
    assert found.missing["sbert_sim"] == "evaluation.sbert is null"
    for scores in (found.corpus, found.clips):
        assert not found.missing.keys() & scores.keys()
    rows = [("candidate", "caption_1", "caption_2", "caption_3")]
    rows += [
        (c, *own, *[""] * (3 - len(own))) for c, own in zip(CANDIDATES, REFERENCES, strict=True)
    ]
    with Path("file.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    arguments = ["score", "file.csv", "--per-clip", "clips.csv", "--repository", str(repository)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and json.loads(done.stdout) == found.corpus
    assert "left out: spice: evaluation.spice is false" in done.stderr
    with Path("clips.csv").open(encoding="utf-8") as stream:
        clips = [*csv.DictReader(stream)]
    assert [float(row["cider_d"]) for row in clips] == found.clips["cider_d"].tolist()
    other = repository / "other.yaml"
    other.write_text(
        (repository / "params.yaml").read_text().replace("sbert: null", "sbert: null, fluency: x")
    )
    done = CliRunner().invoke(app, [*arguments, "--params", str(other)])
    assert "fluency_error: evaluation.fluency is null" not in done.stderr
    assert "left out: fluency_error:" in done.stderr


def test_scoring_needs_no_repository(
    elsewhere: Path, no_java: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "__file__", str(elsewhere / "site" / "earwitness" / "x.py"))
    found = earwitness.score(CANDIDATES, REFERENCES, sbert=None)
    assert found.missing["spice"].startswith("no Java") and "spice" not in found.corpus
    assert found.corpus["rouge_l"] > 0
    with pytest.raises(
        EarwitnessError, match="evaluation: spise: unknown key; did you mean 'spice"
    ):
        earwitness.score(CANDIDATES, REFERENCES, spise=False)
    with pytest.raises(EarwitnessError, match="3 captions for 2 clips"):
        earwitness.score(CANDIDATES, REFERENCES[:2])
    with pytest.raises(EarwitnessError, match="give lists"):
        earwitness.score(["a"], ["a"])
    with pytest.raises(EarwitnessError, match=r": not an earwitness repository"):
        earwitness.score(CANDIDATES, REFERENCES, root=elsewhere)


def as_one_frame(rows: torch.Tensor) -> Any:
    """(N, D) → (N, 1, D), whole."""
    from pipeline.tensors import Padded

    return Padded(rows[:, None], torch.ones(len(rows), dtype=torch.int64))


def test_help_and_the_other_commands_from_any_folder(repository: Path) -> None:
    done = CliRunner().invoke(app, ["--help"])
    for command in ("caption", "search", "recipe", "score", "doctor"):
        assert re.search(rf"^\W*{command} ", done.stdout, re.MULTILINE)
    done = CliRunner().invoke(app, ["doctor", "--repository", str(repository)])
    assert f"ok    captioner heard                     {repository}/data/models" in done.stdout
    assert done.exit_code == 1 and "MISS  dataset toy" in done.stdout
    done = CliRunner().invoke(app, ["recipe", "--repository", str(REPOSITORY)])
    assert done.exit_code == 0 and "edtc-ablation" in done.stdout


def test_the_package_is_a_command(elsewhere: Path) -> None:
    """A mistake is one line and exit code 1."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "earwitness", "score", "none.csv"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: none.csv: not there; give a CSV file with a header and rows\n"
