"""Sound towers against PANNs' and transformers' networks on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from encoder_sounds import sound
from panns_networks import (
    FRONT_END,
    SMALL,
    Wavegram,
    as_sjtu,
    randomise,
    save_checkpoint,
    small_cnn14,
)
from pydantic import TypeAdapter, ValidationError
from scipy.ndimage import map_coordinates
from torch import nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel

from pipeline.config.encoders import (
    FbankEncoderConfig,
    LogmelEncoderConfig,
    PannsEncoderConfig,
    WaveformEncoderConfig,
)
from pipeline.config.retrievers import (
    AstTowerConfig,
    CrnnTowerConfig,
    PannsTowerConfig,
    SoundTowerConfig,
    WavegramTowerConfig,
)
from pipeline.encoders.registry import build_sound_encoder, tagging_model
from pipeline.encoders.tagging import save_tagging
from pipeline.errors import EarwitnessError
from pipeline.models.towers.ast import resample_positions
from pipeline.models.towers.base import SoundTower
from pipeline.models.towers.registry import build_sound_tower, tower_entry
from pipeline.tensors import Padded

LOGMEL = LogmelEncoderConfig(module="logmel", **FRONT_END)
WAVEFORM = WaveformEncoderConfig(module="waveform", sample_rate=16000, frame=160)
FBANK = FbankEncoderConfig(module="fbank", mels=32)
CNN14 = {"module": "panns", "input": "logmel", "channels": 4}
WAVEGRAM = {
    "module": "wavegram",
    "input": "waveform",
    **{name: value for name, value in SMALL.items() if name != "sample_rate"},
}
CRNN = {"module": "crnn", "input": "logmel", "channels": (4, 6, 6, 6, 6), "width": 5}
AST: dict[str, Any] = {
    "module": "ast",
    "input": "fbank",
    "max_frames": 80,
    "width": 24,
    "layers": 2,
    "heads": 3,
    "feed_forward": 48,
}


def scratch(module: str) -> SoundTower:
    """A small tower of this kind, with weights and statistics that no other has."""
    torch.manual_seed(0)
    tower = {
        "panns": lambda: build_sound_tower(
            PannsTowerConfig(**CNN14, weights="scratch"), LOGMEL, None
        ),
        "wavegram": lambda: build_sound_tower(
            WavegramTowerConfig(**WAVEGRAM, weights="scratch"), WAVEFORM, None
        ),
        "ast": lambda: build_sound_tower(AstTowerConfig(**AST, weights="scratch"), FBANK, None),
        "crnn": lambda: build_sound_tower(CrnnTowerConfig(**CRNN), LOGMEL, None, widths=[64]),
    }[module]()
    randomise(tower)
    return tower


def stored(module: str, *lengths: int, seed: int = 0) -> Padded:
    """Stored features of clips, padded with a loud constant that must have no effect."""
    width = {"panns": 32, "wavegram": 160, "ast": 32, "crnn": 64}[module]
    scale, mean = {
        "panns": (10, -50), "wavegram": (0.1, 0), "ast": (4, -6), "crnn": (10, -50),
    }[module]  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    values = torch.full((len(lengths), max(lengths), width), 0.9)
    for row, length in enumerate(lengths):
        values[row, :length] = mean + scale * torch.randn(length, width, generator=generator)
    return Padded(values, torch.tensor(lengths))


def test_cnn14_is_panns_own_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = small_cnn14()
    path = save_checkpoint(network, tmp_path / "Cnn14.pth")
    tower = build_sound_tower(PannsTowerConfig(**CNN14, weights=str(path)), LOGMEL, None).eval()
    waveform, lengths = sound(48000, seed=1)
    logmel = build_sound_encoder(LOGMEL, None)(waveform, lengths)
    with torch.no_grad():
        frames, embedding = tower([logmel])
        expected = network(waveform)["embedding"]
    assert frames.lengths.tolist() == [151 // 32] and tower.reduction == 32
    assert tower.width == tower.embedding_width == expected.shape[1]
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(embedding, expected, atol=1e-4, rtol=1e-3)
    settings = PannsEncoderConfig(module="panns", weights=str(path), **SMALL)
    frozen = build_sound_encoder(settings, None)(waveform, lengths)
    torch.testing.assert_close(frames.values, frozen.values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["audio_encoder.", "module.audio_encoder.", "encoder.cnn."])
def test_cnn14_is_sjtus_from_its_checkpoint(tmp_path: Path, prefix: str) -> None:
    """Their CLAP's sound side, as an encoder and as a tower that is trained further."""
    network = small_cnn14()
    path = tmp_path / "contrastive_pretrain_cnn14_bertm.pth"
    torch.save({"epoch": 3, "state_dict": as_sjtu(network, prefix)}, path)
    waveform, lengths = sound(48000, seed=1)
    logmel = build_sound_encoder(LOGMEL, None)(waveform, lengths)
    tower = build_sound_tower(PannsTowerConfig(**CNN14, weights=str(path)), LOGMEL, None).eval()
    settings = PannsEncoderConfig(module="panns", weights=str(path), **SMALL)
    encoder = build_sound_encoder(settings, None)
    with torch.no_grad():
        expected = network(waveform)["embedding"]
        torch.testing.assert_close(tower([logmel]).embedding, expected, atol=1e-4, rtol=1e-4)
        frames = encoder(waveform, lengths).values
        pooled = torch.relu(network.fc1(frames.amax(1) + frames.mean(1)))
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)


def test_sjtus_checkpoint_of_another_front_end_or_network_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cnn14.pth"
    state = as_sjtu(small_cnn14())
    torch.save({"state_dict": state}, path)
    other = {**SMALL, "fmin": 20.0}
    with pytest.raises(EarwitnessError, match=r"cnn14\.pth: its mel filters differ"):
        build_sound_encoder(PannsEncoderConfig(module="panns", weights=str(path), **other), None)
    renamed = {name.replace("audio_encoder.", "sound."): value for name, value in state.items()}
    torch.save({"state_dict": renamed}, path)
    with pytest.raises(EarwitnessError, match=r"cnn14\.pth: not the weights of this encoder: bn0"):
        build_sound_encoder(PannsEncoderConfig(module="panns", weights=str(path), **SMALL), None)


def test_wavegram_logmel_cnn14_is_panns_own_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = randomise(Wavegram(FRONT_END, 4))
    path = save_checkpoint(network, tmp_path / "Wavegram.pth")
    tower = build_sound_tower(
        WavegramTowerConfig(**WAVEGRAM, weights=str(path)), WAVEFORM, None
    ).eval()
    waveform, lengths = sound(48000)
    with torch.no_grad():
        frames, own = tower([build_sound_encoder(WAVEFORM, None)(waveform, lengths)])
        expected, embedding = network(waveform)
        torch.testing.assert_close(frames.values, expected, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(own, embedding, atol=1e-4, rtol=1e-3)
    assert frames.lengths.tolist() == [4] and tower.reduction == 64 and embedding.std() > 0.01


def test_a_tower_starts_from_what_tagging_trained(tmp_path: Path) -> None:
    settings = PannsEncoderConfig(module="panns", model="cnn10", weights="tagging", **SMALL)
    model = tagging_model(settings, classes=3)
    randomise(model)
    path = tmp_path / "model.safetensors"
    save_tagging(model, path, settings, ["dog", "rain", "bell"])
    start = PannsTowerConfig(**CNN14, model="cnn10", weights="tagging:panns")
    tower = build_sound_tower(start, LOGMEL, path).eval()
    logmel = build_sound_encoder(LOGMEL, None)(*sound(32000, 20000))
    with torch.no_grad():
        frames, expected = tower([logmel]).frames, model.trunk(*logmel)
    assert frames.lengths.tolist() == expected.lengths.tolist()
    torch.testing.assert_close(frames.values, expected.values)
    with pytest.raises(EarwitnessError, match=r"trained with fmin 50\.0, not 20\.0"):
        build_sound_tower(start, LOGMEL.model_copy(update={"fmin": 20.0}), path)
    with pytest.raises(EarwitnessError, match="run `dvc repro tagging`"):
        build_sound_tower(start, LOGMEL, tmp_path / "absent.safetensors")


def test_a_checkpoint_without_its_embedding_layer_is_refused(tmp_path: Path) -> None:
    network = small_cnn14()
    del network.fc1
    path = save_checkpoint(network, tmp_path / "Cnn14.pth")
    with pytest.raises(EarwitnessError, match=r"fc1\.weight is missing"):
        build_sound_tower(PannsTowerConfig(**CNN14, weights=str(path)), LOGMEL, None)
    other = LOGMEL.model_copy(update={"fmin": 20.0})
    with pytest.raises(EarwitnessError, match="mel filters"):
        build_sound_tower(PannsTowerConfig(**CNN14, weights=str(path)), other, None)


def test_weights_that_heard_another_window_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(small_cnn14(), tmp_path / "Cnn14.pth")
    shorter = LOGMEL.model_copy(update={"win_length": LOGMEL.n_fft // 2})
    settings = PannsTowerConfig(**CNN14, weights=str(path))
    with pytest.raises(EarwitnessError, match=r"not of win_length .* any_front_end"):
        build_sound_tower(settings, shorter, None)
    free = settings.model_copy(update={"any_front_end": True})
    assert build_sound_tower(free, shorter, None).width == build_sound_tower(
        settings, LOGMEL, None
    ).width


def ast_network(stride: int, **more: Any) -> ASTModel:
    sizes = ASTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        time_stride=stride,
        frequency_stride=stride,
        num_mel_bins=32,
        **{"max_length": 80, **more},
    )
    torch.manual_seed(0)
    network = ASTForAudioClassification(sizes)
    for parameter in network.parameters():  # positions and special tokens are born as zeros
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def normalised(fbank: torch.Tensor, frames: int) -> torch.Tensor:
    """(T, M) → (1, frames, M), as ASTFeatureExtractor pads, cuts and normalises."""
    extractor = ASTFeatureExtractor(num_mel_bins=fbank.shape[1], max_length=frames)
    padded = np.zeros((frames, fbank.shape[1]), np.float32)
    padded[: len(fbank)] = fbank[:frames]
    return torch.from_numpy(extractor.normalize(padded)).float()[None]


@pytest.mark.parametrize("stride", [10, 16])
def test_ast_is_transformers_own(tmp_path: Path, stride: int) -> None:
    network = ast_network(stride)
    network.save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=32, max_length=80).save_pretrained(tmp_path)
    tower = build_sound_tower(
        AstTowerConfig(**AST, stride=stride, weights=str(tmp_path)), FBANK, None
    )
    tower.eval()
    batch = stored("ast", 80, 50, 3)
    with torch.no_grad():
        frames, embedding = tower([batch])
        for row, length in enumerate(batch.lengths.tolist()):
            output = network.audio_spectrogram_transformer(
                normalised(batch.values[row, :length], 80)
            )
            rows, columns = (32 - 16) // stride + 1, (80 - 16) // stride + 1
            tokens = output.last_hidden_state[0, 2:].view(rows, columns, 24)
            count = min(columns, -(-length // stride))
            assert int(frames.lengths[row]) == count
            torch.testing.assert_close(frames.values[row, :count], tokens.mean(0)[:count])
            torch.testing.assert_close(embedding[row], output.pooler_output[0])
            torch.testing.assert_close(
                embedding[row], (output.last_hidden_state[0, :2]).mean(0), atol=1e-5, rtol=1e-4
            )
    assert embedding.std() > 0.01 and tower.reduction == stride


def test_ast_cuts_long_clips_into_windows() -> None:
    tower = scratch("ast").eval()
    batch = stored("ast", 200, 80, 170)
    with torch.no_grad():
        frames, embedding = tower([batch])
        parts = [
            tower([Padded(part[None], torch.tensor([len(part)]))])
            for part in batch.values[0].split(80)
        ]
    joined = torch.cat([part.frames.values[0, : int(part.frames.lengths)] for part in parts])
    pooled = torch.cat([part.embedding for part in parts]).mean(0)
    assert frames.lengths.tolist() == [5 + 5 + 3, 5, 5 + 5 + 1] and len(joined) == 13
    torch.testing.assert_close(frames.values[0, :13], joined)
    torch.testing.assert_close(embedding[0], pooled)


def test_a_checkpoint_of_stride_10_is_interpolated_for_stride_16(tmp_path: Path) -> None:
    """Against scipy, at AST's own 12 × 101 patches, and through a network that is then equal."""
    theirs, ours = ASTConfig(hidden_size=3), ASTConfig(hidden_size=3, time_stride=16)
    ours.frequency_stride = 16
    saved = torch.randn(1, 2 + 12 * 101, 3, generator=torch.Generator().manual_seed(0))
    found = resample_positions(saved, theirs, ours)
    grid = saved[0, 2:].view(12, 101, 3).numpy()
    at = np.meshgrid(np.linspace(0, 11, 8), np.linspace(0, 100, 64), indexing="ij")
    expected = np.stack(
        [map_coordinates(grid[..., d], at, order=1) for d in range(3)], axis=-1
    ).reshape(-1, 3)
    assert found.shape == (1, 2 + 8 * 64, 3) and (found[:, :2] == saved[:, :2]).all()
    np.testing.assert_allclose(found[0, 2:].numpy(), expected, atol=1e-5)
    network = ast_network(10)
    network.save_pretrained(tmp_path)
    tower = build_sound_tower(AstTowerConfig(**AST, weights=str(tmp_path)), FBANK, None).eval()
    same = ast_network(16).audio_spectrogram_transformer
    state = network.audio_spectrogram_transformer.state_dict()
    name = "embeddings.position_embeddings"
    state[name] = resample_positions(state[name], network.config, same.config)
    same.load_state_dict(state)
    batch = stored("ast", 80)
    with torch.no_grad():
        expected_pooled = same(normalised(batch.values[0], 80)).pooler_output
        torch.testing.assert_close(tower([batch]).embedding, expected_pooled)


def test_positions_stay_at_their_place_in_time_and_frequency() -> None:
    """Positions that say where their patch is still do, for shorter inputs and other strides."""
    theirs = ASTConfig(hidden_size=2)
    where = torch.stack(torch.meshgrid(torch.arange(12), torch.arange(101), indexing="ij"), -1)
    saved = torch.cat([torch.zeros(2, 2), 10.0 * where.reshape(-1, 2)])[None]
    ours = ASTConfig(hidden_size=2, max_length=500, time_stride=16, frequency_stride=12)
    found = resample_positions(saved, theirs, ours)[0, 2:].view(10, 31, 2)
    expected = torch.stack(
        torch.meshgrid(12.0 * torch.arange(10), 16.0 * torch.arange(31), indexing="ij"), -1
    )
    torch.testing.assert_close(found, expected)
    assert torch.equal(resample_positions(saved, theirs, theirs), saved)


def test_ast_weights_of_other_settings_are_refused(tmp_path: Path) -> None:
    ast_network(10).save_pretrained(tmp_path)
    weights = str(tmp_path)
    with pytest.raises(EarwitnessError, match="trained with heads 3, not 6; set heads to that"):
        build_sound_tower(AstTowerConfig(**{**AST, "heads": 6}, weights=weights), FBANK, None)
    with pytest.raises(EarwitnessError, match="trained with mels 32, not 40"):
        other = FBANK.model_copy(update={"mels": 40})
        build_sound_tower(AstTowerConfig(**AST, weights=weights), other, None)
    ASTFeatureExtractor(mean=-3.0, num_mel_bins=32).save_pretrained(tmp_path)
    with pytest.raises(EarwitnessError, match=r"trained with mean -3\.0"):
        build_sound_tower(AstTowerConfig(**AST, weights=weights), FBANK, None)
    ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=32).save_pretrained(tmp_path)
    with pytest.raises(EarwitnessError, match="trained with sample_rate 8000, not 16000"):
        build_sound_tower(AstTowerConfig(**AST, weights=weights), FBANK, None)
    (tmp_path / "preprocessor_config.json").unlink()
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**saved, "max_length": 300}))
    with pytest.raises(EarwitnessError, match="16 position embeddings, but its config"):
        build_sound_tower(AstTowerConfig(**AST, weights=weights), FBANK, None)
    with pytest.raises(ValidationError, match="width 24 is not a multiple of heads 5"):
        AstTowerConfig(**{**AST, "heads": 5}, weights="scratch")
    with pytest.raises(ValidationError, match="tagging cannot train an ast"):
        AstTowerConfig(**AST, weights="tagging:ast")


MEMBERS = get_args(get_args(SoundTowerConfig)[0])
SOUND_TOWERS = [get_args(member.model_fields["module"].annotation)[0] for member in MEMBERS]


@pytest.mark.parametrize("module", SOUND_TOWERS)
def test_every_tower_of_the_parameters_is_registered(module: str) -> None:
    """Under the name of its module, whose code its plan digests."""
    values = {"module": module, "input": "stored", "weights": "scratch"}
    build = tower_entry(TypeAdapter(SoundTowerConfig).validate_python(values)).build
    assert build.__module__ == f"pipeline.models.towers.{module}"


@pytest.mark.parametrize("module", SOUND_TOWERS)
def test_a_clip_is_the_same_in_a_batch_and_alone(module: str) -> None:
    tower = scratch(module).eval()
    batch = stored(module, 330, 207, 96, 2)
    with torch.no_grad():
        frames, embedding = tower([batch])
        assert (frames.lengths >= 1).all()
        for row, length in enumerate(batch.lengths.tolist()):
            one = Padded(batch.values[row : row + 1, :length], batch.lengths[row : row + 1])
            alone, own = tower([one])
            count = int(frames.lengths[row])
            assert count == int(alone.lengths)
            torch.testing.assert_close(
                frames.values[row, :count], alone.values[0, :count], atol=1e-5, rtol=1e-4
            )
            torch.testing.assert_close(embedding[row], own[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("module", SOUND_TOWERS)
def test_training_reaches_every_parameter_and_ignores_padding(module: str) -> None:
    tower = scratch(module).train()
    batch = stored(module, 330, 207, 96)
    batch.values.requires_grad_()
    embedding = tower([batch]).embedding
    assert embedding.shape == (3, tower.embedding_width)
    embedding.square().sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert parameter.grad.isfinite().all(), name
    assert batch.values.grad is not None
    assert (batch.values.grad[~batch.mask] == 0).all()
    assert batch.values.grad[batch.mask].abs().sum() > 0


@pytest.mark.parametrize("module", sorted({*SOUND_TOWERS} - {"crnn"}))  # it starts from none
def test_a_trained_towers_weights_need_no_other_file(module: str, tmp_path: Path) -> None:
    """``pretrained=False`` looks for no weights, and takes a trained tower's, buffers and all."""
    trained = scratch(module).eval()
    sections = {"panns": (PannsTowerConfig, CNN14), "wavegram": (WavegramTowerConfig, WAVEGRAM)}
    kind, values = sections.get(module, (AstTowerConfig, AST))
    settings = kind(**values, weights=str(tmp_path / "absent"))
    input = {"panns": LOGMEL, "wavegram": WAVEFORM, "ast": FBANK}[module]
    with pytest.raises(EarwitnessError, match="no weights at"):
        build_sound_tower(settings, input, None)
    again = build_sound_tower(settings, input, None, pretrained=False).eval()
    again.load_state_dict(trained.state_dict())
    batch = stored(module, 100)
    with torch.no_grad():
        assert torch.equal(again([batch]).embedding, trained([batch]).embedding)


def test_a_tower_over_another_kind_of_feature_is_refused() -> None:
    for settings, input, names in (
        (
            PannsTowerConfig(**CNN14),
            WAVEFORM,
            "panns reads a stored logmel, and logmel is a waveform",
        ),
        (WavegramTowerConfig(**WAVEGRAM), LOGMEL, "wavegram reads a stored waveform"),
        (AstTowerConfig(**AST), LOGMEL, "ast reads a stored fbank, and fbank is a logmel"),
    ):
        with pytest.raises(EarwitnessError, match=names):
            build_sound_tower(settings, input, None, pretrained=False)
