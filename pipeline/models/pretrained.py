"""transformers' models with published weights, by hub name or folder."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.encoders.checkpoints import check_folder, quiet_loading
from pipeline.errors import one_line
from pipeline.weights import local_first


class PretrainedModel(NamedTuple):
    """A model, and its weights that the file lacks."""

    model: Any
    missing: list[str]
    mismatched: Set[Any]  # whose shapes differ from the model's


def load_pretrained(kind: Any, name_or_path: str, section: str, **settings: Any) -> PretrainedModel:
    """A model of transformers' class ``kind`` in float32; a local copy is preferred.

    Args:
        section: the section of the parameters that names it, for error messages.
        settings: replace those of the saved configuration.

    Raises:
        EarwitnessError: no such weights or no network, or weights that are not safetensors.
    """

    def load(local: bool) -> Any:
        return kind.from_pretrained(
            name_or_path,
            local_files_only=local,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **settings,
        )

    hint = "give a folder with model.safetensors, or null to train from scratch"
    problem = f"no weights '{name_or_path}'"
    check_folder(Path(name_or_path))
    with one_line(f"{section}.pretrained", hint, problem), quiet_loading():
        model, report = local_first(load, name_or_path)
    return PretrainedModel(model, sorted(report["missing_keys"]), report["mismatched_keys"])
