"""How large a feature file may grow: asked of params.yaml by the stages that write one.

It cuts files and changes no value. So it is no part of any plan, and its code of no digest
(pipeline/planning/code.py), and another size makes no features anew.
"""

from __future__ import annotations

from pipeline.config.params import load_params
from pipeline.features.file_size import limit_files
from stages import paths


def limit_feature_files() -> None:
    """By ``feature_files.max_gigabytes``; without params.yaml, as a plan is enough, by default."""
    if paths.PARAMS.is_file():
        limit_files(load_params(paths.PARAMS).feature_files.max_gigabytes)
