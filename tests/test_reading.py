"""Text and JSON that people hand in: what is no file, and what is no text, is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earwitness import params_file
from earwitness.scoring import read_captions
from pipeline.config.params import load_params
from pipeline.corpora.manifest import Manifest
from pipeline.errors import EarwitnessError
from pipeline.files import read_json, read_text
from pipeline.text.subword import SubwordTokenizer
from pipeline.text.vocabulary import Vocabulary
from tests.conftest import REPOSITORY

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NO_FILES = {
    "folder": ("os.mkdir(path)", "it is a folder"),
    "pipe": ("os.mkfifo(path)", "it is a pipe or a device"),
    "endless": ("os.symlink('/dev/zero', path)", "it is a pipe or a device"),
    "nowhere": ("pass", "not there"),
    "below/a file": ("os.mkdir('below'); os.rmdir('below'); open('below', 'w')", "not there"),
    "loop": ("os.symlink(path, path)", "cannot be read ("),
    "x" * 300: ("pass", "cannot be read ("),
    "closed": ("open(path, 'w').close(); os.chmod(path, 0); os.setuid(65534)", "cannot be read ("),
    "large": ("open(path, 'wb').truncate(600 << 20)", "more than the 512 MB"),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_one_line_and_never_waits(tmp_path: Path, name: str) -> None:
    """In a process of its own, with little memory: /dev/zero must not be read, nor a pipe be waited
    for."""
    make, reason = NO_FILES[name]
    if name == "closed" and os.getuid():
        make = make.rpartition(";")[0]
    code = (
        "import os, resource, sys; from pathlib import Path\n"
        "from pipeline.files import read_json; from pipeline.errors import EarwitnessError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        f"path = {name!r}; {make}\n"
        "try: read_json(Path(path), 'give a file')\n"
        "except EarwitnessError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: {reason}") or f"({reason})" in done.stdout
    assert done.stdout.count("\n") == 1 and done.stdout.endswith("; give a file\n")


@pytest.mark.parametrize("kind", ["folder", "pipe", "endless"])
@pytest.mark.parametrize(
    "read",
    [
        *(load_params, params_file.read, read_captions, Manifest.load),
        *(Vocabulary.load, SubwordTokenizer.load),
    ],
)
def test_every_reader_of_text_asks_first_what_it_opens(
    tmp_path: Path, kind: str, read: Callable[[Path], object]
) -> None:
    """Each of the two files that hold a tokenizer is called by its own name."""
    for name in ("vocabulary.json", "tokenizer.json"):
        path = tmp_path / name
        match kind:
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case _:
                path.symlink_to("/dev/zero")
    whole = read in (Vocabulary.load, SubwordTokenizer.load)
    with pytest.raises(EarwitnessError, match=r"json: cannot be read \(it is a (folder|pipe or a)"):
        read(tmp_path if whole else path)


def test_text_is_without_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\r\n")
    assert read_text(path, "") == "café\r\n"
    path.write_bytes(b"one\ntwo \xe9\n")
    with pytest.raises(EarwitnessError, match=r"text: line 2 is not UTF-8; save it as UTF-8"):
        read_text(path, "")
    with pytest.raises(EarwitnessError, match="not a file's name; correct it"):
        read_text(Path("a\0b"), "correct it")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' occurs twice"),
        ("[NaN]", "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("[1e999]", "1e999 is not a finite number"),
        ("9" * 5000, "4300"),
        ('["\\uD800"]', "surrogates"),
        ("", "line 1"),
        ("{", "line 1"),
    ],
)
def test_hostile_json_is_one_line(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "value.json"
    path.write_text(content)
    with pytest.raises(EarwitnessError, match="not JSON") as caught:
        read_json(path, "make it again")
    assert reason in str(caught.value) and str(caught.value).endswith("; make it again")
    assert "\n" not in str(caught.value)


@given(value=JSON)
def test_good_json_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    path.write_text(json.dumps(value, ensure_ascii=len(str(value)) % 2 == 0), encoding="utf-8")
    assert read_json(path, "") == value
