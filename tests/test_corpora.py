"""Datasets in Clotho's and AudioCaps' layouts, whole and hostile, to manifests."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from pipeline.config.datasets import (
    AudioCapsDatasetConfig,
    CaptionsDatasetConfig,
    ClothoDatasetConfig,
    DatasetConfig,
    MacsDatasetConfig,
)
from pipeline.config.encoders import LogmelEncoderConfig
from pipeline.config.plans import ExtractionPlan
from pipeline.corpora.manifest import SAFE_ID, Clip, Manifest
from pipeline.corpora.recordings import Recording, clip_ids
from pipeline.corpora.registry import CORPORA, prepare
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.extraction import extract

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REPOSITORY = Path(__file__).resolve().parents[1]
ODD = ["rain on roof.wav", "Café “noise”, (2).wav", "дождь.wav", "-dash.wav", "a.b.wav"]


def write_sound(path: Path, seconds: float = 0.5, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(path.name)).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, samples, rate)


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def clotho_folder(root: Path, names: list[str], split: str = "development") -> Path:
    for name in names:
        write_sound(root / split / name)
    table = root / f"clotho_captions_{split}.csv"
    header = ["file_name", "caption_1", "caption_2"]
    write_csv(table, header, [[name, f"{name}, once", "It  is\nheard."] for name in names])
    return table


def clotho(base: Path, **settings: object) -> Manifest:
    model = ClothoDatasetConfig.model_validate({"layout": "clotho", "root": "set", **settings})
    return prepare("set", model, base, Path("data/raw"), progress=False)


def audiocaps(base: Path, **settings: object) -> Manifest:
    model = AudioCapsDatasetConfig.model_validate(
        {"layout": "audiocaps", "root": "set", **settings}
    )
    return prepare("set", model, base, Path("data/raw"), progress=False)


def test_every_layout_of_the_parameters_is_registered() -> None:
    layouts = {
        model.model_fields["layout"].annotation.__args__[0]  # type: ignore[union-attr]
        for model in get_args(get_args(DatasetConfig)[0])
    }
    assert set(CORPORA) == layouts


# --- Clotho's layout --------------------------------------------------------------------------


def test_clotho_rows_become_clips(tmp_path: Path) -> None:
    clotho_folder(tmp_path / "set", ODD)
    clotho_folder(tmp_path / "set", ["rain on roof.wav"], "evaluation")
    header = ["file_name", "event", "split"]
    rows = [[ODD[0], "rain; roof", "development"], [ODD[0], "rain", "evaluation"]]
    write_csv(tmp_path / "set" / "events.csv", header, rows)
    manifest = clotho(tmp_path)
    assert manifest.root == "set" and not manifest.skipped
    assert [clip.path for clip in manifest.clips[:5]] == [f"development/{name}" for name in ODD]
    assert Counter(clip.split for clip in manifest.clips) == {"development": 5, "evaluation": 1}
    first = manifest.clips[0]
    assert first.captions == ("rain on roof.wav, once", "It is heard.")
    assert first.duration == 0.5
    assert first.events == ("rain", "roof") and manifest.clips[5].events == ("rain",)
    content = (tmp_path / "set" / first.path).read_bytes()
    assert first.digest == hashlib.sha256(content).hexdigest()
    assert all(SAFE_ID.fullmatch(clip.clip_id) for clip in manifest.clips)
    assert len({clip.clip_id for clip in manifest.clips}) == 6
    manifest.save(tmp_path / "set.json")
    assert Manifest.load(tmp_path / "set.json") == manifest


def test_clip_ids_do_not_depend_on_other_rows() -> None:
    recordings = [Recording("development", f"development/{name}", ("c",)) for name in ODD]
    together = clip_ids(recordings)
    assert together == [clip_ids([recording])[0] for recording in recordings]
    assert together[4] == "a.b"
    assert together[1].startswith("Cafe-noise-2-")


def test_names_that_differ_in_case_ending_or_split_get_different_ids() -> None:
    paths = ["development/a.wav", "development/A.wav", "development/a.flac", "evaluation/a.wav"]
    ids = clip_ids([Recording(path.split("/")[0], path, ("c",)) for path in paths])
    assert len({name.casefold() for name in ids}) == 4


def test_one_caption_column_and_a_byte_order_mark_will_do(tmp_path: Path) -> None:
    write_sound(tmp_path / "set" / "validation" / "a.wav")
    table = tmp_path / "set" / "clotho_captions_validation.csv"
    table.write_bytes(b"\xef\xbb\xbffile_name,caption\r\na.wav,Rain falls\r\n")
    (clip,) = clotho(tmp_path).clips
    assert clip.captions == ("Rain falls",)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not there")
def test_real_sounds_are_read_whole() -> None:
    settings = ClothoDatasetConfig(layout="clotho", root="../shared/data/realsounds")
    manifest = prepare("realsounds", settings, REPOSITORY, Path("data/raw"), progress=False)
    counts = Counter(clip.split for clip in manifest.clips)
    assert counts == {"development": 285, "validation": 37, "evaluation": 92}
    assert not manifest.skipped and manifest.root == "../shared/data/realsounds"
    assert {len(clip.captions) for clip in manifest.clips} == {5}
    assert len({clip.events for clip in manifest.clips}) == 50
    for clip in manifest.clips[::40]:
        info = soundfile.info(REPOSITORY / manifest.root / clip.path)
        assert clip.duration == pytest.approx(info.frames / info.samplerate)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not there")
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_real_clotho_name_has_a_safe_id(split: str) -> None:
    with (SHARED / "captions" / f"clotho_{split}.csv").open(encoding="utf-8") as stream:
        names = [row["file_name"] for row in csv.DictReader(stream)]
    ids = clip_ids([Recording("development", f"development/{name}", ("c",)) for name in names])
    assert len(set(ids)) == len(names) and all(map(SAFE_ID.fullmatch, ids))


# --- hostile tables ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"file_name,caption_1\n", "has no rows"),
        (b"name,caption_1\na.wav,Rain\n", "no column file_name; its columns are: name, caption_1"),
        (b"file_name,text\na.wav,Rain\n", "no column caption_1"),
        (b"file_name;caption_1\na.wav;Rain\n", "no column file_name"),
        (
            b"file_name,caption_1\na.wav,Rain\na.wav,Wind\n",
            "'a.wav' occurs twice, in lines 2 and 3",
        ),
        (b"file_name,caption_1\na.wav,Un caf\xe9\n", "line 2 is not UTF-8; save it as UTF-8"),
        (b"file_name,caption_1\n../../etc/passwd,Rain\n", "leaves the dataset's folder"),
        (b"file_name,caption_1\n/etc/passwd,Rain\n", "leaves the dataset's folder"),
        (b"file_name,caption_1,caption_2\na.wav, ,\n", "line 2 ('a.wav') has no caption"),
        (b"file_name,caption_1\na.wav\n", "line 2 ('a.wav') has no caption"),
        (b"file_name,caption_1\n,Rain\n", "line 2 has no file_name"),
        (b"file_name,caption_1\na.wav,Rain, then wind\n", "line 2 has 3 values for 2 columns"),
        (b'file_name,caption_1\na.wav,"Rain\n', "is not CSV"),
        (b"file_name,caption_1,caption_1\na.wav,Rain,Wind\n", "column 'caption_1' occurs twice"),
    ],
)
def test_hostile_tables_say_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    table = clotho_folder(tmp_path / "set", ["a.wav"])
    table.write_bytes(content)
    with pytest.raises(EarwitnessError) as caught:
        clotho(tmp_path)
    assert reason in str(caught.value) and str(table) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_tables_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(EarwitnessError, match=r"clotho_captions_development\.csv .*fetch: true"):
        clotho(tmp_path)
    with pytest.raises(EarwitnessError, match=r"train\.csv"):
        audiocaps(tmp_path)


# --- sound that cannot be used ----------------------------------------------------------------


def with_bad_sound(base: Path) -> None:
    clotho_folder(base / "set", ["a.wav", "empty.wav", "gone.wav", "text.wav", "nan.wav", "z.wav"])
    folder = base / "set" / "development"
    (folder / "empty.wav").write_bytes(b"")
    (folder / "gone.wav").unlink()
    (folder / "text.wav").write_text("no sound")
    soundfile.write(folder / "nan.wav", np.full(800, np.nan), 8000, subtype="FLOAT")


def test_bad_sound_is_refused_by_name_and_count(tmp_path: Path) -> None:
    with_bad_sound(tmp_path)
    with pytest.raises(EarwitnessError, match=r"4 of 6 .*development/empty\.wav: empty file"):
        clotho(tmp_path, bad_audio="refuse")


def test_bad_sound_is_skipped_with_a_count_and_a_list(tmp_path: Path) -> None:
    with_bad_sound(tmp_path)
    with pytest.warns(UserWarning, match="4 of 6 sound files cannot be used"):
        manifest = clotho(tmp_path, bad_audio="skip")
    assert [clip.clip_id for clip in manifest.clips] == ["a", "z"]
    reasons = dict(manifest.skipped)
    assert list(reasons) == [f"development/{n}.wav" for n in ("empty", "gone", "text", "nan")]
    assert "not there" in reasons["development/gone.wav"]
    assert "NaN" in reasons["development/nan.wav"]


def test_a_split_without_usable_sound_is_an_error(tmp_path: Path) -> None:
    clotho_folder(tmp_path / "set", ["a.wav"])
    clotho_folder(tmp_path / "set", ["b.wav"], "evaluation")
    (tmp_path / "set" / "evaluation" / "b.wav").unlink()
    with (
        pytest.warns(UserWarning, match="1 of 2"),
        pytest.raises(EarwitnessError, match=r"none of the sound of split evaluation"),
    ):
        clotho(tmp_path)


CONVERTED = {  # what a table says → what is on the disk
    "loud.wav": "loud.WAV",
    "flat.wav": "flat.flac",
    "none": "none.ogg",
    "a.b": "a.b.wav",
    "caf\u00e9.wav": "cafe\u0301.wav",
    "cafe\u0301 2.wav": "caf\u00e9 2.WAV",
    "both.wav": "both.wav",
    "mp3.wav": "mp3.mp3",
}


def converted_folder(folder: Path) -> None:
    for name in CONVERTED.values():
        write_sound(folder / name)
    write_sound(folder / "both.flac")  # which no row means
    write_sound(folder / "mp3.aiff")  # MP3 comes first


@pytest.mark.filterwarnings("error")
def test_sound_that_was_converted_or_renamed_is_found(tmp_path: Path) -> None:
    """In each layout; a name that is there exactly is taken before another."""
    root = tmp_path / "set"
    rows = [[name, f"It is {number}"] for number, name in enumerate(CONVERTED)]
    write_csv(root / "clotho_captions_evaluation.csv", ["file_name", "caption"], rows)
    write_csv(root / "test.csv", ["file_name", "caption"], rows)
    entries = [
        f"- filename: '{name}'\n  annotations: [{{sentence: '{caption}'}}]\n"
        for name, caption in rows
    ]
    (root / "MACS.yaml").write_text("files:\n" + "".join(entries), encoding="utf-8")
    for folder in ("evaluation", "test", "audio"):
        converted_folder(root / folder)
    macs = MacsDatasetConfig(layout="macs", root="set")
    for manifest, folder in (
        (clotho(tmp_path), "evaluation"),
        (audiocaps(tmp_path), "test"),
        (prepare("set", macs, tmp_path, Path("data/raw"), progress=False), "audio"),
    ):
        found = {clip.captions[0]: clip.path for clip in manifest.clips}
        assert found == {
            f"It is {number}": f"{folder}/{name}" for number, name in enumerate(CONVERTED.values())
        }


def test_a_file_is_one_rows_alone(tmp_path: Path) -> None:
    root = tmp_path / "set"
    names = ["a.flac", "a.wav", "b.wav"]
    rows = [[name, name] for name in names]
    write_csv(root / "clotho_captions_evaluation.csv", ["file_name", "caption"], rows)
    for name in ("a.flac", "b.WAV", "b.Wav"):
        write_sound(root / "evaluation" / name)
    with pytest.warns(UserWarning, match="2 of 3"):
        manifest = clotho(tmp_path)
    assert [clip.path for clip in manifest.clips] == ["evaluation/a.flac"]
    missing = "not there; check the name"
    assert manifest.skipped == (("evaluation/a.wav", missing), ("evaluation/b.wav", missing))


def test_sound_that_is_too_long_is_listed(tmp_path: Path) -> None:
    clotho_folder(tmp_path / "set", ["a.wav"])
    write_sound(tmp_path / "set" / "development" / "b.wav", 1.3)
    table = tmp_path / "set" / "clotho_captions_development.csv"
    table.write_text(table.read_text() + "b.wav,B,\n")
    with pytest.warns(UserWarning, match="1 of 2"):
        manifest = clotho(tmp_path, longest_minutes=0.02)
    ((name, problem),) = manifest.skipped
    assert name == "development/b.wav" and "at most 0.02 are read" in problem
    assert len(clotho(tmp_path).clips) == 2


def test_linked_recordings_and_splits_are_the_datasets_own(tmp_path: Path) -> None:
    """From `prepare` to what `extract` decodes."""
    clotho_folder(tmp_path / "set", ["a.wav", "b.wav"])
    away = (tmp_path / "set" / "development").rename(tmp_path / "away")
    (tmp_path / "set" / "development").symlink_to(away)
    (away / "a.wav").rename(tmp_path / "one.wav")
    (away / "a.wav").symlink_to(tmp_path / "one.wav")
    manifest = clotho(tmp_path)
    assert not manifest.skipped
    encoder = LogmelEncoderConfig(
        module="logmel", sample_rate=8000, n_fft=256, hop=128, mels=32, fmax=4000.0
    )
    plan = ExtractionPlan(
        name="logmel", inputs={}, code={}, dataset="set", encoder=encoder,
        spec_augment=None, weights=None,
    )  # fmt: skip
    index, _ = extract(
        manifest, tmp_path / "set", build_sound_encoder(encoder, None), "", plan,
        tmp_path / "partial", tmp_path / "features.h5",
    )  # fmt: skip
    assert index.ids == index.entries == 2


# --- AudioCaps --------------------------------------------------------------------------------


def test_the_official_audiocaps_layout(tmp_path: Path) -> None:
    root = tmp_path / "set"
    header = ["audiocap_id", "youtube_id", "start_time", "caption"]
    write_csv(root / "train.csv", header, [["1", "-bc", "30", "A dog barks"]])
    rows = [
        ["2", "xy", "0", "Rain falls"],
        ["3", "zz", "120", "Wind"],
        ["4", "xy", "0", "It rains"],
    ]
    write_csv(root / "test.csv", header, rows)
    write_sound(root / "train" / "Y-bc.wav")
    write_sound(root / "test" / "xy_0.flac")
    write_sound(root / "test" / "Yzz_120.ogg")
    manifest = audiocaps(tmp_path)
    assert [(clip.split, clip.path) for clip in manifest.clips] == [
        ("development", "train/Y-bc.wav"),
        ("evaluation", "test/xy_0.flac"),
        ("evaluation", "test/Yzz_120.ogg"),
    ]
    assert manifest.clips[1].captions == ("Rain falls", "It rains")


def test_two_excerpts_of_one_video_are_two_clips(tmp_path: Path) -> None:
    header = ["audiocap_id", "youtube_id", "start_time", "caption"]
    write_csv(tmp_path / "set" / "val.csv", header, [["1", "v", "0", "A"], ["2", "v", "10", "B"]])
    for name in ("v_0.wav", "v_10.wav"):
        write_sound(tmp_path / "set" / "val" / name)
    assert [clip.captions for clip in audiocaps(tmp_path).clips] == [("A",), ("B",)]


def test_audiocaps_with_file_names(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_csv(
        root / "audiocaps_train.csv", ["file_name", "caption"], [["Ya.wav", "A dog, barking"]]
    )
    header = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
    write_csv(root / "audiocaps_val.csv", header, [["Yb.wav", "1", "2", "3", "4", "5"]])
    write_sound(root / "train" / "Ya.flac")  # converted since the table was written
    write_sound(root / "val" / "Yb.wav")
    manifest = audiocaps(tmp_path)
    assert [clip.path for clip in manifest.clips] == ["train/Ya.flac", "val/Yb.wav"]
    assert manifest.clips[1].captions == ("1", "2", "3", "4", "5")


def test_a_files_own_spaces_are_kept_in_audiocaps_too(tmp_path: Path) -> None:
    rows = [[" Ya.wav", "A dog"], [" Yb.wav", "A cat"]]
    write_csv(tmp_path / "set" / "train.csv", ["file_name", "caption"], rows)
    write_sound(tmp_path / "set" / "train" / " Ya.wav")
    write_sound(tmp_path / "set" / "train" / "Yb.wav")  # the table's space, not the file's
    assert [clip.path for clip in audiocaps(tmp_path).clips] == ["train/ Ya.wav", "train/Yb.wav"]


def test_audiocaps_sound_that_youtube_lost_is_counted(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "set" / "train.csv", ["file_name", "caption"], [["Ya.wav", "A"], ["Yb.wav", "B"]]
    )
    write_sound(tmp_path / "set" / "train" / "Ya.wav")
    with pytest.warns(UserWarning, match="1 of 2"):
        manifest = audiocaps(tmp_path)
    assert manifest.skipped[0][0] == "train/Yb.wav"


@pytest.mark.parametrize(
    ("header", "rows", "reason"),
    [
        (["youtube_id", "caption"], [["a", "A"]], "no column start_time"),
        (["file_name", "caption_1", "caption_2"], [["a.wav", "A", ""]] * 2, "occurs twice"),
        (["file_name", "caption"], [["../../etc/passwd", "A"]], "leaves the dataset's folder"),
        (["youtube_id", "start_time", "caption"], [["../x", "0", "A"]], "leaves the dataset's"),
        (["youtube_id", "start_time", "caption"], [["x", "soon", "A"]], "'soon' is not a number"),
        (["file_name", "caption"], [["a.wav", ""]], "has no caption"),
    ],
)
def test_hostile_audiocaps_tables(
    tmp_path: Path, header: list[str], rows: list[list[str]], reason: str
) -> None:
    write_csv(tmp_path / "set" / "train.csv", header, rows)
    with pytest.raises(EarwitnessError, match=reason):
        audiocaps(tmp_path)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not there")
def test_the_real_audiocaps_tables(tmp_path: Path) -> None:
    """All of the real validation and test captions, over sound that stands in for YouTube's."""
    for short in ("val", "test"):
        table = SHARED / "captions" / f"audiocaps_{short}.csv"
        (tmp_path / "set" / short).mkdir(parents=True)
        (tmp_path / "set" / table.name).write_bytes(table.read_bytes())
        with table.open(encoding="utf-8") as stream:
            names = [row["file_name"] for row in csv.DictReader(stream)]
        write_sound(tmp_path / "one.wav", 0.1)
        for name in names:
            (tmp_path / "set" / short / name).hardlink_to(tmp_path / "one.wav")
    counts = Counter(clip.split for clip in audiocaps(tmp_path).clips)
    assert counts == {"validation": 494, "evaluation": 957}


# --- the manifest and the stage ---------------------------------------------------------------


def test_a_manifest_without_a_digest_is_not_read(tmp_path: Path) -> None:
    Manifest("set", "root", (Clip("a", "development", "a.wav", 1.0, ("A",)),)).save(
        tmp_path / "set.json"
    )
    text = (tmp_path / "set.json").read_text().replace('"digest",', "")
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(EarwitnessError, match=r"not a manifest .*repro -f prepare"):
        Manifest.load(tmp_path / "set.json")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('["A"]', '"A"', "clips.0.captions"),  # would be read as one caption a letter
        ('["A"]', '["A", 1]', "clips.0.captions"),
        (" 1.0,", ' "long",', "clips.0.duration"),
        (" 1.0,", " NaN,", "NaN is not a finite number"),
        (" 1.0,", " true,", "clips.0.duration"),
        ('"a.wav"', '["a.wav"]', "clips.0.path"),
        ('"development"', "null", "clips.0.split"),
        ('["A"]', '["A"], ["B"]', "clips.0"),  # a value too many
        ('[["a"', '["a", ["a"', "clips.0"),
        ('[["a"', '{"a": ["a"', "clips"),
        ('"root": "root"', '"root": "root", "root": "other"', "key 'root' occurs twice"),
        ('"duration"', '"length"', "columns"),
        ('"skipped": []', '"skipped": [["a"]]', "skipped.0"),
        ('"dataset": "set"', '"dataset": {}', "dataset"),
        ('"dataset": "set",', "", "dataset"),
    ],
)
def test_a_manifest_of_other_types_is_one_line(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    path = tmp_path / "set.json"
    Manifest("set", "root", (Clip("a", "development", "a.wav", 1.0, ("A",)),)).save(path)
    flat = json.dumps(json.loads(path.read_text()))
    assert old in flat
    path.write_text(flat.replace(old, new).replace(']]}', ']}}' if new.startswith("{") else ']]}'))
    with pytest.raises(EarwitnessError, match=r"set\.json: not .*run `dvc repro") as caught:
        Manifest.load(path)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    path.write_text("[1, 2]")
    with pytest.raises(EarwitnessError, match=r"not a manifest"):
        Manifest.load(path)


def stage(
    folder: Path, module: str, dataset: str, original: str = "."
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"stages.{module}", dataset]
    environment = {**os.environ, "DVC_ROOT": original}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_stages_write_a_manifest_or_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        "encoders: {}\ndatasets:\n  mine: {layout: clotho, root: set}\n"
        "  none: {layout: clotho, root: nowhere}\n"
    )
    with_bad_sound(tmp_path)
    done = stage(tmp_path, "prepare", "mine")
    assert done.returncode == 0, done.stderr
    assert "warning: dataset mine: 4 of 6 sound files cannot be used" in done.stderr
    assert len(Manifest.load(tmp_path / "data" / "corpora" / "mine.json").clips) == 2
    failed = stage(tmp_path, "prepare", "none")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: dataset none:") and failed.stderr.count("\n") == 1
    assert not (tmp_path / "data" / "corpora" / "none.json").exists()
    assert "did you mean 'mine'?" in stage(tmp_path, "prepare", "mnie").stderr


def test_a_queued_experiment_makes_its_sound_in_the_original_repository(tmp_path: Path) -> None:
    """The manifest names no machine's own path, so that its hash is the same in both places."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "params.yaml").write_text(
        "encoders: {}\ndatasets:\n"
        "  tiny: {layout: soundscapes, development: 2, validation: 1, evaluation: 1}\n"
    )
    done = stage(copy, "prepare", "tiny", original=str(tmp_path / "original"))
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(copy / "data" / "corpora" / "tiny.json")
    assert manifest.root.startswith("data/raw/tiny/")
    assert all((tmp_path / "original" / manifest.root / c.path).is_file() for c in manifest.clips)
    assert not (copy / "data" / "raw").exists()


def test_captions_alone_become_a_dataset(tmp_path: Path) -> None:
    """One caption a row, or several; a clip's rows are put together."""
    (tmp_path / "train.csv").write_text("file_name,caption\nx y.wav,A dog\nb.wav,Rain\nx y.wav,C\n")
    (tmp_path / "val.csv").write_text("file_name,caption_1,caption_2\nb.wav,One,Two\n")
    settings = CaptionsDatasetConfig(
        layout="captions", root=str(tmp_path), development="train.csv", validation="val.csv"
    )
    manifest = prepare("words", settings, tmp_path, tmp_path, progress=False)
    found = [(clip.split, clip.path, clip.captions) for clip in manifest.clips]
    assert found == [
        ("development", "", ("A dog", "C")),
        ("development", "", ("Rain",)),
        ("validation", "", ("One", "Two")),
    ]
    assert manifest.sounding == () and len({clip.clip_id for clip in manifest.clips}) == 3
    (tmp_path / "val.csv").write_text("file_name,caption_1\nb.wav,\n")
    with pytest.raises(EarwitnessError, match=r"line 2 \('b.wav'\) has no caption"):
        prepare("words", settings, tmp_path, tmp_path, progress=False)
