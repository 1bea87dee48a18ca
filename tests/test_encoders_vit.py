"""``vit`` against each model's definition, in its published layouts; and the real CED-tiny."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
import vit_checkpoints as made
from encoder_sounds import sound
from torch import Tensor

from pipeline.config.encoders import SpecAugmentConfig, VitEncoderConfig
from pipeline.encoders.base import Masks
from pipeline.encoders.registry import build_sound_encoder, sound_entry
from pipeline.encoders.vit import VitEncoder
from pipeline.errors import EarwitnessError

OUTPUTS = ("frames", "embedding", "probabilities")


def encoder(path: Path, model: str, **changes: Any) -> VitEncoder:
    values = {"heads": made.HEADS, "window_seconds": 2, **changes}
    built = build_sound_encoder(
        VitEncoderConfig(module="vit", model=model, weights=str(path), **values), None
    )
    assert isinstance(built, VitEncoder)
    return built


def ced_hub(folder: Path) -> Path:
    return made.save_hub(folder / "ced", made.ced())


def ced_own(folder: Path) -> Path:
    return made.save_torch(folder / "ced.pt", made.original_ced(made.ced()), config={"depth": 2})


def dasheng_hub(folder: Path) -> Path:
    return made.save_hub(folder / "dasheng", made.dasheng())


def dasheng_own(folder: Path) -> Path:
    state = made.original_ced(made.dasheng())
    return made.save_torch(folder / "dasheng_base.pt", state, config={"embed_dim": 32})


def eat_hub(folder: Path) -> Path:
    return made.save_hub(folder / "eat", made.eat())


def eat_fairseq(folder: Path) -> Path:
    return made.save_torch(folder / "eat.pt", made.fairseq_eat(), args=None, cfg={"task": {"a": 1}})


def m2d_flat(folder: Path) -> Path:
    path = folder / made.M2D_FOLDER / "checkpoint-300.pth"
    return made.save_torch(path, made.m2d(), args=made.PLAIN_ARGS, epoch=300)


def m2d_joined(folder: Path) -> Path:
    return made.save_hub(folder / made.M2D_FOLDER, made.m2d(joined=True))


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path], Callable[..., Any], made.State]] = {
    "ced, hub": ("ced", ced_hub, made.xiaomi_outputs, made.ced()),
    "ced, .pt": ("ced", ced_own, made.xiaomi_outputs, made.ced()),
    "dasheng, hub": ("dasheng", dasheng_hub, made.xiaomi_outputs, made.dasheng()),
    "dasheng, .pt": ("dasheng", dasheng_own, made.xiaomi_outputs, made.dasheng()),
    "eat, hub": ("eat", eat_hub, made.eat_outputs, made.eat()),
    "eat, fairseq": ("eat", eat_fairseq, made.eat_outputs, made.eat(64)),
    "m2d, .pth": ("m2d", m2d_flat, made.m2d_outputs, made.m2d()),
    "m2d, joined": ("m2d", m2d_joined, made.m2d_outputs, made.m2d(joined=True)),
}


def clips() -> tuple[Tensor, Tensor]:
    """One loud with digital silence in it, one faint, one short."""
    waveform, lengths = sound(32000, 21111, 2567)
    waveform[0, :16000] *= 9
    waveform[0, 16000:] = 0
    waveform[1, :21111] *= 1e-3
    return waveform, lengths


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_clip_of_a_batch_is_its_models_definition(layout: str, tmp_path: Path) -> None:
    model, save, outputs, state = LAYOUTS[layout]
    path = save(tmp_path)
    waveform, lengths = clips()
    expected = [
        outputs(state, waveform[row, :length].double().numpy())
        for row, length in enumerate(lengths.tolist())
    ]
    assert min(float(e["frames"].std(0).mean()) for e in expected[:2]) > 0.1  # frames differ
    for output in OUTPUTS:
        if output not in expected[0]:
            continue
        with torch.inference_mode():
            values, counts = encoder(path, model, output=output)(waveform, lengths)
        for row, clip in enumerate(expected):
            wanted = clip[output] if output == "frames" else clip[output][None]
            found = values[row, : int(counts[row])].double()
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("layout", "seconds", "columns"),
    [
        ("ced, hub", 0.16, [12, 8, 1]),
        ("dasheng, hub", 0.04, [50, 33, 4]),
        ("eat, hub", 0.16, [13, 9, 1]),
        ("m2d, .pth", 0.16, [13, 9, 2]),
    ],
)
def test_what_an_encoder_says_of_its_output(
    layout: str, seconds: float, columns: list[int], tmp_path: Path
) -> None:
    model, save, _, state = LAYOUTS[layout]
    path = save(tmp_path)
    frames = encoder(path, model)
    assert (frames.width, frames.pooled, frames.sample_rate) == (made.WIDTH, False, 16000)
    assert frames.frame_seconds == pytest.approx(seconds)
    assert frames(*clips()).lengths.tolist() == columns
    pooled = encoder(path, model, output="embedding")
    assert (pooled.width, pooled.pooled, pooled.frame_seconds) == (made.WIDTH, True, 2)
    if any("outputlayer" in name or "head" in name for name in state):
        named = encoder(path, model, output="probabilities")
        assert (named.width, named.pooled) == (made.CLASSES, True)
        assert named(*clips()).lengths.tolist() == [1, 1, 1]


@pytest.mark.parametrize("layout", ["ced, hub", "dasheng, hub", "eat, hub", "m2d, .pth"])
def test_a_clip_of_a_few_samples_is_silence_to_a_patch(layout: str, tmp_path: Path) -> None:
    model, save, *_ = LAYOUTS[layout]
    encode = encoder(save(tmp_path), model)
    waveform, lengths = sound(16000, 3)
    values, counts = encode(waveform, lengths)
    silence = torch.zeros(1, 2400)
    silence[0, :3] = waveform[1, :3]
    alone = encode(silence, torch.tensor([2400]))
    assert counts.tolist()[1] == 1 and values.isfinite().all()
    if model != "dasheng":  # whose patch is shorter
        torch.testing.assert_close(values[1, 0], alone.values[0, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("layout", "seconds"),
    [("ced, hub", 10.12), ("dasheng, hub", 10.08), ("eat, hub", 10.24), ("m2d, .pth", 2.08)],
)
def test_a_window_is_no_longer_than_the_positions(
    layout: str, seconds: float, tmp_path: Path
) -> None:
    model, save, *_ = LAYOUTS[layout]
    path = save(tmp_path)
    longest = encoder(path, model, window_seconds=seconds)
    samples = int(seconds * 16000)
    whole = longest(*sound(samples))
    assert int(whole.lengths[0]) == longest.sizes.columns and whole.values.isfinite().all()
    with pytest.raises(EarwitnessError, match=f"^{model}: window_seconds is at most {seconds:g} "):
        encoder(path, model, window_seconds=seconds + 0.01)
    with pytest.raises(EarwitnessError, match=f"{samples + 1} samples is longer"):
        longest(*sound(samples + 1))


@pytest.mark.parametrize("layout", ["ced, hub", "eat, hub", "m2d, .pth"])
def test_spec_augment_reaches_the_network(layout: str, tmp_path: Path) -> None:
    model, save, *_ = LAYOUTS[layout]
    encode = encoder(save(tmp_path), model)
    waveform, lengths = sound(32000, 24000)
    clean = encode(waveform, lengths)
    masked = encode(waveform, lengths, Masks(SpecAugmentConfig(), torch.tensor([4, 9])))
    moved = (masked.values - clean.values).abs() * clean.mask[..., None]
    assert (moved.amax((1, 2)) > 0.01).all()


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6), (768, 12), (1280, 16)])
def test_heads_are_those_of_the_published_model(width: int, heads: int, tmp_path: Path) -> None:
    path = made.save_hub(tmp_path / "x", made.xiaomi((64, 4), 252, width, 1))
    sizes = encoder(path, "dasheng", heads=None).sizes
    assert (sizes.heads, sizes.width, sizes.depth, sizes.hidden) == (heads, width, 1, made.HIDDEN)


def test_a_model_in_several_files(tmp_path: Path) -> None:
    state = list(made.ced().items())
    for number, part in enumerate((state[:20], state[20:]), 1):
        made.save_hub(tmp_path / str(number), dict(part))
        (tmp_path / str(number) / "model.safetensors").rename(
            tmp_path / f"model-0000{number}-of-00002.safetensors"
        )
    whole = encoder(ced_hub(tmp_path), "ced")(*clips()).values
    torch.testing.assert_close(encoder(tmp_path, "ced")(*clips()).values, whole)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(EarwitnessError, match="has 1 of its 2 files; get the others"):
        encoder(tmp_path, "ced")


def test_a_fine_tuned_models_own_longest_input(tmp_path: Path) -> None:
    path = made.save_hub(tmp_path / "x", made.xiaomi((16, 16), 31))
    with pytest.raises(EarwitnessError, match=r"ced: window_seconds is at most 4\.96 with these"):
        encoder(path, "ced", window_seconds=5)
    path = made.save_hub(tmp_path / "y", made.eat(32))
    with pytest.raises(EarwitnessError, match=r"eat: window_seconds is at most 5\.12 with these"):
        encoder(path, "eat", window_seconds=6)


def test_many_short_clips_do_not_all_grow_to_eats_input_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = eat_hub(tmp_path)
    waveform, lengths = sound(*range(1000, 4500, 500))
    together = encoder(path, "eat", batch_seconds=120)
    expected = together(waveform, lengths)
    few = encoder(path, "eat", batch_seconds=25)
    seen = []
    network = few.network.forward
    monkeypatch.setattr(few.network, "forward", lambda x, n: seen.append(len(x)) or network(x, n))
    found = few(waveform, lengths)
    assert seen == [2, 2, 2, 1] and found.lengths.tolist() == expected.lengths.tolist()
    torch.testing.assert_close(found.values, expected.values, atol=1e-5, rtol=0)


def test_where_the_published_weights_are() -> None:
    found = {
        model: sound_entry(VitEncoderConfig(module="vit", model=model)).hub
        for model in ("ced", "dasheng", "eat", "m2d")
    }
    assert {name: hub and hub.repository for name, hub in found.items()} == {
        "ced": "mispeech/ced-base",
        "dasheng": "mispeech/dasheng-base",
        "eat": "worstchan/EAT-base_epoch30_finetune_AS2M",
        "m2d": None,
    }
    with pytest.raises(EarwitnessError, match=r"vit: no weights on a hub; give .* M2D's releases"):
        build_sound_encoder(VitEncoderConfig(module="vit", model="m2d"), None)


def changed(**tensors: Tensor | None) -> made.State:
    """CED's tensors, some of them others, or left out."""
    state = made.ced()
    for name, tensor in tensors.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    return state


@pytest.mark.parametrize(
    ("model", "state", "changes", "message"),
    [
        ("eat", made.ced(), {}, "not the weights of eat: local_encoder.proj.weight, extra_tokens, "
         "fixed_positional_encoder.positions missing (it has encoder."),
        ("ced", made.eat(), {}, "init_bn.running_mean, patch_embed.proj.weight, time_pos_embed, "
         "freq_pos_embed missing"),
        ("ced", made.dasheng(), {}, "patch_embed.proj.weight is (32, 1, 64, 4), the model's is "
         "(any, 1, 16, 16)"),
        ("ced", changed(**{"encoder.blocks.1.attn.proj.bias": None}), {},
         "not the weights of ced: blocks.1.attn.proj.bias is missing"),
        ("ced", changed(**{"encoder.time_pos_embed": torch.zeros(1, 48, 1, 63)}), {},
         "time_pos_embed is (1, 48, 1, 63), the model's is (1, 32, 1, any)"),
        ("ced", changed(**{"encoder.blocks.1.mlp.fc2.weight": torch.zeros(32, 81)}), {},
         "blocks.1.mlp.fc2.weight is (32, 81), the model's is (32, 80)"),
        ("ced", changed(**{"encoder.blocks.0.ls1.gamma": torch.ones(32)}), {},
         "blocks.0.ls1.gamma is not part of this model"),
        ("ced", changed(**{"encoder.cls_token": torch.ones(1, 1, 32)}), {},
         "cls_token is not part of this model"),
        ("ced", changed(**{"encoder.norm.weight": torch.full((32,), torch.nan)}), {},
         "norm.weight has NaN or infinity"),
        ("ced", made.ced() | made.plain(made.ced(), "encoder."), {}, "holds the encoder twice"),
        ("ced", made.ced(), {"heads": 5}, "5 heads do not divide the width 32; set heads"),
        ("ced", made.ced(), {"heads": None}, "no published model is 32 wide; set heads"),
        ("dasheng", made.dasheng(), {"output": "probabilities"}, "has no classifier "
         "(outputlayer.1.weight is missing), so no probabilities; set output to frames"),
        ("eat", {k: v for k, v in made.eat().items() if "head" not in k},
         {"output": "probabilities"}, "has no classifier (head.weight is missing)"),
        ("eat", {k: v[:, :0] if "positions" in k else v for k, v in made.eat().items()}, {},
         "0 positions are not whole columns of 8"),
        ("ced", changed(**{"encoder.time_pos_embed": torch.zeros(1, 32, 1, 0)}), {},
         "it has no positions in time"),
        ("ced", changed(**{"encoder.norm.bias": torch.zeros(32, dtype=torch.int8)}), {},
         "norm.bias is int8, not real numbers"),
        ("m2d", made.m2d(), {}, "m2d needs the folder's published name"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(
    model: str, state: made.State, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(EarwitnessError) as caught:
        encoder(made.save_hub(tmp_path / "folder", state), model, **changes)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m2d_vit_base-80x608p16x16", r"pos_embed is \(1, 66, 32\), the model's is \(1, 191, 32\)"),
        ("m2d_vit_base-64x208p16x16", "64x208p16x16 is no size of m2d"),
        ("m2d_vit_base-80x208p16x16p44k", "80x208p16x16p44k is no size of m2d"),
        ("m2d_vit_base-80x208p0x16", "80x208p0x16 is no size of m2d"),
    ],
)
def test_m2ds_sizes_are_its_folders_name(name: str, message: str, tmp_path: Path) -> None:
    path = made.save_torch(tmp_path / name / "weights.pth", made.m2d())
    with pytest.raises(EarwitnessError, match=message):
        encoder(path, "m2d")


def test_m2d_at_32_khz(tmp_path: Path) -> None:
    path = made.save_torch(tmp_path / f"{made.M2D_FOLDER[:25]}p32k" / "w.pth", made.m2d())
    high = encoder(path, "m2d")
    assert (high.sample_rate, high.mel.hop, high.mel.logmel.n_fft) == (32000, 320, 800)
    assert high.frame_seconds == pytest.approx(0.16)
    assert high(*sound(64000)).lengths.tolist() == [13]


def test_another_front_end_is_refused(tmp_path: Path) -> None:
    folder = ced_hub(tmp_path)
    config = folder / "preprocessor_config.json"
    config.write_text('{"sampling_rate": 16000, "f_max": null, "hop_size": 160}', encoding="utf-8")
    encoder(folder, "ced")
    config.write_text('{"sampling_rate": 32000}', encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"sampling_rate is 32000, the published .* 16000"):
        encoder(folder, "ced")


def dequantised(graph: Any) -> dict[str, np.ndarray]:
    """The initialisers of an ONNX graph, those of int8 as the numbers that they stand for."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            number, scale, zero = (values[name].astype(np.float32) for name in node.input)
            values[node.output[0]] = (number - zero) * scale
    return values


def ced_tiny(graph: Any, values: dict[str, np.ndarray]) -> made.State:
    """The tensors of mispeech/ced-tiny, by its names; linear layers are known by their biases."""
    state = {"encoder.freq_pos_embed": values["alias_dq"]}
    for name, array in values.items():
        if name.startswith("model.") and not name.endswith(("_q", "_s", "_z")):
            state[name.removeprefix("model.").removesuffix("_dq")] = array
    product = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        biases = [n for n in node.input if n.startswith("model.encoder.blocks.")]
        made_by = [product[name] for name in node.input if name in product]
        if node.op_type == "Add" and biases and made_by:
            name = biases[0].removeprefix("model.").removesuffix("_dq")
            state[name.removesuffix("bias") + "weight"] = values[made_by[0].input[1]].T
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}


def recordings(folder: Path) -> list[Tensor]:
    """Real sound at 16 kHz, of three lengths."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.ogg"))[:6]):
        samples, rate = soundfile.read(path, dtype="float32")
        resampled = soxr.resample(samples, rate, 16000)[: 80000 - 17777 * (number % 3)]
        found.append(torch.from_numpy(resampled))
    return found


def test_the_real_ced_tiny_names_real_recordings(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its int8 weights, window and filters are all that the graph rounds, when onnxruntime does not
    fuse (its own fused kernels also round activations, by up to 0.004 of a probability).
    """
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = shared_data / "weights" / "ced-tiny.onnx"
    graph = onnx.load(path).graph
    values = dequantised(graph)
    saved = made.save_hub(tmp_path / "ced-tiny", ced_tiny(graph, values))
    tagger = encoder(saved, "ced", output="probabilities", heads=None, window_seconds=10)
    assert (tagger.sizes.heads, tagger.sizes.depth, tagger.width) == (3, 12, 527)

    # the published front end is the graph's, before it was rounded to int8
    for name, ours in (
        ("mel_transform.mel_scale.fb", tagger.mel.logmel.filters),
        ("val_45", tagger.mel.logmel.window),
    ):
        numbers, step = values[f"{name}_q"].astype(np.float32), values[f"{name}_s"]
        assert np.abs(ours.numpy() / step - numbers).max() < 0.501
        ours.copy_(torch.from_numpy(values[f"{name}_dq"]))
    monkeypatch.setattr("pipeline.encoders.vit_front_ends.TOP_DB", 1e9)  # the graph has none

    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options)
    heard = recordings(shared_data / "realsounds" / "evaluation")
    expected = [session.run(["logits"], {"waveform": one.numpy()[None]})[0] for one in heard]
    lengths = torch.tensor([len(one) for one in heard])
    waveform = torch.nn.utils.rnn.pad_sequence(heard, batch_first=True, padding_value=0.9)
    with torch.inference_mode():
        found = tagger(waveform, lengths).values[:, 0]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4, rtol=0)
    assert found.max() > 0.5
