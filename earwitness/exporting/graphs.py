"""A module as an ONNX graph, written by torch's exporter and tried by onnxruntime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import EarwitnessError, reason
from pipeline.models.biencoder import BiEncoder
from pipeline.tensors import Padded, Tokens

OUTPUT = "common_embedding"  # torch names inner tensors after modules, such as embedding
TOLERANCE = 1e-4

Inputs = dict[str, NDArray[Any]]


class SoundGraph(nn.Module):
    """E × ((B, T, W) features, (B,) lengths), one after the other → (B, D)."""

    def __init__(self, model: BiEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        pairs = zip(inputs[::2], inputs[1::2], strict=True)
        return self.model.embed_sound([Padded(values, lengths) for values, lengths in pairs])


class TokenGraph(nn.Module):
    """(B, L) ids and (B, L) mask → (B, D), by a trained text tower."""

    def __init__(self, model: BiEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.embed_text(Tokens(input_ids, attention_mask.sum(1)))


class SentenceGraph(nn.Module):
    """(B, L) ids and (B, L) mask → (B, D), by a frozen sentence encoder and a projection.

    Its embeddings are rounded to float16, as they are where they are stored.
    """

    def __init__(self, model: BiEncoder, sentences: nn.Module, tokens: bool) -> None:
        super().__init__()
        self.model, self.sentences, self.tokens = model, sentences, tokens

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found = self.sentences({"input_ids": input_ids, "attention_mask": attention_mask})
        if self.tokens:
            values, lengths = found["token_embeddings"], attention_mask.sum(1)
        else:
            values = found["sentence_embedding"][:, None]
            lengths = torch.ones_like(input_ids[:, 0])
        return self.model.embed_text([Padded(values.half().float(), lengths)])


def write_graph(
    module: nn.Module, example: Inputs, names: Sequence[str], path: Path, what: str
) -> None:
    """Writes the graph of a module, of any batch and any length."""
    given = tuple(torch.from_numpy(example[name]) for name in names)
    free = tuple({axis: torch.export.Dim.AUTO for axis in range(min(x.ndim, 2))} for x in given)
    shapes: Any = (free,) if isinstance(module, SoundGraph) else free
    try:
        with _quietly(), torch.no_grad():
            torch.onnx.export(
                module.eval(), given, path, input_names=list(names), output_names=[OUTPUT],
                dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False,
            )  # fmt: skip
    except ImportError as error:
        raise EarwitnessError(
            f"onnx: {reason(error)}; `pip install 'earwitness[onnx]'`, or leave out onnx"
        ) from None
    except Exception as error:  # of any of torch's passes, pages long
        raise EarwitnessError(
            f"{what} cannot be written as ONNX (torch's exporter: {type(error).__name__}); leave "
            "out onnx"
        ) from None


def check_graph(
    module: nn.Module,
    tried: Sequence[Inputs],
    names: Sequence[str],
    path: Path,
    what: str,
    must: int = 0,
) -> int:
    """Runs a graph, and gives the least length that it does.

    Args:
        tried: inputs, the longest first. must: from this length on it must do all of them.

    Raises:
        EarwitnessError: it cannot be run, or gives something else than its module.
    """
    least = 0
    for inputs in tried:
        problem = _difference(module, inputs, names, path)
        batch, length = inputs[names[0]].shape[:2]
        if problem and length >= must:
            raise EarwitnessError(
                f"{what} cannot be written as ONNX (of {batch} × {length}: {problem}); leave out "
                "onnx"
            )
        if problem:
            break
        least = length
    return least


@torch.no_grad()
def _difference(
    module: nn.Module, inputs: Mapping[str, Any], names: Sequence[str], path: Path
) -> str:
    """What is wrong with what a graph gives; empty where it is what its module gives."""
    import onnxruntime

    expected = module(*(torch.from_numpy(inputs[name]) for name in names)).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised, and need not be said too
    try:
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        (found,) = session.run([OUTPUT], dict(inputs))
        far = float(np.abs(found - expected).max())
    except Exception as error:  # onnxruntime's own kinds
        return reason(error)
    return "" if far <= TOLERANCE else f"it is {far:.1e} from torch's"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch's exporter says of its passes and of packages that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
