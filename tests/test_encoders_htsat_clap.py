"""HTSAT and CLAP against transformers' ClapModel and ClapFeatureExtractor on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_sounds import sound
from htsat_networks import spread
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
)

from pipeline.config.encoders import (
    ClapEncoderConfig,
    ClapTextEncoderConfig,
    HtsatEncoderConfig,
    SpecAugmentConfig,
)
from pipeline.encoders.base import Masks
from pipeline.encoders.htsat import HtsatEncoder
from pipeline.encoders.registry import build_sound_encoder, build_text_encoder, tagging_model
from pipeline.encoders.spectrogram import spec_augment
from pipeline.errors import EarwitnessError

SECONDS = 2
SMALL: dict[str, Any] = {
    "module": "htsat",
    "embed_dim": 8,
    "depths": (1, 2, 2),
    "heads": (2, 2, 4),
    "window": 4,
    "spec_size": 64,
    "sample_rate": 8000,
    "n_fft": 256,
    "hop": 128,
    "mels": 32,
    "fmin": 50,
    "fmax": 4000,
    "window_seconds": SECONDS,
}
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "dog", "barks", "rain", "falls", "while", "bird"]
CAPTIONS = ["a dog barks", "rain falls", "a bird while a dog barks while rain falls", "dog"]


def save_clap(folder: Path, fusion: bool = False, padding: str = "repeatpad") -> ClapModel:
    """A tiny random CLAP of the same audio branch as SMALL, as save_pretrained writes it."""
    torch.manual_seed(int(fusion))
    config = ClapConfig(
        audio_config={
            "window_size": 4,
            "num_mel_bins": 32,
            "spec_size": 64,
            "patch_stride": [4, 4],
            "depths": [1, 2, 2],
            "num_attention_heads": [2, 2, 4],
            "num_hidden_layers": 3,
            "patch_embeds_hidden_size": 8,
            "hidden_size": 32,
            "enable_fusion": fusion,
            "fusion_type": "aff_2d" if fusion else None,
        },
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 24,
        },
        projection_dim=12,
    )
    model = ClapModel(config).eval()
    spread(model)  # transformers' own initial weights differ from version to version
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.copy_(torch.linspace(-60, -30, 32))
    norm.running_var.copy_(torch.linspace(50, 150, 32))
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=8000,
        hop_length=128,
        max_length_s=SECONDS,
        fft_window_size=256,
        frequency_min=50,
        frequency_max=4000,
        truncation="fusion" if fusion else "rand_trunc",
        padding=padding,
    )
    extractor.save_pretrained(folder)
    return model


def save_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def features_of(folder: Path, clips: list[np.ndarray]) -> Any:
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    return extractor(clips, sampling_rate=8000, return_tensors="pt")


@pytest.fixture(scope="module")
def unfused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClapModel]:
    folder = tmp_path_factory.mktemp("clap")
    return folder, save_clap(folder)


@pytest.mark.parametrize("samples", [16000, 8000, 7000, 3001])
def test_htsat_frames_are_the_map_of_transformers(
    unfused: tuple[Path, ClapModel], samples: int
) -> None:
    folder, model = unfused
    encoder = build_sound_encoder(HtsatEncoderConfig(weights=str(folder), **SMALL), None)
    waveform, lengths = sound(samples)
    frames = encoder(waveform, lengths)
    with torch.inference_mode():
        inputs = features_of(folder, [waveform[0].numpy().astype(np.float64)])
        mapped = model.audio_model(
            input_features=inputs["input_features"].float(), is_longer=None
        ).last_hidden_state  # (1, D, F, T)
    assert mapped.shape[2:] == (2, 8) and mapped.std() > 0.1
    expected = mapped.mean(2).transpose(1, 2)
    torch.testing.assert_close(frames.values, expected, atol=2e-3, rtol=1e-2)
    seconds = samples / 8000
    assert int(frames.lengths) == int(np.ceil(round(seconds / encoder.frame_seconds, 2)))


def test_frames_are_in_the_order_of_time() -> None:
    """A click moved through the window moves the strongest response along T."""
    torch.manual_seed(0)
    encoder = HtsatEncoder(
        HtsatEncoderConfig(weights="tagging", **{**SMALL, "depths": (1, 1, 1)})
    ).eval()
    silence = torch.zeros(1, 16000)
    lengths = torch.tensor([16000])
    quiet = encoder(silence, lengths).values
    strongest = []
    for frame in range(encoder.frames):
        clip = silence.clone()
        start = int((frame + 0.5) * encoder.frame_seconds * 8000)
        clip[0, start : start + 200] = 0.5 * torch.randn(200)
        change = (encoder(clip, lengths).values - quiet).norm(dim=2)[0]
        strongest.append(int(change.argmax()))
    assert strongest == list(range(encoder.frames))


def test_htsat_in_a_batch_and_alone(unfused: tuple[Path, ClapModel]) -> None:
    encoder = build_sound_encoder(HtsatEncoderConfig(weights=str(unfused[0]), **SMALL), None)
    waveform, lengths = sound(16000, 9000, 500)
    values, frames = encoder(waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(waveform[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(values[row], alone.values[0], atol=1e-4, rtol=1e-3)
        assert int(frames[row]) == int(alone.lengths)
    assert frames.tolist() == [8, 5, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mels": 40}, "multiple of mels"),
        ({"mels": 8}, "fewer stages or more mels"),
        ({"heads": (2, 2)}, "equally long"),
        ({"heads": (3, 2, 4)}, "multiple of its heads"),
        ({"window_seconds": 4}, "at most 2.048"),
    ],
)
def test_settings_that_do_not_fold_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EarwitnessError, match=message):
        HtsatEncoder(HtsatEncoderConfig(weights="tagging", **{**SMALL, **change}))


def test_weights_of_another_front_end_are_refused(unfused: tuple[Path, ClapModel]) -> None:
    settings = HtsatEncoderConfig(weights=str(unfused[0]), **{**SMALL, "fmin": 0})
    with pytest.raises(EarwitnessError, match="trained with fmin 50, not 0"):
        build_sound_encoder(settings, None)


def test_the_tagging_loss_reaches_every_weight() -> None:
    model = tagging_model(HtsatEncoderConfig(weights="tagging", **SMALL), classes=5)
    model(*sound(16000, 6000)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("fusion", [False, True])
def test_clap_is_get_audio_features(tmp_path: Path, fusion: bool, padding: str) -> None:
    model = save_clap(tmp_path, fusion, padding)
    settings = ClapEncoderConfig(module="clap", weights=str(tmp_path), window_seconds=SECONDS)
    encoder = build_sound_encoder(settings, None)
    waveform, lengths = sound(16000, 9000, 3001)
    waveform[2] *= torch.linspace(0, 9, 16000)  # the clips differ
    frames = encoder(waveform, lengths)
    clips = [row[:n].numpy().astype(np.float64) for row, n in zip(waveform, lengths, strict=True)]
    inputs = features_of(tmp_path, clips)
    longer = torch.zeros(3, 1, dtype=torch.bool)  # the extractor marks one at random
    with torch.inference_mode():
        expected = model.get_audio_features(inputs["input_features"].float(), longer).pooler_output
    assert encoder.pooled and encoder.width == 12 and frames.lengths.tolist() == [1, 1, 1]
    assert expected[0] @ expected[2] < 0.9999
    torch.testing.assert_close(frames.values[:, 0], expected, atol=1e-3, rtol=0)


def test_clap_windows_longer_than_its_input_are_refused(unfused: tuple[Path, ClapModel]) -> None:
    with pytest.raises(EarwitnessError, match="window_seconds is at most 2"):
        build_sound_encoder(ClapEncoderConfig(module="clap", weights=str(unfused[0])), None)


def test_spec_augment_reaches_the_trunk(unfused: tuple[Path, ClapModel]) -> None:
    encoder = build_sound_encoder(HtsatEncoderConfig(weights=str(unfused[0]), **SMALL), None)
    waveform, lengths = sound(16000, 16000)
    seeds = torch.tensor([4, 9])
    clean = encoder(waveform, lengths).values
    once = encoder(waveform, lengths, Masks(SpecAugmentConfig(), seeds)).values
    assert (once == encoder(waveform, lengths, Masks(SpecAugmentConfig(), seeds)).values).all()
    assert ((once - clean).abs().amax((1, 2)) > 0.001).all()
    assert (
        (encoder(waveform, lengths, Masks(SpecAugmentConfig(), seeds + 1)).values - once).abs() > 0
    ).any()


@pytest.mark.parametrize("samples", [16000, 7000, 3001])
def test_masked_sound_is_masked_in_every_repetition(samples: int) -> None:
    """A loud click is gone from the whole window once its frames are masked."""
    encoder = HtsatEncoder(HtsatEncoderConfig(weights="tagging", **SMALL))
    waveform = 1e-4 * torch.randn(1, samples)
    waveform[0, 1500:1510] = 1.0
    lengths = torch.tensor([samples])
    values, frames = encoder.frontend(waveform, lengths)
    loud = (values[0].amax(1) > -10).nonzero().flatten()
    assert len(loud) >= 16000 // samples
    settings = SpecAugmentConfig(time_masks=8, time_width=0.5, frequency_masks=0)
    places = encoder.places(lengths, values.shape[1])
    first = set(loud[loud < int(frames)].tolist())
    for seed in range(20):
        masked = spec_augment(values, frames, settings, torch.tensor([seed]), places)
        hidden = (masked != values)[0].all(1)
        if all(hidden[frame] for frame in range(min(first) - 1, max(first) + 2)):
            assert hidden[loud].all()
            assert masked[0].amax() < -10
            break
    else:
        raise AssertionError("no seed masked the click")


def test_clap_text_is_get_text_features(unfused: tuple[Path, ClapModel]) -> None:
    folder, model = unfused
    tokenizer = save_tokenizer(folder)
    settings = ClapTextEncoderConfig(module="clap_text", weights=str(folder), batch=2)
    encoder = build_text_encoder(settings)
    values, lengths = encoder.encode(CAPTIONS)
    with torch.inference_mode():
        expected = torch.cat(
            [
                model.get_text_features(**tokenizer(caption, return_tensors="pt")).pooler_output
                for caption in CAPTIONS
            ]
        )
    assert lengths.tolist() == [1] * 4 and encoder.width == 12
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)


def test_clap_text_tokens_are_its_hidden_states(unfused: tuple[Path, ClapModel]) -> None:
    folder, model = unfused
    tokenizer = save_tokenizer(folder)
    settings = ClapTextEncoderConfig(
        module="clap_text", weights=str(folder), pooling="tokens", batch=3
    )
    values, lengths = build_text_encoder(settings).encode(CAPTIONS)
    assert lengths.tolist() == [len(caption.split()) + 2 for caption in CAPTIONS]
    with torch.inference_mode():
        expected = torch.cat(
            [
                model.text_model(**tokenizer(caption, return_tensors="pt")).last_hidden_state[0]
                for caption in CAPTIONS
            ]
        )
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-4)


def test_a_broken_configuration_is_one_line(tmp_path: Path) -> None:
    save_clap(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clap"})[:-4])
    settings = ClapEncoderConfig(module="clap", weights=str(tmp_path), window_seconds=SECONDS)
    with pytest.raises(EarwitnessError) as raised:
        build_sound_encoder(settings, None)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("preprocessor_config.json", "hop_length", 128.5),
        ("preprocessor_config.json", "fft_window_size", "x"),
        ("preprocessor_config.json", "max_length_s", 10**12),
        ("preprocessor_config.json", "sampling_rate", 0),
        ("preprocessor_config.json", "hop_length", 1),  # more frames than the network takes
        ("config.json", "projection_dim", 10**9),  # 256 GB, if it were believed
        ("config.json", "projection_dim", -1),
    ],
)
def test_altered_sizes_are_one_line(tmp_path: Path, file: str, key: str, value: Any) -> None:
    save_clap(tmp_path)
    settings = ClapEncoderConfig(module="clap", weights=str(tmp_path), window_seconds=SECONDS)
    build_sound_encoder(settings, None)
    values = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**values, key: value}))
    with pytest.raises(EarwitnessError, match=str(tmp_path)) as raised:
        build_sound_encoder(settings, None)
    assert "\n" not in str(raised.value) and "memory" not in str(raised.value)
