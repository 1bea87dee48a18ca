"""A captioning system that is called as a pipeline of transformers is: files or arrays in,
``[{"generated_text": …, "score": …}]`` out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earwitness.captioning import CaptioningSystem
from earwitness.inputs import Sound
from pipeline.config.section import nearest
from pipeline.decoding.predict import Caption
from pipeline.errors import EarwitnessError

TASKS = ("audio-captioning",)
ARRAYS = ("raw", "array")  # transformers' name of the samples, and that of its datasets

Given = Sound | Mapping[str, Any]
Answer = list[dict[str, Any]]


class CaptioningPipeline:
    """``pipe("street.wav")``; for training, scores and more see :class:`CaptioningSystem`."""

    def __init__(self, system: CaptioningSystem) -> None:
        self.system = system

    def __call__(
        self,
        inputs: Given | Sequence[Given],
        *,
        batch_size: int | None = None,
        num_return_sequences: int = 1,
        **decoding: Any,
    ) -> Answer | list[Answer]:
        """Captions, the most probable first.

        Args:
            inputs: a file, or ``{"raw": samples, "sampling_rate": Hz}`` with samples (samples,) or
                (channels, samples) of floats, full scale ±1; or a list of such.
            batch_size: sounds that are decoded at once; None: the system's.
            num_return_sequences: captions of each sound, at most as many as the search has beams.
            decoding: settings of the section ``decoding``, such as ``beams=8``.

        Returns:
            Of one sound a list of ``{"generated_text": str, "score": probability}``; of a list of
            sounds a list of such lists.

        Raises:
            EarwitnessError: as :meth:`CaptioningSystem.caption`; or samples without their rate.
        """
        if num_return_sequences < 1:
            raise EarwitnessError(f"num_return_sequences {num_return_sequences}: give 1 or more")
        one = isinstance(inputs, str | os.PathLike | Mapping | np.ndarray)
        given: list[Any] = [inputs] if one else list(inputs)  # type: ignore[arg-type]
        if batch_size is not None:
            decoding["batch"] = batch_size
        by_rate: dict[int | None, list[int]] = {}
        sounds = [_sound(sound, f"inputs[{number}]") for number, sound in enumerate(given)]
        for number, (_, rate) in enumerate(sounds):
            by_rate.setdefault(rate, []).append(number)
        answers: list[Answer] = [[] for _ in sounds]
        for rate, numbers in by_rate.items():
            captions = self.system.caption(
                [sounds[number][0] for number in numbers],
                sample_rate=rate,
                candidates=num_return_sequences - 1,
                **decoding,
            )
            for number, caption in zip(numbers, captions, strict=True):
                answers[number] = _answer(caption)
        return answers[0] if one else answers


def pipeline(
    task: str, model: str | Path | None = None, *, root: str | Path | None = None,
    device: str = "auto", seed: int | None = None,
) -> CaptioningPipeline:  # fmt: skip
    """As ``transformers.pipeline``, of what was trained here.

    Args:
        task: ``audio-captioning``.
        model: a system, a captioner's folder, an exported folder or ``hub:ORG/NAME``; None: the
            first system of the repository. ``root``, ``device``, ``seed``: see
            :func:`earwitness.load`.

    Raises:
        EarwitnessError: another task, or as :func:`earwitness.load`.
    """
    if task not in TASKS:
        raise EarwitnessError(f"no task '{task}'{nearest(task, TASKS)}")
    return CaptioningPipeline(CaptioningSystem.load(model, root=root, device=device, seed=seed))


def _sound(given: Any, place: str) -> tuple[Path | NDArray[Any], int | None]:
    """A file, or samples and their rate."""
    if isinstance(given, str | os.PathLike):
        return Path(given), None
    name = next((name for name in ARRAYS if isinstance(given, Mapping) and name in given), None)
    rate = given.get("sampling_rate") if name else None
    if name is None or not isinstance(rate, int | np.integer):
        raise EarwitnessError(
            f'{place}: give a file, or {{"raw": samples, "sampling_rate": Hz}} with a whole number'
        )
    return np.asarray(given[name]), int(rate)


def _answer(caption: Caption) -> Answer:
    found = [(caption.text, caption.log_prob), *caption.candidates]
    return [{"generated_text": text, "score": math.exp(log_prob)} for text, log_prob in found]
