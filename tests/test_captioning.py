"""Captions of files: those that the stages give for the same sound, stored."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_repository import FEATURES, MELS, SECONDS, make_repository
from typer.testing import CliRunner

from earwitness.captioning import CaptioningSystem
from earwitness.cli import app
from earwitness.doctor import examine
from earwitness.repository import Repository
from earwitness.retrieval import RetrievalSystem
from earwitness.training_data import is_synthetic
from pipeline.config.evaluation import DecodingConfig
from pipeline.corpora.manifest import Manifest
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import Caption
from pipeline.decoding.predictions import caption_clips
from pipeline.errors import EarwitnessError, SyntheticSoundWarning
from pipeline.features.store import FeatureStore
from pipeline.trained.captioner import load_captioner


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return root


def stored_captions(
    root: Path, members: tuple[str, ...], beams: int, combine: str = "probs"
) -> list[Caption]:
    """As the stage decode does."""
    models = root / "data/models/captioners"
    captioners = tuple(load_captioner(models / name / "1") for name in members)
    stores = [[FeatureStore.open(root / f"data/features/toy/{FEATURES[m]}.h5")] for m in members]
    decoding = DecodingConfig(beams=beams, batch=2, max_length=12)
    clips = [str(number) for number in range(len(SECONDS))]
    ensemble = Ensemble(captioners, combine)  # type: ignore[arg-type]
    return caption_clips(ensemble, stores, clips, decoding, "stored")


def captions(root: Path, system: str | None) -> list[Caption]:
    files = [root / f"sounds/{number}.wav" for number in range(len(SECONDS))]
    return CaptioningSystem.load(system, root=root, device="cpu").caption(files)


def texts(found: list[Caption]) -> list[str]:
    return [caption.text for caption in found]


def test_files_are_captioned_as_stored_sound_is(repository: Path) -> None:
    """By one captioner, by three on stored and encoded features, and with a system's own beam."""
    members = ("heard", "encoded", "other")
    alone = stored_captions(repository, ("heard",), beams=4)
    three = stored_captions(repository, members, beams=4)
    narrow = stored_captions(repository, members, beams=1)
    for system, stored in ((None, alone), ("alone", alone), ("three", three), ("narrow", narrow)):
        found = captions(repository, system)
        assert texts(found) == texts(stored)
        for own, other in zip(found, stored, strict=True):
            assert own.log_prob == pytest.approx(other.log_prob, abs=1e-3)
            assert [text for text, _ in own.candidates] == [text for text, _ in other.candidates]
    assert len({tuple(texts(alone)), tuple(texts(three)), tuple(texts(narrow))}) == 3
    assert len(set(texts(three))) > 1


def test_what_cannot_be_heard_is_told_and_the_rest_captioned(
    repository: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_text("no sound")
    files = [str(broken), str(repository / "sounds/1.wav"), str(tmp_path / "none.wav")]
    options = ["--system", "three", "--repository", str(repository)]
    done = CliRunner().invoke(app, ["caption", *files, *options])
    assert done.exit_code == 1
    (line,) = done.stdout.splitlines()
    assert line.split(maxsplit=1) == [files[1], texts(captions(repository, "three"))[1]]
    count, first, second = done.stderr.splitlines()
    assert count == "captioned 1, failed 2"
    assert first.startswith("error: ") and "broken.wav" in first
    assert second.startswith("error: ") and "none.wav" in second
    done = CliRunner().invoke(app, ["caption", files[0], *options])
    assert done.exit_code == 1 and done.stdout == ""


def test_odd_names_and_odd_values_do_not_end_a_run(repository: Path, tmp_path: Path) -> None:
    good = (repository / "sounds/1.wav").read_bytes()
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/lat\xe9.wav")
    Path(odd).write_bytes(good)
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.array([0, 3e38], np.float32), 16000, subtype="FLOAT")
    out = tmp_path / "captions.csv"
    files = [str(loud), odd, str(repository / "sounds/1.wav")]
    options = ["--system", "three", "--repository", str(repository), "--out", str(out)]
    done = CliRunner().invoke(app, ["caption", *files, *options])
    assert done.exit_code == 1
    with out.open(encoding="utf-8") as stream:
        first, second = csv.DictReader(stream)
    assert first["file"] == f"{tmp_path}/lat\\xe9.wav" and second["file"] == files[2]
    assert first["caption"] == second["caption"]
    assert [line.split()[0] for line in done.stdout.splitlines()] == [first["file"], files[2]]
    count, error = done.stderr.splitlines()
    assert count == "captioned 2, failed 1"
    assert error.startswith(f"error: {loud}: has samples of 3e+38")
    limit = ["--longest-minutes", "0.001", "--again"]
    done = CliRunner().invoke(app, ["caption", files[2], *options, *limit])
    assert done.exit_code == 1 and "at most 0.001 are read" in done.stderr and not done.stdout


def test_what_a_person_can_mend(repository: Path) -> None:
    def caption(system: str) -> list[Caption]:
        return captions(repository, system)

    with pytest.raises(EarwitnessError, match="no system 'thre'; did you mean 'three'"):
        caption("thre")
    params, right = repository / "params.yaml", (repository / "params.yaml").read_text()
    params.write_text(right.replace("decoding.beams", "decoding.beam"))
    with pytest.raises(EarwitnessError, match=r"systems\.narrow\.set: no parameter decoding\.beam"):
        caption("alone")  # at once, not when it comes to that system
    params.write_text(right)
    trained = repository / "data/models/captioners/heard/1"
    away = trained.rename(trained.with_name("away"))
    try:
        with pytest.raises(EarwitnessError, match="no captioner; run `dvc repro"):
            caption("alone")
    finally:
        away.rename(trained)
    narrower = repository / "data/plans/extraction/toy-logmel.json"
    before = narrower.read_text()
    narrower.write_text(before.replace(f'"mels": {MELS}', '"mels": 16'))
    try:
        with pytest.raises(EarwitnessError, match="logmel: 16 wide, but captioner heard was train"):
            caption("alone")
    finally:
        narrower.write_text(before)


def changed(repository: Path, to: Path, *changes: tuple[str, str]) -> Path:
    """A copy, with other parameters."""
    shutil.copytree(repository, to)
    text = (to / "params.yaml").read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (to / "params.yaml").write_text(text)
    return to


CLOTHO, SYNTHETIC = "{toy: {layout: clotho, root: toy}}", "{toy: {layout: soundscapes}}"


def test_a_system_of_synthetic_sound_says_so_in_one_line(repository: Path, tmp_path: Path) -> None:
    """`caption`, `search` and Python; and none of recordings, or of both, does."""
    root = changed(repository, tmp_path / "copy", (CLOTHO, SYNTHETIC))
    manifest = Manifest.load(root / "data/corpora/toy.json")
    clips = [clip.__class__(**{**vars(clip), "events": ("bell",)}) for clip in manifest.clips]
    Manifest("toy", manifest.root, tuple(clips)).save(root / "data/corpora/toy.json")
    sound = str(root / "sounds/1.wav")
    for command, name in ((["caption"], "three"), (["search", "a dog"], "mixed")):
        for place, lines in ((root, 1), (repository, 0)):
            options = ["--system", name, "--repository", str(place)]
            done = CliRunner().invoke(app, [*command, sound, *options])
            assert done.exit_code == 0 and len(done.stdout.splitlines()) == 1
            found = done.stderr.splitlines()
            assert len(found) == lines
            start = f"warning: {name} was trained on toy (1 kinds of synthetic sound) and does not"
            assert all(line.startswith(start) and "recipe listen" in line for line in found)
    with pytest.warns(SyntheticSoundWarning, match="heard was trained on toy") as caught:
        CaptioningSystem.load(root / "data/models/captioners/heard/1")
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(SyntheticSoundWarning, match=r"tower was .*search --model"):
        RetrievalSystem.load(root / "data/models/retrievers/tower/1")
    doctor = {found.what: found.detail for found in examine(Repository(root))}
    assert doctor["captioner heard"].endswith("trained on toy (1 kinds of synthetic sound)")
    doctor = {found.what: found.detail for found in examine(Repository(repository))}
    assert doctor["retriever tower"].endswith("/tower, trained on toy")


def test_what_params_no_longer_name_is_known_by_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("datasets: {}\nencoders: {}\n")
    place = Repository(tmp_path)
    for name, synthetic in (("made", True), ("recorded", False)):
        Manifest(name, "x", (), synthetic=synthetic).save(tmp_path / f"data/corpora/{name}.json")
        assert is_synthetic(name, place.params(), place) is synthetic
    assert not is_synthetic("nowhere", place.params(), place)


def test_captions_less_likely_than_held_out_ones_are_marked(
    repository: Path, tmp_path: Path
) -> None:
    """Of 20 captions the 5th percentile is 0.95 of the way from the second lowest to the lowest."""
    tested = ("\nsystems:\n", "\ntest_sets: [toy]\nsystems:\n")
    root = changed(repository, tmp_path / "copy", tested)
    found = captions(root, "alone")
    assert {caption.unsure for caption in found} == {None}  # there are no held-out captions
    tokenizer = load_captioner(root / "data/models/captioners/heard/1").tokenizer
    sure = [c.log_prob / (len(tokenizer.encode([c.text], 99)[0]) - 1) for c in found]
    middle = sorted(sure)[2]
    between = (middle + sorted(sure)[3]) / 2
    text = found[sure.index(middle)].text
    tokens = len(tokenizer.encode([text], 99)[0]) - 1
    table = root / "data/predictions/toy/alone.csv"
    table.parent.mkdir(parents=True)

    def held_out(values: list[float]) -> None:
        rows = [f"{n},{text},{value * tokens}" for n, value in enumerate(values)]
        table.write_text("\n".join(["clip_id,caption,log_prob", *rows]))

    low, high = between - 0.19, between + 0.01  # interpolated: low + 0.95 · (high − low) = between
    held_out([low, *[high] * 19])
    marked = [caption.unsure for caption in captions(root, "alone")]
    assert marked == [value < between for value in sure] and True in marked and False in marked
    sounds = [str(root / f"sounds/{number}.wav") for number in range(len(SECONDS))]
    options = ["--system", "alone", "--repository", str(root), "--out", str(tmp_path / "out.csv")]
    done = CliRunner().invoke(app, ["caption", *sounds, *options])
    assert [line.endswith("  (unsure)") for line in done.stdout.splitlines()] == marked
    with (tmp_path / "out.csv").open(encoding="utf-8") as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["unsure"] for row in rows] == [{True: "yes", False: "no"}[m] for m in marked]
    assert [row["caption"] for row in rows] == texts(found)
    system = CaptioningSystem.load("alone", root=root, device="cpu")
    assert [c.unsure for c in system.caption(sounds, batch=1)] == marked
    other = system.caption(sounds, beams=2)  # of another search, nothing is known
    assert {caption.unsure for caption in other} == {None}
    held_out([low] * 19)  # too few
    assert {caption.unsure for caption in captions(root, "alone")} == {None}
