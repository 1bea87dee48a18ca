"""Stages that DVC starts, forked from a process that has torch already: seconds less for each.

DVC runs ``python -m stages.NAME`` in a shell. Here that ``python`` is a small client, which hands
its arguments, folder, environment and output to a process that has imported what others wrote, and
nothing of ours: so the stage is the project's own code, edits and all, in a process of its own. Any
other command is this Python's. A stage ends with its client.
"""

from __future__ import annotations

import array
import atexit
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from pipeline.parents import end_with_parent

# what stages import, slowest first; nothing of ours
PRELOADED = (
    *("torch", "torch._dynamo", "sentence_transformers", "transformers", "scipy.stats", "h5py"),
    *("pydantic", "typer", "soundfile", "soxr", "ruamel.yaml", "safetensors.torch", "tokenizers"),
    *("threadpoolctl", "psutil"),
)
# arguments: the socket, then those of `python`. Written for `python -S -E`, which starts in 10 ms
CLIENT = """\
import array, json, os, socket, sys
place, arguments = sys.argv[1], sys.argv[2:]
if arguments[:1] != ["-m"] or not arguments[1].startswith("stages."):
    os.execv({python!r}, [{python!r}, *arguments])
own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
own.connect(place)
told = json.dumps([arguments[1:], os.getcwd(), dict(os.environ)]).encode()
fds = array.array("i", [0, 1, 2])
own.sendmsg([len(told).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
own.sendall(told)
code = own.recv(1)
os._exit(code[0] if code else 70)
"""


@cache
def python_folder() -> Path:
    """A folder whose ``python`` runs stages so, for the beginning of PATH; one for this process,
    with which all of it ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="stages-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = folder / "socket"
    (folder / "client.py").write_text(CLIENT.format(python=sys.executable), encoding="utf-8")
    base = Path(sys.base_prefix) / "bin" / "python3"
    python = folder / "python"
    command = f"exec {base} -S -E {folder}/client.py {place}"
    python.write_text(f'#!/bin/sh\n{command} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, str(place)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.kill)
    return folder


def serve(place: str) -> None:
    os.environ["OMP_WAIT_POLICY"] = "passive"  # as earwitness does before torch is loaded
    for name in PRELOADED:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(place)
    listener.listen(64)
    assert threading.active_count() == 1, "a fork would lack the others"
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who has ended is nobody's concern here
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _supervise(connection)
        connection.close()


def _supervise(connection: socket.socket) -> NoReturn:
    """Forks the stage once more, and tells the client how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, fds = _received(connection)
    told = b""
    while len(told) < head:
        told += connection.recv(head - len(told))
    stage = os.fork()
    if stage == 0:
        connection.close()
        _run(*json.loads(told), fds)
    threading.Thread(target=_watch, args=(connection, stage), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])
    connection.send(bytes([code % 256 if code >= 0 else 128 - code]))
    os._exit(0)


def _received(connection: socket.socket) -> tuple[int, list[int]]:
    """The length of what follows, and the client's input and outputs."""
    data, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    fds = array.array("i")
    for _, _, content in ancillary:
        fds.frombytes(content[: 3 * fds.itemsize])
    return int.from_bytes(data, "big"), fds.tolist()


def _watch(connection: socket.socket, stage: int) -> None:
    """Ends the stage when its client has ended."""
    if not connection.recv(1):
        with suppress(ProcessLookupError):  # it has ended too
            os.kill(stage, signal.SIGKILL)


def _run(arguments: list[str], folder: str, environment: dict[str, str], fds: list[int]) -> None:
    for number, own in enumerate(fds):
        os.dup2(own, number)
    # new ones, as what the old ones know of their files is not true of these
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder  # as `python -m` has it; the server's was that of this file
    sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = arguments
    code: Any = 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1])
