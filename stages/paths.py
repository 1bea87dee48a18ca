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
PLANS = DATA / "plans"  # <phase>/<job>.json; of what is trained <phase>/<name>/<seed>.json
MODELS = DATA / "models"  # encoders/<name>/, {retrievers,captioners}/<name>/<seed>/
PREDICTIONS = DATA / "predictions"  # <dataset>/<system>.csv: a row a seed and clip
RANKINGS = DATA / "rankings"  # <dataset>/<system>.csv: ten clips a caption
SCORES = DATA / "scores"  # <dataset>/<system>.csv: per-clip values
CURVES = DATA / "curves"  # encoders/<name>.csv, {retrievers,captioners}/<name>-<seed>.csv
METRICS = Path("metrics")  # <dataset>/<system>.json, in git: the means over seeds
INTERVALS = Path("intervals")  # <dataset>/<system>.json, in git: what is around the means
HISTOGRAMS = DATA / "histograms"  # <dataset>/<score>.csv, retrieval/<dataset>/rank.csv: likewise
PARTIAL = ROOT / DATA / "partial"
LOOKED = PARTIAL / "look"  # the files that were looked at, and their digests
TIMES = ROOT / DATA / "times"  # <stage>/<job>/<plan>.json: see pipeline/times.py
CHECKPOINTS = ROOT / DATA / "checkpoints"
TRACKING = ROOT / DATA / "tracking"  # {tensorboard,mlflow,wandb}/: see pipeline/tracking
SPICE = ROOT / DATA / "tools" / "spice"  # see pipeline/metrics/spice_install.py
SPICE_CACHE = PARTIAL / "spice"  # parses of captions
