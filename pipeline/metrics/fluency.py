"""Fluency errors in captions: the detector of FENSE (Zhou et al. 2022).

A BERT; one linear layer turns the last state of the first token into six independent
probabilities. Its checkpoint is a dictionary of `model_type`, `num_classes` and `state_dict`
(`encoder.*`, `clf.*`), as released at blmoistawinde/fense.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.download import Checksum
from pipeline.encoders.sources import Hub, HubFile, fetched
from pipeline.errors import EarwitnessError, one_line, reason
from pipeline.files import check_file, sha256
from pipeline.metrics.types import Values
from pipeline.state_dicts import check_numbers

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel

FIELD = "echecker_clotho_audiocaps_base"  # FENSE's own
ERRORS = ("add_tail", "repeat_event", "repeat_adv", "remove_conj", "remove_verb", "error")
_RELEASE = "https://github.com/blmoistawinde/fense/releases/download/V0.1/"
_SHA256 = {
    FIELD: "1a719f090af70614bbdb9f9437530b7e133c48cfa4a58d964de0d47fc974a2fa",
    "echecker_clotho_audiocaps_tiny": (
        "90ed0ac5033ec497ec66d4f68588053813e085671136dae312097c96c504f673"
    ),
}
HUB = Hub(
    named={
        name: HubFile(f"{_RELEASE}{name}.ckpt", Checksum("sha256", digest))
        for name, digest in _SHA256.items()
    }
)
_TOKENS = 64  # of a caption at most, FENSE


class ErrorDetector(nn.Module):
    """FENSE's `BERTFlatClassifier`; the names of its parts are those of the checkpoint."""

    def __init__(self, encoder: BertModel, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(encoder.config.hidden_dropout_prob)
        self.clf = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L) int64 token ids and mask to (B, 6) logits."""
        states = self.encoder(input_ids, attention_mask).last_hidden_state
        return self.clf(self.dropout(states[:, 0]))


@dataclass(frozen=True)
class Detector:
    """A loaded detector; its scores' names end in ``suffix``, which is empty for FENSE's own."""

    model: ErrorDetector
    tokenizer: Tokenizer
    suffix: str


def load(weights: str, device: str) -> Detector:
    """A detector from a checkpoint in FENSE's format.

    Args:
        weights: ``hub`` (the field's own), the name of a released one, or a path to the file or
            to a folder with it. A tokenizer (tokenizer.json or vocab.txt) beside it is used, else
            the one that the checkpoint's ``model_type`` names.

    Raises:
        EarwitnessError: it is missing, cannot be downloaded, or is not such a checkpoint.
    """
    path = _located(FIELD if weights == "hub" else weights)
    state, model_type = _read(path)
    model = ErrorDetector(_encoder(state, path), len(ERRORS))
    # older transformers saved this buffer with the weights
    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    with one_line(path, "give a checkpoint in FENSE's format"):
        model.load_state_dict(state)
    for name, tensor in model.state_dict().items():
        check_numbers(name, tensor, tensor, str(path), "get the file again")
    tokenizer = _tokenizer(path, model_type)
    with one_line(path, "put the vocab.txt of its model beside it", "no tokenizer that works"):
        tokenizer.encode("a dog barks; \u2603")
    known = model.encoder.config.vocab_size
    if tokenizer.get_vocab_size() > known:
        raise EarwitnessError(
            f"{path}: has {known} tokens, the tokenizer beside it {tokenizer.get_vocab_size()}; "
            "put the one beside it that it was trained with"
        )
    return Detector(model.eval().to(device), tokenizer, _suffix(path))


def error_probabilities(detector: Detector, captions: Sequence[str], batch: int = 64) -> Values:
    """(N,) the probability of a fluency error in each caption.

    As in FENSE and aac-metrics: the class "error", of captions in lower case without punctuation.
    """
    unique = sorted(set(captions), key=len)
    clean = [re.sub(r"[^\w\s]", "", caption).lower() for caption in unique]
    device = next(detector.model.parameters()).device
    found: list[Values] = []
    with torch.inference_mode():
        for start in range(0, len(clean), batch):
            encoded = detector.tokenizer.encode_batch(clean[start : start + batch])
            ids = torch.tensor([line.ids for line in encoded], device=device)
            mask = torch.tensor([line.attention_mask for line in encoded], device=device)
            logits = detector.model(ids, mask)
            found.append(logits[:, ERRORS.index("error")].sigmoid().double().cpu().numpy())
    of_caption = dict(zip(unique, np.concatenate(found).tolist(), strict=True))
    return np.array([of_caption[caption] for caption in captions])


def _located(weights: str) -> Path:
    if weights in HUB.named:
        return fetched(HUB.named[weights])
    path = Path(weights)
    if path.is_dir():
        found = sorted([*path.glob("*.ckpt"), *path.glob("*.pt"), *path.glob("*.bin")])
        if len(found) != 1:
            raise EarwitnessError(f"{path}: {len(found)} checkpoints where one is needed")
        return found[0]
    if not path.is_file():
        known = ", ".join(HUB.named)
        raise EarwitnessError(f"no fluency detector at '{weights}'; give a path, hub, or {known}")
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights, and the name of the model whose tokenizer they need."""
    check_file(path, "give a checkpoint")
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        raise _unfit(path, reason(error)) from None
    if not isinstance(saved, Mapping) or not isinstance(saved.get("state_dict"), Mapping):
        raise _unfit(path, "no state_dict in it")
    state = {str(name): value for name, value in saved["state_dict"].items()}
    if "clf.weight" not in state or not all(isinstance(value, Tensor) for value in state.values()):
        raise _unfit(path, "no clf.weight in it")
    if len(state["clf.weight"]) != len(ERRORS):
        raise _unfit(path, f"{len(state['clf.weight'])} classes, not {len(ERRORS)}")
    return state, str(saved.get("model_type", ""))


def _encoder(state: Mapping[str, Tensor], path: Path) -> BertModel:
    """A BERT of the size of the checkpoint's tensors."""
    from transformers import BertModel

    from pipeline.encoders.bert import bert_config

    try:
        return BertModel(bert_config(state, "encoder."))
    except KeyError as error:
        raise _unfit(path, f"no {error.args[0]} in it") from None
    except Exception as error:  # tensors of shapes that no BERT has
        raise _unfit(path, reason(error)) from None


def _tokenizer(path: Path, model_type: str) -> Tokenizer:
    """The tokenizer beside the checkpoint, else the one that ``model_type`` names."""
    from tokenizers import Tokenizer
    from tokenizers.implementations import BertWordPieceTokenizer

    words, whole = path.parent / "vocab.txt", path.parent / "tokenizer.json"
    hint = "put the vocab.txt of its model beside it"
    if words.exists():
        check_file(words, hint)
        with one_line(words, hint, "not a vocabulary"):
            made = BertWordPieceTokenizer(str(words), lowercase=True).to_str()
            tokenizer = Tokenizer.from_str(made)
    elif whole.exists():
        check_file(whole, hint)
        with one_line(whole, hint, "not a tokenizer"):
            tokenizer = Tokenizer.from_file(str(whole))
    else:
        with one_line(path, hint, f"no tokenizer '{model_type}'"):
            tokenizer = Tokenizer.from_pretrained(model_type)
    tokenizer.enable_truncation(_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


def _suffix(path: Path) -> str:
    digest = sha256(path)
    if digest == _SHA256[FIELD]:
        return ""
    name = next((name for name, known in _SHA256.items() if known == digest), path.stem)
    short = name.removeprefix("echecker_clotho_audiocaps_")
    return "_" + re.sub(r"[^a-z0-9]+", "_", short.lower()).strip("_")


def _unfit(path: Path, what: str) -> EarwitnessError:
    return EarwitnessError(f"{path}: not a fluency detector in FENSE's format ({what})")
