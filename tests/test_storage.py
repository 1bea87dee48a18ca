"""Recordings in object storage and in tar shards give the same as those in a folder."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from object_storage import (
    RATE,
    CuttingProxy,
    client,
    noise,
    pack,
    server,
    tar_of,
    through,
    upload,
)
from test_extraction import Trunk, make_plan

from earwitness import doctor
from earwitness.inputs import read_sounds
from earwitness.own import given
from pipeline.audio import waveforms
from pipeline.config.datasets import (
    AudioCapsDatasetConfig,
    BlindDatasetConfig,
    ClothoDatasetConfig,
    FolderDatasetConfig,
    WebDatasetDatasetConfig,
)
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.registry import CORPORA, prepare
from pipeline.errors import EarwitnessError
from pipeline.features.extraction import extract
from pipeline.features.forward import SoundSteps
from pipeline.features.windows import DecodedRecording, PassSettings
from pipeline.outside.digests import Digests
from pipeline.outside.look import look_at_dataset
from pipeline.storage import remote
from pipeline.storage.stored import Stored
from pipeline.storage.urls import expanded
from stages import look
from tests.conftest import REPOSITORY

BUCKET = "sounds"
ENDINGS = ("wav", "flac", "ogg", "mp3", "wav", "flac")
SPLITS = ("development", "validation", "evaluation")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Clotho's layout, with sound of four formats."""
    root = tmp_path_factory.mktemp("dataset")
    for at, split in enumerate(SPLITS):
        rows = ["file_name,caption_1"]
        for number, ending in enumerate(ENDINGS):
            name = f"{split[:3]} {number}.{ending}"
            noise(root / split / name, 3.0 + 0.7 * number + at, 10 * at + number)
            rows.append(f"{name},sound {number} of {split}")
        (root / f"clotho_captions_{split}.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def shards(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as four tars, the tables beside them."""
    folder = tmp_path_factory.mktemp("shards")
    names = sorted(p.relative_to(dataset).as_posix() for p in dataset.rglob("*.*") if p.is_file())
    sounds = [name for name in names if not name.endswith(".csv")]
    for number in range(4):
        pack(dataset, sounds[number::4], folder / f"part-{number:06d}.tar")
    for table in dataset.glob("*.csv"):
        shutil.copy(table, folder)
    return folder


@pytest.fixture(scope="module")
def storage(dataset: Path, shards: Path) -> Iterator[str]:
    with server(BUCKET) as address:
        upload(BUCKET, dataset, "clotho/")
        upload(BUCKET, shards, "shards/")
        yield address


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.01)


def prepared(root: str) -> Manifest:
    settings = ClothoDatasetConfig(layout="clotho", root=root, bad_audio="refuse")
    return prepare("clotho", settings, Path(), Path("raw"), progress=False)


def features(manifest: Manifest, folder: Path) -> bytes:
    path = folder / "features.h5"
    root = Path(manifest.root)
    extract(manifest, root, Trunk(), "none", make_plan(), folder / "partial", path)
    return path.read_bytes()


def at(name: str, dataset: Path, shards: Path) -> str:
    return {
        "folder": str(dataset),
        "s3": f"s3://{BUCKET}/clotho",
        "shards": f"{shards}/*.{{tar,csv}}",
        "s3 shards": f"s3://{BUCKET}/shards/{{part-{{000000..000003}}.tar,*.csv}}",
    }[name]


@pytest.mark.parametrize("place", ["s3", "shards", "s3 shards"])
def test_features_are_those_of_the_folder_to_the_byte(
    place: str, dataset: Path, shards: Path, storage: str, tmp_path: Path
) -> None:
    expected = prepared(str(dataset))
    found = prepared(at(place, dataset, shards))
    same = [(c.clip_id, c.split, c.duration, c.captions, c.file_name) for c in expected.clips]
    assert [(c.clip_id, c.split, c.duration, c.captions, c.file_name) for c in found.clips] == same
    assert len(same) == 18 and not found.skipped
    found.save(tmp_path / "manifest.json")
    found = Manifest.load(tmp_path / "manifest.json")
    assert features(found, tmp_path / "there") == features(expected, tmp_path / "here")


def test_prepare_brings_only_the_beginning_of_a_wav_or_flac(
    storage: str, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[tuple[str, int]] = []
    read = remote.read

    def spied(url: str, start: int, stop: int, exact: bool = True) -> bytes:
        found = read(url, start, stop, exact)
        brought.append((url, len(found)))
        return found

    monkeypatch.setattr(remote, "read", spied)
    prepared(f"s3://{BUCKET}/clotho")
    for path in dataset.rglob("*.wav"):
        own = [n for url, n in brought if url.endswith(path.relative_to(dataset).as_posix())]
        assert path.stat().st_size > 90_000 and own == [1 << 16]
    assert sum(url.endswith(".mp3") for url, _ in brought) == 3  # whole, and once


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_stored_recording_is_read_as_the_file(
    ending: str, dataset: Path, shards: Path, storage: str
) -> None:
    path = next(dataset.rglob(f"*.{ending}"))
    sound = Stored(f"s3://{BUCKET}/clotho/{path.relative_to(dataset).as_posix()}")
    np.testing.assert_array_equal(waveforms.load(sound, 6000), waveforms.load(path, 6000))
    sized = replace(sound, size=path.stat().st_size)
    assert waveforms.probe(sound) == waveforms.probe(sized) == waveforms.probe(path)
    assert waveforms.verify(sized) == waveforms.verify(path)
    with sized.open() as stream:
        stream.seek(-7, os.SEEK_END)
        assert stream.read() == path.read_bytes()[-7:]


def test_it_can_be_sent_to_another_process(storage: str, dataset: Path) -> None:
    path = next(dataset.rglob("*.flac"))
    sound = Stored(f"s3://{BUCKET}/clotho/{path.relative_to(dataset).as_posix()}")
    sent = pickle.loads(pickle.dumps(sound))
    assert sent == sound
    np.testing.assert_array_equal(waveforms.load(sent, RATE), waveforms.load(path, RATE))


def test_an_empty_object_is_one_line(storage: str) -> None:
    client().put_object(Bucket=BUCKET, Key="empty.wav", Body=b"")
    for size in (None, 0):
        with pytest.raises(EarwitnessError, match=r"empty.wav: empty file \(0 bytes\)"):
            waveforms.load(Stored(f"s3://{BUCKET}/empty.wav", size=size), RATE)


def test_a_long_recording_goes_by_the_disk_in_pieces(
    storage: str, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(dataset.rglob("*.wav"))
    monkeypatch.setattr("pipeline.storage.stored.IN_MEMORY", 10_000)
    monkeypatch.setattr("pipeline.storage.stored.CHUNK", 7_000)
    sound = Stored(f"s3://{BUCKET}/clotho/{path.relative_to(dataset).as_posix()}")
    assert sound.fetched().content is None
    np.testing.assert_array_equal(waveforms.load(sound, RATE), waveforms.load(path, RATE))
    monkeypatch.setattr("pipeline.storage.stored.MOST", 20_000)
    with pytest.raises(EarwitnessError, match="more than 0 GB"):
        waveforms.load(sound, RATE)


def test_many_are_brought_at_once_however_few_threads_decode(
    dataset: Path, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one decoding thread, eight requests are waited for together."""
    manifest = prepared(f"s3://{BUCKET}/clotho")
    read, together = remote.read, threading.Barrier(8)

    def waiting(url: str, start: int, stop: int, exact: bool = True) -> bytes:
        together.wait(30)  # passed only by eight at once
        return read(url, start, stop, exact)

    batch = [
        DecodedRecording(clip.clip_id, manifest.sound_file(Path(), clip), clip.duration)
        for clip in manifest.clips[:8]
    ]
    monkeypatch.setattr("pipeline.features.forward.THREADS", 1)
    monkeypatch.setattr(remote, "read", waiting)
    steps = SoundSteps(Trunk(), PassSettings(2.0, 4.0))
    with steps.opened():
        assert len(steps.read(batch).recordings) == 8


# connections


def test_a_connection_cut_in_the_middle_is_tried_again(storage: str, dataset: Path) -> None:
    path = dataset / "development" / "dev 0.wav"
    proxy = CuttingProxy(storage, "dev%200.wav", cuts=2)
    with through(proxy.address):
        found = waveforms.load(Stored(f"s3://{BUCKET}/clotho/development/dev 0.wav"), RATE)
    proxy.close()
    np.testing.assert_array_equal(found, waveforms.load(path, RATE))
    assert proxy.gets == 3


def test_one_that_is_cut_each_time_is_one_line(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TRIES", 2)
    proxy = CuttingProxy(storage, "dev%200.wav", cuts=1000)
    with through(proxy.address), pytest.raises(EarwitnessError) as caught:
        waveforms.load(Stored(f"s3://{BUCKET}/clotho/development/dev 0.wav"), RATE)
    proxy.close()
    assert str(caught.value).startswith(
        f"s3://{BUCKET}/clotho/development/dev 0.wav: no connection in 2 tries ("
    )


def test_it_is_tried_again_where_a_client_gives_up_or_brings_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, answers = bytes(range(200)), [ConnectionResetError(), 50, TimeoutError(), 200]

    class Failing:
        def _strip_protocol(self, url: str) -> str:
            return url

        def cat_file(self, path: str, start: int, end: int) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return content[start:end][:answer]

    monkeypatch.setattr(remote, "_systems", {(os.getpid(), "s3"): Failing()})
    assert remote.read("s3://b/x", 0, 200) == content and not answers
    answers += [PermissionError("Denied"), 200]
    with pytest.raises(EarwitnessError, match="permission denied"):
        remote.read("s3://b/x", 0, 200)
    assert answers == [200]  # another try would not help


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"s3://{BUCKET}/clotho/gone.wav", "not there; check the name"),
        ("s3://no-such-bucket/x.wav", "no such bucket; check the name"),
        ("nope://bucket/x.wav", "nope:// is no storage that fsspec knows; correct it"),
        ("s3://user:word@bucket/x.wav", "s3://…@bucket: credentials in an address; take them out"),
        ("file:///x.wav", "of this machine; give its path"),
        ("simplecache::s3://b/x.wav", "one address in another; give the plain one"),
    ],
)
def test_what_cannot_be_brought_is_one_line(storage: str, url: str, said: str) -> None:
    with pytest.raises(EarwitnessError) as caught:
        waveforms.load(Stored(url), RATE)
    assert said in str(caught.value) and "word" not in str(caught.value)


def test_an_object_that_is_gone_ends_an_extraction_by_its_name(
    storage: str, tmp_path: Path
) -> None:
    clips = (Clip("gone", "development", "development/gone.wav", 1.0, ("a",)),)
    with pytest.raises(EarwitnessError) as caught:
        features(Manifest("clotho", f"s3://{BUCKET}/clotho", clips), tmp_path)
    assert str(caught.value) == (
        f"s3://{BUCKET}/clotho/development/gone.wav: not there; check the name"
    )
    assert not (tmp_path / "features.h5").exists()


def test_no_host_no_right_and_no_client_are_one_line(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Stored(f"s3://{BUCKET}/clotho/development/dev 0.wav")
    monkeypatch.setattr(remote, "TRIES", 1)
    with through("http://127.0.0.1:9"), pytest.raises(EarwitnessError, match="no connection in 1"):
        waveforms.load(sound, RATE)

    class Refusing:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def _strip_protocol(self, url: str) -> str:
            return url

        def cat_file(self, path: str, start: int, end: int) -> bytes:
            raise self.error

    for error, said in (
        (PermissionError("Access Denied"), "permission denied (Access Denied); set AWS_ACCESS"),
        (type("NoCredentialsError", (Exception,), {})("none"), "no credentials; set AWS_ACCESS"),
        (OSError(16, "SlowDown"), "no connection in 1 tries"),
    ):
        refusing = Refusing(error)
        monkeypatch.setattr(remote, "_systems", {(os.getpid(), "s3"): refusing})
        with pytest.raises(EarwitnessError) as caught:
            waveforms.load(sound, RATE)
        assert said in str(caught.value)

    def missing(scheme: str, **_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(remote, "_systems", {})
    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(EarwitnessError, match=r"run `pip install earwitness\[s3\]`"):
        waveforms.load(sound, RATE)


# tars


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tar_of((member("../a.wav"), b"x")), "'../a.wav' leads out of the tar; refused"),
        (tar_of((member("/etc/a.wav"), b"x")), "'/etc/a.wav' leads out of the tar; refused"),
        (tar_of((member("a.wav", tarfile.SYMTYPE, "/etc/passwd"), b"")), "is a link, a device"),
        (tar_of((member("a.wav", tarfile.LNKTYPE, "b.wav"), b"")), "is a link, a device"),
        (tar_of((member("a.wav", tarfile.CHRTYPE), b"")), "is a link, a device"),
        (tar_of((member("a.wav", tarfile.FIFOTYPE), b"")), "is a link, a device"),
        (tar_of((member("a.wav", tarfile.GNUTYPE_SPARSE), b"")), "sparse"),
        (tar_of((member("a.wav"), b"x"), (member("a.wav"), b"y")), "'a.wav' occurs twice"),
        (tar_of((member("a.wav"), b"x" * 5000))[:2048], "is cut"),
        (tar_of(), "a tar with nothing in it"),
        (b"no tar" * 500, "not a tar, or a damaged one"),
        (b"", "not a tar, or a damaged one"),
    ],
)
def test_hostile_and_broken_tars_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    """As files and, by another reader of bytes, as objects."""
    (tmp_path / "x.tar").write_bytes(content)
    fsspec.filesystem("memory").pipe_file("/hostile/x.tar", content)
    for root in (f"{tmp_path}/*.tar", "memory://hostile/x.tar"):
        with pytest.raises(EarwitnessError) as caught:
            prepared(root)
        assert said in str(caught.value) and "x.tar" in str(caught.value)


def test_a_shard_that_changed_since_it_was_prepared_is_noticed(
    shards: Path, tmp_path: Path
) -> None:
    for path in shards.iterdir():
        shutil.copy(path, tmp_path)
    manifest = prepared(f"{tmp_path}/*.{{tar,csv}}")
    shard = tmp_path / "part-000000.tar"
    shard.write_bytes(b"\0" * 1024 + shard.read_bytes())
    with pytest.raises(EarwitnessError, match="its tar has changed since the dataset was prepared"):
        features(manifest, tmp_path)


def test_shards_that_share_names_are_folders_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        noise(tmp_path / str(number) / "a.wav", 0.5, number)
        pack(tmp_path / str(number), ["a.wav"], tmp_path / f"s-{number}.tar")
    settings = BlindDatasetConfig(layout="blind", root=f"{tmp_path}/s-{{0..1}}.tar")
    manifest = prepare("blind", settings, Path(), Path("raw"), progress=False)
    assert [clip.path.rpartition("!")[0] for clip in manifest.clips] == ["s-0.tar", "s-1.tar"]
    for number, clip in enumerate(manifest.clips):
        sound = manifest.sound_file(Path(manifest.root), clip)
        own = waveforms.load(tmp_path / str(number) / "a.wav", RATE)
        np.testing.assert_array_equal(waveforms.load(sound, RATE), own)


def test_a_manifest_cannot_lead_out_of_its_root(storage: str) -> None:
    for root, path in (
        (f"s3://{BUCKET}/clotho", "../shards/part-000000.tar"),
        ("data/*.tar", "../x.tar!512+10/a.wav"),
    ):
        clips = (Clip("a", "development", path, 1.0, ("a",)),)
        with pytest.raises(EarwitnessError, match="leaves"):
            Manifest("x", root, clips).sound_file(Path(root), clips[0])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{008..011}.tar", ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]),
        ("a-{8..10}.tar", ["a-8.tar", "a-9.tar", "a-10.tar"]),
        ("{train-{0..1},test}.tar", ["train-0.tar", "train-1.tar", "test.tar"]),
        ("x/*.{tar,csv}", ["x/*.tar", "x/*.csv"]),
    ],
)
def test_braces_are_those_of_a_shell(pattern: str, names: list[str]) -> None:
    assert sorted(expanded(pattern)) == sorted(names)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("a-{0..99999999}.tar", "more than 100000 names"),
        ("a-{0..3.tar", "a brace without its other half"),
        ("a.tar.gz", "unpack it to .tar"),
        ("no-such-{0..1}.tar", "no-such-0.tar: not there"),
        ("no-such-*.tar", "no file has such a name"),
        (f"s3://{BUCKET}/shards/part-{{000003..000004}}.tar", "part-000004.tar: not there"),
        (f"s3://{BUCKET}/nothing", "nothing there; check the name"),
        ("s3://", "names no bucket or folder"),
    ],
)
def test_a_root_that_is_none_is_one_line(root: str, said: str, storage: str) -> None:
    with pytest.raises(EarwitnessError) as caught:
        prepared(root)
    assert said in str(caught.value)


# datasets


def test_a_folder_with_one_table_and_audiocaps_are_found_too(storage: str, tmp_path: Path) -> None:
    rows = ["file_name,caption"]
    for number in range(12):
        noise(tmp_path / "one" / "deep" / f"{number}.flac", 0.5, number)
        rows.append(f"{number}.wav,sound {number}")  # of another ending
    (tmp_path / "one" / "captions.csv").write_text("\n".join(rows) + "\n")
    for split in ("train", "val", "test"):
        noise(tmp_path / "caps" / split / "Yabc_30.wav", 0.5, 3)
        table = "audiocap_id,youtube_id,start_time,caption\n1,abc,30,a sound\n"
        (tmp_path / "caps" / f"{split}.csv").write_text(table)
    for name, layout in (("one", FolderDatasetConfig), ("caps", AudioCapsDatasetConfig)):
        upload(BUCKET, tmp_path / name, f"{name}/")
        kind = "folder" if name == "one" else "audiocaps"
        here, there = (
            prepare(name, layout(layout=kind, root=root), Path(), Path("raw"), progress=False)
            for root in (str(tmp_path / name), f"s3://{BUCKET}/{name}")
        )
        assert len(here.clips) >= 3
        assert [replace(clip, digest="") for clip in there.clips] == [
            replace(clip, digest="") for clip in here.clips
        ]


def test_sound_that_cannot_be_used_is_listed_as_in_a_folder(storage: str, tmp_path: Path) -> None:
    for split in SPLITS:
        noise(tmp_path / split / "good.wav", 1.0, 1)
        (tmp_path / split / "bad.wav").write_bytes(b"no sound at all")
        (tmp_path / split / "empty.wav").write_bytes(b"")
        rows = "file_name,caption_1\n" + "".join(
            f"{name}.wav,a\n" for name in ("good", "bad", "empty", "no")
        )
        (tmp_path / f"clotho_captions_{split}.csv").write_text(rows)
    upload(BUCKET, tmp_path, "bad/")
    found = []
    for root in (str(tmp_path), f"s3://{BUCKET}/bad"):
        settings = ClothoDatasetConfig(layout="clotho", root=root)
        with pytest.warns(UserWarning, match="9 of 12 sound files cannot be used"):
            found.append(prepare("bad", settings, Path(), Path("raw"), progress=False))
    assert found[0].skipped == found[1].skipped and len(found[0].skipped) == 9


def test_no_layout_takes_its_root_for_a_path() -> None:
    """A layout that wrote ``base / settings.root`` would not know an address."""
    assert CORPORA
    for path in (REPOSITORY / "pipeline" / "corpora").glob("*.py"):
        assert "base / settings.root" not in path.read_text(encoding="utf-8"), path


def test_webdataset_has_its_captions_beside_its_sound(storage: str, tmp_path: Path) -> None:
    beside = {
        "0": ("json", {"captions": ["one", "a  two"], "tags": ["dog", "dog", "bell"]}),
        "1": ("json", {"text": "three", "other": 1}),
        "2": ("txt", "four\n\nfive\n"),
        "3": ("json", {"caption": "six", "split": "test"}),
    }
    for key, (ending, content) in beside.items():
        noise(tmp_path / f"{key}.flac", 0.5, int(key))
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / f"{key}.{ending}").write_text(text)
    names = {key: [f"{key}.flac", f"{key}.{ending}"] for key, (ending, _) in beside.items()}
    pack(tmp_path, names["0"] + names["1"], tmp_path / "shards" / "train-0.tar")
    pack(tmp_path, names["2"] + names["3"], tmp_path / "shards" / "valid" / "000001.tar")
    upload(BUCKET, tmp_path / "shards", "web/")
    pattern = "{train-*,*/*}.tar"
    for root in (f"{tmp_path}/shards/{pattern}", f"s3://{BUCKET}/web/{pattern}"):
        found = web(root)
        assert [(clip.clip_id, clip.split, clip.captions, clip.events) for clip in found.clips] == [
            ("0", "development", ("one", "a two"), ("dog", "bell")),
            ("1", "development", ("three",), ()),
            ("2", "validation", ("four", "five"), ()),
            ("3", "evaluation", ("six",), ()),
        ]
    (tmp_path / "0.json").write_text('{"captions": [7]}')
    pack(tmp_path, names["0"], tmp_path / "bad.tar")
    with pytest.raises(EarwitnessError, match=r"bad.tar/0.json: captions are no text and no list"):
        web(f"{tmp_path}/bad.tar")
    pack(tmp_path, ["1.flac"], tmp_path / "bad.tar")
    with pytest.raises(EarwitnessError, match=r"1.flac: neither .json nor .txt beside it"):
        web(f"{tmp_path}/bad.tar")


def web(root: str) -> Manifest:
    settings = WebDatasetDatasetConfig(layout="webdataset", root=root)
    return prepare("web", settings, Path(), Path("raw"), progress=False)


# look


def test_a_look_notices_what_was_replaced_by_one_listing(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(tmp_path / "development" / "a.wav", 1.0, 1)
    (tmp_path / "notes.txt").write_text("not read")
    upload(BUCKET, tmp_path, "looked/")
    settings = ClothoDatasetConfig(layout="clotho", root=f"s3://{BUCKET}/looked")

    def unread(*_: object, **__: object) -> bytes:
        raise AssertionError("a look brings no file")

    monkeypatch.setattr(remote, "read", unread)
    monkeypatch.setattr(remote, "info", unread)
    first = look_at_dataset(settings, Path(), Digests())
    assert first == look_at_dataset(settings, Path(), Digests())
    assert {name: one["files"] for name, one in first.items()} == {"development": 1}
    client().put_object(Bucket=BUCKET, Key="looked/notes.txt", Body=b"changed")
    assert first == look_at_dataset(settings, Path(), Digests())
    sound = (tmp_path / "development" / "a.wav").read_bytes()
    changed = sound[:-1] + bytes([sound[-1] ^ 1])  # of the same size
    client().put_object(Bucket=BUCKET, Key="looked/development/a.wav", Body=changed)
    assert first != look_at_dataset(settings, Path(), Digests())


def test_without_a_network_what_was_made_stays(
    storage: str,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "TRIES", 1)
    settings = ClothoDatasetConfig(layout="clotho", root=f"s3://{BUCKET}/clotho")
    with through("http://127.0.0.1:9"), pytest.raises(EarwitnessError, match="no connection"):
        look._dataset("there", settings)  # never seen before: it cannot go on
    look._dataset("there", settings)
    path = tmp_path / "data" / "inputs" / "datasets" / "there.json"
    before = path.read_bytes()
    with through("http://127.0.0.1:9"):
        assert look._dataset("there", settings) == []
    assert path.read_bytes() == before
    said = capsys.readouterr().err
    assert said.startswith(f"warning: dataset there: s3://{BUCKET}/clotho: no connection in 1")
    assert said.endswith("; what was made of it stays\n")


def test_what_is_fetched_has_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ClothoDatasetConfig(layout="clotho", root="s3://b/clotho", fetch=True)
    with pytest.raises(EarwitnessError, match="fetch downloads into a folder, and root is s3://b/"):
        look._dataset("there", settings)
    assert not [*tmp_path.iterdir()]


def test_a_look_at_shards_of_this_machine_reads_them(shards: Path, tmp_path: Path) -> None:
    shutil.copy(shards / "part-000000.tar", tmp_path / "a.tar")
    settings = ClothoDatasetConfig(layout="clotho", root=f"{tmp_path}/*.tar")
    first = look_at_dataset(settings, Path(), Digests())
    assert first["."]["files"] == 1
    shutil.copy(shards / "part-000001.tar", tmp_path / "a.tar")
    assert first != look_at_dataset(settings, Path(), Digests())


def test_a_replaced_recording_has_another_digest(storage: str, dataset: Path) -> None:
    upload(BUCKET, dataset, "replaced/")
    before = {clip.clip_id: clip.digest for clip in prepared(f"s3://{BUCKET}/replaced").clips}
    samples, rate = soundfile.read(dataset / "evaluation" / "eva 4.wav")
    client().put_object(
        Bucket=BUCKET, Key="replaced/evaluation/eva 4.wav", Body=wav(samples[::-1], rate)
    )
    after = {clip.clip_id: clip.digest for clip in prepared(f"s3://{BUCKET}/replaced").clips}
    changed = [name for name in before if before[name] != after[name]]
    assert len(before) == 18 and [name.rpartition("-")[0] for name in changed] == ["eva-4"]


def test_python_the_recipes_and_the_doctor_know_an_address(storage: str, dataset: Path) -> None:
    (sound,) = read_sounds([f"s3://{BUCKET}/clotho/development/dev 0.wav"], None)
    own = waveforms.load(dataset / "development" / "dev 0.wav", RATE)
    np.testing.assert_array_equal(waveforms.load(sound, RATE), own)
    assert given("s3://b/x", [], None, [], dataset).root == "s3://b/x"
    assert given(str(dataset / "x"), [], None, [], dataset).root == "x"
    there, away = (
        doctor._stored("x", Path(), f"s3://{BUCKET}/{name}") for name in ("clotho", "no")
    )
    assert there.there and there.detail == f"s3://{BUCKET}/clotho: 21 files"
    assert not away.there and away.detail == f"s3://{BUCKET}/no: nothing there; check the name"


def wav(samples: np.ndarray, rate: int) -> bytes:
    import io

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV")
    return stream.getvalue()


def test_the_names_of_a_manifest_are_json(tmp_path: Path, shards: Path) -> None:
    """What a manifest keeps of a shard is where each member's bytes are."""
    manifest = prepared(f"{shards}/*.{{tar,csv}}")
    manifest.save(tmp_path / "m.json")
    clips = Manifest.load(tmp_path / "m.json").clips
    assert len(clips) > 1
    for clip in clips:
        shard, _, place = clip.path.partition("!")
        offset, size = map(int, place.split("/")[0].split("+"))
        name = place.partition("/")[2]
        with tarfile.open(shards / shard) as tar:
            content = tar.extractfile(name).read()  # type: ignore[union-attr]
        assert (shards / shard).read_bytes()[offset : offset + size] == content
