"""Any exported model that takes a waveform (``.onnx``), run by onnxruntime."""

from __future__ import annotations

from functools import cached_property
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.encoders import OnnxEncoderConfig
from pipeline.encoders.base import Masks, SoundEncoder, refuse_masks
from pipeline.encoders.carried import Carried, carried
from pipeline.encoders.labels import check_labels
from pipeline.encoders.layouts import arranged, is_pooled, pooled
from pipeline.encoders.onnx_graph import Graph, check_whole, find_model, has_cuda, outside_files
from pipeline.encoders.probing import fewest, noise, samples_per_frame
from pipeline.encoders.spectrogram import at_least
from pipeline.errors import EarwitnessError
from pipeline.tensors import Padded

LONGEST = 30  # seconds, of the window that is tried when the encoder is built
ALIKE = 1e-3  # of the largest value: what a clip may differ by beside others
MANY = 20  # classes: logits of so many are never all in 0 … 1


class OnnxEncoder(SoundEncoder):
    """Frames, a pooled embedding, or class probabilities: one tensor of the model.

    Windows of equal length go through the model together and others one after another, so that
    none is padded because of its batch. Nor do they go together where the model mixes them (levels
    or int8 scales of the whole batch), which is tried once. A window that is shorter than the least
    that the model takes, which is measured, has zeros behind it up to that. Samples after the last
    whole frame count as much as in the model. A model of a fixed length, or of as many frames
    whatever the length, has its frames that begin behind the sound left out.
    """

    anchor: Tensor  # where the encoder is, if onnxruntime can compute elsewhere than on the CPU

    def __init__(self, settings: OnnxEncoderConfig, path: Path) -> None:
        super().__init__()
        self.settings, self.path = settings, path
        self.sample_rate = settings.sample_rate
        if has_cuda():
            self.register_buffer("anchor", torch.empty(0), persistent=False)
        self.graphs: dict[str, Graph] = {}
        self.fixed = self.graph("cpu").samples
        window = max(1, int(settings.window_seconds * self.sample_rate))
        if self.fixed is not None and self.fixed < window:
            seconds = f"{self.fixed / self.sample_rate:g}"
            raise EarwitnessError(f"{path}: takes {seconds} s at most; set window_seconds to that")
        longest = self.fixed or min(window, LONGEST * self.sample_rate)
        raw = self._raw(longest)
        self.pooled = settings.output != "frames" and is_pooled(raw, 1)
        frames = self._frames(raw, 1)
        self.width = frames.shape[2]
        self._check_values(raw, frames)
        self.shortest = self.fixed or fewest(lambda samples: self._count(samples) > 0, longest)
        half = self._count(max(self.shortest, longest // 2))
        if not half:
            raise EarwitnessError(f"{path}: {self._what} has not one width for sound of any length")
        self.constant = half == frames.shape[1]  # frames of any sound
        self.hop = 0.0 if self.pooled else self._hop(longest, frames.shape[1])  # samples
        self.frame_seconds = self.hop / self.sample_rate or settings.window_seconds

    def __reduce__(self) -> Carried:
        return carried(OnnxEncoder, self.settings, self.path, outside_files(self.path))

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        refuse_masks(masks, "onnx")
        device = waveform.device
        waveform, padded = at_least(waveform.float(), lengths, self.shortest)
        graph, waveform = self.graph(device.type), waveform.cpu()
        found: dict[int, Tensor] = {}
        for samples in padded.unique().tolist():
            rows = (padded == samples).nonzero()[:, 0].cpu()
            for group in rows.split(len(rows) if len(rows) > 1 and self.mixes_nothing else 1):
                frames = self._frames(graph(waveform[group, :samples]), len(group))
                found |= zip(group.tolist(), frames, strict=True)
        ordered = [found[row] for row in range(len(waveform))]
        if self.constant and not self.pooled:
            begun = [max(1, ceil(length / self.hop - 1e-6)) for length in lengths.tolist()]
            ordered = [frames[:count] for frames, count in zip(ordered, begun, strict=True)]
        counts = torch.tensor([len(frames) for frames in ordered])
        return Padded(torch.nn.utils.rnn.pad_sequence(ordered, batch_first=True), counts).to(device)

    def graph(self, device: str) -> Graph:
        """The model on a kind of device; the CPU's, where onnxruntime has no other."""
        if device not in self.graphs:
            own = self.settings
            named = getattr(own, own.output)
            self.graphs[device] = Graph(
                self.path, own.input, named, own.output, cuda=device == "cuda" and has_cuda()
            )
        return self.graphs[device]

    @cached_property
    def mixes_nothing(self) -> bool:
        """Whether a clip's values stay the same beside others, very loud and very quiet ones."""
        graph = self.graph("cpu")
        if graph.one_by_one or not self.settings.layout.startswith("b"):
            return False
        samples = max(self.shortest, min(self.sample_rate, graph.samples or self.sample_rate))
        sound = noise(samples) * torch.tensor([[1.0], [1e-4]])
        try:
            both = self._frames(graph(sound), 2)
            alone = [self._frames(graph(one[None]), 1) for one in sound]
        except EarwitnessError:
            return False  # it takes one at a time, whatever its graph says
        apart = torch.cat(alone)
        return bool((both - apart).abs().amax() <= ALIKE * apart.abs().amax())

    @property
    def _what(self) -> str:
        return f"{self.settings.output} ({self.graph('cpu').tensor})"

    def _raw(self, samples: int) -> Tensor:
        return self.graph("cpu")(noise(samples))

    def _frames(self, raw: Tensor, clips: int) -> Tensor:
        """The model's tensor of ``clips`` windows → (B, T, D)."""
        own = self.settings
        try:
            if own.output == "embedding" or self.pooled:
                frames = pooled(raw, clips)
            else:
                frames = arranged(raw, own.layout, own.bands, own.class_tokens)
            if len(frames) != clips:
                raise ValueError(f"it has {len(frames)} rows for {clips} clips")
        except ValueError as error:
            raise EarwitnessError(
                f"{self.path}: {self._what}: {error}; name another tensor, or set layout and output"
            ) from None
        if own.activation == "none" or own.output != "probabilities":
            return frames
        return frames.sigmoid() if own.activation == "sigmoid" else frames.softmax(-1)

    def _count(self, samples: int) -> int:
        """Frames of a window; 0 where the model cannot take it, or makes no numbers of it."""
        try:
            frames = self._frames(self._raw(samples), 1)
        except EarwitnessError:
            return 0
        same = frames.shape[2] == self.width and bool(frames.isfinite().all())
        return frames.shape[1] if same else 0

    def _hop(self, longest: int, frames: int) -> float:
        """Samples between two frames: by the setting, or as frames become more with the sound.

        Args:
            longest: samples, of which the model makes ``frames``.

        Raises:
            EarwitnessError: they do not become more, and there is no setting.
        """
        if self.settings.frame_seconds is not None:
            return self.settings.frame_seconds * self.sample_rate
        if self.fixed or frames == 1:
            return longest / frames
        rate = self.sample_rate
        if hop := samples_per_frame(self._count, self.shortest, 2 * rate, longest):
            return hop
        raise EarwitnessError(
            f"{self.path}: {self._what} has {frames} frames of any sound; set frame_seconds"
        )

    def _check_values(self, raw: Tensor, frames: Tensor) -> None:
        """Refuses what is not finite, logits, and probabilities that an activation makes flat."""
        own, at = self.settings, f"{self.path}: {self._what}"
        if not frames.isfinite().all():
            raise EarwitnessError(f"{at}: not finite; check the file, or name another tensor")
        if own.output != "probabilities":
            return
        check_labels(own.labels, self.width, self.path)
        low, high = raw.aminmax()
        within = low > -ALIKE and high < 1 + ALIKE
        if own.activation == "none" and not within:
            raise EarwitnessError(
                f"{at}: {low:.3g} … {high:.3g} are no probabilities; set activation to sigmoid or "
                "softmax"
            )
        if own.activation != "none" and within and self.width >= MANY:
            raise EarwitnessError(f"{at}: are probabilities already; set activation to none")


def build(settings: OnnxEncoderConfig, location: Path) -> OnnxEncoder:
    """The encoder from a file, or from a folder with one .onnx file."""
    if location.is_file():
        check_whole(location)
    return OnnxEncoder(settings, find_model(location, settings.file))
