"""Object storage, by fsspec: listings and ranges of bytes, tried again, and errors of one line.

Who one is and where the storage is come from where the cloud's own tools take them (environment,
their files, fsspec's configuration), never from a parameter.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from pipeline.errors import EarwitnessError, reason
from pipeline.storage.urls import URL, check_url

T = TypeVar("T")

TRIES = 6  # in a row that bring nothing
PAUSE = 0.3  # seconds before the second try, twice as long before each further one
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}  # scheme → extra that brings its client
SIGN_IN = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or run `aws configure`; "
    "for a public bucket set FSSPEC_S3_ANON=true",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS; "
    "for a public bucket set FSSPEC_GS_TOKEN=anon",
}
# what clients raise where another try may help; by name, as none of the clients need be installed
PASSING = {
    *("ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "IncompleteRead"),
    *("IncompleteReadError", "ResponseStreamingError", "ReadTimeoutError", "ConnectTimeoutError"),
    *("EndpointConnectionError", "HTTPClientError", "ConnectionClosedError", "FSTimeoutError"),
    *("ResponseParserError", "ContentLengthError", "ChunkedEncodingError", "ClientConnectorError"),
    *("ConnectionError", "SocketTimeoutError", "ServerTimeoutError"),
}
UNKNOWN_HOST = {"gaierror", "ClientConnectorDNSError"}
NOT_SIGNED_IN = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
    *("TokenRetrievalError", "SSOTokenLoadError", "ProfileNotFound"),
    *("DefaultCredentialsError", "RefreshError"),
}
# how servers say that they are too busy, or that an empty file has no such bytes
BUSY = re.compile(r"\b(SlowDown|InternalError|ServiceUnavailable|RequestTimeout|50[0234]|429)\b")
NO_RANGE = re.compile(r"\b(InvalidRange|416)\b")
# of a listing's entry: what changes with the content; the first that is there
CONTENT = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "generation", "blob_id")
TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


class StorageError(EarwitnessError):
    """Object storage does not give what it was asked for."""


class Object(NamedTuple):
    """A file of object storage, as a listing says."""

    size: int  # bytes
    version: str  # SHA-256 of its ETag, or of what else there is, and of its size


def read(url: str, start: int, stop: int, exact: bool = True) -> bytes:
    """The bytes [start, stop) of a file, in one request.

    Args:
        exact: fewer are an error, and tried again; else the file may end before ``stop``.

    Raises:
        StorageError: see :func:`_problem`.
    """

    def get() -> bytes:
        system, path = _at(url)
        try:
            found = bytes(system.cat_file(path, start=start, end=stop))
        except Exception as error:
            if not start and _says(error, NO_RANGE):
                return b""  # of an empty file no range is valid
            raise
        if len(found) > stop - start:
            raise StorageError(f"{url}: its server gives no part of a file; copy it elsewhere")
        if exact and len(found) < stop - start:
            raise ConnectionError(f"{len(found)} of {stop - start} bytes")
        return found

    return _patiently(url, get)


def info(url: str) -> Object:
    """A file's size and version.

    Raises:
        StorageError: see :func:`_problem`.
    """

    def get() -> Object:
        system, path = _at(url)
        found = _object(system.info(path))
        if found is None:
            raise FileNotFoundError(path)
        return found

    return _patiently(url, get)


def listing(url: str, depth: int | None = None) -> dict[str, Object]:
    """The files below a folder, by their path below it, in order.

    Names that no path has (``a//b``, ``../a``) are passed over.

    Args:
        depth: of folders that are looked into, with the folder itself; None: all.

    Raises:
        StorageError: see :func:`_problem`; nothing is there.
    """

    def get() -> dict[str, Object]:
        system, path = _at(url)
        top = path.strip("/")
        found: dict[str, Object] = {}
        for name, entry in system.find(path, maxdepth=depth, detail=True).items():
            below = name.strip("/").removeprefix(top).removeprefix("/")
            if entry.get("type") == "file" and _is_path(below) and not name.endswith("/"):
                one = _object(entry)
                found[below] = one if one is not None else Object(0, "")
        return found

    found = _patiently(url, get)
    if not found:
        raise StorageError(f"{url}: nothing there; check the name")
    return dict(sorted(found.items()))


def _is_path(name: str) -> bool:
    return bool(name) and not {"", ".", ".."} & {*name.split("/")} and "\0" not in name


def _object(entry: Mapping[str, Any]) -> Object | None:
    """Of an entry of a listing; None of a folder's."""
    if entry.get("type") == "directory":
        return None
    keys = [key for key in (*CONTENT, *TIMES) if entry.get(key)]
    size = int(entry.get("size") or 0)
    version = [str(entry[keys[0]]) if keys else "", size]
    return Object(size, hashlib.sha256(json.dumps(version).encode()).hexdigest())


_systems: dict[tuple[int, str], Any] = {}
_lock = threading.Lock()


def _at(url: str) -> tuple[Any, str]:
    """The file system of an address, one a process, and the path in it."""
    check_url(url)
    scheme = URL.fullmatch(url)[1]  # type: ignore[index]
    with _lock:
        key = (os.getpid(), scheme)  # a client does not outlive a fork
        if key not in _systems:
            import fsspec

            # no listing is remembered: a file may have been replaced since
            system = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
            if EXTRAS.get(scheme) == "s3":
                # tried again here alone, by one rule for every storage
                system.retries = 1
                system.config_kwargs.setdefault("retries", {"max_attempts": 0})
            _systems[key] = system
        system = _systems[key]
    return system, system._strip_protocol(url)


def _patiently(url: str, get: Callable[[], T]) -> T:
    """What ``get`` gives, tried :data:`TRIES` times where another try may help."""
    for tried in range(1, TRIES + 1):
        try:
            return get()
        except EarwitnessError:
            raise
        except Exception as error:
            if tried == TRIES or not _is_passing(error):
                raise _problem(url, error) from None
        time.sleep(PAUSE * 2 ** (tried - 1))
    raise AssertionError("no try is left")


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it comes from."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or at.__context__
    return found


def _says(error: BaseException, code: re.Pattern[str]) -> bool:
    return any(code.search(str(one)) for one in _chain(error))


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}


def _is_passing(error: BaseException) -> bool:
    names = _names(error)
    if names & (UNKNOWN_HOST | NOT_SIGNED_IN):
        return False
    if isinstance(error, FileNotFoundError | PermissionError | ImportError):
        return False
    if isinstance(error, ConnectionError | TimeoutError) or names & PASSING:
        return True
    return isinstance(error, OSError) and _says(error, BUSY)


def _problem(url: str, error: BaseException) -> StorageError:
    """One line: no such file, bucket or host; no right to it; no client; no connection."""
    scheme = url.partition(":")[0]
    kind = EXTRAS.get(scheme, scheme)
    sign_in = SIGN_IN.get(kind, "sign in as its own tools say")
    names, said = _names(error), reason(error)
    if isinstance(error, ImportError):
        extra = f"earwitness[{kind}]" if scheme in EXTRAS else "what fsspec names"
        return StorageError(f"{url}: needs a client ({said}); run `pip install {extra}`")
    if isinstance(error, ValueError) and "rotocol" in said:
        return StorageError(f"{url}: {scheme}:// is no storage that fsspec knows; correct it")
    if names & NOT_SIGNED_IN:
        return StorageError(f"{url}: no credentials; {sign_in}")
    if isinstance(error, PermissionError):
        return StorageError(f"{url}: permission denied ({said}); {sign_in}")
    if isinstance(error, FileNotFoundError):
        what = "no such bucket" if "bucket" in said.lower() else "not there"
        return StorageError(f"{url}: {what}; check the name")
    if names & UNKNOWN_HOST:
        return StorageError(f"{url}: no such host ({said}); check the address and the network")
    if _is_passing(error):
        return StorageError(
            f"{url}: no connection in {TRIES} tries ({said}); check the network, then run again: "
            "it goes on from what is saved"
        )
    return StorageError(f"{url}: cannot be read ({said}); check the address")
