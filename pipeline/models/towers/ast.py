"""The Audio Spectrogram Transformer (Gong et al. 2021) over a stored filter bank, trained.

On transformers' ASTModel; SJTU's stride is 16 (2.2, footnote 1), AST's is 10.
"""

from __future__ import annotations

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
from pipeline.errors import EarwitnessError, one_line
from pipeline.models.towers.base import SoundTower, TowerOutput
from pipeline.tensors import Padded

READS = "fbank"
HUB = Hub(repository="MIT/ast-finetuned-audioset-10-10-0.4593")
MEAN, DEVIATION = -4.2677393, 4.5689974  # AudioSet's: ASTFeatureExtractor
SPECIAL = 2  # the classification and the distillation token come before the patches
UNUSED = ("classifier.",)
SIZES = {  # names in ASTConfig → ours, of the settings that weights determine
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "feed_forward",
    "patch_size": "patch",
    "num_mel_bins": "mels",
}
EXTRACTOR = {
    "sampling_rate": "sample_rate",
    "num_mel_bins": "mels",
}  # of its extractor → ours
POSITIONS = "embeddings.position_embeddings"


class AstTower(SoundTower):
    """A frame every ``stride`` stored frames: the mean over frequency of its patches.

    The network reads ``max_frames`` at once. A shorter clip is padded with zeros before the
    normalisation, as in AST's feature extractor; a longer one is cut into windows, whose frames are
    joined. Patches that begin within the sound are valid. A clip's embedding is the mean over its
    windows of their two special tokens after the last layer norm.
    """

    def __init__(self, settings: AstTowerConfig, input: FbankEncoderConfig) -> None:
        super().__init__()
        self.window, self.stride = settings.max_frames, settings.stride
        if input.mels < settings.patch:
            raise EarwitnessError(f"ast: mels {input.mels} of its fbank are below its patch")
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
        windows = (longest + self.window - 1) // self.window
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


NAMES = (  # of transformers 4, which published files still have → of version 5
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


def resample_positions(saved: Tensor, theirs: ASTConfig, ours: ASTConfig) -> Tensor:
    """Position embeddings for other strides or another length.

    Each new patch gets the saved embedding at its position in time and frequency, by linear
    interpolation; new patches that would reach past the last saved one are compressed to end there.

    Args:
        saved: (1, 2 + F × T, D).

    Returns:
        (1, 2 + F' × T', D); the special tokens' do not change.
    """
    special, patches = saved[0, :SPECIAL], saved[0, SPECIAL:].unflatten(0, _grid(theirs))
    (rows, columns), (new_rows, new_columns) = _grid(theirs), _grid(ours)
    in_frequency = _interpolation(rows, new_rows, theirs.frequency_stride, ours.frequency_stride)
    in_time = _interpolation(columns, new_columns, theirs.time_stride, ours.time_stride)
    patches = torch.einsum("fi,tj,ijd->ftd", in_frequency, in_time, patches)
    return torch.cat([special, patches.flatten(0, 1)])[None]


def _interpolation(count: int, wanted: int, stride: int, new_stride: int) -> Tensor:
    """(wanted, count): weights of ``count`` points for each of ``wanted``; rows sum to 1."""
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
    state = checkpoints.renamed(checkpoints.read_state(location), NAMES)
    saved = state.get(POSITIONS)
    if saved is not None:
        rows, columns = _grid(theirs)
        if saved.shape[1] != SPECIAL + rows * columns:
            raise EarwitnessError(
                f"{location}: {saved.shape[1]} position embeddings, but its config.json makes"
                f" {SPECIAL + rows * columns}; put the config.json it was trained with beside it"
            )
        state[POSITIONS] = resample_positions(saved, theirs, tower.model.config)
    checkpoints.load_state(tower.model, state, location, UNUSED)
    return tower


def _saved_config(location: Path, wanted: Mapping[str, Any]) -> ASTConfig:
    """The configuration that the weights were trained with; AST's for what no file says.

    Raises:
        EarwitnessError: a setting of ``wanted`` differs; it is named.
    """
    folder = location if location.is_dir() else location.parent
    config, extractor = (
        checkpoints.saved_settings(folder / name)
        for name in ("config.json", "preprocessor_config.json")
    )
    for names, saved in ((SIZES, config), (EXTRACTOR, extractor)):
        known = {ours: saved[theirs] for theirs, ours in names.items() if theirs in saved}
        checkpoints.check_front_end({name: wanted[name] for name in known}, known, location)
    mean, deviation = extractor.get("mean", MEAN), extractor.get("std", DEVIATION)
    if max(abs(mean - MEAN), abs(deviation - DEVIATION)) > 1e-3:
        raise EarwitnessError(
            f"{location}: trained with mean {mean} and std {deviation} of the filter bank, but this"
            f" tower has AudioSet's {MEAN} and {DEVIATION}; take other weights"
        )
    fields = {"max_length", "num_mel_bins", "patch_size", "frequency_stride", "time_stride"}
    with one_line(folder / "config.json"):
        return ASTConfig(**{name: config[name] for name in fields & config.keys()})
