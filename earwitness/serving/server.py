"""The server itself: an address, uvicorn, and an end that does not wait."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Collection
from contextlib import suppress

import uvicorn

from earwitness.serving.app import make_app
from earwitness.serving.connection import Connection
from earwitness.serving.desk import Desk
from earwitness.serving.uploads import Uploads
from pipeline.errors import EarwitnessError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; clients wait until the server has started.

    Args:
        port: 0 takes one that is free.

    Raises:
        EarwitnessError: the port is in use or may not be used, or this machine has no such address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=256)
    except OSError as error:
        known = (error.errno or 0) > 0  # else of the look-up of the name
        reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        raise EarwitnessError(
            f"{host}:{port}: cannot listen there ({reason}); give another --port or --host"
        ) from None
    except OverflowError:
        raise EarwitnessError(f"--port {port}: ports are 0 to 65535") from None


def address(listening: socket.socket) -> str:
    """Its URL, for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listening: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def make_server(desk: Desk, uploads: Uploads, names: Collection[str] = ()) -> uvicorn.Server:
    """To be run with a listening socket; see :func:`serve`."""
    for library in ("uvicorn.error", "python_multipart"):  # clients are told what they did wrong
        logging.getLogger(library).setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        make_app(desk, uploads, names),
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def serve(desk: Desk, listening: socket.socket, names: Collection[str] = ()) -> None:
    """Answers until Ctrl-C or SIGTERM; what is under way then has a second to end.

    Called in the main thread. A thread that still computes cannot be stopped, and Python's own end
    would crash in it: then the process ends here.
    """
    uploads = Uploads()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with suppress(KeyboardInterrupt):
            make_server(desk, uploads, names).run(sockets=[listening])
    finally:
        uploads.close()
    print("stopped", file=sys.stderr, flush=True)
    if desk.is_working:
        os._exit(0)
