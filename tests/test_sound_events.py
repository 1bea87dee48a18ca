"""CMU's sound-event vectors stand beside the frames of the same time, for both tasks (CMU 7).

What is read beside a frame is followed by giving every event vector its own time in place of
probabilities. The frames are as many as the real encoders make of real lengths of sound.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipeline.config.crnn import CrnnConfig
from pipeline.config.encoders import LogmelEncoderConfig, PannsEncoderConfig, VggishEncoderConfig
from pipeline.config.retrievers import CrnnTowerConfig
from pipeline.config.training import TrainingConfig
from pipeline.encoders import logmel, panns, vggish
from pipeline.encoders.base import SoundEncoder
from pipeline.models.captioners.cmu import Cmu
from pipeline.models.towers.crnn import CrnnTower
from pipeline.models.towers.registry import build_sound_tower
from pipeline.tensors import Padded, TokenIds
from tests.plans import build, captioner_plan

RATE = 16000
SECONDS = (8.0, 4.1, 5.3, 6.7, 1.0)
LOGMEL = LogmelEncoderConfig(module="logmel", sample_rate=RATE, n_fft=640, hop=320, fmax=8000.0)
# frames of the tagging stage's tagger on soundscapes; 0.32 s, as those of Cnn14_DecisionLevelMax
TAGGER = PannsEncoderConfig(
    module="panns", model="cnn10", channels=4, sample_rate=RATE, n_fft=512, hop=320, mels=32,
    fmax=8000.0,
)  # fmt: skip


def heard(encoder: SoundEncoder) -> Tensor:
    """(B,) frames of each clip."""
    samples = torch.tensor([round(seconds * RATE) for seconds in SECONDS])
    with torch.inference_mode():
        frames = encoder.eval()(0.1 * torch.randn(len(samples), int(samples.max())), samples)
    return frames.lengths.clone()


def times(lengths: Tensor, period: float) -> Padded:
    """(B, T, 1): the middle of each frame in seconds; behind a clip's end what none may read."""
    rows = [(torch.arange(length) + 0.5)[:, None] * period for length in lengths.tolist()]
    return Padded(pad_sequence(rows, batch_first=True, padding_value=1e4), lengths)


def check_times(beside: Tensor, lengths: Tensor, period: float, within: float) -> None:
    """(B, T) times that were read beside frames of a ``period``; they never fall."""
    for row, length in enumerate(lengths.tolist()):
        own = (torch.arange(length) + 0.5) * period
        read = beside[row, :length]
        assert float((read - own).abs().max()) < within, (row, read, own)
        assert bool((read.diff() >= 0).all())


@torch.no_grad()
def test_captioning_reads_them_in_time() -> None:
    """Within a frame of VGGish: its last one is filled up with silence, no event vector is."""
    torch.manual_seed(0)
    first = vggish.VggishEncoder(
        VggishEncoderConfig(module="vggish", weights="none", channels=2, hidden=8, width=6)
    )
    tagger = panns.PannsEncoder(TAGGER)
    frames, vectors = heard(first), heard(tagger)
    assert (first.frame_seconds, tagger.frame_seconds) == (0.96, 0.32)
    assert int(vectors[0]) > 2 * int(frames[0])  # finer than what they stand beside
    bart = {"pretrained": None, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 16}
    plan = captioner_plan(
        {"architecture": "cmu", "features": ("vggish", "events")},
        {"bart": bart, "cmu": {"adapter_layers": 2}},
        TrainingConfig(),
    )
    model = build(plan, (6, 1), TokenIds(40, 0, 1, 2)).eval()
    assert isinstance(model, Cmu)
    seen: list[Tensor] = []
    model.adapter.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    sound = Padded(torch.randn(len(SECONDS), int(frames.max()), 6), frames)
    model.encode([sound, times(vectors, tagger.frame_seconds)])
    check_times(seen[0][..., 6], frames, first.frame_seconds, within=first.frame_seconds)


@torch.no_grad()
def test_retrieval_reads_them_in_time() -> None:
    """Beside every fourth frame of the log-mel; within a frame of the tagger, which leaves out a
    clip's last part of one, and half a frame more, as nothing is before its first.
    """
    torch.manual_seed(0)
    first, tagger = logmel.LogmelEncoder(LOGMEL), panns.PannsEncoder(TAGGER)
    frames, vectors = heard(first), heard(tagger)
    settings = CrnnTowerConfig(
        module="crnn", input="logmel", beside=("events",), width=4,
        channels=CrnnConfig(channels=(3, 4, 4, 4, 4)).channels,
    )  # fmt: skip
    tower = build_sound_tower(settings, LOGMEL, None, widths=(64, 1)).eval()
    assert isinstance(tower, CrnnTower)
    seen: list[Padded] = []

    def spy(module: nn.Module, inputs: tuple[Padded]) -> None:
        seen.append(inputs[0])

    tower.network.recurrence.register_forward_pre_hook(spy)
    sound = Padded(torch.randn(len(SECONDS), int(frames.max()), 64), frames)
    tower([sound, times(vectors, tagger.frame_seconds)])
    (read,) = seen
    assert torch.equal(read.lengths, frames // 4)
    period = 4 * first.frame_seconds
    check_times(read.values[..., -1], read.lengths, period, within=1.5 * tagger.frame_seconds)
