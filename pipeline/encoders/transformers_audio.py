"""Any audio model of transformers (AST, Whisper's encoder, wav2vec2 …), by hub name or folder."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.encoders import TransformersAudioEncoderConfig
from pipeline.encoders import checkpoints
from pipeline.encoders.base import Masks, SoundEncoder, refuse_masks
from pipeline.encoders.labels import check_labels
from pipeline.encoders.layouts import arranged
from pipeline.encoders.probing import fewest, noise, samples_per_frame
from pipeline.encoders.sources import Hub
from pipeline.encoders.spectrogram import at_least
from pipeline.errors import EarwitnessError, one_line
from pipeline.tensors import Padded

HUB = Hub(by_hand="a folder that save_pretrained wrote, with its feature extractor")
TRIED = 30  # seconds, of the window that the model is tried with when it is built
CHECKED = 120  # seconds, of the window that the feature extractor must read whole
TOWERS = ("audio_encoder", "audio_tower", "audio_model")  # of a model of sound and text
UNTRAINED = "masked_spec_embed"  # read in training alone, and not in every checkpoint
AST, AST_TOKENS = "audio-spectrogram-transformer", 2  # two class tokens before the others
KALDI_HOP, KALDI_WINDOW = 160, 400  # samples of AST's filter bank


class TransformersAudioEncoder(SoundEncoder):
    """Frames of a layer, or a classifier's probabilities, equal to those of transformers.

    Where the feature extractor pads all sound to one length, as those of Whisper and AST do, so it
    is here, and frames that begin behind the sound are left out. Else windows of equal length go
    through the model together and others one after another, so that none is padded because of its
    batch. A window that is shorter than the least that the model takes has zeros behind it up to
    that. AST's tokens are averaged over frequency, without its two class tokens.
    """

    def __init__(
        self, settings: TransformersAudioEncoderConfig, location: Path, extractor: Any, model: Any
    ) -> None:
        super().__init__()
        self.settings, self.location = settings, location
        self.extractor: Any = extractor
        self.model: nn.Module = model
        self.config: Any = model.config
        self.takes = inspect.signature(model.forward).parameters
        self.sample_rate = int(extractor.sampling_rate)
        self.pooled = settings.output == "probabilities"
        window = max(1, int(settings.window_seconds * self.sample_rate))
        self._check_window(min(window, CHECKED * self.sample_rate))
        longest = min(window, TRIED * self.sample_rate)
        self.pads = self._sizes(longest) == self._sizes(max(1, longest // 2))
        with one_line(location, "name another layer or model", "cannot embed sound"):
            frames = self._run([*noise(longest)])
        if not frames.isfinite().all():
            raise EarwitnessError(f"{location}: gives features that are not finite")
        self.width = frames.shape[2]
        if self.pooled:
            check_labels(settings.labels, self.width, location)
        near = min(longest, self.sample_rate)
        self.shortest = fewest(self._accepts, near if self._accepts(near) else longest)
        self.hop = 0.0 if self.pooled else self._hop(longest, frames.shape[1])  # samples
        self.frame_seconds = self.hop / self.sample_rate or settings.window_seconds

    def forward(self, waveform: Tensor, lengths: Tensor, masks: Masks | None = None) -> Padded:
        refuse_masks(masks, "transformers_audio")
        waveform, lengths = at_least(waveform.float(), lengths, self.shortest)
        together = [lengths >= 0] if self.pads else [lengths == n for n in lengths.unique()]
        found: dict[int, Tensor] = {}
        for chosen in together:
            rows = chosen.nonzero()[:, 0].tolist()
            clips = [waveform[row, : lengths[row]] for row in rows]
            for row, clip, frames in zip(rows, clips, self._run(clips), strict=True):
                kept = self._begun(len(clip)) if self.pads and not self.pooled else None
                found[row] = frames[:kept]
        ordered = [found[row] for row in range(len(waveform))]
        counts = torch.tensor([len(frames) for frames in ordered], device=lengths.device)
        return Padded(torch.nn.utils.rnn.pad_sequence(ordered, batch_first=True), counts)

    def _extract(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        """B × (N,) of lengths that are equal, or that are padded here → what the model takes."""
        arrays = [clip.detach().cpu().numpy() for clip in clips]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # AST's extractor says that a band is empty: so it is
            made = self.extractor(arrays, sampling_rate=self.sample_rate, return_tensors="pt")
        return {name: value for name, value in made.items() if name in self.takes}

    def _run(self, clips: Sequence[Tensor]) -> Tensor:
        """As :meth:`_extract` takes them → (B, T, D) frames or (B, 1, C) probabilities."""
        device = clips[0].device
        taken = {name: value.to(device) for name, value in self._extract(clips).items()}
        if self.pooled:
            logits = self.model(**taken).logits.float()
            return (logits.sigmoid() if self._is_multi_label() else logits.softmax(-1))[:, None]
        frames = self._hidden(taken)
        if frames.ndim != 3:
            raise ValueError(f"its output is {tuple(frames.shape)}, not frames")
        if self.config.model_type == AST:
            reach = self.config.num_mel_bins - self.config.patch_size
            bands = reach // self.config.frequency_stride + 1
            frames = arranged(frames, "b (f t) d", bands, AST_TOKENS)
        mask = taken.get("attention_mask")
        if not self.pads and mask is not None and mask.shape == frames.shape[:2]:
            frames = frames[:, : int(mask[0].sum())]  # padding to whole frames of the model
        return frames

    def _hidden(self, taken: Mapping[str, Tensor]) -> Tensor:
        """What the model takes → its own output, or that of a layer."""
        layer = self.settings.layer
        if layer == -1:
            last: Tensor = self.model(**taken).last_hidden_state
            return last
        output = self.model(**taken, output_hidden_states=True)
        layers, last = output.hidden_states, output.last_hidden_state
        if not -len(layers) <= layer < len(layers):
            raise EarwitnessError(
                f"{self.location}: has no layer {layer}; it has 0 … {len(layers) - 1}"
            )
        found: Tensor = layers[layer]
        return found[:, max(0, found.shape[1] - last.shape[1]) :]  # without class tokens

    def _is_multi_label(self) -> bool:
        if self.settings.activation != "auto":
            return self.settings.activation == "sigmoid"
        return bool(self.config.problem_type == "multi_label_classification")

    def _check_window(self, samples: int) -> None:
        """Refuses an extractor that cuts a window's end off."""
        (whole,) = noise(samples)
        with one_line(self.location, problem="its feature extractor cannot read sound"):
            made = self._extract([whole])
            early = whole * (torch.arange(samples) < samples - samples // 20)
            ended = self._extract([early])
        if not made:
            raise EarwitnessError(
                f"{self.location}: its feature extractor makes nothing that the model takes "
                f"({', '.join(self.takes)}); it is no model of sound"
            )
        if samples >= 20 and all(made[name].equal(ended[name]) for name in made):
            raise EarwitnessError(
                f"{self.location}: does not read all of {samples / self.sample_rate:g} s; lower "
                "window_seconds"
            )

    def _sizes(self, samples: int) -> list[torch.Size]:
        return [value.shape for value in self._extract([*noise(samples)]).values()]

    def _accepts(self, samples: int) -> bool:
        """Whether sound of this length is told from silence, and the model makes numbers of it."""
        try:
            sound = self._extract([*noise(samples)])
            silence = self._extract([torch.zeros(samples)])
            if all(value.equal(silence[name]) for name, value in sound.items()):
                return False
            return self.pads or bool(self._count(samples))
        except Exception:  # whatever the extractor says of too little
            return False

    def _count(self, samples: int) -> int:
        """Frames of a window; 0 where there are none, or numbers that are not finite."""
        try:
            frames = self._run([*noise(samples)])
        except Exception:  # whatever the model says of too little
            return 0
        return frames.shape[1] if frames.isfinite().all() else 0

    def _hop(self, longest: int, frames: int) -> float:
        """Samples between two frames, by the configuration or else as they become more.

        Raises:
            EarwitnessError: all sound is padded to a length that is not known.
        """
        if self.config.model_type == AST:
            return float(self.config.time_stride * KALDI_HOP)
        if self.pads and (whole := getattr(self.extractor, "n_samples", None)):
            return float(whole) / frames
        ratio = getattr(self.config, "inputs_to_logits_ratio", None)
        if ratio and not getattr(self.config, "add_adapter", False):
            return float(ratio)
        hop = samples_per_frame(self._count, self.shortest, 2 * self.sample_rate, longest)
        if hop is None and frames > 1:
            raise EarwitnessError(
                f"{self.location}: makes {frames} frames of any sound, and does not say how long "
                "they are"
            )
        return hop or float(longest)

    def _begun(self, samples: int) -> int:
        """Frames that begin within the sound."""
        if self.config.model_type == AST:
            spectra = (samples - KALDI_WINDOW) // KALDI_HOP + 1
            return max(1, ceil(spectra / self.config.time_stride))
        return max(1, ceil(samples / self.hop - 1e-6))


def build(settings: TransformersAudioEncoderConfig, location: Path) -> TransformersAudioEncoder:
    """The encoder from a folder with weights, ``config.json`` and ``preprocessor_config.json``."""
    if not location.is_dir():
        raise EarwitnessError(f"{location}: not a folder; give one that save_pretrained wrote")
    extractor = _extractor(location)
    model = _model(settings, location)
    with torch.inference_mode():
        return TransformersAudioEncoder(settings, location, extractor, model.eval())


def _extractor(location: Path) -> Any:
    from transformers import AutoFeatureExtractor

    hint = "give a model of sound, with its preprocessor_config.json"
    with checkpoints.reading(location), one_line(location, hint, "no feature extractor"):
        extractor = AutoFeatureExtractor.from_pretrained(
            location, local_files_only=True, trust_remote_code=False
        )
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int) or not 1000 <= rate <= 384_000:
        raise EarwitnessError(f"{location}: its feature extractor reads no sound; {hint}")
    return extractor


def _model(settings: TransformersAudioEncoderConfig, location: Path) -> Any:
    """The audio encoder in the folder, or its classifier; all of its weights are in the file."""
    from transformers import AutoModel, AutoModelForAudioClassification

    classifies = settings.output == "probabilities"
    kind: Any = AutoModelForAudioClassification if classifies else AutoModel
    with checkpoints.reading(location):
        whole, report = kind.from_pretrained(
            location,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    model = whole if classifies else _tower(whole)
    read = {id(parameter) for parameter in model.parameters()}
    names = {name for name, each in whole.named_parameters() if id(each) in read}
    if missing := sorted(n for n in names & {*report["missing_keys"]} if UNTRAINED not in n):
        what = "a trained classifier" if classifies else "all weights of this model"
        raise EarwitnessError(f"{location}: has not {what}: {missing[0]} is missing")
    return model


def _tower(model: Any) -> Any:
    """The part that reads sound."""
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    return next((getattr(model, name) for name in TOWERS if hasattr(model, name)), model)
