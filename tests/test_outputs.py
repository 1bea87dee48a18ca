"""Where a person's output goes: into links, devices and pipes, and never in their place."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import REPOSITORY
from tiny import TINY

from earwitness.recipes import apply
from pipeline.errors import EarwitnessError
from pipeline.files import check_place, delivering, write_json


def deliver(path: Path, text: str = "new\n") -> None:
    with delivering(path) as whole:
        whole.write_text(text, encoding="utf-8")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "captions.csv"
    path.write_text("candidate,caption_1\na dog barks,a dog is barking\n", encoding="utf-8")
    return path


def score(table: Path, out: Path) -> subprocess.CompletedProcess[str]:
    settings = table.with_name("settings.yaml")
    write_json(settings, TINY)  # JSON is YAML
    return subprocess.run(
        [sys.executable, "-m", "earwitness", "score", table, "--per-clip", out,
         "--params", settings],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_link_is_followed(tmp_path: Path) -> None:
    target, link, chain = tmp_path / "deep/target", tmp_path / "link", tmp_path / "chain"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to("deep/target")
    chain.symlink_to(link)
    deliver(chain)
    assert chain.is_symlink() and link.is_symlink() and target.read_text() == "new\n"
    dangling = tmp_path / "dangling"
    dangling.symlink_to("not/yet")
    deliver(dangling)
    assert dangling.is_symlink() and (tmp_path / "not/yet").read_text() == "new\n"


def test_what_fails_leaves_the_target_of_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with pytest.raises(ZeroDivisionError), delivering(link) as whole:
        whole.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old" and sorted(tmp_path.iterdir()) == [link, target]


def test_a_pipe_gets_the_text(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()
    deliver(pipe, "a\n" * 50_000)
    reader.join(10)
    assert got == ["a\n" * 50_000] and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_stays_a_device_for_root(tmp_path: Path, table: Path) -> None:
    null, full = tmp_path / "null", tmp_path / "full"
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    try:
        null.write_bytes(b"")
    except PermissionError:
        pytest.skip("devices cannot be opened in this folder")
    deliver(null)
    assert stat.S_ISCHR(null.stat().st_mode)
    with pytest.raises(EarwitnessError, match="full: cannot be written"):
        deliver(full)
    assert stat.S_ISCHR(full.stat().st_mode)
    assert score(table, null).returncode == 0
    assert stat.S_ISCHR(null.stat().st_mode)


def test_standard_output_is_a_place(table: Path) -> None:
    done = score(table, Path("/dev/stdout"))
    assert done.returncode == 0 and done.stdout.startswith("candidate,bleu_1,")
    assert '"bleu_1": ' in done.stdout


def test_a_recipe_goes_into_the_file_that_params_is_linked_to(tmp_path: Path) -> None:
    params, link = tmp_path / "mine.yaml", tmp_path / "params.yaml"
    link.symlink_to(params.name)
    apply(link, REPOSITORY / "recipes", "edtc", "soundscapes")
    assert link.is_symlink() and "captioners:" in params.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", "Is a directory"),
        ("file/below", "file is a file"),
        ("file/far/below", "file is a file"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("a\0b", "null"),
    ],
)
def test_no_place_is_one_line_and_nothing_is_made(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    for attempt in (check_place, deliver):
        with pytest.raises(EarwitnessError) as caught:
            attempt(tmp_path / name)
        message = str(caught.value)
        assert reason in message and message.endswith("give another path") and "\n" not in message
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_line_refuses_a_place_before_it_works(table: Path) -> None:
    done = score(table, table / "below")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
