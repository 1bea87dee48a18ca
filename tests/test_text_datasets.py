"""Datasets of captions alone: public ones, which are fetched, and written descriptions."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.datasets import CAPTION_TABLES, CaptionsDatasetConfig
from pipeline.config.params import parse_params
from pipeline.corpora.fetch import CLOTHO
from pipeline.corpora.fetch_captions import RemoteTable, caption_tables, fetch_captions
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError
from tests.conftest import REPOSITORY
from tests.test_fetch import Server, md5, serving

OFFICIAL = """audiocap_id,youtube_id,start_time,caption
1,-abc_D1,30,A dog barks
2,-abc_D1,30,"A dog barks, then a man speaks"
3,xyz,0,Rain falls
"""
CLOTHOS = b"file_name,caption_1,caption_2\nxyz.wav,It rains.,Rain\n"


def caption_files(split: str) -> dict[str, bytes]:
    """Both sources' tables of a split, by the names that they are fetched by."""
    names = [CAPTION_TABLES[source][split] for source in ("clotho", "audiocaps")]
    return dict(zip(names, (CLOTHOS, OFFICIAL.encode()), strict=True))


def remote_tables(server: Server) -> dict[str, RemoteTable]:
    """As fetch_captions.py lists them, from our server."""
    return {
        name: RemoteTable(f"{server.address}/{name}", 1.4, md5(content))
        if "clotho" in name
        else RemoteTable(f"{server.address}/{name}", 0.7, rows=3)
        for name, content in server.files.items()
    }


def test_captions_are_fetched_once_and_their_size_is_said_first(tmp_path: Path) -> None:
    said: list[str] = []
    with serving(caption_files("development")) as server:
        tables = remote_tables(server)

        def fetch() -> None:
            fetch_captions(tmp_path / "w", tables, said.append, progress=False, pause=0)

        def say_before(line: str) -> None:
            assert not server.asked and not (tmp_path / "w").exists()
            said.append(line)

        server.cuts = [10]
        fetch_captions(tmp_path / "w", tables, say_before, progress=False, pause=0)
        clotho, audiocaps = server.files
        assert server.asked == [clotho, f"{clotho} bytes=10-", audiocaps]
        fetch()
        assert len(server.asked) == 3 and len(said) == 1
        (tmp_path / "w" / audiocaps).unlink()
        fetch()
        assert server.asked[3:] == [audiocaps]
    assert {path.name: path.read_bytes() for path in (tmp_path / "w").iterdir()} == server.files
    both = f"{clotho} (1.4 MB), {audiocaps} (0.7 MB)"
    assert said == [
        f"downloads about 2.1 MB into {tmp_path}/w: {both}",
        f"downloads about 0.7 MB into {tmp_path}/w: {audiocaps} (0.7 MB)",
    ]


def test_fetched_captions_of_two_sources_are_one_dataset(tmp_path: Path) -> None:
    """Each split is the union; a clip's captions are together, and clips of one name apart."""
    splits = ("development", "validation", "evaluation")
    files = {name: text for split in splits for name, text in caption_files(split).items()}
    with serving(files) as server:
        fetch_captions(tmp_path / "w", remote_tables(server), print, progress=False, pause=0)
    (tmp_path / "w" / "own.csv").write_text("file_name,caption\nxyz.wav,Mine\nb.wav,Two\n")
    settings = CaptionsDatasetConfig(
        layout="captions", root="w", fetch=("clotho", "audiocaps"), validation=("own.csv",)
    )
    manifest = prepare("words", settings, tmp_path, tmp_path, progress=False)
    found = {split: [clip.captions for clip in manifest.split(split)] for split in splits}
    public = [
        ("It rains.", "Rain"),
        ("A dog barks", "A dog barks, then a man speaks"),
        ("Rain falls",),
    ]
    assert found["development"] == found["evaluation"] == public
    assert found["validation"] == [*public, ("Mine",), ("Two",)]
    assert len({clip.clip_id for clip in manifest.clips}) == 11


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("<html>\n<body>please log in</body>\n</html>\n", "no column audiocap_id"),
        (OFFICIAL.replace(",caption\n", ",caption,x\n"), "its columns are .*caption, x, not"),
        (OFFICIAL + "4,more,0,One more\n", "has 4 captions, not 3"),
        (OFFICIAL[: OFFICIAL.rindex("3,")], "has 2 captions, not 3"),
        ("", "empty"),
    ],
)
def test_another_table_than_audiocaps_is_refused(
    tmp_path: Path, content: str, fault: str
) -> None:
    refused = pytest.raises(EarwitnessError, match=rf"audiocaps_val\.csv: {fault}")
    with serving({"audiocaps_val.csv": content.encode()}) as server, refused as raised:
        fetch_captions(tmp_path, remote_tables(server), print, progress=False, pause=0)
    assert "\n" not in str(raised.value) and ".audiocaps" not in str(raised.value)
    assert f"put the file at {tmp_path}/audiocaps_val.csv" in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["clotho", "audiocaps"])
def test_without_a_network_one_line_says_what_to_do(tmp_path: Path, source: str) -> None:
    name = CAPTION_TABLES[source]["validation"]
    rows = 1 if source == "audiocaps" else None
    tables = {name: RemoteTable("http://127.0.0.1:9/x", 0.2, rows=rows)}
    with pytest.raises(EarwitnessError, match="no connection") as raised:
        fetch_captions(tmp_path, tables, print, progress=False, pause=0)
    message = str(raised.value)
    assert "\n" not in message and f"put the file at {tmp_path}/{name}; " in message
    assert "let root be a folder" in message and "layout: descriptions" in message
    assert not list(tmp_path.iterdir())


def test_public_captions_are_all_splits_of_clotho_and_audiocaps() -> None:
    sources = ["clotho", "audiocaps"]
    tables = caption_tables(sources)
    assert list(tables) == [name for each in sources for name in CAPTION_TABLES[each].values()]
    published = {remote.name: remote.md5 for files in CLOTHO.values() for remote in files.tables}
    assert [*CAPTION_TABLES["clotho"].values()] == [*published][::2]
    for name, table in tables.items():
        assert table.url.startswith("https://") and (table.md5 is None) != (table.rows is None)
        assert table.md5 == published.get(name)
    clips = {"train": 49_838, "val": 5 * 495, "test": 5 * 975}  # its repository's own counts
    assert {f"audiocaps_{k}.csv": n for k, n in clips.items()} == {
        name: table.rows for name, table in tables.items() if table.rows
    }
    assert caption_tables(["clotho"]).keys() < tables.keys()


def test_what_is_said_of_clothos_captions_is_so(shared_data: Path) -> None:
    """Their sizes; and the one table of which the very bytes are here has the MD5."""
    for split, short in (("development", "train"), ("validation", "val"), ("evaluation", "test")):
        content = (shared_data / "captions" / f"clotho_{short}.csv").read_bytes()
        table = caption_tables(["clotho"])[CAPTION_TABLES["clotho"][split]]
        assert table.megabytes == pytest.approx(len(content) / 1e6, abs=0.05)
        assert split != "evaluation" or md5(content) == table.md5


# --- descriptions ------------------------------------------------------------------------------

DESCRIPTIONS = REPOSITORY / "pipeline" / "corpora" / "descriptions.csv"


def descriptions() -> dict[str, list[str]]:
    """Label → captions of the table that comes with earwitness, as the csv module reads it."""
    with DESCRIPTIONS.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["label", "caption_1", "caption_2", "caption_3"]
    assert len({row[0] for row in rows}) == len(rows)
    return {label: texts for label, *texts in rows}


def words(text: str) -> list[str]:
    return re.findall("[a-z]+", text.lower())


def test_every_kind_of_sound_has_three_captions_of_its_own() -> None:
    found = descriptions()
    texts = [text for each in found.values() for text in each]
    assert len(found) == 527 and all(len(each) == 3 for each in found.values())
    assert len({tuple(words(text)) for text in texts}) == len(texts) == 1581
    for text in texts:
        assert re.fullmatch(r"[A-Z][A-Za-z]*(,? [A-Za-z]+)*\.", text), text
        assert 8 <= len(text.split()) <= 14, text
    # written one by one: they begin and end as no one pattern would
    for part in (slice(0, 3), slice(-3, None)):
        shared = Counter(tuple(words(text)[part]) for text in texts)
        assert max(shared.values()) <= 8, shared.most_common(3)


def test_all_of_audiosets_kinds_are_described_and_no_caption_is_public(shared_data: Path) -> None:
    with (shared_data / "weights" / "audioset_labels.csv").open(encoding="utf-8") as stream:
        labels = [row["display_name"] for row in csv.DictReader(stream)]
    assert list(descriptions()) == labels
    published = set()
    for path in (shared_data / "captions").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            cells = (v for row in rows for k, v in row.items() if k.startswith("caption"))
            published |= {tuple(words(text)) for text in cells if text}
    assert len(published) > 60_000
    own = {tuple(words(text)) for texts in descriptions().values() for text in texts}
    assert not own & published


def written(base: Path, **settings: Any) -> Manifest:
    own = {"layout": "descriptions", **settings}
    parsed = parse_params({"datasets": {"set": own}, "encoders": {}}).datasets["set"]
    return prepare("set", parsed, base, base / "raw", progress=False)


def test_held_out_captions_are_of_labels_that_are_learned() -> None:
    manifest = written(REPOSITORY)
    texts = descriptions()
    learned, held_out = manifest.split("development"), manifest.split("validation")
    assert len(manifest.clips) == len(learned) + len(held_out)
    assert len(learned) == 527 and len(held_out) == 53
    assert not manifest.sounding and all(len(clip.captions) == 1 for clip in held_out)
    out = {clip.captions[0] for clip in held_out}
    for clip, (label, all_three) in zip(learned, texts.items(), strict=True):
        assert list(clip.captions) == [text for text in all_three if text not in out], label
        assert len(clip.captions) >= 2
    places = {each.index(text) for each in texts.values() for text in out & {*each}}
    assert places == {0, 1, 2}  # also of the captions with another sound in them
    assert written(REPOSITORY) == manifest
    other = {clip.captions[0] for clip in written(REPOSITORY, seed=2).split("validation")}
    assert len(other & out) < 15  # by chance 2
    assert len(written(REPOSITORY, validation_share=0.2).split("validation")) == 105


def test_a_label_keeps_its_place_when_another_is_added(tmp_path: Path) -> None:
    rows = [f"kind {n},one {n},two {n},three {n}\n" for n in range(40)]

    def held_out(table: list[str]) -> set[tuple[str, ...]]:
        (tmp_path / "d.csv").write_text("label,caption_1,caption_2,caption_3\n" + "".join(table))
        manifest = written(tmp_path, root=".", table="d.csv", validation_share=0.25)
        return {clip.captions for clip in manifest.split("validation")}

    first = held_out(rows)
    assert len(first) == 10
    assert len(held_out(["new,a,b,c\n", *rows]) & first) >= 9
    assert held_out(rows[::-1]) == first


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ("label,caption_1\na,One\nb,Two\n", "no label has two captions"),
        ("label,caption_1,caption_2\na,One,Two\na,Three,Four\n", "line 3: label 'a' occurs twice"),
        ("label,caption_1,caption_2\na,One,Two\n ,Three,Four\n", "line 3 has no label"),
        ("label,caption_1,caption_2\na,,\n", r"line 2 \('a'\) has no caption"),
        ("kind,caption_1\na,One\n", "no column label"),
        (None, "not there|No such file|no file"),
    ],
)
def test_a_table_that_describes_nothing_is_one_line(
    tmp_path: Path, table: str | None, fault: str
) -> None:
    if table is not None:
        (tmp_path / "d.csv").write_text(table)
    with pytest.raises(EarwitnessError, match=rf"d\.csv.*({fault})") as raised:
        written(tmp_path, root=".", table="d.csv")
    assert "\n" not in str(raised.value)


def test_a_label_with_one_caption_is_learned(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("label,caption_1,caption_2\na,One,\nb,Two,Three\n")
    manifest = written(tmp_path, root=".", table="d.csv", validation_share=1)
    assert manifest.clips[0].captions == ("One",) and manifest.clips[0].split == "development"
    assert sorted(len(clip.captions) for clip in manifest.clips) == [1, 1, 1]


# --- tables of one's own -----------------------------------------------------------------------


def test_no_table_and_nothing_to_fetch_is_refused() -> None:
    for own in ({}, {"development": []}, {"validation": "x.csv"}):
        entry = {"layout": "captions", "root": "w", **own}
        with pytest.raises(EarwitnessError, match=r"datasets\.w.*development.*fetch: \[clotho\]"):
            parse_params({"datasets": {"w": entry}, "encoders": {}})


def test_audiocaps_official_tables_may_be_ones_own(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(OFFICIAL)
    settings = CaptionsDatasetConfig(layout="captions", root=".", development=("train.csv",))
    manifest = prepare("w", settings, tmp_path, tmp_path, progress=False)
    assert [(clip.clip_id, len(clip.captions)) for clip in manifest.clips] == [
        ("Y-abc_D1_30", 2),
        ("Yxyz_0", 1),
    ]
