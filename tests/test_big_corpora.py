"""Manifests in columns against plain clips; the layouts of corpora that are large or fetched."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.config.datasets import (
    AudioCapsDatasetConfig,
    BlindDatasetConfig,
    WavCapsDatasetConfig,
)
from pipeline.corpora.clips import Clip, Clips
from pipeline.corpora.fetch import CLOTHO_BLIND, Remote, SplitFiles, fetch_clotho, is_fetched
from pipeline.corpora.fetch_captions import TABLES
from pipeline.corpora.manifest import SPLITS, Manifest, check_clips
from pipeline.corpora.registry import prepare
from pipeline.errors import EarwitnessError
from pipeline.planning.checks import check_captions
from pipeline.text.counting import count_words
from pipeline.text.vocabulary import Vocabulary
from tests.conftest import REPOSITORY
from tests.test_fetch import md5, serving

# --- columns ------------------------------------------------------------------------------------


def plain_clips(count: int) -> tuple[Clip, ...]:
    """Of all splits, with letters of several bytes, no or several captions, and no sound."""
    return tuple(
        Clip(
            f"clip-{number}",
            SPLITS[number * 7 % 3],
            "" if number % 5 == 4 else f"é/{number}.wav",
            number / 3,
            tuple(f"дождь {number} {k} 🐕" for k in range(number % 4)),
            ("dog", "ß") if number % 2 else (),
            f"{number:08x}",
            "a name" if number == 2 else "",
        )
        for number in range(count)
    )


@pytest.mark.parametrize("blind", [False, True])
def test_columns_are_the_clips_that_they_were_made_of(tmp_path: Path, blind: bool) -> None:
    clips = plain_clips(23)
    manifest = Manifest("set", "root", clips, (("x.wav", "empty"),), True, blind)
    manifest.save(tmp_path / "set.json")
    loaded = Manifest.load(tmp_path / "set.json")
    for each in (manifest, loaded):
        assert tuple(each.clips) == clips and len(each.clips) == 23 and each.clips == clips
        assert each.clips[-1] == clips[-1] and tuple(each.clips[3:9:2]) == clips[3:9:2]
        assert tuple(each.sounding) == tuple(clip for clip in clips if clip.path)
        for split in SPLITS:
            of_split = tuple(clip for clip in clips if clip.split == split)
            assert tuple(each.split(split)) == of_split
            assert each.split(split).ids() == [clip.clip_id for clip in of_split]
            spoken = [caption for clip in of_split for caption in clip.captions]
            assert [*each.split(split).each_caption()] == spoken
        quiet = tuple(clip for clip in clips if not clip.path)
        assert tuple(each.asked("validation")) == (quiet if blind else each.split("validation"))
    assert loaded == manifest and hash(loaded) == hash(manifest)
    assert loaded != replace(manifest, clips=(*clips[:-1], replace(clips[-1], duration=1.0)))
    rows = json.loads((tmp_path / "set.json").read_text(encoding="utf-8"))
    assert [dict(zip(rows["columns"], row, strict=True)) for row in rows["clips"]] == [
        {name: [*v] if isinstance(v, tuple) else v for name, v in asdict(clip).items()}
        for clip in clips
    ]
    lines = (tmp_path / "set.json").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith('  ["clip-') for line in lines) == 23  # a line a clip
    with pytest.raises(IndexError):
        manifest.clips[23]


def test_no_clips_are_a_manifest(tmp_path: Path) -> None:
    Manifest("set", "root", ()).save(tmp_path / "set.json")
    loaded = Manifest.load(tmp_path / "set.json")
    assert len(loaded.clips) == 0 and loaded.clips == () and not loaded.sounding
    with pytest.raises(EarwitnessError, match=r"has no split 'validation'; it has: $"):
        loaded.split("validation")


FIELDS = ("clip_id", "split", "path", "duration", "captions", "events", "digest")
CHANGES: dict[str, Any] = {
    "clip_id": "other",
    "split": "evaluation",
    "path": "other.wav",
    "duration": 77.0,
    "captions": ("дождь 7 0 🐕", "дождь 7", "1 🐕 7 2 🐕"),
    "events": ("dogß",),
    "digest": "00",
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_fingerprint_changes_with_its_fields_alone(field: str) -> None:
    clips = plain_clips(23)
    changed = replace(clips[7], **{field: CHANGES[field]})
    before, after = Clips.of(clips), Clips.of((*clips[:7], changed, *clips[8:]))
    for own in FIELDS:
        assert (before.fingerprint(own) == after.fingerprint(own)) == (own != field)
    # a part is what it is, whatever it is a part of
    assert before.sounding().fingerprint(*FIELDS) == Clips.of(
        clip for clip in clips if clip.path
    ).fingerprint(*FIELDS)
    assert before[:6].fingerprint(field) == Clips.of(clips[:6]).fingerprint(field)
    assert before[1:].fingerprint(field) != before[:-1].fingerprint(field)


def test_captions_do_not_flow_into_one_another() -> None:
    one, other = (
        Clips.of([Clip("a", "s", "", 0.0, first), Clip("b", "s", "", 0.0, second)])
        for first, second in ((("ab", "c"), ("d",)), (("a", "bc"), ("d",)))
    )
    moved = Clips.of([Clip("a", "s", "", 0.0, ("ab",)), Clip("b", "s", "", 0.0, ("c", "d"))])
    assert len({each.fingerprint("captions") for each in (one, other, moved)}) == 3


def test_half_a_character_is_one_line() -> None:
    with pytest.raises(EarwitnessError, match="'a' has half a character"):
        check_clips([Clip("a", "development", "a.wav", 1.0, ("\ud800",))], "set")


def test_planning_makes_no_object_a_clip(tmp_path: Path) -> None:
    """100,000 clips are some 25 MB of text; objects of them would be some 100 MB."""
    from pipeline.planning.context import captions

    count = 100_000
    path = tmp_path / "big.json"
    head = '{"dataset": "big", "root": "r", "columns": ["clip_id", "split", "path", "duration", '
    head += '"captions", "events", "digest", "name"], "clips": [\n'
    with path.open("w", encoding="utf-8") as stream:
        stream.write(head)
        for number in range(count):
            split = "validation" if number % 100 == 0 else "development"
            row = [f"clip-{number}", split, f"{number}.flac", 10.0, [f"A dog {number}."]]
            row += [[], "0", ""]
            stream.write(f"{',' if number else ''}{json.dumps(row)}\n")
        stream.write("]}")
    manifest = Manifest.load(path)
    tracemalloc.start()
    try:
        captions(manifest)
        manifest.sounding.fingerprint("clip_id", "path", "duration", "digest")
        check_captions(manifest, ("development", "validation"))
        held, peak = tracemalloc.get_traced_memory()
        objects = sum(each.count for each in tracemalloc.take_snapshot().statistics("filename"))
    finally:
        tracemalloc.stop()
    assert objects < 5_000, "objects that stay"
    assert held < 5e6 and peak < 25e6


# --- words --------------------------------------------------------------------------------------


def test_words_are_counted_as_a_counter_counts_them() -> None:
    rows = [["a", "b", "a"], [], ["c"], ["b", "c", "d"], []]
    found = count_words(rows)
    assert dict(zip(found.words, found.counts.tolist(), strict=True)) == {
        "a": 2, "b": 2, "c": 2, "d": 1
    }  # fmt: skip
    assert found.commonest.tolist() == [2, 0, 2, 2, 0]
    assert count_words([]).commonest.tolist() == []
    assert count_words([[], []]).commonest.tolist() == [0, 0]


@pytest.mark.parametrize("min_count", [1, 2])
def test_a_vocabulary_is_that_of_plain_counting(min_count: int) -> None:
    captions = ["A dog barks.", "the dog <unk> barks", "Rain, rain falls; a dog"]
    words = Vocabulary.train(captions, min_count).words[4:]
    counts = {"dog": 3, "a": 2, "barks": 2, "rain": 2, "falls": 1, "the": 1}
    assert list(words) == [word for word, count in counts.items() if count >= min_count]


# --- WavCaps ------------------------------------------------------------------------------------

TABLE = {
    "FreeSound": ("fsd_final.json", ["180913", "77", "65"]),
    "AudioSet_SL": ("as_final.json", ["YA-b_c.wav", "Y--1.wav"]),
    "SoundBible": ("sb_final.json", ["77"]),
    "BBC_Sound_Effects": ("bbc_final.json", ["NHU05004081"]),
}


def sound(path: Path, seconds: float = 0.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(1).normal(0, 0.1, round(seconds * 8000))
    soundfile.write(path, samples, 8000)


def wavcaps_folder(root: Path, pattern: str = "{}") -> None:
    """The four tables, with the fields that they are published with, and the sound."""
    for source, (name, ids) in TABLE.items():
        entries = [
            {
                "id": each,
                "caption": f"  A {source} sound, {each}. ",
                "audio": f"wav_path/{each}",
                "duration": 12.5,
                "description": "raw words of whoever uploaded it",
                "download_link": "none",
            }
            for each in ids
        ]
        path = root / "json_files" / source / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"num_captions_per_audio": 1, "data": entries}))
        for number, each in enumerate(ids):
            stem = each.removesuffix(".wav")
            sound(root / pattern.format(source) / f"{stem}.{('flac', 'wav', 'ogg')[number]}")
    blacklists = root / "json_files/blacklist"
    blacklists.mkdir()
    lists = {"FreeSound": ["65"], "AudioSet": ["Y--1.wav"]}
    (blacklists / "blacklist_exclude_all_ac.json").write_text(json.dumps(lists))
    (root / "blacklist_clotho.full.csv").write_text("id,fname\n77,x.wav\n")
    (root / "blacklist_audiocaps.full.csv").write_text("id\nYA-b_c\n")
    (root / "dcase2024_task6_excluded_freesound_ids.csv").write_text("sound_id\n180913\n")


def wavcaps(base: Path, **settings: Any) -> Manifest:
    own = WavCapsDatasetConfig(layout="wavcaps", root="set", **settings)
    return prepare("set", own, base, Path("data/raw"), progress=False)


@pytest.mark.parametrize("pattern", ["{}", "{}_flac", "Audio/{}"])
def test_wavcaps_is_read_as_it_is_published(tmp_path: Path, pattern: str) -> None:
    wavcaps_folder(tmp_path / "set", pattern)
    manifest = wavcaps(tmp_path)
    by_path = {clip.path: clip for clip in manifest.clips}
    assert {Path(path).with_suffix("").as_posix() for path in by_path} == {
        f"{pattern.format(source)}/{each}"
        for source, each in [
            ("FreeSound", "180913"), ("FreeSound", "77"), ("AudioSet_SL", "YA-b_c"),
            ("SoundBible", "77"), ("BBC_Sound_Effects", "NHU05004081"),
        ]
    }  # fmt: skip
    first = by_path[f"{pattern.format('FreeSound')}/180913.flac"]
    assert first.captions == ("A FreeSound sound, 180913.",)
    assert first.duration == 0.2  # of the file, and not of the table
    assert len({clip.clip_id for clip in manifest.clips}) == 5
    assert {clip.split for clip in manifest.clips} == {"development", "validation"}
    assert sum(clip.split == "validation" for clip in manifest.clips) == 1


def test_wavcaps_sources_and_lists_are_chosen(tmp_path: Path) -> None:
    wavcaps_folder(tmp_path / "set")
    two = ("FreeSound", "AudioSet_SL")
    csv = ("blacklist_clotho.full.csv", "blacklist_audiocaps.full.csv")
    found = {Path(clip.path).stem for clip in wavcaps(tmp_path, sources=two, exclude=csv).clips}
    assert found == {"180913", "65", "Y--1"}
    dcase = "dcase2024_task6_excluded_freesound_ids.csv"
    everything = wavcaps(tmp_path, exclude=dcase)
    assert "180913" not in {Path(clip.path).stem for clip in everything.clips}
    assert len(everything.clips) == 6
    # a number of SoundBible's is none of Freesound's
    assert "SoundBible/77" in {c.path[:13] for c in wavcaps(tmp_path, exclude=csv).clips}
    assert len(wavcaps(tmp_path, exclude=None).clips) == 7


def test_wavcaps_share_is_drawn_by_seed_and_id(tmp_path: Path) -> None:
    wavcaps_folder(tmp_path / "set")

    def held_out(**settings: Any) -> set[str]:
        made = wavcaps(tmp_path, exclude=None, validation_share=0.4, **settings)
        return {Path(clip.path).stem for clip in made.clips if clip.split == "validation"}

    assert len(held_out()) == 3 and held_out() == held_out()
    assert len({frozenset(held_out(seed=seed)) for seed in range(1, 6)}) > 1


def test_wavcaps_sound_that_is_not_there_is_listed(tmp_path: Path) -> None:
    wavcaps_folder(tmp_path / "set")
    (tmp_path / "set/FreeSound/180913.flac").unlink()
    with pytest.warns(UserWarning, match="1 of 5 sound files cannot be used"):
        manifest = wavcaps(tmp_path, validation_share=0.4)
    assert [path for path, _ in manifest.skipped] == ["FreeSound/180913.flac"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("SoundBible/sb_final.json", "{}", "no list data"),
        ("SoundBible/sb_final.json", '{"data": [3]}', "entry 1 has no id"),
        ("SoundBible/sb_final.json", '{"data": [{"id": "1"}]}', "entry 1 has no caption"),
        ("SoundBible/sb_final.json", '{"data": [{"id": "1", "caption": " "}]}', "no caption"),
        ("SoundBible/sb_final.json", '{"data": [{"id": "../1", "caption": "A"}]}', "leaves"),
        ("SoundBible/sb_final.json", '{"data": [{"id": "", "caption": "A"}]}', "no id"),
        (
            "SoundBible/sb_final.json",
            '{"data": [{"id": 1, "caption": "A"}, {"id": "1", "caption": "B"}]}',
            "entry 2 .'1'. occurs twice",
        ),
        ("SoundBible/sb_final.json", None, "not there; get it from"),
        ("blacklist/blacklist_exclude_all_ac.json", '["65"]', "no list of ids FreeSound"),
        ("blacklist/blacklist_exclude_all_ac.json", None, r"correct datasets\.set\.exclude"),
    ],
)
def test_hostile_wavcaps_tables(
    tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    wavcaps_folder(tmp_path / "set")
    path = tmp_path / "set/json_files" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(EarwitnessError, match=reason) as caught:
        wavcaps(tmp_path)
    assert "\n" not in str(caught.value)


def test_wavcaps_without_a_sources_sound_or_clips(tmp_path: Path) -> None:
    wavcaps_folder(tmp_path / "set")
    with pytest.raises(EarwitnessError, match="too few to train and validate on"):
        wavcaps(tmp_path, sources="SoundBible")
    (tmp_path / "set/SoundBible").rename(tmp_path / "set/other")
    with pytest.raises(EarwitnessError, match=r"no SoundBible/ in .*leave SoundBible out"):
        wavcaps(tmp_path)


def test_a_recipe_trains_on_wavcaps_too() -> None:
    from earwitness.recipes import compose

    params = compose(REPOSITORY / "recipes", "sjtu", "clotho-wavcaps").params
    assert params.retrievers["cnn14-bert-base-pretrained"].datasets == ("audiocaps", "wavcaps")
    assert params.test_sets == ("clotho",)


# --- what is fetched ----------------------------------------------------------------------------


def test_clothos_test_set_is_fetched_and_blind(tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    sound(tmp_path / "made/test/Rain: heavy.wav".replace(":", "_"))
    sound(tmp_path / "made/test/b.wav")
    with py7zr.SevenZipFile(tmp_path / "test.7z", "w") as archive:
        archive.writeall(tmp_path / "made/test", "test")
    packed = (tmp_path / "test.7z").read_bytes()
    table = b"file_name,keywords\nb.wav,x\nRain: heavy.wav,y\n"
    files = {"clotho_audio_test.7z": packed, "clotho_metadata_test.csv": table}
    splits = {
        name: SplitFiles(
            Remote(own.audio.name, md5(files[own.audio.name])),
            tuple(Remote(each.name, md5(files[each.name])) for each in own.tables),
        )
        for name, own in CLOTHO_BLIND["clotho_test"].files.items()
    }
    root = tmp_path / "data"
    with serving(files) as server:
        fetch_clotho(root, print, server.address, splits, progress=False, pause=0)
    assert is_fetched(root, splits)
    settings = BlindDatasetConfig(
        layout="blind", root="data", fetch="clotho_test", table="clotho_metadata_test.csv"
    )
    manifest = prepare("test", settings, tmp_path, Path("raw"), progress=False)
    assert manifest.blind and [clip.captions for clip in manifest.clips] == [(), ()]
    assert [clip.file_name for clip in manifest.clips] == ["b.wav", "Rain: heavy.wav"]


def test_audiocaps_2_has_the_columns_of_the_first(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    head = "audiocap_id,youtube_id,start_time,caption\n"
    (root / "audiocaps2_train.csv").write_text(f"{head}9,-a_B,30,a dog barks\n")
    (root / "audiocaps2_val.csv").write_text(f"{head}1,cc,0,rain\n2,cc,0,it rains\n")
    sound(root / "train/-a_B_30.flac")
    sound(root / "val/Ycc.wav")
    settings = AudioCapsDatasetConfig(layout="audiocaps", root="set")
    manifest = prepare("set", settings, tmp_path, Path("raw"), progress=False)
    assert [(clip.split, clip.captions) for clip in manifest.clips] == [
        ("development", ("a dog barks",)),
        ("validation", ("rain", "it rains")),
    ]
    assert TABLES["audiocaps2_train.csv"].rows == 91_256
    assert TABLES["audiocaps2_train.csv"].url.endswith("/dataset2.0/train.csv")
