"""SPICE's installer, with small jars in place of CoreNLP's and servers of its own."""

from __future__ import annotations

import http.server
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.files import sha256
from pipeline.metrics import spice_install
from pipeline.metrics.spice_install import install, ready

NOWHERE = "http://127.0.0.1:9/archive.zip"  # the discard port: refused at once


class Source(NamedTuple):
    jars: Path  # what Maven would give
    archive: Path  # what the server would give


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    folder = tmp_path / "source"
    folder.mkdir()
    known = []
    archive = folder / "archive.zip"
    with zipfile.ZipFile(archive, "w") as whole:
        for jar in spice_install.CORENLP:
            for where, stamp in ((folder / jar.name, "maven"), (folder / "other.jar", "archive")):
                with zipfile.ZipFile(where, "w") as small:
                    small.writestr("META-INF/MANIFEST.MF", stamp)  # packed at another time
                    small.writestr("model.bin", jar.name * 5000)
            whole.write(folder / "other.jar", f"{spice_install._ARCHIVE}/{jar.name}")
            path = folder / jar.name
            content = spice_install._content(path)
            known.append(jar._replace(sha256=sha256(path), content=content))
    monkeypatch.setattr(spice_install, "CORENLP", tuple(known))
    return Source(folder, archive)


def maven(folder: Path, source: Source) -> str:
    """A Maven that copies from a folder and counts its calls."""
    folder.mkdir(exist_ok=True)
    path = folder / "mvn"
    path.write_text(
        f"""#!/bin/sh
echo call >> {folder}/calls
for word in "$@"; do case "$word" in
  -DoutputDirectory=*) out="${{word#*=}}";;
  -Dartifact=*:models) name=stanford-corenlp-3.6.0-models.jar;;
  -Dartifact=*) name=stanford-corenlp-3.6.0.jar;;
esac; done
cp {source.jars}/$name "$out/"
"""
    )
    path.chmod(0o755)
    return str(path)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file with ranges; ``breaks`` answers stop half-way."""

    body = b""
    breaks = 0
    ranges: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = self.body[start:]
        self.send_response(206 if asked else 200)
        if asked:
            size = len(self.body)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.breaks:
            type(self).breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(source: Source) -> Iterator[str]:
    Handler.body, Handler.breaks, Handler.ranges = source.archive.read_bytes(), 0, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/archive.zip"
        running.shutdown()


def quiet(_: str) -> None:
    pass


def test_maven_once_a_machine_and_nothing_twice(tmp_path: Path, source: Source) -> None:
    command, cache = maven(tmp_path / "bin", source), tmp_path / "cache"
    for clone in ("one", "two", "one"):
        assert install(tmp_path / clone, cache, quiet, command, NOWHERE) is None
        assert ready(tmp_path / clone)
    assert (tmp_path / "bin" / "calls").read_text().count("call") == 2  # two jars, one clone
    models = "lib/stanford-corenlp-3.6.0-models.jar"
    assert (tmp_path / "one" / models).samefile(tmp_path / "two" / models)  # no third copy
    assert (tmp_path / "one" / "spice-1.0.jar").is_file()


def test_a_jar_cut_short_is_mended(tmp_path: Path, source: Source) -> None:
    command, cache = maven(tmp_path / "bin", source), tmp_path / "cache"
    assert install(tmp_path / "spice", cache, quiet, command, NOWHERE) is None
    jar = tmp_path / "spice" / "lib" / "stanford-corenlp-3.6.0.jar"
    whole = jar.read_bytes()
    jar.unlink()  # the cache's copy stays whole
    jar.write_bytes(whole[:-100])
    assert not ready(tmp_path / "spice")
    assert install(tmp_path / "spice", cache, quiet, command, NOWHERE) is None
    assert jar.read_bytes() == whole


def test_the_archive_where_there_is_no_maven(tmp_path: Path, server: str) -> None:
    """Its jars are packed at another time, with the same content: that is enough."""
    assert install(tmp_path / "spice", tmp_path / "cache", quiet, None, server) is None
    assert ready(tmp_path / "spice")
    assert not [*(tmp_path / "cache").glob("*.part"), *(tmp_path / "cache").glob("*.zip")]
    assert install(tmp_path / "spice", tmp_path / "cache", quiet, None, NOWHERE) is None


def test_a_broken_download_goes_on_where_it_was(tmp_path: Path, server: str) -> None:
    Handler.breaks = 1
    first = install(tmp_path / "spice", tmp_path / "cache", quiet, None, server)
    assert first is not None and not ready(tmp_path / "spice")
    assert install(tmp_path / "spice", tmp_path / "cache", quiet, None, server) is None
    assert Handler.ranges[0] is None and Handler.ranges[1] is not None


def test_another_file_than_it_should_be_is_refused(
    tmp_path: Path, source: Source, server: str
) -> None:
    with zipfile.ZipFile(source.jars / "stanford-corenlp-3.6.0.jar", "w") as changed:
        changed.writestr("model.bin", "something else")
    reason = install(tmp_path / "a", tmp_path / "cache", quiet, maven(tmp_path / "b", source), "x:")
    assert reason is not None and "another stanford-corenlp-3.6.0.jar" in reason
    assert not (tmp_path / "a" / "lib" / "stanford-corenlp-3.6.0.jar").exists()


def test_an_archive_that_is_none_is_deleted(tmp_path: Path, server: str) -> None:
    Handler.body = b"<html>moved</html>"
    reason = install(tmp_path / "spice", tmp_path / "cache", quiet, None, server)
    assert reason is not None and "broken" in reason
    assert not [*(tmp_path / "cache").glob("*.part"), *(tmp_path / "cache").glob("*.zip")]


def test_neither_way_is_a_reason_by_name(tmp_path: Path, source: Source) -> None:
    reason = install(tmp_path / "spice", tmp_path / "cache", quiet, None, NOWHERE)
    assert reason is not None and "\n" not in reason
    assert "maven: not installed" in reason and "archive: http://127.0.0.1:9" in reason


@pytest.mark.parametrize("harm", ["encrypted", "swelling", "cut", "without the jar"])
def test_a_hostile_archive_is_one_line_and_deleted(
    tmp_path: Path, source: Source, server: str, harm: str
) -> None:
    """Swelling: 40 MB of zeros where a jar of 7 MB is expected, in 40 kB."""
    path, name = source.archive, f"{spice_install._ARCHIVE}/{spice_install.CORENLP[0].name}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as whole:
        content = bytes(40_000_000) if harm == "swelling" else b"jar" * 100
        whole.writestr("other" if harm == "without the jar" else name, content)
    data = bytearray(path.read_bytes())
    if harm == "encrypted":
        data[6] |= 1
        data[data.find(b"PK\x01\x02") + 8] |= 1
    Handler.body = bytes(data[: len(data) // 2] if harm == "cut" else data)
    reason = install(tmp_path / "spice", tmp_path / "cache", quiet, None, server)
    assert reason is not None and "is broken (" in reason and "it was deleted" in reason
    assert "\n" not in reason and not any((tmp_path / "cache").iterdir())


def test_a_pipe_in_a_jars_place_is_not_waited_for(tmp_path: Path, source: Source) -> None:
    command, cache = maven(tmp_path / "bin", source), tmp_path / "cache"
    lib = tmp_path / "spice/lib"
    lib.mkdir(parents=True)
    os.mkfifo(lib / spice_install.CORENLP[0].name)
    assert not ready(tmp_path / "spice")
    assert install(tmp_path / "spice", cache, quiet, command, NOWHERE) is None
    assert ready(tmp_path / "spice")
