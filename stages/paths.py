"""The paths of all files.

Stages run in the repository's root, or in a copy that ``dvc exp run --queue`` makes. What DVC does
not track (raw audio, partial work, checkpoints) stays in the original, whose path DVC gives in
``DVC_ROOT``.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("DVC_ROOT", "."))  # the original repository
PARAMS = Path("params.yaml")
DATA = Path("data")
INPUTS = DATA / "inputs"  # fingerprints of what lies outside: datasets/<dataset>.json, weights.json
CORPORA = DATA / "corpora"  # <dataset>.json
FEATURES = DATA / "features"  # <dataset>/<encoder>.h5, <dataset>/<retriever>/frames.h5
INDEX = DATA / "index"  # fingerprints: frozen/<dataset>/<encoder>.json, encoded/<dataset>/…
PLANS = DATA / "plans"  # {tagging,extraction,retrievers,captioners,systems}/<job>.json
MODELS = DATA / "models"  # {encoders,retrievers,captioners}/<name>/
PREDICTIONS = DATA / "predictions"  # <dataset>/<system>.csv
RANKINGS = DATA / "rankings"  # <dataset>/<system>.csv: ten clips a caption
SCORES = DATA / "scores"  # <dataset>/<system>.csv: per-clip values
CURVES = DATA / "curves"  # {encoders,retrievers,captioners}/<name>.csv, for `dvc plots show`
HISTOGRAMS = DATA / "histograms"  # <dataset>/<score>.csv, retrieval/<dataset>/rank.csv: likewise
METRICS = Path("metrics")  # <dataset>/<system>.json, in git
PARTIAL = ROOT / DATA / "partial"
LOOKED = PARTIAL / "look"  # the files that were looked at, and their digests
TIMES = ROOT / DATA / "times"  # <stage>/<job>/<plan>.json: see pipeline/times.py
CHECKPOINTS = ROOT / DATA / "checkpoints"
TRACKING = ROOT / DATA / "tracking"  # {tensorboard,mlflow,wandb}/: see pipeline/tracking
SPICE = ROOT / DATA / "tools" / "spice"  # see pipeline/metrics/spice_install.py
SPICE_CACHE = PARTIAL / "spice"  # parses of captions
