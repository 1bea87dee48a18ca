"""Which stored features the training of a captioner reads."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Reads(NamedTuple):
    """``sound`` and ``text``: in every batch. Without a text encoder there is no text to read."""

    sound: bool = True  # of each caption's clip
    text: bool = True  # of each caption
    all_sound: bool = False  # of all clips that are trained on, once, to calibrate
    validation: Literal["sound", "text"] = "sound"  # what is captioned

    @property
    def any_sound(self) -> bool:
        return self.sound or self.all_sound or self.validation == "sound"
