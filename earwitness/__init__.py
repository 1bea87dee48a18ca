"""earwitness from Python: ``earwitness.load("edtc").caption(["street.wav"])``; see docs/api.md.

Importing it costs nothing: what needs torch is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from earwitness.process import set_up

if TYPE_CHECKING:
    from earwitness.callables import pipeline
    from earwitness.captioning import CaptioningSystem
    from earwitness.captions.recordings import CaptionedSound, CaptionedWindow
    from earwitness.exporting.writing import export
    from earwitness.index.building import IndexSummary, build_index
    from earwitness.index.opened import Hit, SoundIndex, open_index
    from earwitness.loading import load
    from earwitness.retrieval import RetrievalSystem
    from earwitness.scoring import CaptionScores, score
    from earwitness.spaces import open_space
    from pipeline.decoding.predict import Caption
    from pipeline.errors import EarwitnessError, SyntheticSoundWarning

__all__ = [
    "Caption",
    "CaptionScores",
    "CaptionedSound",
    "CaptionedWindow",
    "CaptioningSystem",
    "EarwitnessError",
    "Hit",
    "IndexSummary",
    "RetrievalSystem",
    "SoundIndex",
    "SyntheticSoundWarning",
    "build_index",
    "export",
    "load",
    "open_index",
    "open_space",
    "pipeline",
    "score",
]

set_up()


def __getattr__(name: str) -> object:
    match name:
        case "export":
            from earwitness.exporting.writing import export

            return export
        case "pipeline":
            from earwitness.callables import pipeline

            return pipeline
        case "load":
            from earwitness.loading import load

            return load
        case "build_index":
            from earwitness.index.building import build_index

            return build_index
        case "open_index":
            from earwitness.index.opened import open_index

            return open_index
        case "Hit":
            from earwitness.index.opened import Hit

            return Hit
        case "SoundIndex":
            from earwitness.index.opened import SoundIndex

            return SoundIndex
        case "IndexSummary":
            from earwitness.index.building import IndexSummary

            return IndexSummary
        case "open_space":
            from earwitness.spaces import open_space

            return open_space
        case "score":
            from earwitness.scoring import score

            return score
        case "CaptioningSystem":
            from earwitness.captioning import CaptioningSystem

            return CaptioningSystem
        case "RetrievalSystem":
            from earwitness.retrieval import RetrievalSystem

            return RetrievalSystem
        case "Caption":
            from pipeline.decoding.predict import Caption

            return Caption
        case "CaptionedSound":
            from earwitness.captions.recordings import CaptionedSound

            return CaptionedSound
        case "CaptionedWindow":
            from earwitness.captions.recordings import CaptionedWindow

            return CaptionedWindow
        case "CaptionScores":
            from earwitness.scoring import CaptionScores

            return CaptionScores
        case "EarwitnessError":
            from pipeline.errors import EarwitnessError

            return EarwitnessError
        case "SyntheticSoundWarning":
            from pipeline.errors import SyntheticSoundWarning

            return SyntheticSoundWarning
    raise AttributeError(f"module 'earwitness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
