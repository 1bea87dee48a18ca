"""MACS, and Clotho's sets without captions: from a server to a manifest, through the real stage."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from earwitness.dataset_downloads import dataset_downloads
from earwitness.own import given
from earwitness.recipes import compose
from pipeline.config.datasets import BlindDatasetConfig, MacsDatasetConfig
from pipeline.corpora import fetch_macs as macs_module
from pipeline.corpora.fetch import CLOTHO_BLIND, FetchedSet, Remote, SplitFiles
from pipeline.corpora.fetch_macs import CAPTIONS, SOUND, SoundArchive, fetch_macs
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError
from pipeline.remote_zip import zip_names
from stages import look, paths
from tests.conftest import REPOSITORY
from tests.test_fetch import Server, md5, serving

RATE = 16000
TABLE = b"""files:
- filename: airport-lyon-1-2-a.wav
  annotations:
  - {annotator_id: 7, sentence: People talk in a hall, tags: [adults_talking]}
  - {annotator_id: 9, sentence: A crowd walks by, tags: [footsteps]}
- filename: park-milan-3-4-a.wav
  annotations:
  - {annotator_id: 7, sentence: Birds sing, tags: [birds_singing]}
- filename: public_square-paris-5-6-a.wav
  annotations:
  - {annotator_id: 7, sentence: A car passes, tags: [traffic_noise]}
"""
SCENES = ("airport-lyon-1-2-a", "park-milan-3-4-a", "public_square-paris-5-6-a")
INSIDE = "TAU-urban-acoustic-scenes-2019-development/audio"


def wav(seconds: float) -> bytes:
    stream = io.BytesIO()
    time = np.arange(int(RATE * seconds)) / RATE
    soundfile.write(stream, 0.3 * np.sin(2 * np.pi * 440 * time), RATE, format="WAV")
    return stream.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def scenes(*names: str, seconds: float = 0.5) -> bytes:
    return zipped({f"{INSIDE}/{name}.wav": wav(seconds) for name in names})


ARCHIVES = {  # as the real ones: sorted by scene, most of them without anything of MACS
    "1.zip": scenes(SCENES[0], "bus-lyon-1-1-a"),
    "2.zip": scenes("bus-lyon-1-2-a", "metro-lyon-1-1-a", seconds=3.0),
    "3.zip": scenes(SCENES[1], SCENES[2], seconds=0.75),
    "4.zip": scenes("tram-lyon-1-1-a"),
}


@pytest.fixture
def macs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MacsDatasetConfig:
    """The settings of a dataset whose files are those of this page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(macs_module, "CAPTIONS", Remote(CAPTIONS.name, md5(TABLE)))
    own = tuple(SoundArchive(Remote(name, md5(x)), len(x)) for name, x in ARCHIVES.items())
    monkeypatch.setattr(macs_module, "SOUND", own)
    return MacsDatasetConfig(layout="macs", root="macs", fetch=True)


def looked(server: Server, settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the stage `look` says that changed."""
    here = partial(
        fetch_macs,
        captions_url=server.address, sound_url=server.address, progress=False, pause=0,
    )  # fmt: skip
    monkeypatch.setattr(look, "fetch_macs", here)
    return look._dataset("macs", settings)


def whole(server: Server) -> list[str]:
    """The files of which more than a part was asked for, each request."""
    return [asked for asked in server.asked if not asked[-1].isdigit()]


def test_macs_is_fetched_whole_and_only_what_is_needed(
    macs: MacsDatasetConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    with serving({CAPTIONS.name: TABLE, **ARCHIVES}) as server:
        server.cuts = [len(TABLE), 2000]  # the first archive breaks off after 2000 bytes
        assert looked(server, macs, monkeypatch) == [
            "MACS.yaml is new",
            "audio is new",
        ]
        needed = ["1.zip", "1.zip bytes=2000-", "3.zip"]
        assert whole(server) == [CAPTIONS.name, *needed]
        count = len(server.asked)
        assert looked(server, macs, monkeypatch) == [] and len(server.asked) == count
    said = capsys.readouterr().out
    assert said.startswith("dataset macs: downloads 0.0 GB into ") and "2 of 4 archives" in said
    root = tmp_path / "macs"
    assert sorted(path.name for path in root.iterdir()) == ["MACS.yaml", "audio"]
    assert sorted(path.stem for path in (root / "audio").iterdir()) == sorted(SCENES)
    clips = prepare("macs", macs, tmp_path, Path("raw"), progress=False).clips
    assert [(clip.split, clip.duration) for clip in clips] == [
        ("development", 0.5), ("development", 0.75), ("development", 0.75),
    ]  # fmt: skip
    assert clips[0].captions == ("People talk in a hall", "A crowd walks by")
    assert clips[1].events == ("birds_singing",)


def test_what_is_unpacked_is_not_fetched_again(
    macs: MacsDatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {CAPTIONS.name: TABLE, **ARCHIVES}
    with serving({name: own for name, own in files.items() if name != "3.zip"}) as server:
        with pytest.raises(EarwitnessError, match=r"3\.zip.*404"):
            looked(server, macs, monkeypatch)
        assert not (tmp_path / "macs/audio").exists()  # nothing that looks complete
        assert not (tmp_path / "macs/1.zip").exists()  # its two gigabytes are free again
        server.files, server.asked = files, []
        looked(server, macs, monkeypatch)
        assert whole(server) == ["3.zip"]
    assert len([*(tmp_path / "macs/audio").iterdir()]) == 3


def test_a_run_killed_while_it_gathers_goes_on(
    macs: MacsDatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = Path.rename
    moved: list[Path] = []

    def killed(path: Path, target: Path) -> Path:
        if target.parent.name == "whole" and len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(path) if target.parent.name == "whole" else None
        return left(path, target)

    with serving({CAPTIONS.name: TABLE, **ARCHIVES}) as server:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "rename", killed)
            looked(server, macs, monkeypatch)
        assert len(moved) == 2 and not (tmp_path / "macs/audio").exists()
        server.asked = []
        looked(server, macs, monkeypatch)
        assert whole(server) == []
    assert sorted(path.stem for path in (tmp_path / "macs/audio").iterdir()) == sorted(SCENES)
    assert sorted(path.name for path in (tmp_path / "macs").iterdir()) == ["MACS.yaml", "audio"]


@pytest.mark.parametrize("says", [None, []])
def test_a_server_that_says_nothing_of_its_archives_or_lies(
    macs: MacsDatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: Any
) -> None:
    """All sound comes all the same, and nothing after the last archive that is needed."""
    monkeypatch.setattr(macs_module, "zip_names", lambda url: says)
    with serving({CAPTIONS.name: TABLE, **ARCHIVES}) as server:
        looked(server, macs, monkeypatch)
        assert whole(server) == [CAPTIONS.name, "1.zip", "2.zip", "3.zip"]
    assert len([*(tmp_path / "macs/audio").iterdir()]) == 3


def test_another_archive_than_was_published_is_refused(
    macs: MacsDatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = ARCHIVES | {"3.zip": scenes(SCENES[1], SCENES[2])}
    with serving({CAPTIONS.name: TABLE, **other}) as server:
        with pytest.raises(EarwitnessError, match=r"3\.zip.*MD5 .* is not .*removed"):
            looked(server, macs, monkeypatch)
        assert sorted(path.name for path in (tmp_path / "macs").iterdir()) == [
            ".audio",
            CAPTIONS.name,
        ]
        server.files[CAPTIONS.name] = b"files: []\n"
        (tmp_path / "macs" / CAPTIONS.name).unlink()
        with pytest.raises(EarwitnessError, match=r"MACS\.yaml.*MD5"):
            looked(server, macs, monkeypatch)


def test_sound_that_is_there_is_not_fetched(
    macs: MacsDatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "macs" / INSIDE
    folder.mkdir(parents=True)
    for name in SCENES:
        (folder / f"{name}.wav").write_bytes(wav(0.5))
    with serving({CAPTIONS.name: TABLE}) as server:
        looked(server, macs, monkeypatch)
        assert server.asked == [CAPTIONS.name]
    assert len(prepare("macs", macs, tmp_path, Path("raw"), progress=False).clips) == 3


def test_the_names_in_a_zip_are_read_from_its_end() -> None:
    members = {f"a/{number:04d}.wav": bytes(np.random.default_rng(number).bytes(9000))
               for number in range(300)}  # fmt: skip
    content = zipped(members)
    assert len(content) > 2_000_000
    with serving({"x.zip": content, "broken.zip": content[:-30], "no.zip": b"text"}) as server:
        assert zip_names(f"{server.address}/x.zip") == [*members]
        ranges = [asked.split("=")[1].split("-") for asked in server.asked]
        assert sum(int(last) - int(first) + 1 for first, last in ranges) < 600_000
        for name in ("broken.zip", "no.zip", "none.zip"):
            assert zip_names(f"{server.address}/{name}") is None
    with serving({"x.zip": content}, ranges=False) as server:
        assert zip_names(f"{server.address}/x.zip") is None


def test_the_addresses_and_checksums_are_whole() -> None:
    """Compared by hand with aac-datasets, soundata and dcase_util; here: no slip of the pen."""
    assert len({each.file.md5 for each in SOUND}) == 21
    assert all(len(each.file.md5) == 32 and int(each.file.md5, 16) for each in SOUND)
    assert SOUND[20].file.name == "TAU-urban-acoustic-scenes-2019-development.audio.21.zip"
    assert 35e9 < sum(each.size for each in SOUND) < 37e9
    assert all(url.startswith("https://zenodo.org/records/") for url, _ in CLOTHO_BLIND.values())


# --- Clotho's sets without captions ---------------------------------------------------------------


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Looks at, and prepares, a set whose files are given, from a server of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def fetched(server: Server, which: str, **settings: Any) -> Any:
        files = {
            folder: SplitFiles(
                Remote(own.audio.name, md5(server.files[own.audio.name])),
                tuple(Remote(each.name, md5(server.files[each.name])) for each in own.tables),
            )
            for folder, own in CLOTHO_BLIND[which].files.items()
        }
        monkeypatch.setitem(CLOTHO_BLIND, which, FetchedSet(server.address, files))
        entry = BlindDatasetConfig(layout="blind", root="set", fetch=which, **settings)
        look._dataset("set", entry)
        return prepare("set", entry, tmp_path, Path("raw"), progress=False)

    return fetched


def test_clothos_analysis_set_is_fetched_and_blind(
    blind: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = {"clotho_analysis/b.wav": wav(0.5), "clotho_analysis/Rain - heavy.wav": wav(1.0)}
    content = zipped({"clotho_analysis/": b"", **sound, "__MACOSX/clotho_analysis/._b.wav": b"x"})
    with serving({"clotho_analysis_2022.zip": content}) as server:
        server.cuts = [1000]
        manifest = blind(server, "clotho_analysis")
        name = "clotho_analysis_2022.zip"
        assert server.asked == [name, f"{name} bytes=1000-"]
        blind(server, "clotho_analysis")
        assert len(server.asked) == 2
    assert manifest.blind
    found = {clip.path: (clip.duration, clip.captions) for clip in manifest.clips}
    assert found == {
        "clotho_analysis/b.wav": (0.5, ()), "clotho_analysis/Rain - heavy.wav": (1.0, ()),
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["clotho_analysis"]
    said = capsys.readouterr().out
    assert said.startswith("dataset set: downloads 0.0 GB into ")


def test_clothos_retrieval_set_has_its_queries(blind: Callable[..., Any], tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr", reason="py7zr unpacks Clotho's archives")
    with py7zr.SevenZipFile(tmp_path / "x.7z", "w") as archive:
        archive.writestr(wav(0.5), "test/a.wav")
    packed = (tmp_path / "x.7z").read_bytes()
    queries = b"caption\nA dog barks\nRain falls\n"
    with serving({"retrieval_audio.7z": packed, "retrieval_captions.csv": queries}) as server:
        manifest = blind(server, "clotho_retrieval", queries="retrieval_captions.csv")
    assert [clip.path for clip in manifest.clips] == ["test/a.wav", "", ""]
    assert [clip.captions for clip in manifest.clips[1:]] == [("A dog barks",), ("Rain falls",)]


def test_what_will_be_fetched_is_said_with_its_size(
    macs: MacsDatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(macs_module, "SOUND", SOUND)  # the real ones: nothing is asked for
    with serving({"clotho_analysis_2022.zip": bytes(2_500_000)}) as server:
        files = CLOTHO_BLIND["clotho_analysis"].files
        monkeypatch.setitem(CLOTHO_BLIND, "clotho_analysis", FetchedSet(server.address, files))
        blind = BlindDatasetConfig(layout="blind", root="set", fetch="clotho_analysis")
        datasets = {"macs": macs, "set": blind}
        first, second = map(str, dataset_downloads(tmp_path, datasets))
    assert first.startswith("recordings and captions of macs (MACS; ")
    assert first.endswith(f"into {tmp_path / 'macs'}, at most: 35.6 GB")
    assert second == f"recordings of set (clotho_analysis), into {tmp_path / 'set'}: 2.5 MB"
    done = tmp_path / "macs/.audio" / SOUND[0].file.name
    done.mkdir(parents=True)  # one archive is unpacked: so much less
    less = next(dataset_downloads(tmp_path, datasets))
    assert less.megabytes == pytest.approx(sum(each.size for each in SOUND[1:]) / 1e6)


def test_a_folder_that_is_given_gets_no_sound_and_the_captions_that_it_lacks(
    tmp_path: Path,
) -> None:
    own = given(str(tmp_path), [], None, [], REPOSITORY)
    found = {}
    for paper, dataset in (("edtc", "clotho"), ("wsac-text", "public-captions")):
        recipe = compose(REPOSITORY / "recipes", paper, dataset, own)
        settings = recipe.params.datasets[dataset]
        assert settings.root == str(tmp_path)
        found[dataset] = settings.fetch
    assert found == {"clotho": False, "public-captions": ("clotho", "audiocaps")}
