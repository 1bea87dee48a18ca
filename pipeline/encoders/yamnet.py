"""YAMNet (MobileNet on AudioSet), a ``.tflite`` run by LiteRT."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.encoders import YamnetEncoderConfig
from pipeline.encoders.base import Masks, SoundEncoder, refuse_masks
from pipeline.encoders.carried import Carried, carried
from pipeline.encoders.labels import check_labels
from pipeline.encoders.sources import Hub
from pipeline.encoders.spectrogram import at_least
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import check_file
from pipeline.tensors import Padded
from pipeline.threads import share

HUB = Hub(by_hand="a yamnet.tflite")
SAMPLE_RATE = 16000  # YAMNet
PATCH = 15600  # samples, 0.975 s: YAMNet
EMBEDDING = "global_average_pooling2d/Mean"  # 1024-d, before the classifier
WIDTHS = {"embedding": 1024, "scores": 521, "both": 1545}


class YamnetEncoder(SoundEncoder):
    """One frame a 0.975 s patch, every ``hop_seconds``: the 1024-d embedding, the 521 class
    scores, or both.

    The last patch is padded with zeros so that no sound is lost, as by YAMNet's ``pad_waveform``.
    Runs on the CPU, wherever its input is.
    """

    def __init__(self, settings: YamnetEncoderConfig, path: Path) -> None:
        super().__init__()
        self.settings, self.path, self.output = settings, path, settings.output
        self.hop = round(settings.hop_seconds * SAMPLE_RATE)
        self.sample_rate, self.width = SAMPLE_RATE, WIDTHS[settings.output]
        self.frame_seconds = self.hop / SAMPLE_RATE
        self.workers = share(32)
        self.interpreters: list[_Interpreter] = [_Interpreter(path)]
        self.lock = threading.Lock()

    def __reduce__(self) -> Carried:
        return carried(YamnetEncoder, self.settings, self.path)

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        refuse_masks(masks, "yamnet")
        device = waveform.device
        waveform, _ = at_least(waveform, lengths, PATCH)
        over = (lengths - PATCH).clamp(min=0)
        frames = 1 + (over + self.hop - 1) // self.hop
        longest = int(frames.max())
        waveform, _ = at_least(waveform, lengths, PATCH + (longest - 1) * self.hop)
        patches = waveform.unfold(1, PATCH, self.hop)[:, :longest]
        valid = torch.arange(longest, device=device) < frames[:, None]
        embedded = torch.from_numpy(self._run(patches[valid].float().cpu().numpy()))
        values = torch.zeros(len(lengths), longest, self.width, device=device)
        values[valid] = embedded.to(device)
        return Padded(values, frames)

    def _run(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 15600) → (N, D); the interpreters share the patches."""
        shares = np.array_split(patches, min(self.workers, max(1, len(patches))))
        with self.lock:  # an interpreter holds one patch at a time
            while len(self.interpreters) < len(shares):
                self.interpreters.append(_Interpreter(self.path))
            with ThreadPoolExecutor(len(shares)) as pool:
                outputs = pool.map(_Interpreter.run, self.interpreters, shares)
                both = np.concatenate(list(outputs))
        split = WIDTHS["embedding"]
        return {"embedding": both[:, :split], "scores": both[:, split:], "both": both}[self.output]


class _Interpreter:
    """One LiteRT interpreter: a patch in, the embedding and the scores out."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        hint = "get it again"
        check_file(path, hint)
        with one_line(path, hint, "not a LiteRT model"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that inner tensors are for debugging
            self.model: Any = Interpreter(
                str(path), experimental_preserve_all_tensors=True, num_threads=1
            )
            self.model.allocate_tensors()
        inputs, outputs = self.model.get_input_details(), self.model.get_output_details()
        named = [t for t in self.model.get_tensor_details() if t["name"].endswith(EMBEDDING)]
        if list(inputs[0]["shape"]) != [PATCH] or not named:
            raise EarwitnessError(f"{path}: a LiteRT model, but not YAMNet of {PATCH} samples")
        self.input, self.scores = inputs[0]["index"], outputs[0]["index"]
        self.embedding = named[0]["index"]
        with one_line(path, hint, "not a LiteRT model that runs"):
            self.run(np.zeros((1, PATCH), np.float32))

    def run(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 15600) → (N, 1024 + 521); LiteRT takes one patch a call."""
        values = np.empty((len(patches), WIDTHS["both"]), np.float32)
        for index, patch in enumerate(patches):
            self.model.set_tensor(self.input, patch)
            self.model.invoke()
            values[index, : WIDTHS["embedding"]] = self.model.get_tensor(self.embedding)[0]
            values[index, WIDTHS["embedding"] :] = self.model.get_tensor(self.scores)[0]
        return values


def build(settings: YamnetEncoderConfig, location: Path) -> YamnetEncoder:
    """The encoder from a local file."""
    if settings.output == "scores":
        check_labels(settings.labels, WIDTHS["scores"], location)
    return YamnetEncoder(settings, location)
