"""``manifest.json`` of an exported system: what is in its folder, to the byte."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.section import Section

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ExportedFileConfig(Section):
    """One file: its content and its size."""

    sha256: Sha256
    bytes: int = Field(ge=0, le=1 << 40)


class NamedWeightsConfig(Section):
    """Weights of a frozen encoder that are not in the folder, but on a hub or in a package."""

    encoder: str
    weights: str  # in the language of `weights:`, such as hub:owner/name
    sha256: str | None  # of what it was trained with; null: not known


class ExportConfig(Section):
    format: Literal[1] = 1  # of the folder
    made_by: str  # earwitness and its version
    kind: Literal["captioning", "retrieval"]
    system: str  # its name in the folder's params.yaml
    # path below the folder, with /; the card is not among them, as people edit it
    files: dict[str, ExportedFileConfig] = Field(min_length=1, max_length=10_000)
    # files that a person has to put there, for their licence is their own
    left_out: dict[str, ExportedFileConfig] = Field(default_factory=dict, max_length=1000)
    named: tuple[NamedWeightsConfig, ...] = ()
