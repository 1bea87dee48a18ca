"""A folder of one's own: what lies in it becomes a dataset, and what is missing is said first."""

from __future__ import annotations

import csv
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from huggingface_hub import constants
from typer.testing import CliRunner

from earwitness import recipes
from earwitness.cli import app
from earwitness.own import Own, given
from pipeline import answers
from pipeline.config.datasets import ClothoDatasetConfig, FolderDatasetConfig
from pipeline.config.params import Params, load_params
from pipeline.corpora import folder
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.registry import prepare
from pipeline.download import Checksum
from pipeline.encoders import hub_cache
from pipeline.encoders.hub_cache import not_available
from pipeline.encoders.sources import Hub, HubFile
from pipeline.errors import EarwitnessError
from pipeline.weights import Weights

RECIPES = REPOSITORY / "recipes"
NAMES = [f"clip {number}.wav" for number in range(40)]
CAPTIONS = {name: [f"{name} once", f"{name}, twice"] for name in NAMES}

SOME = Checksum("md5", "0" * 32)


def write_sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).normal(0, 0.1, 800)
    soundfile.write(path, noise, 8000)


def write_table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(
            [header, *rows]
        )


def one_a_row(root: Path, name: str = "captions.csv", names: list[str] = NAMES) -> Path:
    rows = [[each, text] for each in names for text in CAPTIONS[each]]
    write_table(root / name, ["file_name", "caption"], rows)
    return root


def sounds(root: Path, place: str = "", names: list[str] = NAMES) -> Path:
    for name in names:
        write_sound(root / place / name)
    return root


def read(root: Path, **settings: Any) -> Manifest:
    config = FolderDatasetConfig(layout="folder", root=str(root), **settings)
    return prepare("mine", config, Path(), Path(), progress=False)


def splits(manifest: Manifest) -> dict[str, str]:
    return {Path(clip.path).stem: clip.split for clip in manifest.clips}


def expected(names: list[str], seed: int = 1) -> dict[str, str]:
    """By the rule in words: a hash of the seed and the path, a tenth of all, but two at least."""

    def place(name: str) -> float:
        text = f"{seed} {name.removesuffix('.wav')}".encode()
        return int(hashlib.sha256(text).hexdigest()[:16], 16) / 16**16

    ranked = sorted(names, key=place)
    evaluation = max(sum(place(name) <= 0.1 for name in ranked), 2)
    validation = max(sum(place(name) <= 0.2 for name in ranked) - evaluation, 2)
    kinds = ["evaluation"] * evaluation + ["validation"] * validation + ["development"] * 100
    return {name.removesuffix(".wav"): kind for name, kind in zip(ranked, kinds, strict=False)}


@pytest.mark.parametrize("table", ["captions.csv", "captions.tsv", "numbered.csv"])
@pytest.mark.parametrize("place", ["", "deep/below"])
def test_one_table_in_any_layout_gives_the_same_clips(
    tmp_path: Path, table: str, place: str
) -> None:
    root = sounds(tmp_path, place)
    if table == "numbered.csv":
        header, rows = ["file_name", "caption_1", "caption_2"], [[n, *CAPTIONS[n]] for n in NAMES]
        write_table(root / table, header, rows)
    else:
        one_a_row(root, table)
    (root / "notes.csv").write_text("word,count\na,1\n")  # no captions
    found = read(root)
    assert {Path(clip.path).name: list(clip.captions) for clip in found.clips} == CAPTIONS
    assert {clip.path for clip in found.clips} == {str(Path(place, name)) for name in NAMES}
    prefix = f"{place}/" if place else ""
    ours = expected([f"{prefix}{name}" for name in NAMES])
    assert splits(found) == {Path(name).name: kind for name, kind in ours.items()}
    assert set(ours.values()) == {"development", "validation", "evaluation"}


def test_a_clip_stays_in_its_split_when_others_come(tmp_path: Path) -> None:
    sounds(tmp_path)
    before = splits(read(one_a_row(tmp_path, names=NAMES[:30])))
    after = splits(read(one_a_row(tmp_path, names=NAMES[::-1])))
    assert before.items() <= after.items() and len(after) == 40
    other = splits(read(tmp_path, seed=2))
    assert other == expected(NAMES, seed=2) != after
    halves = splits(read(tmp_path, validation=0.3, evaluation=0.3))
    assert [*halves.values()].count("development") < 25
    (tmp_path / NAMES[0]).rename(tmp_path / "clip 0.WAV")  # and when it is converted or renamed
    assert splits(read(tmp_path)) == after
    few = splits(read(one_a_row(tmp_path, names=NAMES[:8])))
    assert sorted([*few.values()].count(kind) for kind in {*few.values()}) == [2, 2, 4]


def test_a_column_says_the_split(tmp_path: Path) -> None:
    sounds(tmp_path)
    words = ["train", "VAL", "test", "development", "validation", "evaluation"]
    rows = [[name, text, words[n % 6]] for n, name in enumerate(NAMES) for text in CAPTIONS[name]]
    write_table(tmp_path / "a.csv", ["file_name", "caption", "split"], rows)
    kinds = ["development", "validation", "evaluation"]
    assert splits(read(tmp_path)) == {f"clip {n}": kinds[n % 3] for n in range(40)}
    for split, reason in (
        ("tests", "line 82: split 'tests' is none of dev"),
        ("test", "line 82: 'clip 0.wav' is in evaluation and in development"),
    ):
        last = [NAMES[0], "x", split]
        write_table(tmp_path / "a.csv", ["file_name", "caption", "split"], [*rows, last])
        with pytest.raises(EarwitnessError, match=reason):
            read(tmp_path)


def test_the_sound_that_a_name_means(tmp_path: Path) -> None:
    """Exactly that file first; else of another ending; of two equally near ones none."""
    sounds(tmp_path, "a", NAMES[:10])
    write_sound(tmp_path / "b/clip 0.flac")
    write_sound(tmp_path / "b/clip 10.flac")
    write_sound(tmp_path / "b/.hidden.wav")
    (tmp_path / "c").symlink_to(tmp_path / "a", target_is_directory=True)  # the same sound again
    one_a_row(tmp_path, names=NAMES[:12])
    with pytest.warns(UserWarning, match="1 of 12 sound files cannot be used"):
        found = read(tmp_path)
    paths = {clip.clip_id: clip.path for clip in found.clips}
    assert paths["clip-0-" + hashlib.sha256(b"a/clip 0.wav").hexdigest()[:8]] == "a/clip 0.wav"
    assert "b/clip 10.flac" in paths.values() and len(paths) == 11
    contents = folder.look(FolderDatasetConfig(layout="folder", root=str(tmp_path)), Path())
    assert contents.absent == ["clip 11.wav"] and contents.unused == 1
    write_sound(tmp_path / "b/clip 1.wav")
    with pytest.raises(EarwitnessError, match=r"line 4: 'clip 1.wav' is a/clip 1.wav and b/clip 1"):
        read(tmp_path)
    table = tmp_path / "captions.csv"
    table.write_text(table.read_text().replace("clip 1.wav,", "b/clip 1.wav,"))
    with pytest.warns(UserWarning, match="1 of 12"):
        assert "b/clip 1.wav" in {clip.path for clip in read(tmp_path).clips}


def test_audiocaps_official_columns_and_events(tmp_path: Path) -> None:
    for video in range(12):
        write_sound(tmp_path / f"wav/Yvideo{video}_30.wav")
    rows = [[str(n), f"video{n}", "30", f"sound {n}"] for n in range(12)]
    write_table(tmp_path / "all.csv", ["audiocap_id", "youtube_id", "start_time", "caption"], rows)
    write_table(tmp_path / "events.csv", ["file_name", "event"], [["Yvideo3_30", "dog; bell"]])
    found = {clip.path: clip for clip in read(tmp_path).clips}
    assert {path: clip.captions for path, clip in found.items()} == {
        f"wav/Yvideo{n}_30.wav": (f"sound {n}",) for n in range(12)
    }
    assert found["wav/Yvideo3_30.wav"].events == ("dog", "bell")


def test_clothos_layout_is_read_as_clotho_is(tmp_path: Path) -> None:
    for at, split in enumerate(("development", "validation", "evaluation")):
        names = NAMES[3 * at : 3 * at + 3]
        sounds(tmp_path, split, names)
        rows = [[name, *CAPTIONS[name]] for name in names]
        header = ["file_name", "caption_1", "caption_2"]
        write_table(tmp_path / f"clotho_captions_{split}.csv", header, rows)
    clotho = ClothoDatasetConfig(layout="clotho", root=str(tmp_path))
    assert read(tmp_path) == prepare("mine", clotho, Path(), Path(), progress=False)
    (tmp_path / "clotho_captions_validation.csv").unlink()
    with pytest.raises(EarwitnessError, match=r"3 of development, 0 of validation, 3 of evalua"):
        read(tmp_path)


def empty(root: Path) -> None: ...


def no_table(root: Path) -> None:
    sounds(root, names=NAMES[:9])


def two_tables(root: Path) -> None:
    one_a_row(one_a_row(sounds(root, names=NAMES[:9])), "more.tsv")


def no_column(root: Path) -> None:
    sounds(root, names=NAMES[:9])
    write_table(root / "a.csv", ["name", "caption"], [["a", "b"]])


def no_sound_of_it(root: Path) -> None:
    write_sound(one_a_row(root) / "other.wav")


def too_few(root: Path) -> None:
    one_a_row(sounds(root, names=NAMES[:5]), names=NAMES[:5])


def twice(root: Path) -> None:
    sounds(root, names=NAMES[:9])
    rows = [[name, "x"] for name in [*NAMES[:9], NAMES[0]]]
    header = ["file_name", "caption_1", "caption_2"]
    write_table(root / "a.csv", header, [[*row, "y"] for row in rows])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (empty, "no sound files in this folder"),
        (no_table, "no captions in this folder; put one CSV or TSV file with file_name and capt"),
        (two_tables, "several tables of captions, captions.csv, more.tsv; keep one CSV or TSV"),
        (no_column, "no column file_name; its columns are: name, caption"),
        (no_sound_of_it, "none of the sound of its 40 clips is below .* the first is clip 0.wav"),
        (too_few, "too few clips to train, validate and test on, 1 of development, 2 of valid"),
        (twice, "line 11: 'clip 0.wav' occurs twice; remove one"),
    ],
)
def test_a_folder_that_will_not_do_is_one_line_and_nothing_is_written(
    tmp_path: Path, make: Any, reason: str
) -> None:
    root = tmp_path / "own"
    root.mkdir()
    make(root)
    with pytest.raises(EarwitnessError, match=reason):
        read(root)
    done, params = command(tmp_path, "edtc", "folder", "--root", str(root))
    assert done.exit_code == 1 and not params.exists()
    lines = [line for line in done.stderr.splitlines() if "weights of" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and done.stdout == ""


def command(place: Path, *arguments: str) -> tuple[Any, Path]:
    params = place / "written.yaml"
    options = ["--repository", str(REPOSITORY), "--params", str(params)]
    return CliRunner().invoke(app, ["recipe", *arguments, *options]), params


# --- recipes --------------------------------------------------------------------------------------

YAMNET = Own("own/sounds", {"yamnet": "own/yamnet.tflite"})


def composed(paper: str, dataset: str = "folder", own: Own = YAMNET) -> Params:
    return recipes.compose(RECIPES, paper, dataset, own).params


@pytest.mark.parametrize(
    "paper", ["edtc", "edtc-ablation", "sjtu", "wsac", "wsac-text", "rlssr", "showcase",
              "cmu-captioning", "cmu-retrieval"],
)  # fmt: skip
def test_own_recordings_are_what_any_paper_is_run_on(paper: str) -> None:
    """As the recordings that the settings were chosen on, with YAMNet by its path."""
    now = composed(paper).model_dump(mode="json")
    known = composed(paper, "realsounds", Own()).model_dump(mode="json")
    own, real = (str(values).replace("'folder'", "'realsounds'") for values in (now, known))
    (entry,) = now["datasets"].values()
    assert (entry["layout"], entry["root"]) == ("folder", "own/sounds")
    start = real.index("'encoders'")
    assert own[own.index("'encoders'") :] == real[start:].replace(
        "../shared/data/weights/yamnet.tflite", "own/yamnet.tflite"
    )
    paths = {e["weights"] for e in now["encoders"].values() if e["module"] == "yamnet"}
    assert paths <= {"own/yamnet.tflite"} and (paths or paper in ("wsac-text", "rlssr"))


def test_weights_are_of_an_entry_or_of_an_encoder_for_all_places() -> None:
    weights = {"panns": "cnn14.pth", "minilm": "own/minilm"}
    now = composed("edtc", "folder", Own("own", weights))
    assert {name: str(e.weights) for name, e in now.encoders.items()} == {
        "panns": "cnn14.pth", "htsat": "hub", "convnext": "hub",
    }  # fmt: skip
    assert str(now.text_encoders["minilm"].weights) == "own/minilm"
    now = composed("showcase", "folder", Own("own", {"cnn10": "own/cnn10.pth"}))
    assert str(now.sound_towers["cnn10"].weights) == "own/cnn10.pth"
    now = composed("edtc", "clotho", Own("own/clotho", {"yamnet": "y.tflite"}))
    assert now.captioners["edtc"].features == ("yamnet",) * 3  # type: ignore[union-attr]
    clotho: Any = now.datasets["clotho"]
    assert clotho.root == "own/clotho" and not clotho.fetch  # nothing is loaded into it
    with pytest.raises(EarwitnessError, match="no encoder 'pans'; did you mean 'panns'"):
        composed("edtc", "folder", Own("own", {"pans": "x.pth"}))
    with pytest.raises(EarwitnessError, match=r"where is the sound.* --root DIR"):
        composed("edtc", "folder", Own())
    with pytest.raises(EarwitnessError, match="soundscapes is made here"):
        composed("edtc", "soundscapes")


def test_two_encoders_cannot_be_in_every_place(tmp_path: Path) -> None:
    for path in RECIPES.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "other.yaml").write_bytes((RECIPES / "yamnet.yaml").read_bytes())
    own = Own("own", {"yamnet": "a.tflite", "other": "b.tflite"})
    with pytest.raises(EarwitnessError, match="other and yamnet would each be in every place"):
        recipes.compose(tmp_path, "edtc", "folder", own)


def test_a_paper_may_name_its_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`earwitness recipe PAPER`; the paper's own is before its base's, a named one before both."""
    monkeypatch.setattr(answers, "_asked", lambda url: (200, ""))  # a network
    monkeypatch.setattr(hub_cache, "size_on_hub", lambda repository: 615_000_000)
    for path in RECIPES.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name, base, usual in (("first", "edtc", "soundscapes"), ("second", "first", "clotho")):
        text = f"# A toy.\nkind: paper\ndataset: {usual}\nbase: {base}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "third.yaml").write_text("# A toy.\nkind: paper\nbase: second\n")
    options = ["--folder", str(tmp_path)]
    for arguments, dataset in (
        (["first"], "soundscapes"),
        (["second"], "clotho"),
        (["third"], "clotho"),
        (["second", "soundscapes"], "soundscapes"),
    ):
        done, params = command(tmp_path, *arguments, *options)
        assert done.exit_code == 0, done.output
        assert f"is now {arguments[0]} on {dataset};" in done.stdout
        told = "will download laion/clap-htsat-unfused: 615 MB\n" in done.stdout
        # of a paper's own dataset it is said; on soundscapes nothing is from a hub
        assert told == (len(arguments) == 1 and dataset == "clotho")
        assert load_params(params).test_sets == (dataset,)
    before = params.read_bytes()
    done, params = command(tmp_path, "edtc", *options)
    assert done.exit_code == 1 and params.read_bytes() == before
    assert "edtc needs a dataset; name one of: audiocaps, clotho," in done.stderr


def test_listen_says_what_it_needs_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_asked", lambda url: (0, "no network"))
    monkeypatch.setattr(hub_cache, "_has_snapshot", lambda repository: False)
    done, params = command(tmp_path, "listen")
    assert done.exit_code == 1 and not params.exists()
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    for line, part in zip(
        lines,
        ("captions of public-captions: https://", "weights of clap-sound", "weights of clap-text"),
        strict=False,
    ):
        assert part in line and "cannot be reached" in line
    assert "take the dataset `descriptions`, whose captions come with earwitness" in lines[0]
    assert "or one encoder in every place by --weights ced=PATH" in lines[1]
    tagger, labels = tmp_path / "ced.onnx", tmp_path / "labels.csv"
    tagger.touch()
    offline = ["listen", "descriptions", "--weights", f"ced={tagger}"]
    done, params = command(tmp_path, *offline)
    assert done.exit_code == 1 and not params.exists()
    assert "encoders.ced-tags.labels: missing" in done.stderr
    assert done.stderr.rstrip().endswith("by --labels FILE")
    labels.write_text("Bark\n")
    done, params = command(tmp_path, *offline, "--labels", str(labels))
    assert done.exit_code == 0, done.output
    now = load_params(params)
    assert now.encoded == ("tags",) and now.captioners["listen"].features == ("tags/sound",)  # type: ignore[union-attr]
    assert now.encoders["ced-tags"].labels == str(labels)  # type: ignore[union-attr]
    done, _ = command(tmp_path, "edtc", "soundscapes", "--labels", str(labels))
    assert "no encoder here gives classes; give no labels" in done.stderr


def test_paths_are_from_the_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "repository/below"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    weights = ["a=net.pth", "b=../../c.pth", "c=hub:x/y", "d=net", "e=package:p", "f=../net"]
    found = given(Path("sound"), weights, Path("a.csv"), [], tmp_path / "repository")
    assert found.root == "below/sound" and found.labels == "below/a.csv"
    assert found.weights == {
        "a": "below/net.pth", "b": str(tmp_path / "c.pth"), "c": "hub:x/y", "d": "below/net",
        "e": "package:p", "f": "./net",
    }  # fmt: skip
    for path in ("below/net.pth", "below/net", "./net"):
        assert Weights.parse(path).kind == "path"
    assert given(tmp_path / "x", [], None, [], here).root == str(tmp_path / "x")
    for wrong in (["net.pth"], ["a="], ["=net.pth"], ["a=b", "a=c"]):
        with pytest.raises(EarwitnessError, match="--weights"):
            given(None, wrong, None, [], here)


def test_settings_are_set_by_name() -> None:
    asked = ["training.edtc.epochs=7", "datasets.folder.seed=2", "fuser.heads=8", "bart.dropout=0"]
    own = given(Path("own"), ["yamnet=y.tflite"], None, asked, REPOSITORY)
    recipe = recipes.compose(RECIPES, "edtc", "folder", own)
    now = recipe.params
    assert now.training["edtc"].epochs == recipe.values["training"]["edtc"]["epochs"] == 7
    assert (now.fuser.heads, now.bart.dropout) == (8, 0)
    assert now.datasets["folder"].seed == 2  # type: ignore[union-attr]
    for paper, setting, reason in (
        ("edtc", "fuser.head=8", r"fuser\.head: unknown key; did you mean 'heads'"),
        ("edtc", "fusr.heads=8", "fusr: unknown key; did you mean 'fuser'"),
        ("sjtu", "fuser.heads=8", r"recipe sjtu folder reads no fuser\.heads"),
        ("edtc", "fuser.heads.x=8", r"--set fuser\.heads\.x: stands in a value"),
        ("edtc", "fuser.heads=[", "--set fuser.heads: .*not YAML"),
        ("edtc", "fuser.heads", "--set fuser.heads: give SETTING=VALUE"),
    ):
        with pytest.raises(EarwitnessError, match=reason):
            own = given(Path("own"), ["yamnet=y.tflite"], None, [setting], REPOSITORY)
            recipes.compose(RECIPES, paper, "folder", own)


# --- what is there, and what can be fetched -------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    """Has one model, and answers HEAD for nothing else."""

    def do_HEAD(self) -> None:
        known = {"/api/models/field/there": 200, "/odd.pth": 405}
        self.send_response(known.get(self.path, 404))
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers.forget()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    answers.forget()


def test_whether_a_hub_has_weights(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    hub = Weights("hub")
    assert not_available(Weights("hub", "field/there"), Hub()) is None
    assert not_available(hub, Hub(repository="field/there")) is None
    assert "says 404" in str(not_available(Weights("hub", "field/gone"), Hub()))
    odd = HubFile(f"{address}/odd.pth", SOME)  # it would give it by GET
    assert not_available(hub, Hub(file=odd)) is None
    assert "no hub has them; get a yamnet.tflite" in str(
        not_available(hub, Hub(by_hand="a yamnet.tflite"))
    )
    away = f"{address.rpartition(':')[0]}:9"  # no server is there
    gone = Hub(file=HubFile(f"{away}/net.pth?download=1", SOME))
    assert "cannot be reached" in str(not_available(hub, gone))
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/net.pth").touch()
    assert not_available(hub, gone) is None  # it is here
    snapshot = tmp_path / "hub/models--field--gone/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    answers.forget()
    assert not_available(Weights("hub", "field/gone"), Hub()) is not None  # settings alone
    (snapshot / "model.safetensors").touch()
    assert not_available(Weights("hub", "field/gone"), Hub()) is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in str(not_available(Weights("hub", "field/there"), Hub()))


def test_what_is_missing_is_said_before_anything_is_written(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line each, with the option that gives it; what is there is counted."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    root = one_a_row(sounds(tmp_path / "own"))
    write_sound(root / "unused.wav")
    (tmp_path / "cnn14.pth").touch()
    cnn14 = f"panns={tmp_path / 'cnn14.pth'}"
    arguments = ["edtc", "folder", "--root", str(root), "--weights", cnn14]
    done, params = command(tmp_path, *arguments)
    assert done.exit_code == 1 and not params.exists() and done.stdout == ""
    first, second = done.stderr.splitlines()
    for line, name in ((first, "htsat"), (second, "convnext")):
        assert line.startswith(f"error: weights of {name} (encoders): hub: not on this machine")
        assert f"--weights {name}=PATH, or one encoder in every place by --weights " in line
    arguments = ["edtc", "folder", "--root", str(root), "--weights"]
    done, params = command(tmp_path, *arguments, "yamnet=none.tflite")
    (line,) = done.stderr.splitlines()
    assert "none.tflite is not there; correct the path" in line and not params.exists()
    done, params = command(tmp_path, *arguments, f"yamnet={tmp_path / 'cnn14.pth'}")
    assert done.exit_code == 0, done.output
    counts = [*splits(read(root)).values()]
    numbers = [counts.count(kind) for kind in ("development", "validation", "evaluation")]
    line = done.stdout.splitlines()[0]
    assert line == (
        "folder: 40 clips with 80 captions, {} of development, {} of validation, {} of evaluation, "
        "1 sound files have no captions"
    ).format(*numbers)
    assert load_params(params).datasets["folder"].layout == "folder"
    assert os.path.isabs(load_params(params).datasets["folder"].root)  # type: ignore[union-attr]  # noqa: PTH117
