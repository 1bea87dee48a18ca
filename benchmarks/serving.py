"""`earwitness serve`: requests at once in batches against one by one, and memory over many.

    python -m benchmarks.serving [--system edtc] [--repository .] [--requests 1000]

Both ways are the same server with the same trained system, asked over HTTP by 32 clients at once;
the obvious way captions each request in a call of its own. Then the server's memory is measured
before and after ``--requests`` more, a tenth of which are no sound.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import psutil
import soundfile
import torch

from benchmarks.timing import Row, compare, print_table
from earwitness.captioning import CaptioningSystem
from earwitness.serving.desk import Desk
from earwitness.serving.limits import Limits, keep_memory_small
from earwitness.serving.server import address, listen, make_server
from earwitness.serving.uploads import Uploads

CLIENTS = 32
SOUNDS = 64  # different ones, of 1 to 4 seconds
TARGET = 1.3


def main() -> None:
    """Prints the row and the memory; some minutes on one core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system", default="")
    parser.add_argument("--repository")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    keep_memory_small()
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(arguments.threads)
    system = CaptioningSystem.load(arguments.system or None, root=arguments.repository)
    print_table([measure(system)])
    print(memory(system, arguments.requests))


def measure(system: CaptioningSystem) -> Row:
    with served(system, 1) as single, served(system, Limits().batch) as batched:
        return compare(
            f"{SOUNDS} requests of {CLIENTS} clients: a call each",
            lambda: ask(single, SOUNDS),
            lambda: ask(batched, SOUNDS),
            TARGET,
            repeats=3,
        )


def memory(system: CaptioningSystem, requests: int) -> str:
    process = psutil.Process()
    with served(system, Limits().batch) as url:
        ask(url, max(100, requests // 5))
        before = process.memory_info().rss
        ask(url, requests)
        grown = process.memory_info().rss - before
    return f"memory after {requests} more requests: {grown / 2**20:+.1f} of {before >> 20} MB"


@contextmanager
def served(system: CaptioningSystem, batch: int) -> Iterator[str]:
    """The URL of a server in this process."""
    uploads, listening = Uploads(), listen("127.0.0.1", 0)
    server = make_server(Desk(system, None, Limits(batch=batch)), uploads)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield address(listening)
    finally:
        server.should_exit = True
        thread.join()
        uploads.close()


def ask(url: str, requests: int) -> None:
    """All of them, ``CLIENTS`` at a time; a tenth are no sound."""
    contents = [b"no sound" if n % 10 == 9 else sound(n) for n in range(SOUNDS)]

    async def client(http: httpx.AsyncClient, own: range) -> None:
        for number in own:
            files = {"file": ("a.wav", contents[number % SOUNDS])}
            answer = await http.post(f"{url}/caption", files=files)
            assert answer.status_code == (415 if number % SOUNDS % 10 == 9 else 200), answer.text

    async def everyone() -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=120, limits=limits) as http:
            shares = [range(first, requests, CLIENTS) for first in range(CLIENTS)]
            await asyncio.gather(*(client(http, own) for own in shares))

    asyncio.run(everyone())


def sound(number: int) -> bytes:
    """A WAV of noise of 1 to 4 seconds."""
    random, stream = np.random.default_rng(number), io.BytesIO()
    soundfile.write(stream, random.normal(0, 0.1, 16_000 + 750 * number), 16_000, format="WAV")
    return stream.getvalue()


if __name__ == "__main__":
    main()
