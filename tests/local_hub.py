"""A hub on this machine that speaks what huggingface_hub's client asks: repositories, commits of
plain files, and downloads.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "c" * 40


class LocalHub(ThreadingHTTPServer):
    """``files`` of ``ORG/NAME``; ``asked``: method and path of each request, ``tokens`` of them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    hub = LocalHub()
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quietly."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._note()
        parts = self.path.strip("/").split("/")
        match parts:
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                self.server.files.setdefault(name, {})
                self.server.private[name] = bool(
                    asked.get("private") or asked.get("visibility") == "private"
                )
                self._answer({"url": f"{self.server.url}/{name}", "name": name})
            case ["api", "validate-yaml"]:
                self._answer({"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", _]:
                files = [
                    {"path": own["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for own in json.loads(body)["files"]
                ]
                self._answer({"files": files})
            case ["api", "models", org, name, "commit", _]:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        self.server.files[f"{org}/{name}"][line["value"]["path"]] = content
                url = f"{self.server.url}/{org}/{name}/commit/{COMMIT}"
                self._answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
            case _:
                self._answer({"error": "not known"}, 404)

    def do_GET(self) -> None:
        self._note()
        parts = self.path.split("?")[0].strip("/").split("/")
        match parts:
            case ["api", "models", org, name, "tree", *_]:
                tree = [
                    {"type": "file", "path": own, "size": len(content), "oid": "0" * 40}
                    for own, content in self.server.files[f"{org}/{name}"].items()
                ]
                self._answer(tree)
            case ["api", "models", org, name, *_] if f"{org}/{name}" in self.server.files:
                names = self.server.files[f"{org}/{name}"]
                siblings = [{"rfilename": own} for own in names]
                self._answer({"id": f"{org}/{name}", "sha": COMMIT, "siblings": siblings})
            case [org, name, "resolve", _, *path]:
                content = self.server.files.get(f"{org}/{name}", {}).get("/".join(path))
                if content is None:
                    self._answer({"error": "Entry not found"}, 404, "EntryNotFound")
                else:
                    self._send(content, 200)
            case _:
                self._answer({"error": "Repository not found"}, 404, "RepoNotFound")

    do_HEAD = do_GET

    def _note(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.tokens.add(self.headers.get("Authorization"))

    def _answer(self, value: Any, code: int = 200, error: str = "") -> None:
        self._send(json.dumps(value).encode(), code, error)

    def _send(self, content: bytes, code: int, error: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
