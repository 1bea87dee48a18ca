"""The log-mels that CED, Dasheng, EAT and M2D read, before their normalisation.

Each gives (B, T, M) and the (B,) valid frames of (B, samples) and (B,) lengths; a clip's valid
frames do not depend on the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.config.encoders import FbankEncoderConfig
from pipeline.encoders.fbank import FbankEncoder
from pipeline.encoders.spectrogram import LogMel
from pipeline.tensors import Padded

TOP_DB = 120.0  # CED, Dasheng
EPSILON = torch.finfo(torch.float32).eps  # M2D adds it to the power before the log


class XiaomiMel(nn.Module):
    """CED's and Dasheng's: decibels of 64 bands, at most 120 below the clip's loudest.

    torchaudio's ``MelSpectrogram`` and ``AmplitudeToDB(top_db=120)`` of one clip: 16 kHz, window
    and FFT of 512 samples, hop of 160, HTK's mel from 0 to 8000 Hz (``FrontEnd`` in
    RicherMans/CED models/audiotransformer.py; ``front_end`` in XiaoMi/dasheng
    dasheng/train/models.py). torchaudio takes the loudest of a whole batch, here it is the clip's.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate, self.hop = sample_rate, 160
        self.logmel = LogMel(sample_rate, 512, self.hop, 64, 0, 8000, "htk")

    def forward(self, waveform: Tensor, lengths: Tensor) -> Padded:
        values, frames = self.logmel(waveform, lengths)
        return Padded(values.maximum(values.amax((1, 2), keepdim=True) - TOP_DB), frames)


class M2dMel(nn.Module):
    """M2D's: the natural log of 80 bands' power, windows of 25 ms every 10 ms.

    nnAudio's ``MelSpectrogram``, from 50 Hz to half the rate, plus float32's epsilon
    (``get_to_melspec`` and ``to_log_mel_spec`` in nttcslab/m2d examples/portable_m2d.py; Slaney's
    mel, KinWaiCheuk/nnAudio Installation/nnAudio/features/mel.py).
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate, self.hop = sample_rate, sample_rate // 100
        window = sample_rate // 40
        self.logmel = LogMel(sample_rate, window, self.hop, 80, 50, sample_rate / 2)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Padded:
        power, frames = self.logmel.power(waveform, lengths)
        return Padded((power + EPSILON).log(), frames)


class EatMel(nn.Module):
    """EAT's: Kaldi's filter bank of 128 bands, as AST's; zero past a clip's end.

    ``torchaudio.compliance.kaldi.fbank`` with ``window_type="hanning"``, without dither
    (cwx-worst-one/EAT feature_extract/feature_extract.py). The mean that EAT subtracts from the
    waveform before makes no difference: Kaldi subtracts each window's.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        settings = FbankEncoderConfig(module="fbank", sample_rate=sample_rate, mels=128)
        self.fbank = FbankEncoder(settings)
        self.sample_rate, self.hop = sample_rate, self.fbank.hop

    def forward(self, waveform: Tensor, lengths: Tensor) -> Padded:
        return self.fbank.frontend(waveform, lengths)
