"""YAML that people hand in: hostile files are one line with the place, good ones are as written."""

from __future__ import annotations

import time
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from earwitness import params_file
from pipeline.config.params import load_params
from pipeline.errors import EarwitnessError
from pipeline.yaml_files import read_yaml
from tests.conftest import REPOSITORY

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
HOSTILE = {
    "nested lists": ("x: 1\ny: " + "[" * 20_000, "line 2: not YAML (nested too deep)"),
    "nested maps": ("{a: " * 20_000, "line 1: not YAML (nested too deep)"),
    "nested blocks": ("".join(f"{' ' * n}a:\n" for n in range(900)), "line 50: not YAML"),
    "bomb": (BOMB, "line 7: not YAML (too many values)"),
    "in itself": ("x: 1\na: &a [*a]\n", "line 2: not YAML (alias 'a' stands inside"),
    "huge number": ("x: 1\nseed: " + "9" * 5000, "line 2: not YAML (Exceeds the limit"),
    "odd date": ("seed: 2001-99-99\n", "line 1: not YAML (month must be in 1..12)"),
    "tag of a float": ("x: 1\nseed: !!float x\n", "line 2: not YAML (tag tag:yaml.org,2002:float"),
    "tag of bytes": ("seed: !!binary =\n", "line 1: not YAML (tag"),
    "tag of code": ("x: !!python/object/apply:os.getcwd []\n", "line 1: not YAML (tag"),
    "twice": ("a: 1\nb: 2\na: 3\n", "line 3: not YAML (found duplicate key"),
    "tab": ("a:\n\tb: 1\n", "line 2: not YAML (found character '\\t'"),
    "NUL": ("a: 1\nb: \0\n", "line 2: not YAML (character '\\x00' cannot stand in it)"),
    "two documents": ("a: 1\n---\nb: 1\n", "line 2: not YAML (but found another document)"),
    "no end": ('a: "b\n', "not YAML"),
    "no anchor": ("a: *b\n", "line 1: not YAML (found undefined alias"),
    "directive": ("%YAML 9.9\n---\na: 1\n", "line 1: not YAML (found incompatible YAML"),
    "empty": ("", "has no sections"),
    "comments": ("# nothing\n", "has no sections"),
    "list": ("- a\n- b\n", "has no sections"),
    "text": ("some words\n", "has no sections"),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text("abcdef_", min_size=1), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_one_line_with_its_place(tmp_path: Path, name: str) -> None:
    content, reason = HOSTILE[name]
    path = tmp_path / "params.yaml"
    path.write_text(content)
    for read in (load_params, params_file.read):  # its values, and its comments
        start = time.perf_counter()
        with pytest.raises(EarwitnessError) as caught:
            read(path)
        assert time.perf_counter() - start < 5
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and reason in message, message
        assert "\n" not in message and len(message) < 400 + len(str(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{datasets: {}, encoders: {}, 1: 2}\n", "1: "),
        ("{datasets: {}, encoders: {}, [a, b]: 2}\n", "Keys should be strings"),
        ("seed: [1]\n", "seed: "),
        ("datasets: {2001-01-01: {layout: clotho, root: x}}\n", "datasets"),
        ("datasets: [a]\n", "datasets: "),
        ("datasets: {a: b}\n", "datasets"),
        ("datasets: {a: {layout: clotho, root: {}}}\n", "datasets.a.root: "),
        ("datasets: {a: {layout: klotho}}\n", "datasets.a: "),
        ("datasets: {a: {layout: {b: 1}}}\n", "datasets.a"),
    ],
)
def test_yaml_of_other_types_is_one_line(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(EarwitnessError) as caught:
        load_params(path)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@given(value=VALUES)
def test_good_yaml_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    stream = StringIO()
    YAML(typ="safe", pure=True).dump({"value": value, "again": value}, stream)
    path = tmp_path_factory.getbasetemp() / "value.yaml"
    path.write_text(stream.getvalue(), encoding="utf-8")
    assert read_yaml(path, "") == {"value": value, "again": value}


@given(data=st.data())
def test_a_damaged_file_is_read_or_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Characters that mean something to YAML, put into a recipe anywhere."""
    lines = (REPOSITORY / "recipes/edtc.yaml").read_text(encoding="utf-8").splitlines()[:24]
    text = "\n".join(lines)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        odd = st.sampled_from([*"&*!|>%@`'\"{}[],?:-#\t\r\0 ~<=\n\x85\ufeff", "---\n", "<<: "])
        text = text[:at] + data.draw(odd) + text[at + data.draw(st.integers(0, 2)) :]
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    for read in (load_params, params_file.read):
        try:
            read(path)
        except EarwitnessError as error:
            assert "\n" not in str(error)
