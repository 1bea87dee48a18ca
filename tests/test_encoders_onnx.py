"""Exported models against onnxruntime run directly, and against the same network in NumPy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import huggingface_hub
import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import soxr
import torch
from encoder_sounds import sound
from huggingface_hub.utils import filter_repo_objects
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx_models import BANDS, CLASSES, HOP, PATCH, WIDTH, by_hand, save, tagger
from pydantic import ValidationError

from pipeline.config.encoders import Layout, OnnxEncoderConfig, SpecAugmentConfig
from pipeline.encoders.base import Masks, SoundEncoder
from pipeline.encoders.labels import class_names
from pipeline.encoders.layouts import arranged
from pipeline.encoders.registry import build_sound_encoder, weights_digest
from pipeline.errors import EarwitnessError
from pipeline.outside.digests import Digests

RATE = 16000
TOKENS: dict[str, Any] = {"output": "frames", "frames": "tokens", "layout": "b (f t) d"}
TOKENS["bands"] = BANDS
CED: dict[str, dict[str, Any]] = {
    "frames": {"output": "frames", "frames": "view_17", "layout": "b (f t) d", "bands": 4},
    "embedding": {"embedding": "layer_norm_25"},
    "probabilities": {"output": "probabilities"},
}


def encoder_of(path: Path, **values: Any) -> SoundEncoder:
    return build_sound_encoder(OnnxEncoderConfig(module="onnx", weights=str(path), **values))


def clips_of(encoder: SoundEncoder, clips: Sequence[NDArray[np.float32]]) -> list[torch.Tensor]:
    """Each clip's frames in one padded batch, after which the padding is loud."""
    waveform = torch.full((len(clips), max(map(len, clips))), 0.9)
    for row, clip in enumerate(clips):
        waveform[row, : len(clip)] = torch.from_numpy(clip)
    values, lengths = encoder(waveform, torch.tensor([len(clip) for clip in clips]))
    return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]


def noises(*samples: int) -> list[NDArray[np.float32]]:
    waveform, lengths = sound(*samples)
    return [row[:n].numpy() for row, n in zip(waveform, lengths.tolist(), strict=True)]


@pytest.fixture(scope="module")
def ced(shared_data: Path) -> Path:
    path = shared_data / "weights" / "ced-tiny.onnx"
    if not path.exists():
        pytest.skip("ced-tiny.onnx is not on this machine")
    return path


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> list[NDArray[np.float32]]:
    """Four real recordings at 16 kHz, of three lengths, one at the model's limit."""
    found = []
    names = sorted((shared_data / "realsounds" / "evaluation").glob("*.ogg"))[:4]
    for path, seconds in zip(names, (5.0, 5.0, 10.0, 0.9), strict=True):
        samples, rate = soundfile.read(path, dtype="float32")
        whole = np.tile(soxr.resample(samples, rate, RATE), 3)
        found.append(whole[: int(seconds * RATE)])
    return found


@pytest.fixture(scope="module")
def plain(ced: Path) -> onnxruntime.InferenceSession:
    """CED as its file says, with its inner tensors, and nothing of ours."""
    model = onnx.load(str(ced))
    for name in ("view_17", "layer_norm_25"):
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("output", CED)
def test_ced_is_what_onnxruntime_computes(
    ced: Path, plain: Any, recordings: list[NDArray[np.float32]], output: str
) -> None:
    encoder = encoder_of(ced, **CED[output])
    assert encoder.width == {"probabilities": 527}.get(output, 192)
    assert encoder.pooled is (output != "frames")
    assert encoder.frame_seconds == (0.16 if output == "frames" else 10.0)
    for clip, found in zip(recordings, clips_of(encoder, recordings), strict=True):
        probabilities, tokens, pooled = plain.run(
            ["logits", "view_17", "layer_norm_25"], {"waveform": clip[None]}
        )
        frames = tokens[0].reshape(4, -1, 192).mean(0)
        assert len(frames) == (len(clip) // 160 - 15) // 16 + 1
        expected = {"frames": frames, "embedding": pooled, "probabilities": probabilities}[output]
        assert np.abs(expected).max() > 0.3
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_ced_takes_shorter_than_its_least_and_refuses_longer_than_its_most(
    ced: Path, plain: Any, recordings: list[NDArray[np.float32]]
) -> None:
    encoder = encoder_of(ced, **CED["embedding"])
    short = recordings[0][:900]  # at least 2400 samples make a patch
    (found,) = clips_of(encoder, [short])
    padded = np.pad(short, (0, 1500))
    (expected,) = plain.run(["layer_norm_25"], {"waveform": padded[None]})
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    with pytest.raises(EarwitnessError, match=r"of 192000 samples .*; a shorter window_seconds"):
        encoder_of(ced, window_seconds=12, **CED["embedding"])


def test_inner_tensors_are_the_networks(tmp_path: Path) -> None:
    tagger(tmp_path / "a.onnx")
    clips = noises(RATE, RATE, 8000, PATCH)
    wanted = [by_hand(clip) for clip in clips]
    for values, name in (
        (TOKENS, "frames"),
        ({"embedding": "pooled"}, "pooled"),
        ({}, "logits"),  # the only output
        ({"output": "probabilities", "activation": "sigmoid"}, "sigmoid"),
        ({"output": "probabilities", "activation": "softmax"}, "softmax"),
        ({"output": "probabilities", "probabilities": "probabilities"}, "sigmoid"),
    ):
        encoder = encoder_of(tmp_path / "a.onnx", **values)
        for found, made in zip(clips_of(encoder, clips), wanted, strict=True):
            logits = torch.from_numpy(made["logits"])
            made["sigmoid"], made["softmax"] = logits.sigmoid().numpy(), logits.softmax(0).numpy()
            expected = np.atleast_2d(made[name])
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
        assert encoder.frame_seconds == (HOP / RATE if name == "frames" else 10)


@pytest.mark.parametrize("layout", get_args(Layout))
def test_any_order_of_axes(layout: Layout) -> None:
    whole = torch.randn(2, 4, 5, 3)  # b t d f
    clips = whole if layout.startswith("b") else whole[:1]
    expected = clips.mean(3) if "f" in layout else clips[..., 0]
    letters = "".join(letter for letter in layout if letter.isalpha())
    given, axes = (clips, "btdf") if "f" in letters else (clips[..., 0], "btd")
    values = torch.einsum(f"{axes}->b{letters.removeprefix('b')}", given)
    values = values if "b" in letters else values[0]
    if "(" in layout:
        values = values.flatten(1, 2)
    bands = 3 if "(" in layout else None
    torch.testing.assert_close(arranged(values, layout, bands, 0), expected)
    if "(" in layout or layout in ("b t d", "t d"):
        tokens = torch.cat([torch.full_like(values[..., :2, :], 9), values], -2)
        torch.testing.assert_close(arranged(tokens, layout, bands, 2), expected)


def test_probabilities_in_time(tmp_path: Path) -> None:
    """Softmax is over the classes, wherever they stand."""
    tagger(tmp_path / "a.onnx")
    values = {"output": "probabilities", "probabilities": "maps", "layout": "b d t"}
    encoder = encoder_of(tmp_path / "a.onnx", activation="softmax", **values)
    assert not encoder.pooled and encoder.width == BANDS * WIDTH
    assert encoder.frame_seconds == HOP / RATE
    clips = noises(4000, 3000)
    for clip, found in zip(clips, clips_of(encoder, clips), strict=True):
        expected = torch.from_numpy(by_hand(clip)["maps"]).softmax(-1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [["n"], [1, "n"], ["b", 1, "n"], ["b", "c", "n"]], ids=str)
def test_any_axes_of_the_waveform(tmp_path: Path, shape: list[str | int]) -> None:
    tagger(tmp_path / "a.onnx", shape=shape)
    clips = noises(4000, 4000, 3000)
    for values, name in (({"embedding": "pooled"}, "pooled"), (TOKENS, "frames")):
        encoder = encoder_of(tmp_path / "a.onnx", **values)
        for clip, found in zip(clips, clips_of(encoder, clips), strict=True):
            np.testing.assert_allclose(found.numpy(), np.atleast_2d(by_hand(clip)[name]), atol=1e-5)


@pytest.mark.parametrize("louder", [False, True])
def test_a_clip_is_the_same_beside_others(tmp_path: Path, louder: bool) -> None:
    """Also where the model hears the whole batch; where it does not, one run has many clips."""
    tagger(tmp_path / "a.onnx", louder=louder)
    encoder: Any = encoder_of(tmp_path / "a.onnx", **TOKENS)
    assert encoder.mixes_nothing is not louder
    levels = dict(enumerate((1, 1e-3, 0.1, 1)))
    clips = [clip * levels[row] for row, clip in enumerate(noises(*[RATE] * 3, 9000))]
    run, batches = encoder.graphs["cpu"], []

    def counted(waveform: torch.Tensor) -> torch.Tensor:
        batches.append(len(waveform))
        values: torch.Tensor = run(waveform)
        return values

    encoder.graphs["cpu"] = counted
    together = clips_of(encoder, clips)
    assert sorted(batches) == ([1, 1, 1, 1] if louder else [1, 3])
    for clip, found in zip(clips, together, strict=True):
        (alone,) = clips_of(encoder, [clip])
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)
        peak = np.abs(clip).max() if louder else 1
        np.testing.assert_allclose(found.numpy(), by_hand(clip / peak)["frames"], atol=1e-4)


def test_a_model_of_a_fixed_length(tmp_path: Path) -> None:
    """Shorter sound has zeros behind it, and no frames of those."""
    tagger(tmp_path / "a.onnx", shape=["b", 8000])
    with pytest.raises(EarwitnessError, match=r"takes 0\.5 s at most; set window_seconds to that"):
        encoder_of(tmp_path / "a.onnx", **TOKENS)
    encoder = encoder_of(tmp_path / "a.onnx", window_seconds=0.5, **TOKENS)
    frames = (8000 - PATCH) // HOP + 1
    assert encoder.frame_seconds == pytest.approx(0.5 / frames)
    clips = noises(8000, 3000, 100)
    for clip, found in zip(clips, clips_of(encoder, clips), strict=True):
        expected = by_hand(np.pad(clip, (0, 8000 - len(clip))))["frames"]
        kept = -(-len(clip) * frames // 8000)
        assert len(found) == kept
        np.testing.assert_allclose(found.numpy(), expected[:kept], atol=1e-5)


def test_a_folder_with_the_models_tensors_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    (folder / "onnx").mkdir(parents=True)
    tagger(folder / "onnx" / "model.onnx", external="model.onnx_data")
    clips = noises(8000)
    encoder = encoder_of(folder, embedding="pooled")
    expected = by_hand(clips[0])["pooled"][None]
    np.testing.assert_allclose(clips_of(encoder, clips)[0].numpy(), expected, atol=1e-5)
    settings = OnnxEncoderConfig(module="onnx", weights=str(folder))
    before = weights_digest(settings), Digests().of(folder)
    with pytest.raises(
        EarwitnessError, match=r"tensors are in model.onnx_data beside it; give the"
    ):
        encoder_of(folder / "onnx" / "model.onnx")
    data = folder / "onnx" / "model.onnx_data"
    data.write_bytes(data.read_bytes()[::-1])
    assert weights_digest(settings) != before[0] and Digests().of(folder) != before[1]
    data.rename(tmp_path / "model.onnx_data")
    with pytest.raises(EarwitnessError, match="onnxruntime cannot run it"):
        encoder_of(folder)
    model = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../model.onnx_data"
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        EarwitnessError, match=r"are in \.\./\.\./model\.onnx_data, outside its folder"
    ):
        encoder_of(folder)
    tagger(folder / "model.onnx")
    tagger(folder / "int8.onnx")
    with pytest.raises(
        EarwitnessError, match=r"several, set file to one: int8.onnx, model.onnx, onnx/"
    ):
        encoder_of(folder)
    with pytest.raises(
        EarwitnessError, match=r"has no int4.onnx; it has: int8.onnx, model.onnx, onnx/"
    ):
        encoder_of(folder, file="int4.onnx")
    assert encoder_of(folder, file="int8.onnx", embedding="pooled").width == WIDTH
    with pytest.raises(EarwitnessError, match=r"\.onnx files: none"):
        (tmp_path / "empty").mkdir()
        encoder_of(tmp_path / "empty")


def test_of_a_repository_one_model_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others, of other precisions, are often as many gigabytes."""
    there = tmp_path / "hub"
    (there / "onnx").mkdir(parents=True)
    tagger(there / "onnx" / "model.onnx", external="model.onnx_data")
    tagger(there / "onnx" / "model_int8.onnx")
    (there / "config.json").write_text('{"id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}}')
    names = [str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()]

    def fetch(repository: str, allow_patterns: list[str], local_files_only: bool) -> str:
        """A folder of links, as in the hub's cache."""
        target = tmp_path / f"cache{len(list(tmp_path.iterdir()))}"
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            blob = tmp_path / "blobs" / hashlib.sha256(name.encode()).hexdigest()
            blob.parent.mkdir(exist_ok=True)
            blob.write_bytes((there / name).read_bytes())
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to(os.path.relpath(blob, (target / name).parent))
        return str(target)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    values = {"output": "probabilities", "activation": "sigmoid", "weights": "hub:a/b"}
    for file, expected in (
        (None, {"onnx/model.onnx", "onnx/model.onnx_data", "config.json"}),
        ("onnx/model_int8.onnx", {"onnx/model_int8.onnx", "config.json"}),
    ):
        settings = OnnxEncoderConfig(module="onnx", file=file, **values)
        assert build_sound_encoder(settings).width == CLASSES
        assert class_names(settings) == ("a", "b", "c", "d")
        fetched = max(tmp_path.glob("cache*"), key=lambda path: int(path.name[5:]))
        found = {str(p.relative_to(fetched)) for p in fetched.rglob("*") if p.is_file()}
        assert found == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input": "sound"}, "has no input sound; its inputs: waveform"),
        (
            {"embedding": "pool"},
            r"no tensor pool \(embedding\); inputs: waveform; outputs: logits, pooled; inner ones "
            "near it: pooled",
        ),
        ({}, "set embedding to one of its outputs: logits, pooled"),
        ({"embedding": "tokens"}, r"embedding \(tokens\): it is \(1, 2994, 5\), not \(1, D\)"),
        ({**TOKENS, "layout": "b t d", "bands": None, "frames": "pooled"}, "layout 'b t d' is not"),
        ({**TOKENS, "bands": 4}, "2994 tokens are no whole 4 bands"),
        ({**TOKENS, "class_tokens": 2, "frames": "maps"}, "13 tokens are no whole 3 bands"),
        (
            {"output": "probabilities", "probabilities": "logits"},
            "are no probabilities; set activation to sigmoid or softmax",
        ),
    ],
)
def test_what_the_model_has_not_is_one_line(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    tagger(tmp_path / "a.onnx", outputs=("logits", "pooled"))
    with pytest.raises(EarwitnessError, match=message) as raised:
        encoder_of(tmp_path / "a.onnx", **values)
    assert "\n" not in str(raised.value) and "a.onnx" in str(raised.value)


def test_probabilities_are_not_flattened_again(ced: Path) -> None:
    for activation in ("sigmoid", "softmax"):
        with pytest.raises(EarwitnessError, match="probabilities already; set activation to none"):
            encoder_of(ced, output="probabilities", activation=activation)


def test_what_is_no_model_of_sound_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for content in (b"", b"not a model", bytes(range(256)) * 9):
        path.write_bytes(content)
        with pytest.raises(EarwitnessError, match=r"a\.onnx: not an ONNX model"):
            encoder_of(path)
    tagger(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(EarwitnessError, match=r"a\.onnx: (not an ONNX model|onnxruntime cannot)"):
        encoder_of(path)
    for shape, message in (
        (["b", 80, "t"], "export the model with what makes its spectrogram"),
        ([4, "t"], "takes 4 clips at a time"),
    ):
        tagger(path, shape=shape)
        with pytest.raises(EarwitnessError, match=message):
            encoder_of(path)
    for kind, names in ((TensorProto.INT64, ["ids"]), (TensorProto.FLOAT, ["mel", "length"])):
        inputs = [helper.make_tensor_value_info(name, kind, ["b", "n"]) for name in names]
        output = helper.make_tensor_value_info("out", kind, ["b", "n"])
        node = helper.make_node("Add", [names[0], names[-1]], ["out"])
        save(helper.make_graph([node], "other", inputs, [output]), path)
        with pytest.raises(EarwitnessError, match=r"not a waveform's|reads more than a waveform"):
            encoder_of(path)
    tagger(path)
    encoder = encoder_of(path)
    with pytest.raises(EarwitnessError, match="views"):
        encoder(*sound(RATE), Masks(SpecAugmentConfig(), torch.tensor([1])))


def test_frames_of_any_sound_need_their_period(tmp_path: Path) -> None:
    """A model that cuts or pads its input itself, as Whisper's front end does."""
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["waveform", "silence"], ["padded"], axis=1),
            helper.make_node("Slice", ["padded", "from", "to", "axis"], ["cut"]),
            helper.make_node("Reshape", ["cut", "shape"], ["frames"]),
        ],
        "whisper",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [1, "n"])],
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("silence", TensorProto.FLOAT, [1, 1000], [0.0] * 1000),
            *(
                helper.make_tensor(name, TensorProto.INT64, [len(value)], value)
                for name, value in {
                    "from": [0],
                    "to": [1000],
                    "axis": [1],
                    "shape": [1, 10, 100],
                }.items()
            ),
        ],
    )
    save(graph, tmp_path / "a.onnx")
    values = {"output": "frames", "sample_rate": 1000, "window_seconds": 1}
    with pytest.raises(EarwitnessError, match="has 10 frames of any sound; set frame_seconds"):
        encoder_of(tmp_path / "a.onnx", **values)
    encoder = encoder_of(tmp_path / "a.onnx", frame_seconds=0.1, **values)
    (clip,) = noises(430)
    (found,) = clips_of(encoder, [clip])
    np.testing.assert_array_equal(found.numpy(), np.pad(clip, (0, 70)).reshape(5, 100))


@pytest.mark.parametrize(
    "values",
    [
        {"layout": "b (f t) d"},
        {"bands": 4},
        {"layout": "b d t", "class_tokens": 1},
        {"layout": "b x d"},
    ],
)
def test_settings_that_contradict_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OnnxEncoderConfig(module="onnx", weights="./a.onnx", output="frames", **values)


def test_labels_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    tagger(tmp_path / "a.onnx")
    values = {"output": "probabilities", "activation": "sigmoid"}
    labels = tmp_path / "labels.txt"
    labels.write_text("dog\nrain\ndog\n")
    with pytest.raises(
        EarwitnessError, match=r"names 3 classes, but .*a\.onnx has 4; give its own"
    ):
        encoder_of(tmp_path / "a.onnx", labels=str(labels), **values)
    labels.write_text("dog\nrain\ndog\nbell\n")
    assert encoder_of(tmp_path / "a.onnx", labels=str(labels), **values).width == CLASSES
