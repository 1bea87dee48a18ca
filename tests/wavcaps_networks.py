"""WavCaps' ASE with CNN14 and BERT, and its checkpoint, at sizes that a test can afford."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from panns_networks import extractors
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizer

from pipeline.encoders.conv_blocks import panns_models

FRONT_END = {"sample_rate": 32000, "n_fft": 1024, "hop": 320, "mels": 64, "fmin": 50, "fmax": 14000}
WIDTH = 12
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "bark", "##s", "rain", "falls"]
WORDS += ["while", "bird", "(", ")", ",", ".", "!", "?", ";", ":", "|", "*", '"', "-", "'", "two"]


class Ase(nn.Module):
    """``ASE`` of models/ase_model.py with CNN14 and BERT: its names and its two embeddings."""

    def __init__(self) -> None:
        super().__init__()
        models = panns_models()
        cnn = nn.Module()
        cnn.bn0 = nn.BatchNorm2d(64)
        cnn.audio_feats_extractor = nn.Module()
        transforms = extractors(FRONT_END)
        cnn.audio_feats_extractor.mel_trans, cnn.audio_feats_extractor.log_trans = transforms
        for index in range(6):
            wide = 4 * 2**index
            block = models.ConvBlock(1 if index == 0 else wide // 2, wide)
            setattr(cnn, f"conv_block{index + 1}", block)
        self.audio_encoder, self.text_encoder = nn.Module(), nn.Module()
        self.audio_encoder.audio_enc = cnn
        self.text_encoder.text_encoder = BertModel(
            BertConfig(
                vocab_size=len(WORDS),
                hidden_size=128,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=40,
                initializer_range=0.5,
            ),
            add_pooling_layer=False,
        )
        self.audio_proj = nn.Sequential(nn.Linear(128, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.text_proj = nn.Sequential(nn.Linear(128, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.temp = nn.Parameter(torch.tensor(0.07))

    def encode_audio(self, waveform: Tensor) -> Tensor:
        cnn = self.audio_encoder.audio_enc
        x = cnn.audio_feats_extractor.mel_trans(waveform)
        x = cnn.audio_feats_extractor.log_trans(x)
        x = cnn.bn0(x.transpose(1, 3)).transpose(1, 3)
        for index in range(6):
            x = getattr(cnn, f"conv_block{index + 1}")(x, pool_size=(2, 2), pool_type="avg")
        x = torch.mean(x, dim=3)
        x = torch.max(x, dim=2)[0] + torch.mean(x, dim=2)
        return F.normalize(self.audio_proj(x), dim=-1)

    def encode_text(self, caption: str, tokenizer: BertTokenizer) -> Tensor:
        """data_handling/text_transform.py, then models/text_encoder.py, for one caption."""
        text = caption.lower()
        text = re.sub(r'\s([,.!?;:"](?:\s|$))', r"\1", text).replace("  ", " ")
        text = re.sub('[(,.!?;:|*")]', " ", text).replace("  ", " ")
        inputs = tokenizer(text, truncation=True, max_length=30, return_tensors="pt")
        hidden = self.text_encoder.text_encoder(**inputs)[0]
        return F.normalize(self.text_proj(hidden[:, 0, :]), dim=-1)


def tokenizer_at(folder: Path) -> BertTokenizer:
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save(path: Path, state: dict[str, Tensor], **beside: Any) -> Path:
    """As retrieval/pretrain.py does, its settings and the optimizer beside the tensors."""
    config = {"embed_size": 1024, "audio_args": {"sr": 32000, "mono": True}, "optim_args": [5e-5]}
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict()
    torch.save(
        {"model": state, "optimizer": optimizer, "config": config, "epoch": 3} | beside, path
    )
    return path
