"""MACS' YAML beside the sound of TAU Urban Acoustic Scenes, whole and hostile, to a manifest."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.config.datasets import MacsDatasetConfig
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError

REAL = """\
files:
- filename: airport-lyon-1095-40113-a.wav
  annotations:
  - annotator_id: 354
    sentence: people talking,   a bag rolls
    tags:
    - adults talking
    - footsteps
  - annotator_id: 272
    sentence: 1984
    tags:
    - footsteps
    - announcement
- filename: park-lisbon-1-2-a.wav
  annotations:
  - annotator_id: 17
    sentence: birds sing
    tags: []
  - annotator_id: 18
    sentence: ''
"""


def macs(base: Path, yaml: str | bytes, audio: str = "audio", names: str = "") -> Manifest:
    root = base / "set"
    (root / audio).mkdir(parents=True)
    (root / "MACS.yaml").write_bytes(yaml.encode() if isinstance(yaml, str) else yaml)
    for name in names.split():
        samples = np.random.default_rng(1).normal(0, 0.1, (800, 2))
        soundfile.write(root / audio / name, samples, 8000)
    settings = MacsDatasetConfig(layout="macs", root="set")
    return prepare("set", settings, base, Path("data/raw"), progress=False)


@pytest.mark.parametrize("audio", ["audio", "TAU-urban-acoustic-scenes-2019-development/audio"])
def test_entries_become_clips_of_development(tmp_path: Path, audio: str) -> None:
    names = "airport-lyon-1095-40113-a.wav park-lisbon-1-2-a.flac metro-not-in-macs.wav"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest = macs(tmp_path, REAL, audio, names)
    first, second = manifest.clips
    assert {clip.split for clip in manifest.clips} == {"development"}
    assert first.path == f"{audio}/airport-lyon-1095-40113-a.wav"
    assert first.clip_id == "airport-lyon-1095-40113-a" and first.duration == 0.1
    assert first.captions == ("people talking, a bag rolls", "1984")  # as text, not a number
    assert first.events == ("adults talking", "footsteps", "announcement")
    assert second.path.endswith("park-lisbon-1-2-a.flac")  # converted since
    assert second.captions == ("birds sing",) and second.events == ()


def test_sound_that_is_not_there_is_counted(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"1 of 2 sound files cannot be used .*not there"):
        manifest = macs(tmp_path, REAL, names="park-lisbon-1-2-a.wav")
    assert [clip.clip_id for clip in manifest.clips] == ["park-lisbon-1-2-a"]
    assert manifest.skipped[0][0] == "audio/airport-lyon-1095-40113-a.wav"


def one(filename: str = "a.wav", annotations: str = "[{sentence: Rain}]") -> str:
    return f"- {{filename: {filename}, annotations: {annotations}}}\n"


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("", "no list of files"),
        ("files: []\n", "no list of files"),
        ("- a\n- b\n", "no list of files"),
        ("files:\n- a: [\n", "not YAML"),
        (b"files:\n- filename: caf\xe9.wav\n", "line 2 is not UTF-8"),
        ("files:\n- annotations: []\n", "entry 1 has no filename"),
        ("files:\n" + one() + one(), "entry 2 ('a.wav') occurs twice"),
        ("files:\n" + one("../../etc/passwd"), "leaves the dataset's folder"),
        ("files:\n" + one("/etc/passwd"), "leaves the dataset's folder"),
        ("files:\n" + one(annotations="[]"), "entry 1 ('a.wav') has no caption"),
        ("files:\n" + one(annotations="[{sentence: ' '}]"), "('a.wav') has no caption"),
        ("files:\n" + one(annotations="[{tags: [dog]}]"), "annotation without a sentence"),
        ("files:\n" + one(annotations="[{sentence: A, tags: dog}]"), "no list of words"),
        ("files: !!python/object/apply:os.getcwd []\n", "line 1: not YAML (tag"),
    ],
)
def test_hostile_tables_say_what_is_wrong(tmp_path: Path, yaml: str | bytes, reason: str) -> None:
    with pytest.raises(EarwitnessError) as caught:
        macs(tmp_path, yaml, names="a.wav")
    assert reason in str(caught.value) and str(tmp_path / "set" / "MACS.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ('{filename: "b\\uD800.wav", annotations: [{sentence: x}]}', r"b\\ud800\.wav' leaves"),
        ('{filename: a.wav, annotations: [{sentence: "\\uD800"}]}', "'a' has half a character"),
    ],
)
def test_text_that_no_file_can_hold_is_refused(tmp_path: Path, yaml: str, reason: str) -> None:
    with pytest.raises(EarwitnessError, match=reason) as caught:
        macs(tmp_path, f"files:\n- {yaml}\n", names="a.wav")
    assert str(caught.value).isprintable()


def test_what_is_not_there_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    settings = MacsDatasetConfig(layout="macs", root="set")
    with pytest.raises(EarwitnessError, match=r"no MACS\.yaml in .*records/5114771"):
        prepare("set", settings, tmp_path, Path("data/raw"), progress=False)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "MACS.yaml").write_text(REAL)
    with pytest.raises(EarwitnessError, match=r"no audio/ or TAU-urban.*records/2589280"):
        prepare("set", settings, tmp_path, Path("data/raw"), progress=False)
