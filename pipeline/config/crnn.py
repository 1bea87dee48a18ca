"""Sizes of the convolutional recurrent network of DCASE 2022's retrieval baseline."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Section

Channels = Annotated[int, Field(ge=1)]


class CrnnConfig(Section):
    """Five convolution blocks, power-average pooling, a recurrence (Xie et al. 2022; its code)."""

    convolutions: bool = True  # false: the stored features go straight into the recurrence (ours)
    # of the blocks, code
    channels: tuple[Channels, Channels, Channels, Channels, Channels] = (32, 128, 128, 128, 128)
    power: float = Field(4.0, ge=1)  # p of the LP pooling, code
    dropout: float = Field(0.3, ge=0, lt=1)  # on what the recurrence reads, code
    cell: Literal["gru", "lstm"] = "gru"  # CMU 6.2.1 compares them
    width: int = Field(150, ge=1)  # of each direction; code: half of word2vec's 300
    layers: int = Field(1, ge=1)  # of the recurrence, code
