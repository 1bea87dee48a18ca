"""The HTTP API and its page, as an ASGI app; ``/openapi.json`` describes it."""

from __future__ import annotations

import mimetypes
from collections.abc import Collection
from importlib import metadata
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from earwitness.serving.answers import CaptionAnswer, ErrorAnswer, HealthAnswer, HitsAnswer
from earwitness.serving.desk import Desk
from earwitness.serving.guard import Guard, error_answer, status_of
from earwitness.serving.uploads import Uploads, named
from pipeline.errors import EarwitnessError

PAGE = {  # all files that are given out; types are said, as a machine's own tables may differ
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "main.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "record.js": "text/javascript; charset=utf-8",
    "samples.js": "text/javascript; charset=utf-8",
}
FORM = "a sound as the field file of multipart/form-data"
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "A broken form, or not for this server",
        408: "The request did not come in time",
        413: "Too many bytes, or too long a sound",
        415: "Not sound that can be decoded",
        422: "A field or the sound cannot be used",
        503: "Too many requests at once; see Retry-After",
        504: "It took too long",
    }.items()
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}

Text = Annotated[str, Query(max_length=1000, description="what to find, such as a dog barks")]
Without = Annotated[
    list[str], Query(default_factory=list, max_length=20, description="what must not be in it")
]
Top = Annotated[int, Query(ge=1, le=100, description="so many of the best")]
Moments = Annotated[bool, Query(description="find moments inside of long files")]


def make_app(desk: Desk, uploads: Uploads, names: Collection[str] = ()) -> ASGIApp:
    """The guarded app.

    Args:
        names: see :class:`Guard`.
    """
    app = FastAPI(
        title="earwitness",
        version=metadata.version("earwitness"),
        description="Captions of sounds, and search in an index of them.",
        docs_url=None,  # those pages load scripts of another host
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_page(app)
    guard = Guard(app, desk.limits, names)
    _add_captions(app, desk, uploads, guard)
    _add_search(app, desk, uploads)
    _add_errors(app)
    return guard


def _add_page(app: FastAPI) -> None:
    """Files of this package, read once: no request names a path."""
    folder = files("earwitness.serving") / "page"
    for name, kind in PAGE.items():
        answer = Response((folder / name).read_bytes(), media_type=kind)
        answer.headers["cache-control"] = "no-cache"
        path = "/" if name == "index.html" else f"/{name}"
        app.add_api_route(path, _constant(answer), methods=["GET", "HEAD"], include_in_schema=False)


def _constant(answer: Response) -> Any:
    async def page() -> Response:
        return Response(answer.body, headers=dict(answer.headers))

    return page


def _add_captions(app: FastAPI, desk: Desk, uploads: Uploads, guard: Guard) -> None:
    @app.post("/caption", responses=REFUSALS)
    async def caption(
        file: Annotated[UploadFile, File(description="a sound: WAV, FLAC, OGG, MP3 …")],
        candidates: Annotated[int, Query(ge=0, le=100, description="other captions, at most")] = 3,
        details: Annotated[
            bool, Query(description="with spectrogram, attention and similar indexed files")
        ] = False,
    ) -> CaptionAnswer:
        """Caption a sound."""
        async with uploads.kept(file) as path:
            return await desk.caption(path, named(file), candidates, details)

    @app.get("/healthz")
    async def healthz() -> HealthAnswer:
        """Say that the server works, and what it takes."""
        return HealthAnswer(
            status="ok",
            system=desk.name,
            indexed=None if desk.index is None else len(desk.files),
            moments=desk.index is not None and desk.index.has_moments,
            busy=guard.busy,
            upload_bytes=desk.limits.upload_bytes,
            longest_minutes=desk.limits.longest_minutes,
        )


def _add_search(app: FastAPI, desk: Desk, uploads: Uploads) -> None:
    @app.get("/search", responses=REFUSALS | MISSING)
    async def search(
        q: Text, *, without: Without, top: Top = 10, moments: Moments = False
    ) -> HitsAnswer:
        """Search the index by a text."""
        _check_index(desk)
        return HitsAnswer(await desk.search(_text(q, "q"), None, _texts(without), top, moments))

    @app.post("/search", responses=REFUSALS | MISSING)
    async def search_like(
        file: Annotated[UploadFile, File(description="a sound that the files are to be like")],
        *,
        without: Annotated[list[str], Form(default_factory=list, max_length=20)],
        q: Annotated[str | None, Form(max_length=1000)] = None,
        top: Annotated[int, Form(ge=1, le=100)] = 10,
        moments: Annotated[bool, Form()] = False,
    ) -> HitsAnswer:
        """Search the index by a sound, or by a sound and a text."""
        _check_index(desk)
        text = _text(q, "q") if q is not None else None
        async with uploads.kept(file) as path:
            return HitsAnswer(await desk.search(text, path, _texts(without), top, moments))

    @app.get("/audio/{number:path}", responses=MISSING)
    async def audio(number: str) -> FileResponse:
        """The sound of an indexed file, by its number in the index."""
        path = desk.sound(number)
        if path is None:
            raise HTTPException(404, "the index has no such sound")
        return FileResponse(path, media_type=mimetypes.guess_type(f"a{path.suffix.lower()}")[0])


def _check_index(desk: Desk) -> None:
    if desk.index is None:
        raise HTTPException(404, "there is no index; start the server with --index")


def _text(text: str, name: str) -> str:
    if not text.strip():
        raise HTTPException(422, f"{name}: empty; say what to search for")
    return text.strip()


def _texts(texts: list[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        text = error.detail
        if error.status_code == 404 and text == "Not Found":
            text = "nothing is here; /openapi.json says what there is"
        elif error.status_code == 405:
            text = f"{request.method} is not answered here; /openapi.json says what is"
        elif error.status_code == 400:  # of the form's parser
            text = f"the form is broken ({text.rstrip('.')}); send {FORM}"
        return error_answer(error.status_code, text, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_answer(422, "; ".join(map(_problem, error.errors())))

    @app.exception_handler(EarwitnessError)
    async def unusable(request: Request, error: EarwitnessError) -> JSONResponse:
        return error_answer(status_of(error), str(error))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return error_answer(500, "a bug; the server's terminal says more")


def _problem(error: Any) -> str:
    """One of pydantic's, in words."""
    name = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    hint = f"; send {FORM}" if name == "file" else ""
    return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}{hint}"
