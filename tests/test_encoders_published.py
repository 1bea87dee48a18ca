"""CLAP and HTSAT as LAION and HTS-AT publish them, against the networks that made the files.

Layouts: LAION-AI/CLAP, src/laion_clap/clap_module/model.py and training/main.py;
RetroCirce/HTS-Audio-Transformer, sed_model.py and model/htsat.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from encoder_sounds import sound
from htsat_networks import WIDTH, Htsat, randomise_htsat
from panns_networks import small_cnn14
from test_encoders_htsat_clap import CAPTIONS, WORDS, save_clap, save_tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ClapFeatureExtractor, RobertaConfig, RobertaModel

from pipeline.config.encoders import (
    ClapEncoderConfig,
    ClapTextEncoderConfig,
    HtsatEncoderConfig,
)
from pipeline.encoders.htsat import HtsatEncoder
from pipeline.encoders.registry import build_sound_encoder, build_text_encoder
from pipeline.errors import EarwitnessError

HTSAT = {"sample_rate": 32000, "n_fft": 1024, "hop": 320, "mels": 64, "fmin": 50, "fmax": 14000}
CLAP = HTSAT | {"sample_rate": 48000, "hop": 480}
SPACE = 12
TEXT = {"vocab_size": len(WORDS), "hidden_size": 128, "num_attention_heads": 2}
TEXT |= {"num_hidden_layers": 2, "intermediate_size": 32, "max_position_embeddings": 40}


def projection(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, SPACE), nn.ReLU(), nn.Linear(SPACE, SPACE))


def transform() -> nn.Module:
    """LAION's MLPLayers, whose last ReLU and dropout are taken off: no embedding uses them."""
    made = nn.Module()
    layers = [nn.Linear(SPACE, SPACE), nn.ReLU(), nn.Dropout(0.1), nn.Linear(SPACE, SPACE)]
    made.sequential = nn.Sequential(*layers)
    return made


class Laion(nn.Module):
    """``CLAP`` of LAION's model.py with HTSAT and RoBERTa: its names and its two embeddings."""

    def __init__(self, fused: bool, text: nn.Module | None = None) -> None:
        super().__init__()
        self.fused = fused
        self.audio_branch = Htsat(CLAP, fused)
        self.text_branch = text or RobertaModel(
            RobertaConfig(**TEXT, type_vocab_size=1, layer_norm_eps=1e-5, initializer_range=0.5)
        )
        self.text_transform, self.audio_transform = transform(), transform()
        self.text_projection, self.audio_projection = projection(128), projection(WIDTH)
        self.logit_scale_a, self.logit_scale_t = (nn.Parameter(torch.tensor(2.6)) for _ in "at")

    def encode_audio(self, waveform: Tensor) -> Tensor:
        tokens = self.audio_branch.tokens(self.logmel(waveform))
        return F.normalize(self.audio_projection(tokens.mean(0, keepdim=True)), dim=-1)

    def logmel(self, waveform: Tensor) -> Tensor:
        """(1, samples) → (1, 1, T, 64): training/data.py's get_mel for a fused one."""
        if not self.fused:
            return self.audio_branch.logmel(waveform)
        spectrum = librosa.stft(waveform[0].numpy(), n_fft=1024, hop_length=480, pad_mode="reflect")
        filters = librosa.filters.mel(
            sr=48000, n_fft=1024, n_mels=64, fmin=50, fmax=14000, htk=True, norm=None
        )
        mel = 10 * np.log10(np.maximum(filters @ np.abs(spectrum) ** 2, 1e-10))
        return torch.from_numpy(mel.T.astype(np.float32))[None, None]

    def encode_text(self, **tokens: Tensor) -> Tensor:
        return F.normalize(self.text_projection(self.text_branch(**tokens).pooler_output), dim=-1)


def save_laion(path: Path, state: dict[str, Tensor], form: str = "zip") -> Path:
    """As training/main.py does, under DistributedDataParallel; ``old``: numbers as of NumPy 1."""
    named = {f"module.{name}": tensor for name, tensor in state.items()}
    held = {"epoch": 45, "name": "run", "state_dict": named, "best": np.float64(0.5)}
    torch.save(held, path, _use_new_zipfile_serialization=form == "zip")
    if form == "old":
        content = path.read_bytes()
        assert b"numpy._core.multiarray" in content
        path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    return path


@torch.no_grad()
def laion(fused: bool) -> Laion:
    torch.manual_seed(int(fused))
    model = Laion(fused).eval()
    randomise_htsat(model.audio_branch, model.audio_branch.bn0)
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Laion, Path]:
    model = laion(request.param)
    path = tmp_path_factory.mktemp("laion") / "630k-audioset-best.pt"
    return model, save_laion(path, model.state_dict(), "old" if request.param else "zip")


def repeatpad(waveform: Tensor, samples: int) -> Tensor:
    whole = waveform.repeat(1, samples // waveform.shape[1])
    return F.pad(whole, (0, samples - whole.shape[1]))


@torch.inference_mode()
def test_laions_file_gives_its_own_sound_embeddings(made: tuple[Laion, Path]) -> None:
    model, path = made
    encoder = build_sound_encoder(ClapEncoderConfig(module="clap", weights=str(path)), None)
    waveform, lengths = sound(480000, 200000)
    waveform[1] *= torch.linspace(0, 9, 480000)  # the clips differ
    frames = encoder(waveform, lengths)
    clips = [repeatpad(waveform[row : row + 1, :n], 480000) for row, n in enumerate(lengths)]
    expected = torch.cat([model.encode_audio(clip) for clip in clips])
    assert encoder.pooled and encoder.width == SPACE and encoder.sample_rate == 48000
    assert expected[0] @ expected[1] < 0.9999
    torch.testing.assert_close(frames.values[:, 0], expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_laions_file_gives_htsats_frames(made: tuple[Laion, Path]) -> None:
    """Its sizes are the file's, whatever the parameters say; a fused one hears HTK's log-mel."""
    model, path = made
    settings = HtsatEncoderConfig(module="htsat", weights=str(path), embed_dim=128)
    encoder = build_sound_encoder(settings, None)
    waveform, lengths = sound(480000)
    expected = model.audio_branch.frames(model.logmel(waveform))
    assert encoder.width == WIDTH and expected.std() > 0.1
    torch.testing.assert_close(encoder(waveform, lengths).values, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_laions_file_gives_its_own_text_embeddings(
    made: tuple[Laion, Path], tmp_path: Path
) -> None:
    model, path = made
    tokenizer = save_tokenizer(tmp_path)
    captions = [*CAPTIONS, "dog " * 60]  # cut where its positions end
    expected = torch.cat(
        [
            model.encode_text(
                **tokenizer(text, truncation=True, max_length=38, return_tensors="pt")
            )
            for text in captions
        ]
    )
    settings = ClapTextEncoderConfig(
        module="clap_text", weights=str(path), tokenizer=str(tmp_path), batch=2
    )
    values, lengths = build_text_encoder(settings).encode(captions)
    assert lengths.tolist() == [1] * 5 and values.std() > 0.1
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-4)


@torch.inference_mode()
def test_htsats_own_file_gives_its_frames(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Htsat(HTSAT).eval()
    randomise_htsat(model, model.bn0)
    best = {"monitor": "mAP", "best_model_score": torch.tensor(0.47), "dirpath": "results"}
    path = tmp_path / "HTSAT_AudioSet_Saved_1.ckpt"
    lightning = {
        "epoch": 14,
        "global_step": 90000,
        "pytorch-lightning_version": "1.5.9",
        "state_dict": {f"sed_model.{name}": value for name, value in model.state_dict().items()},
        "callbacks": {"ModelCheckpoint{'monitor': 'mAP'}": best},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": np.float64(1e-3)}]}],
        "lr_schedulers": [{"last_epoch": 15, "_last_lr": [np.float32(1e-4)]}],
    }
    torch.save(lightning, path)
    settings = {"module": "htsat", "weights": str(path), "sample_rate": 32000, "hop": 320}
    encoder = build_sound_encoder(HtsatEncoderConfig(**settings), None)
    waveform, lengths = sound(320000)
    frames = encoder(waveform, lengths)
    expected = model.frames(model.logmel(waveform))
    assert frames.lengths.tolist() == [128] and expected.std() > 0.1
    torch.testing.assert_close(frames.values, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(EarwitnessError, match=r"Saved_1\.ckpt: its mel filters differ"):
        build_sound_encoder(HtsatEncoderConfig(module="htsat", weights=str(path)), None)


@torch.inference_mode()
def test_a_fused_claps_folder_gives_htsats_frames(tmp_path: Path) -> None:
    model = save_clap(tmp_path, fusion=True)
    front = {"sample_rate": 8000, "n_fft": 256, "hop": 128, "mels": 32, "fmax": 4000}
    settings = HtsatEncoderConfig(
        module="htsat", weights=str(tmp_path), window_seconds=2, **front
    )  # its sizes, and the square's side, are those of the folder
    encoder = build_sound_encoder(settings, None)
    assert isinstance(encoder, HtsatEncoder)
    assert (encoder.width, encoder.fold) == (32, 2)
    waveform, lengths = sound(16000)
    extractor = ClapFeatureExtractor.from_pretrained(tmp_path)
    inputs = extractor([waveform[0].numpy()], sampling_rate=8000, return_tensors="pt")
    mapped = model.audio_model(
        input_features=inputs["input_features"].float(), is_longer=torch.tensor([[False]])
    ).last_hidden_state
    expected = mapped.mean(2).transpose(1, 2)
    assert expected.std() > 0.1
    torch.testing.assert_close(encoder(waveform, lengths).values, expected, atol=2e-3, rtol=1e-2)


def refused(path: Path, module: str, message: str, **more: Any) -> None:
    with pytest.raises(EarwitnessError, match=message) as raised:
        if module == "clap_text":
            build_text_encoder(ClapTextEncoderConfig(module=module, weights=str(path), **more))
        elif module == "clap":
            build_sound_encoder(ClapEncoderConfig(module=module, weights=str(path)), None)
        else:
            build_sound_encoder(HtsatEncoderConfig(module=module, weights=str(path)), None)
    assert "\n" not in str(raised.value) and path.name in str(raised.value)


@pytest.mark.parametrize("module", ["htsat", "clap", "clap_text"])
def test_another_networks_checkpoint_is_one_line(tmp_path: Path, module: str) -> None:
    panns = tmp_path / "Cnn14.pth"
    torch.save({"model": small_cnn14().state_dict()}, panns)
    refused(panns, module, "holds no HTSAT|no CLAP of LAION's")
    clap = {f"audio_branch.{name}": each for name, each in small_cnn14().state_dict().items()}
    with_cnn = save_laion(tmp_path / "PANN-14.pt", clap)  # LAION's CLAPs with CNN14
    refused(with_cnn, module, "holds no HTSAT|text_projection.linear2.bias is missing")
    refused(tmp_path / "none.pt", module, "no weights at")


def test_a_text_side_that_is_no_roberta_is_one_line(tmp_path: Path) -> None:
    bert = BertModel(BertConfig(**TEXT))
    path = save_laion(tmp_path / "bert.pt", Laion(False, bert).state_dict())
    refused(path, "clap_text", r"no RoBERTa \(its tokens have types")
    state = {n: t for n, t in Laion(False).state_dict().items() if "text_branch" not in n}
    path = save_laion(
        tmp_path / "transformer.pt", state | {"token_embedding.weight": torch.ones(1)}
    )
    refused(path, "clap_text", r"no RoBERTa \(text_model.embeddings.* is missing\)")


def test_a_tokenizer_of_another_network_is_one_line(tmp_path: Path) -> None:
    path = save_laion(tmp_path / "630k.pt", Laion(False).state_dict())
    tokenizer = save_tokenizer(tmp_path / "more")
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(tmp_path / "more")
    refused(path, "clap_text", "12 tokens, but .* has 11", tokenizer=str(tmp_path / "more"))


@pytest.mark.parametrize(
    "name",
    [
        "audio_branch.layers.1.blocks.0.attn.relative_position_bias_table",
        "audio_branch.norm.weight",
        "audio_projection.2.bias",
    ],
)
def test_a_missing_tensor_is_one_line(tmp_path: Path, name: str) -> None:
    state = Laion(False).state_dict()
    whole = save_laion(tmp_path / "whole.pt", dict(state))
    build_sound_encoder(ClapEncoderConfig(module="clap", weights=str(whole)), None)
    for broken in (None, torch.zeros(3)):
        state.pop(name) if broken is None else state.update({name: broken})
        refused(save_laion(tmp_path / "cut.pt", state), "clap", "cut.pt: ")
