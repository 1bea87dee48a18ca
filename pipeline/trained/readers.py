"""How each side of a retriever reads clips or captions: as stored features, or as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from pipeline.config.plans import BiEncoderPlan
from pipeline.config.retrievers import TextTowerConfig
from pipeline.config.sides import FrozenTextSide, TextTowerSide
from pipeline.corpora.manifest import Clip
from pipeline.encoders.base import TextEncoder
from pipeline.encoders.registry import build_text_encoder
from pipeline.errors import EarwitnessError
from pipeline.features.bank import open_banks
from pipeline.features.mixture import open_mixture
from pipeline.features.store import FeatureStore, caption_ids
from pipeline.trained.inputs import Array, ArrayInputs, Embeddable, StoredInputs, TokenTable

if TYPE_CHECKING:  # it imports model libraries, which a frozen retriever does not need
    from pipeline.models.towers.text_tokens import TextTokens


@dataclass(frozen=True)
class FeatureReader:
    """A side that reads stored features: of a tower, or of frozen encoders."""

    retriever: str  # its name
    features: tuple[str, ...]  # E names
    widths: tuple[int, ...]  # W of each, as it was trained
    device: torch.device

    def stored(self, stores: Sequence[FeatureStore], ids: Sequence[str]) -> StoredInputs:
        """The clean views of ``ids`` in E stores.

        Raises:
            EarwitnessError: features of other widths, or an id without features.
        """
        self.check_stores(stores)
        return StoredInputs(open_banks(stores, ids, self.device))

    def arrays(self, features: Sequence[Sequence[Array]]) -> ArrayInputs:
        """Features that are not stored: E lists of N arrays (T, W).

        Raises:
            EarwitnessError: features of other widths.
        """
        widths = zip(features, self.widths, strict=False)
        self.check([(each[0].shape[1] if each else w, "these features") for each, w in widths])
        return ArrayInputs(features, self.device)

    def check_stores(self, stores: Sequence[FeatureStore]) -> None:
        """Refuses stores of other widths."""
        self.check([(store.width, str(store.path)) for store in stores])

    def check(self, found: Sequence[tuple[int, str]]) -> None:
        """Refuses features of other widths; ``found``: E × (W, where they are from)."""
        if len(found) != len(self.widths):
            raise EarwitnessError(
                f"retriever {self.retriever} reads {len(self.widths)} features "
                f"({', '.join(self.features)}), not {len(found)}"
            )
        for (width, source), name, trained in zip(found, self.features, self.widths, strict=True):
            if width != trained:
                raise EarwitnessError(
                    f"{source}: {width} wide, but retriever {self.retriever} was trained with "
                    f"{name}, {trained} wide; train it again, or give the same features"
                )


class TextReader(Protocol):
    """The text side."""

    @property
    def widths(self) -> tuple[int, ...]:
        """W of each stored feature that it reads; none for a tower."""

    @property
    def network(self) -> dict[str, Any]:
        """See :func:`pipeline.models.towers.text.text_network`; empty where there is no tower."""

    def captions(
        self, clips: Sequence[Sequence[Clip]], stores: Sequence[Sequence[FeatureStore]]
    ) -> Embeddable:
        """All captions of several datasets' clips, clip by clip.

        Args:
            clips: of each dataset. stores: of each dataset, one a feature of the side.
        """

    def queries(self, captions: Sequence[str]) -> Embeddable:
        """Free text.

        Raises:
            EarwitnessError: the frozen text encoder is not available, or knows no word of one.
        """

    def save(self, folder: Path) -> None:
        """Writes what :func:`load_text` reads."""


@dataclass(frozen=True)
class TokenReader:
    """Captions as a trained tower reads them."""

    settings: TextTowerConfig
    tokenizer: TextTokens
    network: dict[str, Any]
    device: torch.device
    widths: tuple[int, ...] = ()

    def captions(
        self, clips: Sequence[Sequence[Clip]], stores: Sequence[Sequence[FeatureStore]]
    ) -> TokenTable:
        return self.queries(_captions(clips))

    def queries(self, captions: Sequence[str]) -> TokenTable:
        rows = self.tokenizer.encode(captions, self.settings.max_tokens)
        return TokenTable(rows, self.tokenizer.pad, self.device)

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)


@dataclass(frozen=True)
class StoredTextReader(FeatureReader):
    """Captions as a frozen text encoder encodes them."""

    side: FrozenTextSide
    network: dict[str, Any] = field(default_factory=dict)
    built: TextEncoder | None = None  # the encoder; None: it is built when it is first needed

    def captions(
        self, clips: Sequence[Sequence[Clip]], stores: Sequence[Sequence[FeatureStore]]
    ) -> StoredInputs:
        self.check_stores(stores[0])
        ids = [caption_ids(of_dataset) for of_dataset in clips]
        by_feature = zip(*stores, strict=True)  # for each feature, one store a dataset
        return StoredInputs([open_mixture(each, ids, self.device) for each in by_feature])

    def queries(self, captions: Sequence[str]) -> ArrayInputs:
        if not captions:
            return self.arrays([[]])
        encoder = self._encoder
        self.check([(encoder.width, "this text encoder")])
        packed = encoder.encode(captions, np.float16)  # as it is stored
        if not packed.values.any():
            raise EarwitnessError(
                f"no word of {captions[0]!r} is known to {self.features[0]}; use other words"
            )
        return self.arrays([np.split(packed.values, np.cumsum(packed.lengths)[:-1])])

    @cached_property
    def _encoder(self) -> TextEncoder:
        return self.built or build_text_encoder(self.side.encoder, self.device)

    def save(self, folder: Path) -> None:
        """Nothing: the encoder is frozen."""


def new_text(
    plan: BiEncoderPlan,
    clips: Sequence[Sequence[Clip]],
    widths: tuple[int, ...],
    device: torch.device,
) -> TextReader:
    """The text side of a retriever to be trained on the ``clips`` of several datasets.

    Args:
        widths: W of the stored text features.

    Raises:
        EarwitnessError: the text model is not available, or has no fast tokenizer.
    """
    match plan.text:
        case TextTowerSide(tower=settings):
            from pipeline.models.towers.text import text_network
            from pipeline.models.towers.text_tokens import make_tokens

            tokenizer = make_tokens(settings, _captions(clips))
            return TokenReader(settings, tokenizer, text_network(settings, tokenizer), device)
        case FrozenTextSide() as side:
            return StoredTextReader(plan.name, side.features, widths, device, side)


def load_text(
    plan: BiEncoderPlan,
    folder: Path,
    widths: tuple[int, ...],
    network: dict[str, Any],
    device: torch.device,
) -> TextReader:
    """The text side of the retriever in ``folder``, which has these ``widths`` and ``network``."""
    match plan.text:
        case TextTowerSide(tower=settings):
            from pipeline.models.towers.text_tokens import load_tokens

            return TokenReader(settings, load_tokens(settings, folder), network, device)
        case FrozenTextSide() as side:
            return StoredTextReader(plan.name, side.features, widths, device, side)


def _captions(clips: Sequence[Sequence[Clip]]) -> list[str]:
    return [caption for of_dataset in clips for clip in of_dataset for caption in clip.captions]
