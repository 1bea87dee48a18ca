"""What may be done with the data that a system learned from, as its makers say."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.config.datasets import (
    AudioCapsDatasetConfig,
    BaseDatasetConfig,
    CaptionsDatasetConfig,
    ClothoDatasetConfig,
    DescriptionsDatasetConfig,
    MacsDatasetConfig,
)

OURS = "apache-2.0"  # as a hub spells it


class Licence(NamedTuple):
    """``known``: the licence as a hub spells it; None: more than one, or not known."""

    words: str
    known: str | None = None


CLOTHO = (
    "Clotho (Drossos et al. 2020): sound from Freesound, each file under its own Creative Commons "
    "licence; captions under Tampere University's licence, for non-commercial use with attribution"
)
AUDIOCAPS = (
    "AudioCaps (Kim et al. 2019): captions MIT; sound from YouTube, which belongs to its uploaders"
)
MACS = (
    "MACS (Martín-Morató and Mesaros 2021): captions, and the sound of TAU Urban Acoustic Scenes "
    "2019, for non-commercial use with attribution"
)
CAPTIONS = {"clotho": CLOTHO, "audiocaps": AUDIOCAPS, "audiocaps2": AUDIOCAPS}  # by ``fetch``
UNKNOWN = "licence not known to this program: a folder of the maker's own; ask who exported this"


def licence_of(settings: BaseDatasetConfig | None) -> Licence:
    """Of a dataset by its layout. None: it is not in ``params.yaml`` any more.

    A folder in Clotho's layout is Clotho only where it was fetched as such.
    """
    match settings:
        case _ if settings is not None and settings.synthetic:
            return Licence("synthesised by earwitness from a seed; Apache-2.0", OURS)
        case DescriptionsDatasetConfig(root="pipeline/corpora", table="descriptions.csv"):
            return Licence("sentences that come with earwitness; Apache-2.0", OURS)
        case ClothoDatasetConfig(fetch=True):
            return Licence(CLOTHO)
        case AudioCapsDatasetConfig():
            return Licence(f"if it is what its layout says: {AUDIOCAPS}")
        case MacsDatasetConfig():
            return Licence(MACS)
        case ClothoDatasetConfig():
            return Licence(f"{UNKNOWN}. If it is Clotho itself: {CLOTHO}")
        case CaptionsDatasetConfig(fetch=fetch, development=own) if fetch:
            known = [CAPTIONS[name] for name in fetch]
            return Licence("; ".join([*known, UNKNOWN] if own else known))
    return Licence(UNKNOWN)
