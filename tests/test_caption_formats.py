"""Captions as text, CSV, JSON, SRT and WebVTT, read back by other readers than what wrote them."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from pathlib import Path

import pytest

from earwitness.captions.formats import chosen, document, sidecar
from earwitness.captions.recordings import CaptionedWindow, captioned
from earwitness.captions.records import SoundRecord, record
from pipeline.decoding.predict import Caption
from pipeline.errors import EarwitnessError
from pipeline.tables import read_rows

BEST = Caption("a dog barks", math.log(0.02), (("dogs bark", math.log(0.01)),), unsure=True)
NAMES = [
    *("street.wav", "a,b.wav", 'say "hi".wav', "two\nlines.wav", "tab\there.wav", "ünï→.wav"),
    *("=cmd|' /C calc'!A0.wav", "+1.wav", "-1.wav", "@sum.wav", r"lat\xe9.wav", "/rec/a.wav"),
]


def sound(name: str, *windows: tuple[float, float, str]) -> SoundRecord:
    """Of one caption, or of windows of captions."""
    own = [
        CaptionedWindow(start, end, BEST._replace(text=text, unsure=False))
        for start, end, text in windows
    ]
    return record(name, captioned(5.0, own or [CaptionedWindow(0.0, 5.0, BEST)]))


LONG = sound(
    "long.wav", (0.0, 12.3456, "rain <b>&</b> --> wind"), (12.3456, 3725.5, "a car\n\npasses")
)


def test_csv_is_read_by_csv(tmp_path: Path) -> None:
    """Each name is that of the file again, and nothing is a spreadsheet's formula."""
    text = document([sound(name) for name in NAMES] + [LONG], "csv", 2)
    rows = [*csv.DictReader(io.StringIO(text, newline=""))]
    whole = [row for row in rows if not row["window"]]
    assert [Path(row["file"]) for row in whole] == [Path(name) for name in [*NAMES, "long.wav"]]
    for row in rows:
        assert not row["file"].startswith(("=", "+", "-", "@", "\t", "\r"))
    first = whole[0]
    assert first["caption"] == "a dog barks" and first["unsure"] == "yes"
    assert (first["start"], first["end"]) == ("0", "5.0")
    assert float(first["log_prob"]) == pytest.approx(math.log(0.02), abs=1e-4)
    assert float(first["share"]) == pytest.approx(2 / 3, abs=1e-4)
    assert first["candidate_2"] == "dogs bark" and float(first["share_2"]) == pytest.approx(
        1 / 3, abs=1e-4
    )
    cut = [
        (row["window"], row["start"], row["end"], row["caption"]) for row in rows if row["window"]
    ]
    assert cut == [
        ("1", "0.0", "12.346", "rain <b>&</b> --> wind"),
        ("2", "12.346", "3725.5", "a car passes"),
    ]
    assert whole[-1]["log_prob"] == whole[-1]["unsure"] == ""
    (tmp_path / "x.csv").write_text(text, encoding="utf-8", newline="")
    ours = read_rows(tmp_path / "x.csv", ["file", "caption"])
    assert [row.values["caption"] for row in ours] == [row["caption"] for row in rows]
    formula = sound("a.wav", (0.0, 5.0, "=1+1"))
    (row,) = csv.DictReader(io.StringIO(document([formula], "csv", 1), newline=""))
    assert row["caption"] == "'=1+1"


def test_json_is_one_document_and_json_lines_a_line_a_sound() -> None:
    sounds = [*map(sound, NAMES), LONG]
    whole = json.loads(document(sounds, "json", 2))
    lines = document(sounds, "jsonl", 2).split("\n")
    assert lines.pop() == "" and [json.loads(line) for line in lines] == whole
    assert [each["file"] for each in whole] == [*NAMES, "long.wav"]
    first, last = whole[0], whole[-1]
    assert first["caption"] == "a dog barks" and first["windows"] == [] and first["unsure"] is True
    assert first["probability"] == pytest.approx(0.02, rel=1e-3)
    assert [each["share"] for each in first["candidates"]] == pytest.approx(
        [2 / 3, 1 / 3], abs=1e-4
    )
    assert [each["probability"] for each in first["candidates"]] == pytest.approx(
        [0.02, 0.01], rel=1e-3
    )
    assert last["log_prob"] is None and last["caption"] == "a car passes"
    assert [(w["start"], w["end"]) for w in last["windows"]] == [(0, 12.346), (12.346, 3725.5)]
    assert last["windows"][0]["candidates"][0]["caption"] == "rain <b>&</b> --> wind"
    assert json.loads(sidecar(LONG, "json", 2)) == last
    assert "candidates" not in json.loads(sidecar(LONG, "json", 1))["windows"][0]


TIME = r"(\d\d):([0-5]\d):([0-5]\d){point}(\d{{3}})"


def cues(text: str, point: str) -> list[tuple[float, float, str]]:
    """By the formats' grammar: blocks between empty lines, each of times and one line."""
    time = TIME.format(point=point)
    found = []
    for block in text.strip("\n").split("\n\n"):
        lines = block.split("\n")
        if point == ",":
            assert lines.pop(0) == str(len(found) + 1)
        match = re.fullmatch(f"{time} --> {time}", lines[0])
        assert match is not None and len(lines) == 2
        numbers = [*map(int, match.groups())]
        start, end = (
            h * 3600 + m * 60 + s + ms / 1000 for h, m, s, ms in (numbers[:4], numbers[4:])
        )
        assert start < end and "-->" not in lines[1]
        found.append((start, end, lines[1]))
    return found


def test_subtitles() -> None:
    expected = [(0, 12.346, "rain <b>&</b> → wind"), (12.346, 3725.5, "a car passes")]
    assert cues(document([LONG], "srt", 1), ",") == expected
    head, _, body = document([LONG], "vtt", 1).partition("\n\n")
    assert head == "WEBVTT"
    found = cues(body, "[.]")
    assert "<" not in found[0][2] and "&lt;b&gt;&amp;" in found[0][2]
    assert [(start, end, html.unescape(text)) for start, end, text in found] == expected
    assert cues(document([sound("a.wav")], "srt", 1), ",") == [(0, 5, "a dog barks")]
    nothing = sound("a.wav", (0.0, 0.0001, ""))
    assert cues(document([nothing], "srt", 1), ",") == [(0, 0.001, "…")]


def test_text_is_a_line_a_sound() -> None:
    lines = document([sound(name) for name in NAMES], "text", 1).split("\n")
    assert lines.pop() == "" and len(lines) == len(NAMES)
    assert all(line.endswith("  a dog barks  (unsure)") for line in lines)
    assert lines[3].startswith("two\\nlines.wav ") and lines[0].startswith("street.wav ")
    assert document([LONG], "text", 1).split("\n") == [
        "long.wav  a car passes",
        "  00:00:00.0 - 00:00:12.3  rain <b>&</b> --> wind",
        "  00:00:12.3 - 01:02:05.5  a car passes",
        "",
    ]
    assert document([sound("a.wav")], "text", 3).split("\n") == [
        "a.wav  a dog barks  (unsure)",
        "     66.7%    -3.91  a dog barks",
        "     33.3%    -4.61  dogs bark",
        "",
    ]
    assert sidecar(sound("two\nlines.wav"), "text", 1) == "a dog barks  (unsure)\n"


def test_the_format_is_that_of_the_ending() -> None:
    names = {"a.csv": "csv", "a.JSONL": "jsonl", "b.json": "json", "c.srt": "srt", "d.txt": "text"}
    assert {name: chosen("", Path(name)) for name in names} == names
    assert chosen("", None) == "text" and chosen("", Path("a.tab")) == "csv"
    assert chosen("vtt", Path("a.csv")) == "vtt"
    with pytest.raises(EarwitnessError, match="no 'srv'; did you mean 'srt'"):
        chosen("srv", None)
