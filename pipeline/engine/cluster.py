"""A Ray cluster: connected to for a job, and functions that run on it as tasks.

Ray is imported here and in workers alone, where it is asked for. Nothing is sent to its makers, no
dashboard is started, and workers' own output stays in Ray's logs.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.config.engine import RayConfig
from pipeline.errors import EarwitnessError, reason
from pipeline.refusals import refusal

R = TypeVar("R")

PACKAGES = ("earwitness", "pipeline", "stages")  # that nodes elsewhere get, as they are here
WAIT = 10.0  # seconds for an answer of a cluster's address
# that change the last bit of what is computed, or how threads wait
VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *("OPENBLAS_CORETYPE", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "OMP_WAIT_POLICY"),
)


@dataclass(frozen=True)
class Refused:
    """What a worker answers for an error that a user can fix: one line, without a traceback."""

    error: EarwitnessError


class ClusterTask(Generic[R]):
    """A function that runs on the cluster."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self.future: Future[R] = Future()
        self.future.set_running_or_notify_cancel()
        reference.future().add_done_callback(self._done)

    def result(self) -> R:
        """Waits for it.

        Raises:
            EarwitnessError: of the function; or its node or process was lost too often.
        """
        return self.future.result()

    def cancel(self) -> None:
        """Ends its process."""
        import ray

        ray.cancel(self._reference, force=True)

    def _done(self, own: Future[Any]) -> None:
        if error := own.exception():
            self.future.set_exception(lacking(error) or lost(error) or error)
        elif isinstance(answer := own.result(), Refused):
            self.future.set_exception(answer.error)
        else:
            self.future.set_result(answer)


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to."""

    settings: RayConfig

    def start(
        self, function: Callable[..., R], *arguments: Any, cpus: float = 1, gpus: float = 0
    ) -> ClusterTask[R]:
        """Runs a picklable function in a process of its own, as soon as a node has room.

        Where its process or node is lost, it runs again, ``retries`` times; an error of its own is
        not repeated. Its folder is this process's, where the node has that.

        Args:
            cpus: cores that are reserved for it; it has so many threads too.
            gpus: likewise; a fraction shares one.

        Raises:
            EarwitnessError: no node has so many.
        """
        import ray

        self.check_room(cpus, gpus)
        remote: Any = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=self.settings.retries,
            max_calls=1,  # threads, folder and GPU memory of one task are not the next one's
            runtime_env={"env_vars": environment(max(1, int(cpus)))},
        )(_guarded)
        return ClusterTask(remote.remote(function, arguments, os.getcwd()))  # noqa: PTH109

    def check_room(self, cpus: float, gpus: float) -> int:
        """How many workers of so many cores and GPUs fit.

        Raises:
            EarwitnessError: not even one.
        """
        nodes = [node["Resources"] for node in alive_nodes()]
        found = sum(_fit(node, cpus, gpus) for node in nodes)
        if not found:
            most = " and ".join(
                f"{max((node.get(kind, 0) for node in nodes), default=0):g} {kind}s"
                for kind in ("CPU", "GPU")
            )
            raise EarwitnessError(
                f"ray.address {self.settings.address}: no node has {cpus:g} CPUs and {gpus:g} GPUs "
                f"(at most {most}); lower ray.cpus, ray.gpus or hardware.threads"
            )
        return found

    def gpus_for(self, device: str) -> float:
        """Of a worker, or of a training.

        Args:
            device: ``hardware.device`` of the job.

        Raises:
            EarwitnessError: a cluster has no such device, or ``ray.gpus`` says otherwise.
        """
        asked, kind = self.settings.gpus, device.partition(":")[0]
        if kind not in ("auto", "cpu", "cuda"):
            raise EarwitnessError(f"hardware.device {device}: a cluster has cpu and cuda; use auto")
        if kind == "cpu":
            return 0.0
        if asked == "auto":
            return 1.0 if kind == "cuda" or _has_gpus() else 0.0
        if kind == "cuda" and not asked:
            raise EarwitnessError("ray.gpus: 0, and hardware.device is cuda; change one")
        return asked


def _has_gpus() -> bool:
    """Whether any node has."""
    return any(node["Resources"].get("GPU", 0) > 0 for node in alive_nodes())


def check_ray() -> None:
    """Refuses to go on without Ray.

    Raises:
        EarwitnessError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise EarwitnessError(
            'engine: ray is not installed: pip install "earwitness[ray]", or set engine to local'
        )


@contextmanager
def connected(settings: RayConfig) -> Iterator[Cluster]:
    """A connection for as long as the context lasts; one that is there already is used.

    Raises:
        EarwitnessError: Ray is not installed, or the cluster does not answer.
    """
    check_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield Cluster(settings)
        return
    _check_answer(settings.address)
    try:
        ray.init(**_connection(settings.address))
    except (ray.exceptions.RayError, RuntimeError, OSError, ValueError, ImportError) as error:
        raise EarwitnessError(
            f"ray.address {settings.address}: {reason(error)}; {_hint(settings.address)}"
        ) from None
    try:
        yield Cluster(settings)
    finally:
        ray.shutdown()


def alive_nodes() -> list[dict[str, Any]]:
    """The cluster's nodes that answer."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def environment(threads: int) -> dict[str, str]:
    """What a worker's process has in its environment before it loads torch."""
    own = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {"OMP_WAIT_POLICY": "passive", **own, "OMP_NUM_THREADS": str(threads)}


def lost(error: BaseException) -> EarwitnessError | None:
    """One line for a worker or a node that was lost; None: the error is the work's own."""
    from ray import exceptions

    gone = (
        *(exceptions.WorkerCrashedError, exceptions.RayActorError, exceptions.NodeDiedError),
        *(exceptions.ObjectLostError, exceptions.OutOfMemoryError, exceptions.LocalRayletDiedError),
    )
    if isinstance(error, exceptions.TaskCancelledError):
        return EarwitnessError("cancelled on the cluster")
    if isinstance(error, gone):
        return EarwitnessError(
            f"a worker of the cluster was lost too often ({reason(error)}); see the memory of its "
            "node and Ray's logs there, then run again: it goes on from what is saved"
        )
    return None


def lacking(error: BaseException) -> EarwitnessError | None:
    """One line for a node without a module that this machine has."""
    found = re.search(r"No module named '([\w.]+)'", str(error))
    if found is None:
        return None
    return EarwitnessError(
        f"a node of the cluster has no Python module {found[1]}: install there what is installed "
        'here: pip install "earwitness[ray]"'
    )


def enter(folder: str) -> bool:
    """Makes the driver's folder a worker's own, so that relative paths are the same; False: the
    node has none of that name.
    """
    if Path(folder).is_dir():
        os.chdir(folder)
        return True
    return False


def answered(function: Callable[..., R], *arguments: Any) -> R | Refused:
    """In a worker: what a user can fix, or a machine refuses, is an answer.

    So it arrives as it is, without Ray's traceback, and is not repeated. All else is a bug.
    """
    try:
        return function(*arguments)
    except EarwitnessError as error:
        return Refused(error)
    except Exception as error:
        line = refusal(error)
        if line is None:
            raise
        return Refused(EarwitnessError(f"node {socket.gethostname()}: {line}"))


def _guarded(function: Callable[..., R], arguments: tuple[Any, ...], folder: str) -> R | Refused:
    """In the worker."""
    enter(folder)
    return answered(function, *arguments)


def _fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    """How many workers a node has room for; one GPU is not made of two halves."""
    found = int(node.get("CPU", 0) / cpus + 1e-6)
    if not gpus:
        return found
    whole = int(node.get("GPU", 0))
    return min(found, int(1 / gpus + 1e-6) * whole if gpus < 1 else int(whole / gpus))


def _connection(address: str) -> dict[str, Any]:
    """How ``ray.init`` is called."""
    root = Path(__file__).resolve().parents[2]
    own = {"include_dashboard": False} if address == "local" else {}
    code = [str(root / name) for name in PACKAGES if (root / name).is_dir()]
    elsewhere = {"py_modules": code, "excludes": ["**/__pycache__"]}
    return {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.CRITICAL,
        "configure_logging": True,
        "runtime_env": None if address == "local" else elsewhere,
        **own,
    }


def _check_answer(address: str) -> None:
    """Ray itself waits a minute for a machine that does not answer, and may then abort."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").partition(":")
    try:
        socket.create_connection((host, int(port)), WAIT).close()
    except (OSError, OverflowError) as error:
        raise EarwitnessError(
            f"ray.address {address}: no answer ({reason(error)}); {_hint(address)}"
        ) from None


def _hint(address: str) -> str:
    if address == "local":
        return "free memory and room in /tmp and /dev/shm, or set engine to local"
    if address.startswith("ray://"):
        return 'give the port of its Ray client server, 10001, and pip install "ray[client]"'
    return "start one by `ray start --head`, or set ray.address to local"
