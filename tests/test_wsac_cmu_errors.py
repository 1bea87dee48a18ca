"""What users of WSAC and CMU may get wrong, as a stage tells it: one line, and nothing is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from test_word2vec import FORMS
from test_wsac_planning import OWN, values

from pipeline.config.encoders import Word2VecEncoderConfig
from pipeline.config.params import parse_params
from pipeline.config.plans import EmbeddingPlan
from pipeline.corpora.manifest import SPLITS, Clip, Manifest
from pipeline.files import write_json
from stages import embed, plan
from stages.run import run
from tests.plans import encoded_features

MISSING = "data/raw/vectors.bin"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository where features are made and nothing is trained but what makes them."""
    monkeypatch.chdir(tmp_path)
    params = parse_params(values())
    for dataset in params.datasets:
        save_manifest(dataset, SPLITS)
        for kind, names in (
            ("frozen", (*params.encoders, *params.text_encoders)),
            ("encoded", encoded_features(params)),
        ):
            for name in names:
                index = Path("data/index", kind, dataset, f"{name}.json")
                write_json(index, {"sha256": name, "width": 8})
    trained = Path("data/models/encoders/panns/model.safetensors")
    trained.parent.mkdir(parents=True)
    trained.write_bytes(b"panns")
    return tmp_path


def save_manifest(dataset: str, splits: tuple[str, ...]) -> None:
    """``words`` has no sound."""
    path = "" if dataset == "words" else "a.wav"
    clips = tuple(Clip(f"{split}-0", split, path, 1.0, ("a dog barks",)) for split in splits)
    Manifest(dataset, "raw", clips).save(Path(f"data/corpora/{dataset}.json"))


def told(stage: Any, argument: tuple[str, ...], monkeypatch: Any, capsys: Any) -> str:
    """What a failing stage says, which is one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["stage", *argument])
    with pytest.raises(SystemExit) as left:
        run(stage.main)
    assert left.value.code == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
    return str(err)


def with_captioner(**changes: Any) -> dict[str, Any]:
    changed = values()
    changed["captioners"]["words"] = {**OWN, **changes}
    return changed


@pytest.mark.parametrize(
    ("phase", "given", "message"),
    [
        (  # before the taggers are trained, which nothing could be done with
            "tagging",
            {**values(), "text_encoders": {
                **values()["text_encoders"], "w": {"module": "word2vec", "weights": MISSING}}},
            f"text_encoders.w.weights: {MISSING} is not there; correct the path, or get GoogleNews-"
            "vectors-negative300.bin (code.google.com/archive/p/word2vec), unpacked",
        ),
        (
            "captioners",
            with_captioner(set={"prefix.shift": True, "prefix.validation": "text"}),
            "captioners.words: prefix.shift: true needs sound, and dataset words has none; name a "
            "sound_dataset, or change that setting",
        ),
    ],
    ids=["word vectors", "shift"],
)  # fmt: skip
def test_planning_refuses(
    root: Path, monkeypatch: Any, capsys: Any, phase: str, given: dict[str, Any], message: str
) -> None:
    Path("params.yaml").write_text(json.dumps(given), encoding="utf-8")
    assert told(plan, (phase,), monkeypatch, capsys) == f"error: {message}\n"
    assert not Path("data/plans").exists()


def test_planning_refuses_a_clap_of_two_widths(root: Path, monkeypatch: Any, capsys: Any) -> None:
    Path("params.yaml").write_text(json.dumps(values()), encoding="utf-8")
    wide = Path("data/index/encoded/soundscapes/cnn10-minilm/sound.json")
    write_json(wide, {"sha256": "", "width": 512})
    assert told(plan, ("captioners",), monkeypatch, capsys) == (
        "error: captioners.wsac: cnn10-minilm/sound is 512 wide, but cnn10-minilm/text is 8; name "
        "the sound and the text of one space, such as one CLAP's\n"
    )


def test_planning_refuses_captions_without_a_memory(
    root: Path, monkeypatch: Any, capsys: Any
) -> None:
    """The training captions are the memory: none to train on is none to remember."""
    Path("params.yaml").write_text(json.dumps(values()), encoding="utf-8")
    save_manifest("words", SPLITS[1:])
    error = told(plan, ("captioners",), monkeypatch, capsys)
    assert error.startswith("error: dataset words has no split 'development'; it has: evaluation")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x1f\x8b\x08gzip", "its first line is not the number"), (FORMS["binary"][:-2], "it ends")],
)
def test_embedding_refuses_what_is_no_word2vec(
    root: Path, monkeypatch: Any, capsys: Any, content: bytes, message: str
) -> None:
    """Before any retriever is trained: its text features are made first."""
    path = root / MISSING
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    EmbeddingPlan(
        name="w", inputs={}, code={}, dataset="words",
        encoder=Word2VecEncoderConfig(module="word2vec", weights=MISSING),
    ).save(Path("data/plans/extraction/words-w.json"))  # fmt: skip
    error = told(embed, ("words", "w"), monkeypatch, capsys)
    assert error.startswith(f"error: {MISSING}: not word vectors in word2vec's binary or text")
    assert message in error and error.endswith("give the unpacked file\n")
    assert not Path("data/features").exists() and not Path("data/partial").exists()
