"""``earwitness serve`` as a person starts and ends it, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import REPOSITORY
from serving import tone
from tiny_repository import make_repository
from typer.testing import CliRunner

from earwitness.cli import app
from earwitness.serving.uploads import PREFIX, Uploads

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return root


@contextmanager
def started(root: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its first line."""
    command = [sys.executable, "-m", "earwitness", "serve", "--repository", str(root)]
    process = subprocess.Popen(
        [*command, "--port", "0", *options], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.wait()


def own_folders(process: subprocess.Popen[str]) -> list[Path]:
    return [*Path(tempfile.gettempdir()).glob(f"{PREFIX}{process.pid}-*")]


def test_it_starts_with_its_address_keeps_its_memory_and_ends_at_once(root: Path) -> None:
    with started(root, "--system", "alone") as (process, line):
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)  \(Ctrl-C ends it\)\n", line)
        assert found is not None, (line, process.stderr and process.stderr.read())
        url = found[1]
        seen = psutil.Process(process.pid)
        sounds = [tone(0.5 + 0.1 * (n % 5), 200 + 10 * n) for n in range(10)]
        with httpx.Client(timeout=60) as client:

            def ask(count: int) -> int:
                """Resident bytes after so many requests, of which some are refused."""
                for number in range(count):
                    content = b"no sound" if number % 10 == 9 else sounds[number % 10]
                    files = {"file": ("a.wav", content)}
                    details = {"details": number % 5 == 0}
                    answer = client.post(f"{url}/caption", files=files, params=details)
                    assert answer.status_code == (415 if number % 10 == 9 else 200)
                return int(seen.memory_info().rss)

            warm = ask(40)
            (folder,) = own_folders(process)
            assert folder.stat().st_mode & 0o777 == 0o700 and not [*folder.iterdir()]
            assert ask(100) - warm < 12 * MEGABYTE
            assert len(seen.open_files()) + len(seen.net_connections()) < 20
        # somebody waits while it ends
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as client_socket:
            client_socket.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\n")
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=20)
            assert time.monotonic() - start < 4  # a second, on a busy machine
        assert process.returncode == 0 and out == "" and said == "stopped\n"
        assert not folder.exists()


def test_it_ends_while_it_works(root: Path) -> None:
    """The client is told, nothing crashes, and nothing of the upload is left."""
    options = ("--system", "three", "--longest-minutes", "60")
    content = tone(900)
    answers: list[httpx.Response] = []

    def ask(url: str) -> None:
        answers.append(httpx.post(f"{url}/caption", files={"file": ("a.wav", content)}, timeout=60))

    with started(root, *options) as (process, line):
        url = line.split()[0]
        client = threading.Thread(target=ask, args=(url,))
        client.start()
        while not [file for folder in own_folders(process) for file in folder.iterdir()]:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)  # as a service manager does
        out, said = process.communicate(timeout=30)
        client.join()
        assert process.returncode == 0 and out == "" and said == "stopped\n"
        assert not own_folders(process)
    (answer,) = answers
    assert answer.status_code == 503 and answer.json() == {"error": "the server is ending"}


def test_a_port_in_use_and_an_address_of_others_are_one_line(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["serve", "--repository", str(root), "--port", port]
        done = CliRunner().invoke(app, options)
        assert done.exit_code == 1 and done.stdout == ""
        assert done.stderr == (
            f"error: 127.0.0.1:{port}: cannot listen there (Address already in use); give another "
            "--port or --host\n"
        )
    for host in ("192.0.2.1", "no-such-host.invalid"):
        done = CliRunner().invoke(app, [*options[:-1], "0", "--host", host])
        assert done.exit_code == 1 and done.stderr.startswith(f"error: {host}:0: cannot listen")
        assert done.stderr.count("\n") == 1


def test_what_is_not_trained_is_said_before_it_serves(root: Path) -> None:
    options = ["serve", "--repository", str(root), "--port", "0", "--system", "nothing"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 1 and "no system 'nothing'" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("size", ["nan", "inf", "0", "-1"])
def test_a_size_that_is_none_is_refused(root: Path, size: str) -> None:
    options = ["serve", "--repository", str(root), "--port", "0", "--max-mb", size]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 2 and "--max-mb" in done.stderr and "Traceback" not in done.stderr


def test_an_open_address_is_warned_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[object, ...]] = []
    monkeypatch.setattr("earwitness.serving.server.serve", lambda *given: served.append(given))
    options = ["serve", "--repository", str(root), "--port", "0"]
    done = CliRunner().invoke(
        app, [*options, "--host", "0.0.0.0", "--allow-host", "studio.example"]
    )
    assert done.exit_code == 0 and "http://127.0.0.1:" in done.stdout
    assert (
        "warning: all who reach 0.0.0.0:0 can use this server; there is no password" in done.stderr
    )
    (given,) = served
    assert given[2] == ["0.0.0.0", "studio.example"]
    done = CliRunner().invoke(app, options)
    assert "warning: all who reach" not in done.stderr


def test_an_extra_that_is_missing_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "fastapi" else 1)
    done = CliRunner().invoke(app, ["serve", "--repository", str(root), "--port", "0"])
    assert done.exit_code == 1
    assert done.stderr == "error: serve needs fastapi: pip install 'earwitness[serve]'\n"


def test_what_a_killed_server_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, alive = tmp_path / f"{PREFIX}{ended.pid}-a", tmp_path / f"{PREFIX}{os.getpid()}-b"
    other = tmp_path / f"{PREFIX}mine"
    for folder in (left, alive, other):
        folder.mkdir()
        (folder / "a").touch()
    uploads = Uploads()
    assert not left.exists() and alive.exists() and other.exists()
    assert uploads.folder.parent == tmp_path
    uploads.close()
    assert not uploads.folder.exists()


def test_help_costs_nothing() -> None:
    code = "import sys, earwitness.commands.serve; print({'torch', 'fastapi'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
