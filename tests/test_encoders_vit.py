"""``vit`` against each model's definition, in its published layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
    """One loud and one faint, both with digital silence in them, and two short."""
    waveform, lengths = sound(32000, 21111, 2567, 444)
    waveform[0, :16000] *= 9
    waveform[0, 16000:] = 0
    waveform[1, :21111] *= 1e-3
    waveform[1, 3000:9000] = 0
    return waveform, lengths


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_clip_of_a_batch_is_its_models_definition(layout: str, tmp_path: Path) -> None:
    model, save, outputs, state = LAYOUTS[layout]
    path = save(tmp_path)
    waveform, lengths = clips()
    least = {"ced": 2400, "dasheng": 480}.get(model, 0)  # samples of a patch, to which silence goes
    expected = []
    for row, length in enumerate(lengths.tolist()):
        clip = waveform[row, :length].double().numpy()
        expected.append(outputs(state, np.pad(clip, (0, max(0, least - length)))))
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
        ("ced, hub", 0.16, [12, 8, 1, 1]),
        ("dasheng, hub", 0.04, [50, 33, 4, 1]),
        ("eat, hub", 0.16, [13, 9, 1, 1]),
        ("m2d, .pth", 0.16, [13, 9, 2, 1]),
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
        assert named(*clips()).lengths.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("layout", ["ced, hub", "dasheng, hub", "eat, hub", "m2d, .pth"])
def test_a_clip_of_a_few_samples_has_a_frame(layout: str, tmp_path: Path) -> None:
    model, save, *_ = LAYOUTS[layout]
    values, counts = encoder(save(tmp_path), model)(*sound(16000, 3))
    assert counts.tolist()[1] == 1 and values.isfinite().all()


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


def test_m2ds_of_2022_have_the_statistics_of_their_code(tmp_path: Path) -> None:
    state = made.m2d()
    bare = {name: tensor for name, tensor in state.items() if "norm_stats" not in name}
    state["module.ar.runtime.backbone.norm_stats"] = torch.tensor([-7.1, 4.2])
    values = [
        encoder(made.save_hub(tmp_path / name / made.M2D_FOLDER, tensors), "m2d")(*clips()).values
        for name, tensors in (("bare", bare), ("given", state))
    ]
    assert (values[0] == values[1]).all()


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
