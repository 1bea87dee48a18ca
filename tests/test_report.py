"""What the report is made from: sound, pictures, tables, and what differs in the parameters."""

from __future__ import annotations

import io
import json
import re
import subprocess
import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from report_run import (
    CLIPS,
    PARAMS,
    RATE,
    block,
    make_run,
    write_json,
    write_manifest,
    write_scores,
)

from earwitness.report import clips, curves, ogg, scores, settings
from earwitness.report.assembly import page
from earwitness.report.columns import columns
from earwitness.report.pictures import BANDS, spectrogram
from earwitness.report.run import Run
from earwitness.report.sounds import collect
from pipeline.config.params import parse_params
from pipeline.errors import EarwitnessError
from pipeline.files import sha256
from pipeline.times import Stopwatch


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> Any:
    time = np.arange(int(rate * seconds)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_ogg_is_the_same_each_time_and_still_sound() -> None:
    """libsndfile draws a stream's number; a page whose check sum is wrong is not decoded."""
    samples = tone(700, 2.5)
    content = ogg.encode(samples, RATE)
    assert content == ogg.encode(samples, RATE)
    heard, rate = soundfile.read(io.BytesIO(content))
    assert (rate, len(heard)) == (RATE, len(samples))
    assert np.abs(np.fft.rfft(heard)).argmax() == pytest.approx(700 * 2.5, abs=1)
    damaged = bytearray(content)
    damaged[-20] ^= 255
    assert len(soundfile.read(io.BytesIO(bytes(damaged)))[0]) < len(samples)


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 5000.0])
def test_a_tone_is_a_line_at_its_mel_frequency(hertz: float) -> None:
    silent_then_tone = np.concatenate([np.zeros(RATE, np.float32), tone(hertz, 3.0)])
    grey = np.asarray(Image.open(io.BytesIO(spectrogram(silent_then_tone, RATE))).convert("L"))
    assert grey.shape[0] == BANDS
    late = grey[:, -grey.shape[1] // 2 :].mean(1)
    mel = 2595 * np.log10(1 + np.array([hertz, RATE / 2]) / 700)
    row = BANDS - 1 - (mel[0] / mel[1] * (BANDS + 1) - 1)
    assert late.argmax() == pytest.approx(row, abs=1)
    assert grey[:, : grey.shape[1] // 5].max() < 30 and late.max() > 200  # silence comes first


def test_silence_and_a_single_sample_have_pictures() -> None:
    for samples in (np.zeros(RATE, np.float32), np.ones(1, np.float32)):
        assert Image.open(io.BytesIO(spectrogram(samples, RATE))).size[1] == BANDS


def test_recordings_are_embedded_up_to_the_limit_and_linked_beyond(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    whole = collect(run)
    assert [own["embedded"] for own in whole.clips["toy"].values()] == [0, 1, 2, 3]
    for content, (_, hertz, _, _) in zip(whole.embedded, CLIPS.values(), strict=True):
        samples, rate = soundfile.read(io.BytesIO(content))
        middle = samples[2000:18000]  # an MP3 may begin with some silence
        assert np.abs(np.fft.rfft(middle)).argmax() == pytest.approx(hertz * 16000 / rate, abs=2)
    assert not collect(limited(run, 0)).embedded
    some = collect(limited(run, 1.5 * 6000 * 1.2 / (1 << 20)))
    assert 1 <= len(some.embedded) < 4
    for name, own in some.clips["toy"].items():
        if "link" in own:
            linked = run.data / urllib.parse.unquote(own["link"])
            assert linked.samefile(tmp_path / "sounds" / CLIPS[name][0])
            assert own["webp"]  # the page can still show it


def limited(run: Run, megabytes: float) -> Run:
    report = run.params.report.model_copy(update={"audio_megabytes": megabytes})
    return Run(run.root, run.original, run.params.model_copy(update={"report": report}))


def test_what_was_made_of_a_recording_is_kept_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    manifest = run.manifests["toy"]
    digests = tuple(replace(clip, digest=f"d{at}") for at, clip in enumerate(manifest.clips))
    replace(manifest, clips=digests).save(run.data / "corpora/toy.json")
    run = Run(run.root, run.original, run.params)
    first = collect(run)
    monkeypatch.setattr(ogg, "encode", None)  # not needed again
    again = collect(run)
    assert (again.clips, again.embedded) == (first.clips, first.embedded)
    other = replace(manifest, clips=(replace(digests[0], digest="changed"), *digests[1:]))
    other.save(run.data / "corpora/toy.json")
    with pytest.raises(TypeError, match="not callable"):
        collect(Run(run.root, run.original, run.params))


def test_a_recording_that_is_gone_or_broken_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "sounds/a/dog.wav").unlink()
    (tmp_path / "sounds/rain.flac").write_bytes(b"no sound")
    found = collect(run).clips["toy"]
    assert found["dog"]["why"] == "The recording is no longer where the dataset had it."
    assert found["rain"]["why"] == "The recording cannot be read any more."
    assert "embedded" in found["bell"]


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = page(run)
    assert page(Run(run.root, run.original, run.params)) == first
    with Stopwatch(run.data / "times", "look", (), None):
        pass
    second = page(run)
    changing = re.compile(r'<script [^>]*id="data-settings">[^<]*</script>')
    assert first != second and changing.sub("", first) == changing.sub("", second)


def test_the_metrics_that_matter_come_first() -> None:
    given = ["N", "bleu_4", "fluency_error_prob_own", "mine", "vocabulary", "sbert_sim_minilm",
             "cider_d", "spider"]  # fmt: skip
    found = columns(given)
    assert [each["label"] for each in found] == [
        "SPIDEr", "CIDEr-D", "SBERT (minilm)", "Vocabulary", "BLEU 4",
        "Fluency error, probability (own)", "Clips", "mine",
    ]  # fmt: skip
    assert [each["name"] for each in found if each["first"]] == [
        "spider", "cider_d", "sbert_sim_minilm", "vocabulary",
    ]  # fmt: skip


def test_scores_are_of_todays_systems_and_yardsticks(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_json(tmp_path / "metrics/toy/an_old_system.json", {"cider_d": 9.0})
    write_json(tmp_path / "metrics/other/alpha.json", {"cider_d": 9.0})
    (table,) = scores.data(run)["tables"]
    assert [row["system"] for row in table["rows"]] == ["alpha", "beta", "gamma", "yardstick_human"]
    assert table["rows"][0]["values"]["cider_d"] == 0.65
    assert table["rows"][0]["intervals"]["cider_d"]["high"] == 0.80


def test_captions_and_scores_are_by_seed_in_the_order_of_the_clips(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (found,) = clips.data(run)["datasets"]
    assert [clip[0] for clip in found["clips"]] == ["dog", "rain", "bell", "hostile"]
    gamma = found["systems"][2]
    assert gamma["captions"]["2"] == ["a cat mews", "rain falls", "metal clangs", "it is quiet"]
    assert gamma["scores"]["1"]["cider_d"] == [1.5, 0.1, 0.9, None]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"seed": "1", "clip_id": "gone", "caption": "x"}, "line 2: clip 'gone' is not in the"),
        ({"seed": "1", "clip_id": "dog", "caption": "x", "cider_d": "high"}, "cider_d is 'high'"),
        ({"clip_id": "dog", "caption": "x"}, "no column seed"),
    ],
)
def test_a_table_of_another_run_is_one_line(
    tmp_path: Path, row: dict[str, str], message: str
) -> None:
    run = make_run(tmp_path)
    write_scores(run.data / "scores/toy/beta.csv", [row])
    with pytest.raises(EarwitnessError, match=message):
        clips.data(run)


def test_curves_of_every_seed_with_their_best_validation(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rows = [{"step": 1, "epoch": 1, "total": 1.0, "validation_cider_d": 0.1}]
    write_scores(run.data / "models/captioners/heard/10/curves.csv", rows)
    (run.data / "models/captioners/heard/3").mkdir()  # of a seed that no system asks for
    (group,) = curves.data(run)["groups"]
    assert [(own["seed"], own["best"]) for own in group["trained"]] == [
        ("1", 1),
        ("2", 2),
        ("10", 0),
    ]
    assert group["trained"][1]["columns"]["validation_cider_d"] == [0.2, 0.3, 0.6]


def git(root: Path, *arguments: str) -> None:
    named = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    subprocess.run(["git", *named, *arguments], cwd=root, check=True, capture_output=True)


def test_parameters_are_compared_with_the_last_commit_that_had_others(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    unchanged = settings.data(run)
    assert unchanged["changed"] == [] and unchanged["compared"] is None
    now = PARAMS.replace("sbert: null", "sbert: null, ties: listed").replace("spice: false, ", "")
    (tmp_path / "params.yaml").write_text(now.replace("attention_clips: 0", "attention_clips: 1"))
    write_json(tmp_path / "metrics/toy/alpha.json", {"N": 5})
    found = settings.data(run)
    assert found["changed"] == ["params.yaml"]  # a run writes its metrics itself
    differing = {
        ".".join(each["place"]): (each["state"], each.get("before"), each.get("value"))
        for each in found["params"]
        if each["state"] != "same"
    }
    assert differing == {
        "report.attention_clips": ("changed", "0", "1"),
        "evaluation.ties": ("new", None, "listed"),
        "evaluation.spice": ("gone", "false", None),
    }
    git(tmp_path, "commit", "-qam", "second: <b>")
    again = settings.data(run)
    assert again["compared"]["subject"] == "first" and again["changed"] == []
    assert again["revision"]["subject"] == "second: <b>"


def test_without_git_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = settings.data(run)
    assert found["revision"] is None and found["params"] and found["versions"]["torch"]


def test_times_are_of_todays_plans(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    plan = run.data / "plans/captioners/heard/1.json"
    for text in ("{}", '{"now": 1}'):
        write_json(plan, json.loads(text))
        with Stopwatch(run.data / "times", "train_captioner", ("heard", "1"), "abc") as watch:
            watch.given(plan)
    (record,) = settings.data(run)["times"]
    assert record["job"] == ("heard", "1")
    assert (run.data / f"times/train_captioner/heard-1/{sha256(plan)}.json").is_file()


def test_a_run_that_has_nothing_still_has_a_page(tmp_path: Path) -> None:
    """No captioners, no test set, no git, no data."""
    values = {"datasets": {"toy": {"layout": "clotho", "root": "toy"}}, "encoders": {}}
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    text = page(Run(tmp_path, tmp_path, parse_params(values)))
    assert 'id="view-settings"' in text and 'id="view-clips"' not in text
    assert block(text, "settings")["times"] == []


def test_of_a_blind_set_there_are_captions_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_manifest(tmp_path, blind=True)
    for path in (run.data / "scores/toy").glob("*.csv"):
        path.unlink()
    rows = [{"seed": "1", "clip_id": clip, "caption": "it rains"} for clip in CLIPS]
    write_scores(run.data / "scores/toy/alpha.csv", rows)
    (found,) = block(page(Run(run.root, run.original, run.params)), "clips")["datasets"]
    assert found["blind"] and found["metrics"] == []
    assert found["systems"][0]["captions"] == {"1": ["it rains"] * 4}
