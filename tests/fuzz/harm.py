"""Harm that any file can come to: its bytes, its text, and what stands in its place.

A harm changes one file in a case's folder. ``draw`` makes all choices, so that a seed gives the
same bytes again; ``outside`` is a folder that no loader may read.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Harm = Callable[[Random, Path, Path], None]
Change = Callable[[Random, bytes, Path], bytes]

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40)
NUMBERS += ((1 << 63) - 1, 1 << 63, (1 << 64) - 1)
WORDS = (
    "",
    " ",
    "\0",
    "a" * 5000,
    "../outside/canary",
    "é\u0301\u200b",
    "NaN",
    "-1",
    "\r",
    "1e999",
)
DEEP = "\u2603deep"  # stands for nesting that json.dumps could not write


def file_change(change: Change) -> Harm:
    """A harm from what it does to the bytes."""

    def harm(draw: Random, path: Path, outside: Path) -> None:
        path.write_bytes(change(draw, path.read_bytes(), outside))

    return harm


def span(draw: Random, data: bytes) -> tuple[int, int]:
    """A part of ``data``, mostly short, half of the time near its beginning."""
    near = len(data) if draw.random() < 0.5 else min(len(data), 256)
    start = draw.randrange(near + 1)
    return start, min(len(data), start + draw.choice((1, 2, 4, 8, 30, 500)))


def bytes_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """One of the usual accidents."""
    start, end = span(draw, data)
    noise = draw.randbytes(end - start)
    match draw.randrange(9):
        case 0:
            return data[: draw.randrange(len(data) + 1)]
        case 1:
            flipped = bytes(byte ^ (1 << draw.randrange(8)) for byte in data[start:end])
            return data[:start] + flipped + data[end:]
        case 2:
            return data[:start] + noise + data[end:]
        case 3:
            return data[:start] + noise + data[start:]
        case 4:
            return data[:start] + data[end:]
        case 5:
            return data[:end] + data[start:end] * draw.choice((1, 3, 100)) + data[end:]
        case 6:
            to = draw.randrange(len(data) + 1)
            return data[:to] + data[start:end] + data[to:]
        case 7:
            return data[:start] + bytes(end - start) + data[end:]
    size, order = draw.choice("BHIQ"), draw.choice("<>")
    number = draw.choice(NUMBERS) % (1 << (8 * struct.calcsize(size)))
    put = struct.pack(order + size, number)
    return data[:start] + put + data[start + len(put) :]


def number_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """A decimal number in the first kilobytes becomes another."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data[:4000]))
    if not found:
        return bytes_changed(draw, data, outside)
    at = draw.choice(found)
    new = draw.choice(("0", "-1", "1e999", "nan", "9" * 400, "", "x", "99999999999", "1.5", "1e3"))
    return data[: at.start()] + new.encode() + data[at.end() :]


def in_its_place(draw: Random, path: Path, outside: Path) -> None:
    """Something else stands where the file was."""
    path.unlink()
    match draw.randrange(7):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to("/dev/zero")
        case 3:
            path.symlink_to(path.name)
        case 4:
            path.write_bytes(b"")
        case 5:
            path.write_bytes(b"<!DOCTYPE html><html><body>404 not found</body></html>\n")


def json_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """One value or key of a JSON text becomes another."""
    try:
        value = json.loads(data)
    except ValueError:
        return bytes_changed(draw, data, outside)
    text = json.dumps(node_changed(draw, value, outside))
    text = text.replace(json.dumps(DEEP), draw.choice(("[", '{"a":')) * 100_000)
    if draw.random() < 0.1:  # a key twice
        text = re.sub(r'("\w+"): ', r"\1: null, \1: ", text, count=1)
    return text.encode("utf-8", "surrogatepass")


def node_changed(draw: Random, value: Any, outside: Path) -> Any:
    """``value`` with one node of it replaced, removed, renamed or repeated."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.1:
        return other_value(draw, value, outside)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = draw.choice(list(keys))
    what = draw.random()
    if what < 0.7:
        value[key] = node_changed(draw, value[key], outside)
    elif what < 0.85 or isinstance(value, list):
        value.pop(key)
    else:
        value[draw.choice(WORDS)] = value.pop(key)
    return value


def other_value(draw: Random, value: Any, outside: Path) -> Any:
    """Something of another type or size than ``value``."""
    secret = str(outside / "canary.json")
    others = (
        *(
            None,
            True,
            -1,
            0,
            1.5,
            float("nan"),
            float("inf"),
            10**30,
            -(10**400),
            2**63,
            10**9,
            3 * 10**8,
            10**5,
        ),
        *("", "\0", "\ud800", "x" * 5000, secret, "../outside/canary", DEEP, [], {}, [[]]),
        *([value, value], {"x": value}, [None] * 3, str(value), {"": None}),
    )
    return draw.choice(others)


def yaml_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """One line's value becomes what YAML's constructors find hard."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    at = draw.choice([i for i, line in enumerate(lines) if ":" in line] or [0])
    key = lines[at].partition(":")[0] if lines else "a"
    scalars = (
        *("9" * 5000, "2001-99-99", "!!float x", "!!int x", "!!binary '*'", "!!timestamp 1"),
        *("!!python/object/apply:os.system [id]", "!!set {a: 1}", "!!omap [1]", "!!merge x"),
        *("&a [*a]", "*missing", "{<<: 1}", "[", "{", "'", '"\\x', "|", "%", "@", "\t- a", "- -"),
        *(".inf", ".nan", "-.inf", "1e999", "~", "-1", "0", "1e400000", "0o9", "0x" + "f" * 4000),
        *("[" * 3000, "{a: " * 3000, "? " * 2000, "1:" * 800, "\x85", "\0", "x" * 5000, "1_000"),
        *("1:60:60", "[[1], {}]", "{[a]: 1}", "{1: 2, 1: 3}", "=", "<<", f"{outside}/canary.json"),
    )
    match draw.randrange(5):
        case 0:
            lines.insert(at, draw.choice(("\t" + key, "  - x", "---", "...", key + ": 1", "%TAG")))
        case 1:
            del lines[at]
        case 2:
            lines[at] = " " * draw.randrange(9) + lines[at].lstrip()
        case _:
            lines[at] = f"{key}: {draw.choice(scalars)}"
    return "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")


def csv_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """A cell, a row or the header of a table changes."""
    rows = [line.split(",") for line in data.decode("utf-8", "surrogateescape").split("\n")]
    row = draw.choice(rows[:2] + rows)
    at = draw.randrange(len(row))
    cells = (
        *WORDS,
        *('"', '""', '"x', 'x"y', '"a,b"', '"a\nb"', "inf", "-inf", "9" * 5000, "../x", "/etc"),
        *(f"{outside}/canary.wav", "=1+1", "\ufeff", "\u2028", "x" * 200_000, "[1, 2", "[" * 9000),
    )
    match draw.randrange(6):
        case 0:
            row.insert(at, draw.choice(cells))
        case 1:
            del row[at]
        case 2:
            rows.insert(draw.randrange(len(rows) + 1), list(row))
        case 3:
            rows.remove(row)
        case _:
            row[at] = draw.choice(cells)
    end = draw.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\n"))
    text = end.join(draw.choice((",", ",", ",", ", ", ";")).join(row) for row in rows)
    coding = draw.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"))
    return text.encode(coding, "replace" if coding == "utf-16" else "surrogateescape")


BYTES = (file_change(bytes_changed),)
JSON = (*BYTES, *(file_change(json_changed),) * 3)
YAML = (*BYTES, *(file_change(yaml_changed),) * 3)
CSV = (*BYTES, file_change(number_changed), *(file_change(csv_changed),) * 3)
TEXT = (*BYTES, *(file_change(number_changed),) * 2)
