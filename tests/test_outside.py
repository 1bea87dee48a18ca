"""What lies outside the repository: which files are watched, and how a change of one is seen."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from test_stale import PARAMS, make_data, sound, table

from pipeline.config.datasets import BaseDatasetConfig
from pipeline.config.fields import Outside, Ref, marker
from pipeline.config.params import Params, parse_params
from pipeline.config.section import Section
from pipeline.corpora import fetch_captions
from pipeline.corpora.fetch_captions import RemoteTable
from pipeline.corpora.registry import CORPORA, prepare
from pipeline.outside import digests as digests_module
from pipeline.outside.digests import UNREADABLE, Digests, list_files
from pipeline.outside.look import changes, look_at_dataset, look_at_models
from pipeline.outside.named import dataset_files, model_files
from stages import look, paths
from tests.test_fetch import md5, serving

LATER = 60_000_000_000  # ns: files that the test has just made are old by then
# fields whose text is a word, a name or a sentence and never a path
PLAIN = {
    *("InstructorEncoderConfig.instruction", "SentenceEncoderConfig.prompt"),
    *("EvaluationConfig.split", "HardwareConfig.device", "RayConfig.address"),
    "TagSpaceConfig.templates",
    # a file in the folder of the weights, which is watched, and names of tensors
    *(f"OnnxEncoderConfig.{n}" for n in ("file", "input", "frames", "embedding", "probabilities")),
}


def parts(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    if get_origin(annotation) is Annotated:
        yield from parts(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType, tuple, list, dict):
        for each in get_args(annotation):
            yield from parts(each)
    elif get_origin(annotation) is not Literal:
        yield annotation


def sections(section: type[Section]) -> dict[str, type[Section]]:
    """A section and all below it, by name."""
    found = {section.__name__: section}
    for field in section.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, Section):
                found |= sections(part)
    return found


def test_every_field_of_text_says_whether_it_may_be_a_path() -> None:
    """A new one must be marked, or be listed above."""
    unknown = set()
    marked = 0
    for name, section in sections(Params).items():
        for field, info in section.model_fields.items():
            if str not in [*parts(info.annotation)] or field in ("set", "root"):
                continue
            marked += marker(info, Outside) is not None
            if marker(info, Outside) is None and marker(info, Ref) is None:
                unknown.add(f"{name}.{field}")
    # maps of the entries' names
    unknown -= {f"Params.{name}" for name in Params.model_fields}
    assert unknown <= PLAIN
    assert marked >= 8
    reading = [c for c in sections(Params).values() if issubclass(c, BaseDatasetConfig)]
    assert len(reading) == len(CORPORA)


@contextmanager
def opened(below: Path) -> Iterator[set[str]]:
    """The files below a folder that Python opens, and the folders that it lists."""
    found: set[str] = set()
    on = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if on and event in ("open", "os.scandir", "os.listdir") and arguments[0]:
            name = arguments[0]
            path = os.path.normpath(os.fsdecode(name)) if isinstance(name, str | bytes) else ""
            if path.startswith(f"{below}/"):
                found.add(os.path.relpath(path, below))

    sys.addaudithook(note)  # it cannot be taken away again
    try:
        yield found
    finally:
        on.clear()


DATASETS = {
    **PARAMS["datasets"],
    "several": {
        **{"layout": "captions", "root": "../my data", "fetch": ["clotho"]},
        **{"development": ["more.csv", "yet more.csv"], "evaluation": "more.csv"},
    },
}


@pytest.mark.parametrize("name", DATASETS)
def test_all_that_prepare_opens_is_watched(name: str, tmp_path: Path) -> None:
    make_data(tmp_path)
    (tmp_path / "base").mkdir()
    settings = parse_params({**PARAMS, "datasets": {name: DATASETS[name]}}).datasets[name]
    given = Path(getattr(settings, "root", "../nothing"))
    root = tmp_path / (given.parent if given.suffix == ".tar" else given).name  # or its shards'
    for more in ("more", "yet more"):
        table(tmp_path / "my data" / f"{more}.csv", [["file_name", "caption"], ["a.wav", more]])
    if settings.layout == "clotho":
        table(root / "events.csv", [["file_name", "event"], ["development.wav", "dog"]])
    with opened(root) as read:
        prepare(name, settings, tmp_path / "base", tmp_path / "raw", progress=False)
    watched = dataset_files(settings)
    assert all(any(Path(f).is_relative_to(each) for each in watched) for f in read), read
    if settings.layout == "soundscapes":
        assert not watched
        return
    assert len(read) >= (5 if name == "several" else 1)
    seen = look_at_dataset(settings, tmp_path / "base", Digests())
    if "." not in seen:  # all of it is watched
        assert {Path(each).parts[0] for each in read} <= {Path(each).parts[0] for each in seen}
    for each in sorted(read):  # and each change of one is seen
        path = root / each
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(content[:-1] + b"?")
            now = look_at_dataset(settings, tmp_path / "base", Digests())
            assert [line.split(" ")[0] for line in changes(seen, now)], each
            path.write_bytes(content)
    assert look_at_dataset(settings, tmp_path / "base", Digests()) == seen


def test_every_path_that_parameters_name_is_watched(tmp_path: Path) -> None:
    """Of every kind of weights, in own settings of an entry too; names on a hub are none."""
    params = parse_params(
        {
            "datasets": {},
            "encoders": {
                "panns": {"module": "panns", "weights": "w/panns.pth"},
                "hub": {"module": "clap", "weights": "hub:a/b"},
                "logmel": {"module": "logmel"},
                "onnx": {
                    **{"module": "onnx", "weights": "w/a.onnx", "output": "probabilities"},
                    "labels": "w/onnx.csv",
                },
                "embedding": {"module": "onnx", "weights": "w/a.onnx", "labels": "w/unread.csv"},
                "yamnet": {
                    **{"module": "yamnet", "weights": "w/y.tflite", "output": "scores"},
                    "labels": "w/yamnet.txt",
                },
                "events": {"module": "events", "weights": "hub", "labels": "w/events.json"},
            },
            "text_encoders": {
                "w2v": {"module": "word2vec", "weights": "w/vectors.bin"},
                "wc": {"module": "wavcaps_text", "weights": "w/wc.pt", "tokenizer": "w/tokens"},
                "clap": {"module": "clap_text", "weights": "./w/clap", "tokenizer": "w/roberta"},
            },
            "sound_towers": {
                "t": {"module": "panns", "weights": "w/tower.pth", "input": "logmel"},
            },
            "text_towers": {"b": {"weights": "w/bert"}},
            "bart": {"pretrained": "w/bart", "tokenizer": "w/bart-tokens"},
            "prefix": {"pretrained": "w/gpt"},
            "scst": {"sbert": "w/sbert-reward", "rewards": {"sbert": 1}},
            "evaluation": {"sbert": "w/sbert", "fluency": "w/echecker.ckpt"},
        }
    )
    names = {
        *("panns.pth", "vectors.bin", "wc.pt", "tokens", "tower.pth", "bert", "bart", "gpt"),
        *("bart-tokens", "sbert-reward", "sbert", "echecker.ckpt", "roberta"),
        *("a.onnx", "onnx.csv", "y.tflite", "yamnet.txt", "events.json"),
    }
    assert {*model_files(params)} == {*(f"w/{name}" for name in names), "./w/clap"}
    assert look_at_models(params, tmp_path, Digests()) == {}
    (tmp_path / "w" / "bart").mkdir(parents=True)
    (tmp_path / "w" / "bart" / "model.safetensors").write_bytes(b"1")
    (tmp_path / "w" / "vectors.bin").write_bytes(b"2")
    found = look_at_models(params, tmp_path, Digests())
    assert {*found} == {"w/bart", "w/vectors.bin"}
    (tmp_path / "w" / "bart" / "model.safetensors").write_bytes(b"3")
    assert changes(found, look_at_models(params, tmp_path, Digests())) == ["w/bart changed"]


def test_a_path_in_an_entrys_own_settings_is_watched() -> None:
    captioner = {
        **{"architecture": "edtc", "dataset": "made", "training": "t", "features": "logmel"},
        **{"fuser": False, "translator": False, "twin": False},
        "set": {"bart.pretrained": "w/own"},
    }
    entries = {"encoders": {"logmel": {"module": "logmel"}}, "training": {"t": {}}}
    params = parse_params({**PARAMS, **entries, "captioners": {"c": captioner}})
    assert "w/own" in model_files(params) and "w/own" not in model_files(parse_params(PARAMS))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose content is read, in order."""
    names: list[str] = []
    real = digests_module.sha256

    def noted(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(digests_module, "sha256", noted)
    return names


def test_content_is_read_only_where_a_file_changed(tmp_path: Path, read: list[str]) -> None:
    memory, folder = tmp_path / "memory.json", tmp_path / "set"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)

    def look(wait: int = LATER) -> str | None:
        with Digests(memory, time.time_ns() + wait) as digests:
            return digests.of(folder)

    first = look()
    assert sorted(read) == ["a", "b", "c"]
    read.clear()
    assert look() == first and read == []
    # the same size, and the old time put back, as a copying program may do
    old = (folder / "b").stat()
    (folder / "b").write_text("x")
    os.utime(folder / "b", ns=(old.st_atime_ns, old.st_mtime_ns))
    second = look()
    assert second != first and read == ["b"]
    read.clear()
    (folder / "c").touch()  # content is what counts
    assert look() == second and read == ["c"]
    (folder / "a").rename(folder / "d")
    third = look()
    assert third not in (first, second)
    # one that was written within two seconds before the look is read again by the next
    for path in folder.iterdir():
        path.touch()
    look(wait=0)
    read.clear()
    assert look(wait=0) == third and sorted(read) == ["b", "c", "d"]
    look()
    read.clear()
    cut = memory.read_bytes()[:-9]
    for broken in (b"", b"{", b"[1]", b'{"a": 1}', b'{"a": [1, 2]}', b"\xff", cut):
        memory.write_bytes(broken)
        assert look() == third
    assert len(read) == 7 * 3


def test_a_look_that_was_interrupted_goes_on(tmp_path: Path, read: list[str]) -> None:
    memory, folder = tmp_path / "memory.json", tmp_path / "set"
    for name in "abc":
        sound(folder / name / "1.wav", 1)
    later = time.time_ns() + LATER
    with pytest.raises(KeyboardInterrupt), Digests(memory, later) as digests:
        digests.of(folder / "a")
        digests.of(folder / "b")
        raise KeyboardInterrupt
    with Digests(memory, later) as digests:
        digests.of(folder / "c")
        raised = [digests.of(folder / name) for name in "ab"]
    assert len(read) == 3 and None not in raised
    with pytest.raises(KeyboardInterrupt), Digests(memory, later) as digests:
        raise KeyboardInterrupt  # before anything is asked for: nothing is forgotten
    with Digests(memory, later) as digests:
        assert [digests.of(folder / name) for name in "ab"] == raised and len(read) == 3
    with Digests(memory, later) as digests:  # they were not asked for c, which is forgotten
        digests.of(folder / "c")
    assert len(read) == 4


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    """The same files through links are the same fingerprint; hidden folders are no data."""
    plain, linked = tmp_path / "plain", tmp_path / "linked"
    for path in (plain / "x" / "1.wav", plain / "2.wav", plain / ".git" / "HEAD"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (plain / ".DS_Store").write_text("where its window was")
    assert list(list_files(plain)) == ["2.wav", "x/1.wav"]
    linked.mkdir()
    (linked / "x").symlink_to(plain / "x")
    (linked / "2.wav").symlink_to(plain / "2.wav")
    (linked / "nowhere.wav").symlink_to(plain / "gone")
    (plain / "x" / "back").symlink_to(plain)
    (plain / "x" / "self").symlink_to(plain / "x" / "self")
    os.mkfifo(linked / "pipe.wav")
    (plain / "x" / "back").unlink()
    assert Digests().of(linked) == Digests().of(plain)
    (plain / "x" / "back").symlink_to(plain)
    assert list(list_files(plain)) == ["2.wav", "x/1.wav"]
    assert list_files(tmp_path / "nothing") == {} == list_files(linked / "pipe.wav")
    assert Digests().of(tmp_path / "nothing") is None


def test_names_of_any_bytes_and_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.fsdecode(b"lat\xe9.wav")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(b"1")
    with Digests(tmp_path / "memory.json", time.time_ns() + LATER) as digests:
        first = digests.of(tmp_path / "set")
    assert Digests(tmp_path / "memory.json").of(tmp_path / "set") == first

    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(digests_module, "sha256", refused)
    files = list_files(tmp_path / "set")
    assert Digests().of_files(tmp_path / "set", files) == {name: UNREADABLE}


def test_what_is_fetched_is_fetched_before_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the next look finds the same, and nothing is prepared twice."""
    monkeypatch.chdir(tmp_path)
    calls: list[Path] = []

    def fetch(root: Path, say: Any) -> None:
        calls.append(root)
        for split in ("development", "validation", "evaluation"):
            sound(root / split / "a.wav", 1)
            for kind in ("captions", "metadata"):
                rows = [["file_name", "caption_1"], ["a.wav", "a dog"]]
                table(root / f"clotho_{kind}_{split}.csv", rows)

    monkeypatch.setattr(look, "fetch_clotho", fetch)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    Path("params.yaml").write_text(
        "encoders: {}\ndatasets: {clotho: {layout: clotho, root: set, fetch: true}}\n",
        encoding="utf-8",
    )
    found = Path("data/inputs/datasets/clotho.json")

    def looked() -> Any:
        look.main()
        return json.loads(found.read_text(encoding="utf-8"))

    first = looked()
    assert len(calls) == 1 and len(first) == 6
    assert looked() == first and len(calls) == 1
    Path("set/clotho_captions_validation.csv").unlink()
    assert looked() == first and len(calls) == 2  # the missing part is fetched again
    shutil.rmtree("set")  # all of it, once its features are made: no gigabytes for nothing
    assert looked() == first and len(calls) == 2


def test_captions_are_fetched_before_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the dataset's last look was at another folder's files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    content = b"file_name,caption_1\na.wav,a dog\n"
    names = [f"clotho_captions_{s}.csv" for s in ("development", "validation", "evaluation")]
    table(Path("kinds/kinds.csv"), [["label", "caption_1", "caption_2"], ["Dog", "one", "two"]])
    found = Path("data/inputs/datasets/words.json")

    def looked(*settings: str) -> Any:
        text = f"encoders: {{}}\ndatasets: {{words: {{{', '.join(settings)}}}}}\n"
        Path("params.yaml").write_text(text, encoding="utf-8")
        look.main()
        return {*json.loads(found.read_text(encoding="utf-8"))}

    with serving(dict.fromkeys(names, content)) as server:
        tables = {n: RemoteTable(f"{server.address}/{n}", 0.1, md5(content)) for n in names}
        monkeypatch.setattr(fetch_captions, "TABLES", tables)
        assert looked("layout: descriptions", "root: kinds", "table: kinds.csv") == {"kinds.csv"}
        assert not server.asked
        public = ("layout: captions", "root: set", "fetch: clotho")
        assert looked(*public) == {*names} and server.asked == names
        assert "dataset words: downloads about 0.3 MB into " in capsys.readouterr().out
        assert looked(*public) == {*names}
        Path("set", names[1]).unlink()
        assert looked(*public) == {*names} and server.asked[3:] == [names[1]]
        shutil.rmtree("set")  # its folder is away, what was made of it stays
        assert looked(*public) == {*names} and len(server.asked) == 4
        assert "words: none of its files are there" in capsys.readouterr().err
