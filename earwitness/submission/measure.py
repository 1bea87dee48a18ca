"""What a system costs to run, measured on a real clip: parameters, operations, seconds, energy.

The networks are those that really run, frozen encoders too: they are seen as they are called.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count, shape_wrapper

from pipeline.audio import waveforms
from pipeline.audio.sound_file import SoundFile
from pipeline.encoders.base import SoundEncoder
from pipeline.encoders.onnx import OnnxEncoder
from pipeline.times import processor

SECONDS = 10.0  # of the clip whose operations are counted
CLIPS = 5  # that are timed
RAPL = Path("/sys/class/powercap")  # Intel's counters of energy; root may read them
RAPL_PACKAGES = "intel-rapl:[0-9]*"


class Costs(NamedTuple):
    """Of a system, for one clip; what cannot be measured is None."""

    parameters: dict[str, int | None]  # by network; None: a file whose weights cannot be counted
    macs: int | None  # multiply-accumulates for one clip of SECONDS
    uncounted: tuple[str, ...]  # networks whose operations are not seen
    seconds: float  # for one clip of the set, the mean over CLIPS
    joules: float | None  # for one clip of the set, of the whole processor
    machine: str

    @property
    def total(self) -> int | None:
        counts = [count for count in self.parameters.values() if count is not None]
        return sum(counts) if len(counts) == len(self.parameters) else None

    def in_words(self) -> str:
        """A line for a terminal."""
        weights = "unknown" if self.total is None else f"{self.total / 1e6:.3g} M"
        macs = "unknown" if self.macs is None else f"{self.macs / 1e9:.3g} G"
        lacking = f" ({', '.join(self.uncounted)} not counted)" if self.uncounted else ""
        energy = "" if self.joules is None else f", {self.joules:.3g} J"
        return (
            f"{weights} parameters, {macs} multiply-accumulates for {SECONDS:g} s{lacking}, "
            f"{self.seconds:.3g} s{energy} a clip"
        )


def measure(
    run: Callable[[Sequence[Any], int], object],
    clips: Sequence[SoundFile],
    models: Iterable[tuple[str, nn.Module, Iterable[str] | None]],
) -> Costs:
    """Runs a system on the first clips of a set.

    Args:
        run: the system, on sounds and their sampling rate (which is of arrays).
        clips: files of the set; those after the first CLIPS are not read.
        models: name, model, and the names of the weights that it uses (None: all), of what was
            trained; the encoders are seen as they are called.
    """
    rate, sound = _exactly(clips[0], SECONDS)
    with _called() as modules:
        run([sound], rate)  # what is loaded when it is first needed is loaded now
    encoders = [*_networks(modules)]
    outside = [each for each in encoders if isinstance(each, SoundEncoder) and _in_a_file(each)]
    macs = count_macs(lambda: run([sound], rate))
    uncounted = tuple(type(each).__name__ for each in outside)
    timed, energy, start = clips[:CLIPS], Energy(), time.perf_counter()
    for clip in timed:
        run([clip], rate)
    seconds = (time.perf_counter() - start) / len(timed)
    joules = energy.used()
    return Costs(
        _parameters(models, encoders),
        None if uncounted else macs,
        uncounted,
        seconds,
        None if joules is None else joules / len(timed),
        machine(),
    )


def count_macs(run: Callable[[], object]) -> int:
    """Multiply-accumulates of matrix products, convolutions, attention and recurrences."""
    counter = _Counter()
    with _whole_operations(), counter:
        run()
    return counter.operations // 2


class _Counter(TorchDispatchMode):
    """Counts by torch's own formulas; its FlopCounterMode also follows gradients, and fails where
    there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None:
            with self:  # one that is made of others is counted by its parts
                parts = func.decompose(*args, **named)
            return func(*args, **named) if parts is NotImplemented else parts
        result = func(*args, **named)
        self.operations += formula(*args, **named, out_val=result)
        return result


def _exactly(sound: SoundFile, seconds: float) -> tuple[int, Any]:
    """A clip's sampling rate, and (samples,) of it, cut or repeated to ``seconds``."""
    rate = 32000  # PANNs' own; encoders of another rate resample, as of any file
    samples = np.asarray(waveforms.load(sound, rate), dtype=np.float32)
    return rate, np.resize(samples, round(seconds * rate))


@contextmanager
def _called() -> Iterator[dict[int, nn.Module]]:
    """Every module that is called in the block, in the order of their first calls."""
    found: dict[int, nn.Module] = {}

    def note(module: nn.Module, _: Any) -> None:
        found.setdefault(id(module), module)

    handle = register_module_forward_pre_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def _networks(modules: dict[int, nn.Module]) -> Iterator[nn.Module]:
    """Those that are part of no other: a network is called before its layers are."""
    parts: set[int] = set()
    for key, module in modules.items():
        if key not in parts:
            yield module
        parts |= {id(part) for part in module.modules()}


def _in_a_file(encoder: SoundEncoder) -> bool:
    """Whether another library computes it, from a file of its own."""
    return not any(True for _ in encoder.parameters()) and hasattr(encoder, "path")


def _parameters(
    models: Iterable[tuple[str, nn.Module, Iterable[str] | None]], encoders: Sequence[nn.Module]
) -> dict[str, int | None]:
    """By network; what two networks share counts once."""
    seen: set[int] = set()
    counts: dict[str, int | None] = {}
    for name, model, used in models:
        wanted = None if used is None else {*used}
        own = [w for key, w in model.named_parameters() if wanted is None or key in wanted]
        counts[name] = _count(own, seen)
        seen |= {id(weight) for weight in model.parameters()}
    for encoder in encoders:
        name = type(encoder).__name__
        if isinstance(encoder, SoundEncoder) and _in_a_file(encoder):
            counts[name] = _stored(encoder) if isinstance(encoder, OnnxEncoder) else None
        elif number := _count(encoder.parameters(), seen):
            counts[name] = (counts.get(name) or 0) + number
    return counts


def _count(weights: Iterable[nn.Parameter], seen: set[int]) -> int:
    new = {id(weight): weight for weight in weights if id(weight) not in seen}
    seen |= new.keys()
    return sum(weight.numel() for weight in new.values())


def _stored(encoder: OnnxEncoder) -> int | None:
    """The weights in an ONNX file, where the package ``onnx`` is there."""
    try:
        import onnx
    except ImportError:
        return None
    graph = onnx.load(str(encoder.path), load_external_data=False).graph
    shapes = onnx.TensorProto.INT64  # which are settings, and no weights
    weights = [weight for weight in graph.initializer if weight.data_type != shapes]
    return sum(math.prod(weight.dims) for weight in weights if weight.dims)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _recurrence(inputs: Any, *weights: Any, **_: Any) -> int:
    """One layer in one direction: each step multiplies with both matrices."""
    steps = inputs[0] * inputs[1]
    return int(sum(2 * steps * math.prod(shape) for shape in weights[:2]))


FORMULAS = {  # torch's own, and operations of the CPU that it does not know
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: shape_wrapper(_attention),
    torch.ops.aten.mkldnn_rnn_layer: shape_wrapper(_recurrence),
}


@contextmanager
def _whole_operations() -> Iterator[None]:
    """Without torch's fused attention layers, which the counter does not see into."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@dataclass
class Energy:
    """What the processor used since this was made, by Intel's RAPL."""

    folder: Path = RAPL

    def __post_init__(self) -> None:
        self._before = self._counters()

    def used(self) -> float | None:
        """Joules; None where the machine does not say, or not to this user."""
        after = self._counters()
        if not after or after.keys() != self._before.keys():
            return None
        total = 0
        for place, now in after.items():
            span = now - self._before[place]
            total += span if span >= 0 else span + self._read(place / "max_energy_range_uj")
        return total / 1e6

    def _counters(self) -> dict[Path, int]:
        try:
            places = sorted(self.folder.glob(RAPL_PACKAGES))
            whole = [place for place in places if place.name.count(":") == 1]  # no part of another
            return {place: self._read(place / "energy_uj") for place in whole}
        except (OSError, ValueError):
            return {}

    def _read(self, path: Path) -> int:
        return int(path.read_text(encoding="ascii"))


def machine() -> str:
    """The processor, and the GPU where there is one."""
    found = [processor()]
    if torch.cuda.is_available():
        found.append(torch.cuda.get_device_name())
    return f"{', '.join(found)}; {torch.get_num_threads()} threads"
