"""Spaces of which nothing is trained: the tag space against its formula in NumPy, CLAP as it is."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from onnx_models import CLASSES, by_hand, tagger
from project import Project
from test_encoders_htsat_clap import save_clap, save_tokenizer
from tiny import TINY
from transformers import ClapFeatureExtractor
from typer.testing import CliRunner

import earwitness
from earwitness.cli import app
from earwitness.spaces import open_space
from pipeline import answers
from pipeline.config.encoders import SentenceEncoderConfig
from pipeline.config.params import parse_params
from pipeline.config.spaces import TagsConfig
from pipeline.corpora.descriptions import TABLE
from pipeline.corpora.manifest import Manifest
from pipeline.encoders import hub_cache
from pipeline.encoders.registry import build_text_encoder
from pipeline.errors import EarwitnessError
from pipeline.models.tags import CentredText, TagSound, name_embeddings
from pipeline.planning.checks import check_tag_names
from pipeline.tensors import Padded
from pipeline.trained.retriever import load_retriever

RATE = 16000
NAMES = ("Bark", "Rain", "Vehicle horn, car horn, honking", "Sheep")
TRUTH = ("dog", "rain", "car_horn", "sheep")  # kinds of realsounds


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def sentences(texts: list[str]) -> NDArray[np.float64]:
    """(N, D) unit embeddings by the sentence encoder alone, stored as features are."""
    encoder = build_text_encoder(SentenceEncoderConfig(module="sentence", pooling="mean"))
    return unit(encoder.encode(texts, np.float16).values.astype(np.float64))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tagger.onnx"
    tagger(path, outputs=["probabilities"])
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return path


def fitted(names: NDArray[Any], weights: NDArray[Any], ridge: float | None) -> NDArray[Any]:
    """What best gives back the weights: least squares, with λ as rows of its own."""
    if ridge is None:
        return weights @ names
    width = names.shape[1]
    damping = np.sqrt(ridge * (names**2).sum() / width) * np.eye(width)
    targets = np.concatenate([weights, np.zeros(width)])
    found: NDArray[Any] = np.linalg.lstsq(np.concatenate([names, damping]), targets)[0]
    return found


@pytest.mark.parametrize(
    ("tags", "power", "top", "ridge"),
    [
        ({}, 0.5, 4, 0.5),
        ({"ridge": 3.0, "temperature": 1.0}, 1.0, 4, 3.0),
        ({"ridge": None}, 0.5, 4, None),
        ({"top": 2}, 0.5, 2, 0.5),
        ({"centre": "none", "ridge": None}, 0.5, 4, None),
    ],
)
def test_a_clip_is_what_gives_back_its_tags_weights(
    model: Path, labels: Path, tags: dict[str, Any], power: float, top: int, ridge: float | None
) -> None:
    draw = np.random.default_rng(0)
    clips = [draw.normal(0, 0.2, n).astype(np.float32) for n in (16000, 9000, 12345)]
    system = open_space(str(model), labels, device="cpu", **{"descriptions": None, **tags})
    made = system.embed_audio(clips, sample_rate=RATE)
    names = sentences([*NAMES])
    centre = names.mean(0) if tags.get("centre") != "none" else np.zeros(names.shape[1])
    for row, clip in zip(made, clips, strict=True):
        logits = by_hand(clip)["logits"].astype(np.float64)
        found = np.float16(1 / (1 + np.exp(-logits))).astype(np.float64)  # as they are stored
        weights = np.where(found >= np.sort(found)[-top], found, 0) ** power
        own = fitted(names - centre, weights, ridge)
        np.testing.assert_allclose(row, unit(own), atol=2e-3)
    texts = ["a dog barks in the rain", "honking"]
    written = system.embed_text(texts)
    np.testing.assert_allclose(written, unit(sentences(texts) - centre), atol=2e-3)
    np.testing.assert_allclose(system.similarity(written, made), written @ made.T, atol=1e-5)


def test_tags_that_mean_the_same_do_not_count_twice() -> None:
    """Two tags of one place, and one of another, all as probable."""
    places = [torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
    weights = torch.ones(3)
    plain, _ = name_embeddings(places, "none", None)
    torch.testing.assert_close(weights @ plain, torch.tensor([2.0, 1.0]))
    fitted, _ = name_embeddings(places, "none", 1e-9)
    torch.testing.assert_close(weights @ fitted, torch.tensor([1.0, 1.0]))


def test_templates_are_averaged(model: Path, labels: Path) -> None:
    own = {"templates": ("{}", "the sound of {}"), "descriptions": None}
    system = open_space(str(model), labels, device="cpu", centre="none", ridge=None, **own)
    names = unit((sentences([*NAMES]) + sentences([f"the sound of {name}" for name in NAMES])) / 2)
    clip = np.random.default_rng(1).normal(0, 0.2, RATE).astype(np.float32)
    found = 1 / (1 + np.exp(-by_hand(clip)["logits"].astype(np.float64)))
    (made,) = system.embed_audio([clip], sample_rate=RATE)
    np.testing.assert_allclose(made, unit(np.sqrt(found) @ names), atol=2e-3)


def test_a_tag_lies_at_its_name_and_what_is_written_of_it(
    model: Path, labels: Path, tmp_path: Path
) -> None:
    """Of two; the others stand for themselves, and a row of no tag is passed over."""
    table = tmp_path / "table.csv"
    rows = "label,caption_1,caption_2\nRain,Drops fall.,It pours.\nBark,A dog barks.\nOwl,A hoot."
    table.write_text(f"{rows}\n", encoding="utf-8")
    written = {"Rain": ["Drops fall.", "It pours."], "Bark": ["A dog barks."]}
    names = unit(np.stack([sentences([name, *written.get(name, [])]).mean(0) for name in NAMES]))
    own = {"descriptions": str(table), "ridge": None, "centre": "none"}
    system = open_space(str(model), labels, device="cpu", **own)
    clip = np.random.default_rng(1).normal(0, 0.2, RATE).astype(np.float32)
    found = 1 / (1 + np.exp(-by_hand(clip)["logits"].astype(np.float64)))
    (made,) = system.embed_audio([clip], sample_rate=RATE)
    np.testing.assert_allclose(made, unit(np.sqrt(found) @ names), atol=2e-3)


def test_without_a_table_the_one_that_comes_with_earwitness_is_read(
    model: Path, labels: Path
) -> None:
    clip = np.random.default_rng(1).normal(0, 0.2, RATE).astype(np.float32)
    made = [
        open_space(str(model), labels, device="cpu", **own).embed_audio([clip], sample_rate=RATE)
        for own in ({}, {"descriptions": str(TABLE)}, {"descriptions": None})
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert np.abs(made[0] - made[2]).max() > 1e-2


def test_a_table_that_is_not_there_is_said(model: Path, labels: Path, tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"kinds\.csv") as raised:
        open_space(str(model), labels, descriptions=str(tmp_path / "kinds.csv"))
    assert "\n" not in str(raised.value)
    tagging = {"module": "onnx", "weights": "./tagger.onnx", "output": "probabilities"}
    params = parse_params(space_of(tagging, descriptions="kinds.csv"))
    with pytest.raises(EarwitnessError) as raised:
        check_tag_names(params, tmp_path)
    assert str(raised.value) == "spaces.own.descriptions: kinds.csv is not there; correct the path"


def test_windows_are_averaged_and_silence_of_tags_is_no_division_by_zero() -> None:
    sound = TagSound(3, 2, TagsConfig(temperature=1.0))
    sound.names.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    values = torch.tensor([[[0.2, 0.0, 0.0], [0.0, 0.4, 0.0]], [[0.0] * 3, [9.0] * 3]])
    embedded = sound.embed([Padded(values, torch.tensor([2, 1]))])
    torch.testing.assert_close(embedded, torch.tensor([[0.5, 1.0], [0.0, 0.0]]))
    # probabilities of a great temperature do not vanish in float16's smallest
    tiny = TagSound(2, 2, TagsConfig(temperature=0.25))
    tiny.names.copy_(torch.eye(2))
    few = torch.tensor([[[6e-8, 3e-8]]])
    torch.testing.assert_close(
        tiny.embed([Padded(few, torch.tensor([1]))]), torch.tensor([[1.0, 0.5**4]])
    )


def test_the_centre_is_the_mean_of_the_names_alone() -> None:
    embedded = torch.tensor([[2.0, 0.0], [0.0, 5.0]]).split(1)
    names, centre = name_embeddings(embedded, "labels", None)
    torch.testing.assert_close(centre, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(names, torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    text = CentredText(2)
    text.centre.copy_(centre)
    padded = Padded(torch.tensor([[[3.0, 0.0], [7.0, 7.0]]]), torch.tensor([1]))
    torch.testing.assert_close(text.embed([padded]), torch.tensor([[0.5, -0.5]]))


def test_real_recordings_are_found_by_a_real_tagger(shared_data: Path, tmp_path: Path) -> None:
    """The first clips of four kinds, by what people would type; CED-tiny and MiniLM."""
    weights = shared_data / "weights"
    if not (weights / "ced-tiny.onnx").is_file():
        pytest.skip("ced-tiny.onnx is not on this machine")
    with (shared_data / "realsounds" / "events.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "evaluation"]
    names = [next(r["file_name"] for r in rows if r["event"] == kind) for kind in TRUTH]
    files = [shared_data / "realsounds" / "evaluation" / name for name in names]
    system = open_space(str(weights / "ced-tiny.onnx"), weights / "audioset_labels.csv")
    queries = ["a dog barks", "rain is falling", "a car honks its horn", "a sheep bleats"]
    similar = system.similarity(system.embed_text(queries), system.embed_audio(files))
    assert similar.argmax(1).tolist() == [0, 1, 2, 3]
    assert similar.argmax(0).tolist() == [0, 1, 2, 3]


def test_a_clap_is_searched_as_it_is(tmp_path: Path) -> None:
    """By a folder of transformers' form, against transformers' ClapModel."""
    model, tokenizer = save_clap(tmp_path), save_tokenizer(tmp_path)
    draw = np.random.default_rng(0)
    clips = [draw.normal(0, 0.1, n).astype(np.float32) for n in (16000, 9000)]  # of 8 kHz
    texts = ["a dog barks", "rain falls"]
    system = open_space(str(tmp_path), device="cpu", window_seconds=2.0)
    extractor = ClapFeatureExtractor.from_pretrained(tmp_path)
    inputs = extractor(clips, sampling_rate=8000, return_tensors="pt")
    longer = torch.zeros(2, 1, dtype=torch.bool)  # the extractor marks one at random
    written = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        heard = model.get_audio_features(inputs["input_features"].float(), longer).pooler_output
        read = model.get_text_features(**written).pooler_output
    found = system.similarity(system.embed_text(texts), system.embed_audio(clips, sample_rate=8000))
    expected = unit(read.numpy()) @ unit(heard.numpy()).T
    np.testing.assert_allclose(found, expected, atol=2e-3)  # float16, as features are stored


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Bark\nRain\n", "names 2 classes, but"),
        (None, "a tagger; give the file with the names of its classes too, by labels"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    model: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    labels = None if content is None else tmp_path / "two.txt"
    if labels is not None:
        labels.write_text(str(content), encoding="utf-8")
    with pytest.raises(EarwitnessError, match=message) as raised:
        open_space(str(model), labels)
    assert "\n" not in str(raised.value)


def test_a_clap_that_cannot_be_fetched_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_asked", lambda url: (0, "no network"))
    monkeypatch.setattr(hub_cache, "_has_snapshot", lambda repository: False)
    with pytest.raises(EarwitnessError, match="owner/clap: not on this machine, and") as raised:
        open_space("owner/clap")
    assert str(raised.value).endswith("give a CLAP's folder, or a tagger's file")


def test_labels_without_a_tagger_are_refused(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"labels are of a tagger, \.onnx or \.tflite"):
        open_space(str(tmp_path), labels)


def space_of(encoder: dict[str, Any], **space: Any) -> dict[str, Any]:
    return {
        **TINY,
        "encoders": {**TINY["encoders"], "tagger": encoder},
        "spaces": {
            **TINY["spaces"],
            "own": {"module": "tags", "sound": "tagger", "text": "minilm", **space},
        },
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            space_of({"module": "fbank"}),
            "spaces.own.sound: 'tagger' is of module fbank, which gives no class probabilities",
        ),
        (
            space_of({"module": "onnx", "weights": "./a.onnx", "output": "embedding"}),
            "encoders.tagger.output: spaces.own reads class probabilities; set it to probabilities",
        ),
        (
            space_of({"module": "yamnet", "weights": "./y.tflite"}),
            "encoders.tagger.output: spaces.own reads class probabilities; set it to scores",
        ),
        (
            space_of({"module": "onnx", "weights": "./a.onnx"}, templates=["a sound"]),
            "templates: 'a sound': put one {} where the name stands",
        ),
        (
            space_of({"module": "onnx", "weights": "./a.onnx"}, text="mini"),
            "spaces.own.text: 'mini' is not in text_encoders; did you mean 'minilm'?",
        ),
    ],
)
def test_a_space_that_cannot_be_is_refused_with_the_parameters(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(EarwitnessError) as raised:
        parse_params(values)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_search_by_a_model_needs_no_repository(model: Path, labels: Path, tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    draw = np.random.default_rng(3)
    for name in ("a.wav", "b.ogg"):
        soundfile.write(sounds / name, draw.normal(0, 0.1, 8000), RATE)
    command = ["search", "rain", str(sounds), "--model", str(model), "--labels", str(labels)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and {line.split("/")[-1] for line in lines} == {"a.wav", "b.ogg"}
    assert float(lines[0].split()[0]) >= float(lines[1].split()[0])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Soundscapes in a tag space of two taggers, and WSAC in it; under DVC."""
    root = tmp_path_factory.mktemp("space")
    tagger(root / "tagger.onnx", outputs=["probabilities"])
    (root / "labels.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    own = {
        "module": "onnx",
        "weights": "../tagger.onnx",
        "output": "probabilities",
        "labels": "../labels.txt",
    }
    wsac = {
        **TINY["captioners"]["wsac"],
        "features": ["own/sound"],
        "text": "own/text",
        "set": {"prefix.shift": False},
    }
    return Project(
        root,
        {
            **TINY,
            "encoders": {"tagger": own},
            "tagging": {"encoders": []},
            "spaces": {"own": {"module": "tags", "sound": ["tagger"], "text": "minilm"}},
            "sound_towers": {},
            "retrievers": {},
            "adapted": {},
            "encoded": ["own"],
            "captioners": {"wsac": wsac},
            "finetuned": {},
            "systems": {"wsac": TINY["systems"]["wsac"]},
            "retrieval_systems": {"own": {"retrievers": ["own"]}},
        },
        forked=True,
    )


def test_under_dvc_a_space_is_made_encoded_ranked_and_captioned_in(project: Project) -> None:
    ran = project.run("repro")
    assert {"make_space@own", "encode@soundscapes-own", "train_captioner@wsac-1"} <= ran
    assert {"rank@soundscapes", "decode@soundscapes-wsac"} <= ran
    assert not any(stage.startswith("train_retriever") for stage in ran)
    space = load_retriever(project.root / "data/models/retrievers/own", "cpu")
    assert isinstance(space.model.sound, TagSound)
    assert space.model.sound.names.shape == (CLASSES, space.width)
    # what is stored is what `search` makes of the same file
    system = earwitness.load("own", root=project.root)
    assert isinstance(system, earwitness.RetrievalSystem)
    manifest = Manifest.load(project.root / "data/corpora/soundscapes.json")
    clip = manifest.clips[0]
    (made,) = system.embed_audio([project.root / manifest.root / clip.path])
    with h5py.File(project.root / "data/features/soundscapes/own/sound.h5") as store:
        assert store["ids"][0].decode() == clip.clip_id
        np.testing.assert_allclose(store["values"][0], made, atol=2e-3)
    # another temperature makes the space anew, and what reads it; nothing is extracted
    kinds = project.root.parent / "kinds.csv"
    kinds.write_text("label,caption_1\nRain,Drops fall.\n", encoding="utf-8")
    own = {"module": "tags", "sound": ["tagger"], "text": "minilm", "temperature": 1.0}
    project.edit_params({"spaces": {"own": {**own, "descriptions": "../kinds.csv"}}})
    ran = project.run("repro")
    assert {"make_space@own", "encode@soundscapes-own", "rank@soundscapes"} <= ran
    assert not any(stage.startswith(("extract", "embed", "prepare")) for stage in ran)
    # other names and descriptions too, which lie outside the repository
    labels = project.root.parent / "labels.txt"
    labels.write_text(labels.read_text().replace("Sheep", "Goat"))
    assert "make_space@own" in project.run("repro")
    kinds.write_text("label,caption_1\nRain,It pours.\n", encoding="utf-8")
    assert "make_space@own" in project.run("repro")
