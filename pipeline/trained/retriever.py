"""A trained retriever in a folder: all that is needed to embed sound and text, and no network.

``model.safetensors`` (both towers, the projections, the temperature), ``model.json`` (its form),
``plan.json``, ``tokenizer.json`` where its text tower is trained, and ``curves.csv``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.plans import RetrieverPlan
from pipeline.device import autocast, resolve_device
from pipeline.errors import EarwitnessError
from pipeline.features.bank import length_batches, open_banks, padded_rows
from pipeline.features.mixture import AnyBank
from pipeline.features.store import FeatureStore
from pipeline.files import read_json, write_atomic, write_json
from pipeline.metrics.retrieval import Embeddings
from pipeline.models.biencoder import BiEncoder, StoredMeans
from pipeline.models.towers.base import SoundTower
from pipeline.state_dicts import load_weights, read_weights, save_weights, weights
from pipeline.tensors import Padded, pad_arrays
from pipeline.trained.biencoders import rebuild_biencoder
from pipeline.trained.captioner import CURVES, FORM, PLAN, WEIGHTS
from pipeline.trained.texts import Texts, TokenTable

if TYPE_CHECKING:  # they bring model libraries along that a frozen retriever does without
    from pipeline.encoders.base import TextEncoder
    from pipeline.models.towers.text_tokens import TextTokens

BATCH_FRAMES = {"cpu": 1 << 14, "cuda": 1 << 17}  # stored, that go through a tower together
Array = NDArray[Any]


@dataclass(frozen=True)
class TrainedRetriever:
    """A bi-encoder and what its inputs mean.

    Embeddings are float32, on the CPU, and for cosine unit rows; :meth:`pair` compares them.
    """

    plan: RetrieverPlan
    model: BiEncoder
    tokenizer: TextTokens | None  # null: stored text features
    widths: tuple[int, ...]  # W of each of the E stored sound features
    text_width: int | None  # W of the stored text features, where there are some

    @property
    def device(self) -> torch.device:
        return self.model.log_scale.device

    @property
    def width(self) -> int:
        """D of the common space."""
        return self.model.width

    def pair(self, captions: Tensor, clips: Tensor) -> Embeddings:
        """(M, D) and (N, D), with the similarity that the retriever was trained with."""
        return Embeddings(captions, clips, self.plan.biencoder.by_distance)

    @property
    def tower(self) -> SoundTower:
        """The trained sound tower; of a retriever of frozen features, which has none, an error."""
        if isinstance(self.model.sound, StoredMeans):
            raise EarwitnessError(
                f"retriever {self.plan.name} trains projections alone and has no frames of its "
                f"own; name its features ({', '.join(self.plan.features)}) instead"
            )
        return self.model.sound

    def save(self, folder: Path, curves: str) -> None:
        """Writes everything into an empty folder; the same retriever gives the same bytes."""
        save_weights(weights(self.model), folder / WEIGHTS)
        write_json(folder / FORM, self.form())
        self.plan.save(folder / PLAN)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        write_atomic(folder / CURVES, curves)

    def form(self) -> dict[str, Any]:
        """All that :func:`rebuild_biencoder` needs beside the plan, as JSON."""
        text: Any = self.model.text
        form = None if isinstance(text, StoredMeans) else text.form()
        return {"widths": list(self.widths), "text_width": self.text_width, "text": form}

    def embed_sound(self, stores: Sequence[FeatureStore], clips: Sequence[str]) -> Tensor:
        """Whole clips, by their stored features' clean view.

        Args:
            stores: E, of ``plan.features`` in their order. clips: N names.

        Returns:
            (N, D).

        Raises:
            EarwitnessError: features of other widths, or a clip without them.
        """
        self.check_widths([(store.width, str(store.path)) for store in stores])
        return self.embed_banks(open_banks(stores, clips, self.device)).cpu()

    def embed_features(self, features: Sequence[Padded | Array | Sequence[Array]]) -> Tensor:
        """Sound files, by features that were just made.

        Args:
            features: E, of ``plan.features`` in their order; each N arrays (T, W), or (N, T, W)
                padded, or one array (T, W) of a single file.

        Returns:
            (N, D).
        """
        files = [_entries(own) for own in features]
        self.check_widths([(own[0].shape[1], "these features") for own in files if len(own)])
        if not files or not len(files[0]):
            return torch.zeros(0, self.width)
        lengths = torch.tensor([[len(entry) for entry in own] for own in files]).amax(0)

        def embed(rows: Tensor) -> Tensor:
            batch = [pad_arrays([own[i] for i in rows.tolist()], self.device) for own in files]
            return self.model.embed_sound(batch)

        return self._embedded(self._sound_batches(lengths), embed).cpu()

    def embed_captions(
        self,
        captions: Sequence[str],
        stored: FeatureStore | None = None,
        ids: Sequence[str] | None = None,
    ) -> Tensor:
        """Captions of a dataset.

        Args:
            captions: N; read by a trained text tower.
            stored: their features, where the text side is frozen. ids: N, their names in it.

        Returns:
            (N, D).

        Raises:
            EarwitnessError: the stored features are needed and not given, or do not fit.
        """
        if not captions:
            return torch.zeros(0, self.width)
        if self.tokenizer is not None:
            return self.embed_texts(self.token_table(captions)).cpu()
        if stored is None or ids is None:
            raise EarwitnessError(
                f"{self._frozen_text()}: give its stored features of the captions"
            )
        self._check_text(stored.width, str(stored.path))
        return self.embed_texts(open_banks([stored], ids, self.device)[0]).cpu()

    def embed_queries(self, captions: Sequence[str], encoder: TextEncoder | None = None) -> Tensor:
        """Free text: N captions → (N, D).

        Args:
            encoder: the live text encoder of ``plan.text_encoder``, where the text side is frozen.
        """
        if self.tokenizer is not None or not captions:
            return self.embed_captions(captions)
        if encoder is None:
            raise EarwitnessError(f"{self._frozen_text()}: give that encoder")
        self._check_text(encoder.width, "this text encoder")
        packed = encoder.encode(captions, np.float16)  # as it is stored
        values, lengths = torch.from_numpy(packed.values), torch.from_numpy(packed.lengths)
        if not bool(values.any()):
            raise EarwitnessError(
                f"no word of {captions[0]!r} is known to {self.plan.text_features}; say it with "
                "other words"
            )
        starts = lengths.cumsum(0) - lengths

        def embed(rows: Tensor) -> Tensor:
            flat, valid = padded_rows(starts[rows], lengths[rows])
            padded = values[flat].view(*valid.shape, -1).float()
            return self.model.embed_text(Padded(padded, lengths[rows]).to(self.device))

        return self._embedded(self._sound_batches(lengths), embed).cpu()

    def embed_banks(self, banks: Sequence[AnyBank]) -> Tensor:
        """(N, D) on the device: every clip of E banks, by its clean view."""
        views = [bank.views for bank in banks]
        clips = torch.arange(len(banks[0]) // views[0])
        lengths = torch.stack([b.lengths[:: b.views] for b in banks]).amax(0)

        def embed(rows: Tensor) -> Tensor:
            return self.model.embed_sound([b.batch(clips[rows] * b.views) for b in banks])

        return self._embedded(self._sound_batches(lengths), embed)

    def embed_texts(self, texts: Texts) -> Tensor:
        """(N, D) on the device: every caption of a table or a bank."""
        batches = (
            texts.batches() if isinstance(texts, TokenTable) else self._sound_batches(texts.lengths)
        )
        return self._embedded(batches, lambda rows: self.model.embed_text(texts.batch(rows)))

    def token_table(self, captions: Sequence[str]) -> TokenTable:
        """The captions as a trained text tower reads them."""
        assert self.tokenizer is not None and self.plan.text is not None
        rows = self.tokenizer.encode(captions, self.plan.text.max_tokens)
        return TokenTable(rows, self.tokenizer.pad, self.device)

    @torch.no_grad()
    def _embedded(self, batches: Sequence[Tensor], embed: Callable[[Tensor], Tensor]) -> Tensor:
        """(N, D): ``embed`` of each batch of rows, put in the rows' order."""
        rows = torch.cat(list(batches)) if batches else torch.zeros(0, dtype=torch.int64)
        result = torch.zeros(len(rows), self.width, device=self.device)
        if len(rows):
            with autocast(self.plan.hardware.precision, self.device):
                found = torch.cat([embed(batch) for batch in batches])
            result[rows.to(self.device)] = found
        return result

    def _sound_batches(self, lengths: Tensor) -> list[Tensor]:
        return length_batches(lengths, BATCH_FRAMES.get(self.device.type, BATCH_FRAMES["cpu"]))

    def check_widths(self, found: Sequence[tuple[int, str]]) -> None:
        """Refuses stored sound features of other widths; ``found``: E × (W, where it is from)."""
        if len(found) != len(self.widths):
            raise EarwitnessError(
                f"retriever {self.plan.name} reads {len(self.widths)} features "
                f"({', '.join(self.plan.features)}), not {len(found)}"
            )
        for (width, source), name, own in zip(found, self.plan.features, self.widths, strict=True):
            if width != own:
                raise EarwitnessError(
                    f"{source}: {width} wide, but retriever {self.plan.name} was trained with "
                    f"{name}, {own} wide; train it again, or give the same features"
                )

    def _check_text(self, width: int, source: str) -> None:
        if width != self.text_width:
            raise EarwitnessError(
                f"{source}: {width} wide, but retriever {self.plan.name} was trained with "
                f"{self.plan.text_features}, {self.text_width} wide; give the same encoder"
            )

    def _frozen_text(self) -> str:
        return f"retriever {self.plan.name} reads text as {self.plan.text_features} encodes it"


def load_retriever(folder: Path, device: str | torch.device = "auto") -> TrainedRetriever:
    """What :meth:`Retriever.save` wrote, in evaluation mode on ``device``.

    Raises:
        EarwitnessError: a file is missing, broken, or of another model.
    """
    if not folder.is_dir():
        raise EarwitnessError(f"{folder}: no retriever; run `dvc repro train_retriever adapt`")
    mend = f"delete {folder} and run `dvc repro train_retriever adapt`"
    plan = RetrieverPlan.load(folder / PLAN)
    form = read_json(folder / FORM, mend)
    try:
        model = rebuild_biencoder(plan, form)
        widths, text_width = tuple(form["widths"]), form["text_width"]
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EarwitnessError(
            f"{folder / FORM}: not a retriever's form ({reason}); {mend}"
        ) from None
    load_weights(model, read_weights(folder / WEIGHTS, mend), str(folder / WEIGHTS))
    model.to(resolve_device(device)).eval()
    tokenizer = None
    if plan.text is not None:
        from pipeline.models.towers.text_tokens import load_tokens

        tokenizer = load_tokens(plan.text, folder)
    return TrainedRetriever(plan, model, tokenizer, widths, text_width)


def _entries(feature: Padded | Array | Sequence[Array]) -> Sequence[Array]:
    """N arrays (T, W)."""
    if isinstance(feature, Padded):
        values = feature.values.float().cpu().numpy()
        return [row[:length] for row, length in zip(values, feature.lengths.tolist(), strict=True)]
    return [feature] if isinstance(feature, np.ndarray) else feature
