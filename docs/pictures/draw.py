"""Draws captions.jpg from a finished default run: ``python docs/pictures/draw.py REPOSITORY``.

The clips are spread evenly over the test set, as in `earwitness summary`: no choice was made.
"""

import sys
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
import soundfile
from matplotlib import pyplot

from pipeline.corpora.manifest import Manifest
from pipeline.metrics.tables import read_predictions

SEED, CLIPS, RATE, WINDOW, HOP = 1, 3, 16000, 512, 128

if __name__ == "__main__":
    root = Path(sys.argv[1])
    manifest = Manifest.load(root / "data/corpora/soundscapes.json")
    clips = manifest.split("evaluation")
    names = [clip.clip_id for clip in clips]
    path = root / "data/predictions/soundscapes/edtc.csv"
    captions = read_predictions(path, names, [SEED], "run `dvc repro`")[SEED]
    matplotlib.use("agg")
    figure, axes = pyplot.subplots(CLIPS, 1, figsize=(8, 6.6), layout="constrained")
    for number, ax in enumerate(axes):
        at = number * len(clips) // CLIPS
        samples, _ = soundfile.read(root / manifest.root / clips[at].path, dtype="float32")
        frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
        power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2
        end, top = len(samples) / RATE, RATE / 2000
        ax.imshow(
            10 * np.log10(power.T + 1e-8), origin="lower", aspect="auto", cmap="magma",
            extent=(0, end, 0, top), vmin=-60, vmax=20,
        )  # fmt: skip
        human = fill(clips[at].captions[0], 100)
        title = f"earwitness: {fill(captions[at], 100)}\nreference: {human}"
        ax.set_title(title, loc="left", fontsize=9)
        ax.set_ylabel("kHz")
    axes[-1].set_xlabel("seconds")
    figure.savefig(Path(__file__).with_name("captions.jpg"), dpi=110, pil_kwargs={"quality": 80})
