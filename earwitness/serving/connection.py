"""HTTP connections that are not kept open for a client that sends no request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from earwitness.serving.limits import LINGER_BYTES, LINGER_SECONDS

PAUSE = 10.0  # seconds for a request's line and headers


class Connection(H11Protocol):
    """uvicorn's, which would wait for ever for the end of a request's headers."""

    pause = PAUSE
    _refused, _taken = False, 0  # and the bytes that came after it
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        if self._refused:  # what is in the kernel is taken, as a reset would lose the answer
            self._taken += len(data)
            if self._taken > LINGER_BYTES:
                self.transport.pause_reading()
            return
        super().data_received(data)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _expect(self) -> None:
        """Sets the time for a request to begin; it is not put off by a few more bytes."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.pause, self._late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, in JSON as all our errors are."""
        body = json.dumps({"error": msg}).encode()
        headers = [("content-type", "application/json"), ("connection", "close")]
        headers.append(("content-length", str(len(body))))
        events = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer is under way
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self._refused = True
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
