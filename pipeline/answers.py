"""Whether a server answers, asked once and shortly: the hub's own client would try for minutes."""

from __future__ import annotations

import urllib.request
from functools import cache
from typing import Any
from urllib.error import HTTPError

from pipeline.errors import reason

SECONDS = 5.0  # that a server has to answer
UNKNOWN = (401, 403, 404)  # HTTP statuses of a model that is not there, or not for everybody
FINE = 200


def no_answer(url: str) -> str | None:
    """Why ``url`` cannot be fetched; None where its server would give it."""
    if (why := silent(url)) is not None:
        return why
    status, _ = _asked(url)  # some servers refuse HEAD, and would give the file
    return f"{url}: the server says {status}" if status in UNKNOWN else None


def silent(url: str) -> str | None:
    """Why no server answers at ``url``; None where one does, be it that it refuses."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and url.startswith(constants.ENDPOINT):
        return "HF_HUB_OFFLINE is set"
    _, cause = _asked(url)
    return f"{url} cannot be reached ({cause})" if cause else None


def size_of(url: str) -> int | None:
    """Bytes of a file by its address; None where its server does not say."""
    try:
        with _head(url) as answer:
            return int(answer.headers["Content-Length"])
    except Exception:  # a server may answer anything
        return None


@cache
def _asked(url: str) -> tuple[int, str]:
    """The status of the answer, or why there is none; each is asked once."""
    try:
        _head(url).close()
    except HTTPError as error:
        return error.code, ""
    except Exception as error:  # a server may answer anything
        cause = getattr(error, "reason", error)
        return 0, reason(cause) if isinstance(cause, Exception) else str(cause)
    return FINE, ""


def _head(url: str) -> Any:
    """The server's answer, without the file."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "earwitness"})
    return urllib.request.urlopen(request, timeout=SECONDS)


forget = _asked.cache_clear
