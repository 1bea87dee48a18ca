"""Tables as people have them: one reader and one rule, for datasets and for ``score``."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earwitness.scoring import read_captions
from pipeline.config.params import parse_params
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError
from pipeline.tables import read_rows
from tests.test_corpora import write_sound

CELL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6)
)


def written(rows: list[list[str]], end: str, quoting: int = csv.QUOTE_MINIMAL) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=end, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return stream.getvalue()


@given(table=TABLES, end=st.sampled_from(["\n", "\r\n", "\r"]), mark=st.booleans())
def test_what_the_csv_module_wrote_is_read_to_the_letter(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], end: str, mark: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    header = [f"c{number}" for number in range(len(table[0]))]
    # Python 3.11's writer leaves a lone \r without quotes, which ends a line for every reader
    lone = any("\r" in cell for row in table for cell in row)
    text = written([header, *table], end, csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL)
    path.write_text(text, encoding="utf-8-sig" if mark else "utf-8", newline="")
    kept = [row for row in table if any(cell.strip() for cell in row)]
    if not kept:
        with pytest.raises(EarwitnessError, match="has no rows"):
            read_rows(path, header[:1])
        return
    found = read_rows(path, header[:1])
    assert [list(row.values) for row in found] == [header] * len(kept)
    assert [[*row.values.values()] for row in found] == [[c.strip() for c in row] for row in kept]
    assert [[row.spaced.get(n, row.values[n]) for n in header] for row in found] == kept


@given(table=TABLES, data=st.data())
def test_what_a_spreadsheet_leaves_behind_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], data: st.DataObject
) -> None:
    """Empty rows and columns, spaces after commas, an index without a name; and the lines."""
    table = [["x", *row] for row in table]
    path = tmp_path_factory.getbasetemp() / "table.csv"
    header = [f"c{number}" for number in range(len(table[0]))]
    text, lines = "", []
    for number, row in enumerate([header, *table]):
        empty = st.sampled_from(["\n", "  \n", ",,\n", " , ,,\n", '""\n'])
        text += "".join(data.draw(st.lists(empty, max_size=3)))
        lines.append(len(list(io.StringIO(text, newline=""))) + 1)
        cells = [written([[cell]], "", csv.QUOTE_ALL) for cell in row]
        comma = data.draw(st.sampled_from([",", ", ", ",  "]))
        text += f"{number or ''}," + comma.join(cells) + data.draw(st.sampled_from(["", ",", ",,"]))
        text += data.draw(st.sampled_from(["\n", "\r\n"]))
    path.write_text(text + data.draw(st.sampled_from(["", "\n \n", ",,,\n"])), "utf-8", newline="")
    found = read_rows(path, ["c0"])
    assert [[*row.values.values()] for row in found] == [[c.strip() for c in row] for row in table]
    assert [row.line for row in found] == lines[1:]


# --- one rule for all layouts, and for score -----------------------------------------------------

SOUNDS = ("a.wav", "b.wav")


LAYOUTS = {
    "clotho": ("set/clotho_captions_development.csv", "development"),
    "audiocaps": ("set/train.csv", "train"),
    "captions": ("set/table.csv", "nowhere"),
}
READERS = [*LAYOUTS, "score"]


def by_layout(layout: str, base: Path, table: str | bytes) -> Manifest:
    name, folder = LAYOUTS[layout]
    for sound in SOUNDS:
        write_sound(base / "set" / folder / sound, 0.1)
    path = base / name
    path.write_bytes(table.encode() if isinstance(table, str) else table)
    own = {"layout": layout, "root": "set", "development": "table.csv"}
    if layout != "captions":
        del own["development"]
    settings = parse_params({"datasets": {"set": own}, "encoders": {}}).datasets["set"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return prepare("set", settings, base, base / "raw", progress=False)


def references(reader: str, base: Path, table: str | bytes) -> list[list[str]]:
    """A table's captions, by each of those that read such tables."""
    content = table if isinstance(table, bytes) else table.encode()
    if reader == "score":
        (base / "table.csv").write_bytes(content.replace(b"{key}", b"candidate"))
        return read_captions(base / "table.csv").references
    manifest = by_layout(reader, base, content.replace(b"{key}", b"file_name"))
    return [list(clip.captions) for clip in manifest.clips]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "table",
    [
        "{key},caption_1,caption_2\na.wav,A dog,A cat\nb.wav,Rain,\n",
        "{key}, caption_1, caption_2\na.wav, A dog, A cat\nb.wav, Rain,\n",  # as README prints it
        "{key} ,caption_1 , caption_2 \n a.wav ,A dog , A cat\nb.wav,Rain , \n",
        '{key}, caption_1, caption_2\na.wav, "A dog", "A cat"\nb.wav, "Rain"\n',
        "\ufeff{key},caption_1,caption_2\r\na.wav,A dog,A cat\r\nb.wav,Rain,\r\n",
        "{key},caption_1,caption_2\ra.wav,A dog,A cat\rb.wav,Rain,\r",
        "{key},caption_1,caption_2,,\na.wav,A dog,A cat,,\nb.wav,Rain,,,\n,,,,\n,,,,\n",
        "{key},,caption_1,caption_2\na.wav,,A dog,A cat\nb.wav,,Rain\n",
        ",{key},caption_1,caption_2\n0,a.wav,A dog,A cat\n1,b.wav,Rain,\n",  # a data frame's index
        "\n{key},caption_1,caption_2\n\na.wav,A dog,A cat\nb.wav,Rain\n   \n\t\n",
        "{key},caption_1,caption_2,caption_source,caption_id,caption_lang,caption_\n"
        "a.wav,A dog,A cat,freesound,101,en,x\nb.wav,Rain,,freesound,102,en,x\n",
    ],
)
def test_one_table_is_read_alike_by_all(tmp_path: Path, reader: str, table: str) -> None:
    assert references(reader, tmp_path, table) == [["A dog", "A cat"], ["Rain"]]


@pytest.mark.parametrize("reader", READERS)
def test_caption_alone_is_the_captions_column(tmp_path: Path, reader: str) -> None:
    table = "{key},caption, caption_id\na.wav,A dog,101\nb.wav, Rain ,102\n"
    assert references(reader, tmp_path, table) == [["A dog"], ["Rain"]]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("{key},caption_id,caption_source\na.wav,101,x\n", "no column caption_1"),
        ("{key},caption,caption_1\na.wav,A dog,A cat\n", "both caption and caption_1"),
        ('{key},caption_1\na.wav,"A dog\nb.wav,Rain\n', "line 2 is not CSV"),
        ('{key},caption_1\na.wav,"A\ndog"\n\nb.wav,"Rain"x\nb.wav,Wind\n', "line 5 is not CSV"),
        ('{key},caption_1\na.wav,"A\ndog"\nb.wav,Rain,Wind\n', "line 4 has 3 values for 2"),
        ("{key},caption_1,\na.wav,Rain, then wind\n", "line 2 has 3 values for 2 columns"),
        ("{key},,caption_1\na.wav,Rain, then wind\n", "line 2 has a value in column 2, which"),
        (" , \n", "empty file"),
        ("{key},caption_1\n,,\n", "has no rows"),
        ("{key},caption_1, caption_1\na.wav,A,B\n", "'caption_1' occurs twice"),
        ("\n\n{key},caption_1\n\na.wav,\n", "line 5"),
        (b"{key},caption_1\n\na.wav,caf\xe9\n", "line 3 is not UTF-8"),
        (b"\xff\xfe{\x00k\x00", "line 1 is not UTF-8"),
        ("{key},caption_1\na.wav," + "a" * 200_000 + "\n", "line 2 is not CSV (field larger"),
    ],
)
def test_the_wrong_line_is_named(
    tmp_path: Path, reader: str, table: str | bytes, reason: str
) -> None:
    with pytest.raises(EarwitnessError) as caught:
        references(reader, tmp_path, table)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_keeps_its_own_spaces_where_such_a_file_exists(tmp_path: Path) -> None:
    """As three of Clotho's names begin with one; another's spaces are of the table."""
    folder = tmp_path / "set" / "development"
    for name in (" e ieio.wav", "tail .wav", "plain.wav", " both.wav", "both.wav"):
        write_sound(folder / name, 0.1)
    rows = [
        '" e ieio.wav",waves', "tail .wav, tail", " plain.wav,plain", " both.wav,first",
        "both.wav,second",
    ]  # fmt: skip
    table = "file_name,caption_1\n" + "\n".join(rows)
    (tmp_path / "set/events.csv").write_text(
        "file_name, event\n e ieio.wav,sea\n  plain.wav,none\nboth.wav,two\n both.wav,one\n"
    )
    manifest = by_layout("clotho", tmp_path, table)
    assert [clip.path.removeprefix("development/") for clip in manifest.clips] == [
        " e ieio.wav", "tail .wav", "plain.wav", " both.wav", "both.wav",
    ]  # fmt: skip
    assert [clip.events for clip in manifest.clips] == [("sea",), (), ("none",), ("one",), ("two",)]
    for name in (" e ieio.flac", "plain.wav"):  # AudioCaps' finds other endings too
        write_sound(tmp_path / "set/train" / name, 0.1)
    table = "file_name, caption\n e ieio.wav,waves\n plain.wav, plain\n"
    manifest = by_layout("audiocaps", tmp_path, table)
    assert [clip.path for clip in manifest.clips] == ["train/ e ieio.flac", "train/plain.wav"]


def test_a_name_of_any_length_is_no_traceback(tmp_path: Path) -> None:
    table = f"file_name,caption_1\na.wav,A\n {'b' * 5000}.wav,B\n"
    with pytest.raises(UserWarning, match="1 of 2 sound files cannot be used"):
        by_layout("clotho", tmp_path, table)


@pytest.mark.parametrize("start", ["inf", "nan", "1e999", "-1", "1_0", "9" * 400, "", "٣", "1e3"])
def test_a_start_that_is_no_number_of_seconds(tmp_path: Path, start: str) -> None:
    table = f"youtube_id,start_time,caption\nx,{start},A\n"
    with pytest.raises(EarwitnessError, match=r"train\.csv: line 2: start_time .* is not a number"):
        by_layout("audiocaps", tmp_path, table)
