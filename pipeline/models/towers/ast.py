"""The Audio Spectrogram Transformer (Gong et al. 2021) over a stored filter bank, trained.

On transformers' ASTModel; SJTU takes a stride of 16 (2.2, footnote 1), AST itself one of 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ASTConfig, ASTModel

from pipeline.config.encoders import FbankEncoderConfig
from pipeline.config.retrievers import AstTowerConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError
from pipeline.files import read_json
from pipeline.models.towers.base import SoundTower, TowerOutput
from pipeline.tensors import Padded

READS = "fbank"
HUB = Hub(repository="MIT/ast-finetuned-audioset-10-10-0.4593")
MEAN, DEVIATION = -4.2677393, 4.5689974  # AudioSet's: ASTFeatureExtractor
SPECIAL = 2  # the classification and the distillation token, before the patches
UNUSED = ("classifier.",)
SIZES = {  # ASTConfig's names of the settings that weights fix
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "feed_forward",
    "patch_size": "patch",
    "num_mel_bins": "mels",
}
EXTRACTOR = {"sampling_rate": "sample_rate", "num_mel_bins": "mels"}  # its names of the input's
POSITIONS = "embeddings.position_embeddings"


class AstTower(SoundTower):
    """A frame every ``stride`` stored frames: the mean over frequency of the patches there.

    The network reads ``max_frames`` at once. A shorter clip is filled up with zeros before the
    normalisation, as AST's feature extractor does; a longer one is cut into windows, whose frames
    are joined. Patches that begin within the sound are valid. A clip's embedding is the mean of
    its windows' own, each the mean of its two special tokens after the last layer norm.
    """

    def __init__(self, settings: AstTowerConfig, input: FbankEncoderConfig) -> None:
        super().__init__()
        self.window, self.stride = settings.max_frames, settings.stride
        if min(settings.max_frames, input.mels) < settings.patch:
            raise EarwitnessError(f"ast: max_frames and mels are at least patch {settings.patch}")
        if settings.width % settings.heads:
            raise EarwitnessError(
                f"ast: width {settings.width} is not a multiple of heads {settings.heads}"
            )
        config = ASTConfig(
            hidden_size=settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.feed_forward,
            hidden_dropout_prob=settings.dropout,
            attention_probs_dropout_prob=settings.dropout,
            patch_size=settings.patch,
            frequency_stride=settings.stride,
            time_stride=settings.stride,
            max_length=settings.max_frames,
            num_mel_bins=input.mels,
        )
        self.model = ASTModel(config)
        self.grid = _grid(config)
        self.width = self.embedding_width = settings.width
        self.reduction = float(settings.stride)

    def forward(self, stored: Sequence[Padded]) -> TowerOutput:
        (bank,) = stored
        clips, longest, mels = bank.values.shape
        windows = -(-longest // self.window)
        values = bank.values.float() * bank.mask[..., None]
        values = F.pad(values, (0, 0, 0, windows * self.window - longest))
        values = (values - MEAN) / (2 * DEVIATION)
        output: Any = self.model(values.view(clips * windows, self.window, mels))
        patches = output.last_hidden_state[:, SPECIAL:].unflatten(1, self.grid)
        frames = patches.mean(1).reshape(clips, windows * self.grid[1], self.width)
        before = (bank.lengths - 1) // self.window  # windows before a clip's last
        rest = bank.lengths - before * self.window
        last = torch.div(rest + self.stride - 1, self.stride, rounding_mode="floor")
        lengths = before * self.grid[1] + last.clamp(max=self.grid[1])
        valid = torch.arange(windows, device=lengths.device) <= before[:, None]
        pooled = output.pooler_output.view(clips, windows, self.width)
        embedding = (pooled * valid[..., None]).sum(1) / (before + 1)[:, None]
        return TowerOutput(Padded(frames, lengths), embedding)


def _grid(config: ASTConfig) -> tuple[int, int]:
    """Patches along frequency and along time."""
    patch: Any = config.patch_size
    along_frequency = (config.num_mel_bins - patch) // config.frequency_stride + 1
    return along_frequency, (config.max_length - patch) // config.time_stride + 1


_NAMES = (  # transformers 4's names, which files still have, in version 5's
    (r"^audio_spectrogram_transformer\.", ""),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of an ASTForAudioClassification or ASTModel, old or new, as ASTModel's now."""
    converted = {}
    for name, tensor in state.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        converted[name] = tensor
    return converted


def resample_positions(saved: Tensor, theirs: ASTConfig, ours: ASTConfig) -> Tensor:
    """Position embeddings for other strides or another length.

    Each of our patches gets what theirs have at its own place in time and frequency, linearly
    interpolated; where ours would go on past their last, all are drawn together to end on it.

    Args:
        saved: (1, 2 + F × T, D).

    Returns:
        (1, 2 + F' × T', D); the special tokens' are left as they are.
    """
    special, patches = saved[0, :SPECIAL], saved[0, SPECIAL:].unflatten(0, _grid(theirs))
    (rows, columns), (new_rows, new_columns) = _grid(theirs), _grid(ours)
    in_frequency = _interpolation(rows, new_rows, theirs.frequency_stride, ours.frequency_stride)
    in_time = _interpolation(columns, new_columns, theirs.time_stride, ours.time_stride)
    patches = torch.einsum("fi,tj,ijd->ftd", in_frequency, in_time, patches)
    return torch.cat([special, patches.flatten(0, 1)])[None]


def _interpolation(count: int, wanted: int, stride: int, new_stride: int) -> Tensor:
    """(wanted, count) weights of ``count`` points at each of ``wanted``; every row's sum is 1."""
    step = min(new_stride / stride, (count - 1) / max(1, wanted - 1))
    at = torch.arange(wanted, dtype=torch.float64)[:, None] * step
    return (1 - (at - torch.arange(count)).abs()).clamp(min=0).float()


def build(
    settings: AstTowerConfig,
    input: FbankEncoderConfig,
    location: Path | None,
    widths: Sequence[int],
) -> AstTower:
    """The tower; see :func:`pipeline.models.towers.registry.build_sound_tower`."""
    tower = AstTower(settings, input)
    if location is None:
        return tower
    wanted = {**settings.model_dump(), "sample_rate": input.sample_rate, "mels": input.mels}
    theirs = _saved_config(location, wanted)
    state = convert(checkpoints.read_state(location))
    saved = state.get(POSITIONS)
    if saved is not None:
        rows, columns = _grid(theirs)
        if saved.shape[1] != SPECIAL + rows * columns:
            raise EarwitnessError(
                f"{location}: {saved.shape[1]} position embeddings, where its config.json makes"
                f" {SPECIAL + rows * columns}; put the config.json that it was trained with beside"
            )
        state[POSITIONS] = resample_positions(saved, theirs, tower.model.config)
    checkpoints.load_state(tower.model, state, location, UNUSED)
    return tower


def _saved_config(location: Path, wanted: Mapping[str, Any]) -> ASTConfig:
    """What the weights were trained with, which ``wanted`` must agree with; AST's own if unsaid.

    Raises:
        EarwitnessError: naming the first setting that differs.
    """
    folder = location if location.is_dir() else location.parent
    config, extractor = (
        _json(folder / name) for name in ("config.json", "preprocessor_config.json")
    )
    for names, saved in ((SIZES, config), (EXTRACTOR, extractor)):
        known = {ours: saved[theirs] for theirs, ours in names.items() if theirs in saved}
        checkpoints.check_front_end({name: wanted[name] for name in known}, known, location)
    mean, deviation = extractor.get("mean", MEAN), extractor.get("std", DEVIATION)
    if max(abs(mean - MEAN), abs(deviation - DEVIATION)) > 1e-3:
        raise EarwitnessError(
            f"{location}: trained with mean {mean} and std {deviation} of the filter bank, and this"
            f" tower has AudioSet's {MEAN} and {DEVIATION}; take other weights"
        )
    fields = {"max_length", "num_mel_bins", "patch_size", "frequency_stride", "time_stride"}
    with checkpoints.one_line(folder / "config.json"):
        return ASTConfig(**{name: config[name] for name in fields & config.keys()})


def _json(path: Path) -> dict[str, Any]:
    values = read_json(path, "download the weights again") if path.exists() else {}
    return values if isinstance(values, dict) else {}
