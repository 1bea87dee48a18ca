"""What stands before the app: who may ask, how much is taken, and how long it may last.

Another page in the user's browser must not use the server. Its requests to another name that leads
here (DNS rebinding) are known by ``Host``, those to the right address by ``Origin``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
import traceback
from collections.abc import Collection, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earwitness.serving.limits import LINGER_BYTES, LINGER_SECONDS, Limits
from pipeline.errors import NotSoundError, TooLongError

FORM = 64 << 10  # bytes of an upload beside its sound: the form's parts and their headers
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(self)",
}


def error_answer(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """``{"error": message}``."""
    return JSONResponse({"error": message}, status, headers)


class Guard:
    """An ASGI app around ``app``.

    Requests that work is done for are counted against ``limits.queue``; the page, its files and
    indexed sounds are not.

    Args:
        names: of this machine that ``Host`` may have, beside localhost and numbers.
    """

    def __init__(self, app: ASGIApp, limits: Limits, names: Collection[str] = ()) -> None:
        self.app, self.limits = app, limits
        self.names = {"localhost", socket.gethostname().lower(), *map(str.lower, names)}
        self.busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, receive, send, self.limits)
        refused = self._refused(Headers(scope=scope))
        if refused is not None:
            await exchange.answer(refused)
        elif scope["method"] in ("GET", "HEAD") and scope["path"].rstrip("/") != "/search":
            await exchange.run(self.app)
        elif self.busy >= self.limits.queue:
            text = f"{self.limits.queue} requests are being worked on; try again in a moment"
            await exchange.answer(error_answer(503, text, {"retry-after": "1"}))
        else:
            self.busy += 1
            try:
                await exchange.run(self.app, self.limits.timeout)
            finally:
                self.busy -= 1

    def _refused(self, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return error_answer(
                400, f"host {host!r} is not this server's; use localhost, or start it with "
                "--allow-host",
            )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return error_answer(403, f"requests of pages from {origin!r} are not answered")
        try:
            size = int(headers.get("content-length", "0"))
        except ValueError:
            return error_answer(400, "Content-Length is not a number")
        return error_answer(413, too_large(self.limits)) if size > largest(self.limits) else None

    def _is_own(self, host: str) -> bool:
        """Whether no foreign name is used; a number cannot be made to lead elsewhere."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self.names or name.endswith(".localhost"):
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self._scope, self._receive, self._send, self._limits = scope, receive, send, limits
        headers = Headers(scope=scope)
        self._read = 0  # bytes of the request
        self._complete = "transfer-encoding" not in headers and (
            headers.get("content-length", "0") == "0"
        )
        self._started = False

    async def answer(self, response: JSONResponse) -> None:
        await response(self._scope, self._receive, self._sending)

    async def run(self, app: ASGIApp, timeout: float | None = None) -> None:
        """The app's answer, or that it took too long, or that it failed."""
        try:
            async with asyncio.timeout(timeout):
                await app(self._scope, self._receiving, self._sending)
        except TimeoutError:
            if self._started:
                return  # a reader that stopped reading: uvicorn closes the connection
            late = f"took more than {self._limits.timeout:g} s; give a shorter sound, or try again"
            status = 504 if self._complete else 408
            await self.answer(error_answer(status, late))
        except asyncio.CancelledError:
            if not self._started:
                await self.answer(error_answer(503, "the server is ending"))
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if not self._started:
                await self.answer(error_answer(500, "a bug; the server's terminal says more"))

    async def _receiving(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.pause):
                message = await self._receive()
        except TimeoutError:
            text = f"nothing came for {self._limits.pause:g} s; send the request again"
            raise HTTPException(408, text) from None
        self._read += len(message.get("body", b""))
        self._complete = message["type"] == "http.request" and not message.get("more_body")
        if self._read > largest(self._limits):
            self._complete = False
            raise HTTPException(413, too_large(self._limits))
        return message

    async def _sending(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            headers = MutableHeaders(raw=message["headers"])
            headers.update(SECURITY)
            headers.setdefault("cache-control", "no-store")
            if not self._complete:
                headers["connection"] = "close"  # else what is still to come would be read
        async with asyncio.timeout(self._limits.timeout):
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last and not self._complete:
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {**message, "body": b""}
            await self._send(message)

    async def _linger(self) -> None:
        """Takes a little more of a request that is answered before its end.

        A connection that is closed while bytes wait in it is reset, and the answer may be lost.
        """
        taken = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while taken < LINGER_BYTES:
                    message = await self._receive()
                    taken += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
                await asyncio.sleep(LINGER_SECONDS)  # the client may see the answer, and stop


def largest(limits: Limits) -> int:
    """Bytes of a request's body."""
    return limits.upload_bytes + FORM


def too_large(limits: Limits) -> str:
    return f"more than the {limits.upload_bytes / (1 << 20):g} MB that are taken; cut the sound"


def status_of(error: Exception) -> int:
    """Of a refusal that the app raised."""
    match error:
        case NotSoundError():
            return 415
        case TooLongError():
            return 413
    return 422
