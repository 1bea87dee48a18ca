"""``earwitness serve``: what it answers, what it refuses, and that one client does not harm others.

A real uvicorn answers on 127.0.0.1, over a real system with random weights.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import librosa
import numpy as np
import pytest
import soundfile
from serving import FakeIndex, Running, Watched, served, tone
from tiny_repository import make_repository

from earwitness.captioning import CaptioningSystem
from earwitness.serving.desk import Desk, Wanted
from earwitness.serving.limits import Limits
from earwitness.serving.spectrogram import HOP, MELS, RATE, WINDOW, spectrogram
from pipeline.errors import EarwitnessError

FILE = "file"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    (root / "sounds/notes.txt").write_text("root: not sound, and not given out")
    return root


@pytest.fixture(scope="module")
def system(root: Path) -> CaptioningSystem:
    return CaptioningSystem.load("three", root=root, device="cpu")


@pytest.fixture(scope="module")
def index(root: Path) -> FakeIndex:
    return FakeIndex(root / "sounds")


@pytest.fixture(scope="module")
def server(system: CaptioningSystem, index: FakeIndex) -> Iterator[Running]:
    with served(system, index, Limits(upload_bytes=2 << 20, longest_minutes=0.5)) as running:
        yield running


def post(url: str, content: bytes, name: str = "a.wav", **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/caption", files={FILE: (name, content)}, timeout=60, **more)


def refused(answer: httpx.Response, status: int, words: str) -> None:
    """One clear line, in JSON, with no path of this machine."""
    assert answer.status_code == status, answer.text
    (error,) = answer.json().values()
    assert answer.json() == {"error": error} and "\n" not in error
    assert words in error and "/tmp" not in error and "earwitness-serve" not in error


# ---- what it answers


def test_a_caption_is_the_systems_own(
    server: Running, system: CaptioningSystem, root: Path
) -> None:
    path = root / "sounds/1.wav"
    (own,) = system.caption([path])
    answer = post(server.url, path.read_bytes(), params={"candidates": 2}).json()
    assert answer["text"] == own.text and answer["unsure"] is own.unsure
    assert answer["log_prob"] == pytest.approx(own.log_prob, abs=1e-4)
    assert answer["probability"] == pytest.approx(np.exp(own.log_prob), rel=1e-3)
    assert [each["text"] for each in answer["candidates"]] == [t for t, _ in own.candidates[:2]]
    assert answer["seconds"] == soundfile.info(path).duration == 2.3
    assert answer["spectrogram"] is None and answer["attention"] is None
    for kind in ("FLAC", "OGG", "MP3"):
        assert post(server.url, tone(1, kind=kind), "a.txt").json()["seconds"] == pytest.approx(
            1, abs=0.1
        )


def test_details(server: Running, root: Path) -> None:
    content = (root / "sounds/1.wav").read_bytes()
    answer = post(server.url, content, params={"details": True}).json()
    drawn = answer["spectrogram"]
    levels = np.frombuffer(base64.b64decode(drawn["levels"]), np.uint8)
    assert levels.size == drawn["columns"] * drawn["mels"] and levels.max() == 255
    rows = np.array(answer["attention"]["weights"])
    assert answer["attention"]["words"] == answer["text"].split() and len(rows) > 1
    assert rows.sum(1) == pytest.approx(1, abs=0.01)
    assert [hit["name"] for hit in answer["similar"]] == [f"{n}.wav" for n in range(5)]
    sound = httpx.get(f"{server.url}{answer['similar'][1]['url']}")
    assert sound.content == content and sound.headers["content-type"].startswith("audio/")


def test_the_spectrogram_is_librosas(root: Path) -> None:
    path = root / "sounds/1.wav"
    samples, _ = librosa.load(path, sr=RATE)
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS, center=False
    )
    decibels = librosa.power_to_db(power, ref=np.max, top_db=80)
    found = spectrogram(path, 60)
    assert np.abs(found / 255 * 80 - 80 - decibels.T).max() < 0.5


def test_a_long_or_silent_sound_has_a_spectrogram(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.r_[np.zeros(8000 * 60), np.ones(8000 * 60)], 8000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(10), 16000)
    levels = spectrogram(tmp_path / "long.wav", 1000)
    assert 400 < len(levels) <= 480 and not levels[: len(levels) // 2 - 2].any()
    assert levels[-1].max() > 200
    assert not spectrogram(tmp_path / "silent.wav", 1000).any()


def test_search(server: Running, index: FakeIndex) -> None:
    query = {"q": " a dog ", "without": ["music", " "], "top": 2, "moments": True}
    hits = httpx.get(f"{server.url}/search", params=query).json()["hits"]
    assert index.asked[-1] == {
        "text": "a dog", "like": None, "without": ("music",), "moments": True
    }  # fmt: skip
    assert [(hit["name"], hit["score"], hit["start"], hit["end"]) for hit in hits] == [
        ("0.wav", 1.0, 0.25, 0.75), ("1.wav", 0.9, 0.25, 0.75)
    ]  # fmt: skip
    form = {"q": "rain", "without": ["wind"], "top": "1"}
    like = httpx.post(f"{server.url}/search", data=form, files={FILE: ("x", tone(1.5))})
    assert [hit["name"] for hit in like.json()["hits"]] == ["0.wav"]
    assert index.asked[-1] == {
        "text": "rain", "like": 1.5, "without": ("wind",), "moments": False
    }  # fmt: skip
    part = httpx.get(f"{server.url}{hits[1]['url']}", headers={"range": "bytes=0-3"})
    assert part.status_code == 206 and part.content == b"RIFF"


def test_health_and_the_page(server: Running, index: FakeIndex) -> None:
    health = httpx.get(f"{server.url}/healthz").json()
    assert health["status"] == "ok" and health["system"] == "toy" and health["busy"] == 0
    assert health["moments"] is True
    assert health["indexed"] == len(index.paths) and health["upload_bytes"] == 2 << 20
    page = httpx.get(server.url)
    assert page.status_code == 200 and "<h1>earwitness</h1>" in page.text
    for name in ("style.css", "main.js", "draw.js", "record.js", "samples.js", "icon.svg"):
        assert httpx.get(f"{server.url}/{name}").status_code == 200


def test_openapi_says_what_is_answered(server: Running) -> None:
    described = httpx.get(f"{server.url}/openapi.json").json()
    assert {*described["paths"]} == {"/caption", "/search", "/healthz", "/audio/{number}"}
    caption = described["paths"]["/caption"]["post"]
    assert {"200", "413", "415", "422", "503", "504"} <= {*caption["responses"]}
    assert "multipart/form-data" in caption["requestBody"]["content"]
    fields = described["components"]["schemas"]["CaptionAnswer"]["properties"]
    assert {*fields} == {*post(server.url, tone(1)).json()}
    for status in ("415", "422"):
        (kind,) = caption["responses"][status]["content"].values()
        assert kind["schema"]["$ref"].endswith("/ErrorAnswer")
    assert (
        httpx.get(f"{server.url}/docs").status_code == 404
    )  # it would load another host's scripts


# ---- many at once


def test_fifty_at_once_are_captioned_in_batches(system: CaptioningSystem, tmp_path: Path) -> None:
    contents = [tone(0.4 + 0.03 * n, 200 + 40 * n) for n in range(50)]
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"{number}.wav")
        paths[-1].write_bytes(content)
    own = [system.caption([path])[0] for path in paths]

    async def ask(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            files = [{FILE: ("a.wav", content)} for content in contents]
            files[7] = {FILE: ("a.wav", b"no sound")}
            jobs = [client.post(f"{url}/caption", files=each) for each in files]
            return await asyncio.gather(*jobs)

    watched = Watched(system)
    with served(watched) as running:
        answers = asyncio.run(ask(running.url))
    refused(answers.pop(7), 415, "a.wav: not sound")
    del own[7]
    assert [answer.json()["text"] for answer in answers] == [caption.text for caption in own]
    assert len({caption.text for caption in own}) > 2
    for answer, caption in zip(answers, own, strict=True):
        assert answer.json()["log_prob"] == pytest.approx(caption.log_prob, abs=1e-3)
    assert sum(watched.calls) == 49 and max(watched.calls) > 4 and len(watched.calls) < 25


def test_a_bad_sound_does_not_fail_its_neighbours(system: CaptioningSystem, root: Path) -> None:
    """One that was good when it was looked at, and is gone when its batch is captioned."""
    desk = Desk(system, None, Limits())
    files = [root / "sounds/0.wav", root / "gone.wav", root / "sounds/2.wav"]
    first, gone, third = desk._captioned([Wanted(path, False) for path in files])
    own = system.caption([files[0], files[2]])
    assert isinstance(gone, EarwitnessError) and "gone.wav: not there" in str(gone)
    assert [each.caption.text for each in (first, third)] == [each.text for each in own]  # type: ignore[union-attr]


def test_more_than_the_queue_takes_are_told_to_come_again(system: CaptioningSystem) -> None:
    with served(Watched(system, 0.5), limits=Limits(queue=2, batch=1)) as running:

        async def ask() -> list[httpx.Response]:
            async with httpx.AsyncClient(timeout=60) as client:
                jobs = [
                    client.post(f"{running.url}/caption", files={FILE: ("a", tone(1))})
                    for _ in range(6)
                ]
                return await asyncio.gather(*jobs)

        answers = asyncio.run(ask())
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * 4
        for answer in answers:
            if answer.status_code == 503:
                refused(answer, 503, "try again")
                assert answer.headers["retry-after"] == "1"
        assert post(running.url, tone(1)).status_code == 200
        assert httpx.get(running.url).status_code == 200


def test_what_takes_too_long_is_ended(system: CaptioningSystem) -> None:
    watched = Watched(system, 1.5)
    with served(watched, limits=Limits(timeout=0.5)) as running:
        refused(post(running.url, tone(1)), 504, "took more than 0.5 s")
        watched.seconds = 0
        time.sleep(1.2)
        assert post(running.url, tone(1)).status_code == 200


def test_a_bug_is_one_line_and_its_traceback_is_on_the_terminal(
    system: CaptioningSystem, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Watched):
        def caption(self, sounds: Any, **settings: Any) -> Any:
            raise RuntimeError("a bug of the models")

    with served(Broken(system)) as running:
        refused(post(running.url, tone(1)), 500, "a bug; the server's terminal says more")
        assert httpx.get(f"{running.url}/healthz").json()["busy"] == 0
    assert "RuntimeError: a bug of the models" in capfd.readouterr().err


# ---- wrong sounds


def cut_wav() -> bytes:
    return tone(2)[:30_000]


def long_silence() -> bytes:
    """Ten hours in some kilobytes."""
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", 1000, 1, format="FLAC") as file:
        for _ in range(36):
            file.write(np.zeros(1_000_000, np.int16))
    assert len(stream.getvalue()) < 1 << 20
    return stream.getvalue()


def not_finite() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.full(8000, np.nan), 8000, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def damaged_flac() -> bytes:
    content = bytearray(tone(5, kind="FLAC"))
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    return bytes(content)


WRONG = {
    "text": (lambda: b"hello, I am a text\n" * 50, 415, "not sound that can be decoded"),
    "html": (lambda: b"<script>alert(1)</script>", 415, "not sound that can be decoded"),
    "png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(500), 415, "not sound that can be decoded"),
    "webm": (lambda: b"\x1a\x45\xdf\xa3" + bytes(500), 415, "not sound that can be decoded"),
    "empty": (lambda: b"", 422, "empty file (0 bytes)"),
    "zero": (lambda: b"\0", 415, "not sound"),
    "cut": (cut_wav, 422, "truncated WAV"),
    "damaged": (damaged_flac, 422, "damaged"),
    "no samples": (lambda: tone(0), 422, "no samples"),
    "not finite": (not_finite, 422, "NaN"),
    "ten hours": (long_silence, 413, "600.0 minutes long; at most 0.5 are read"),
    "too long": (lambda: tone(31, rate=8000), 413, "0.5 minutes long"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_sound_is_refused(server: Running, kind: str) -> None:
    content, status, words = WRONG[kind]
    answer = post(server.url, content(), "../x/sound.wav")
    refused(answer, status, words)
    assert "sound.wav" in answer.text and "x/sound.wav" not in answer.text
    files = {FILE: ("sound.wav", content())}
    refused(httpx.post(f"{server.url}/search", files=files), status, words)
    assert not list(server.uploads.iterdir())


def test_a_wrong_request_is_refused(server: Running, system: CaptioningSystem) -> None:
    url, kind = server.url, {"content-type": "multipart/form-data; boundary=x"}
    refused(httpx.post(f"{url}/caption", json={"a": 1}), 422, "file: field required")
    refused(httpx.post(f"{url}/caption", data={FILE: "text"}), 422, "file: ")
    refused(
        httpx.post(f"{url}/caption", content=b"--x\r\nno header\r\n\r\n", headers=kind),
        400,
        "form is broken",
    )
    refused(post(url, tone(1), params={"candidates": -1}), 422, "candidates: ")
    refused(httpx.get(f"{url}/search"), 422, "q: field required")
    refused(httpx.get(f"{url}/search", params={"q": " "}), 422, "q: empty")
    refused(httpx.get(f"{url}/search", params={"q": "a", "top": 0}), 422, "top: ")
    refused(httpx.get(f"{url}/search", params={"q": "a" * 2000}), 422, "q: ")
    refused(httpx.get(f"{url}/nothing"), 404, "openapi.json")
    refused(httpx.delete(f"{url}/caption"), 405, "DELETE is not answered")
    with served(system) as running:
        for answer in (
            httpx.get(f"{running.url}/search", params={"q": "a"}),
            httpx.post(f"{running.url}/search", files={FILE: ("a", tone(1))}),
        ):
            refused(answer, 404, "--index")
        refused(httpx.get(f"{running.url}/audio/0"), 404, "no such sound")


# ---- other pages, names and paths


def raw(host: tuple[str, int], target: str, **headers: str) -> tuple[int, bytes]:
    """A request whose target is sent as it is."""
    connection = http.client.HTTPConnection(*host, timeout=20)
    connection.putrequest("GET", target, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


NUMBERS = (
    "..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
    "%2fetc%2fpasswd", "0%00", "0/../1", "-1", "+1", "1e0", "%D9%A1", "0.wav", "%20" + "0", "999",
    "9" * 400, "", "notes.txt", "..%5c..%5cetc", "%c0%ae%c0%ae/etc/passwd",
)  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_only_numbers_of_the_index_lead_to_files(server: Running, number: str) -> None:
    for target in (f"/audio/{number}", f"/{number}", f"/style.css/{number}"):
        status, body = raw(server.host, target)
        if target == "/":
            continue
        assert status == 404 and b"root:" not in body, (target, body)
        assert [*json.loads(body)] == ["error"]


def test_an_indexed_file_that_is_no_sound_is_not_given_out(
    server: Running, index: FakeIndex, root: Path
) -> None:
    number = [path.name for path in index.paths].index("notes.txt")
    assert raw(server.host, f"/audio/{number}")[0] == 404
    assert raw(server.host, "/audio/1")[1] == (root / "sounds/1.wav").read_bytes()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/cron.d/x.wav", "x.wav"),
        ("/etc/passwd", "passwd"),
        ("C:\\sounds\\dog.wav", "dog.wav"),
        ("a\0b.wav", "a\\x00b.wav"),
        ("..", ".."),
        ("línea\u202e.wav", "línea\\u202e.wav"),
        ("a" * 2000, "a" * 120),
    ],
)
def test_a_name_is_only_shown(server: Running, name: str, shown: str) -> None:
    """Sent as it is: httpx would change some."""
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.replace("\\", "\\\\").encode() + tone(1) + b"\r\n--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{server.url}/caption", content=body, headers=headers, timeout=30)
    assert answer.status_code == 200 and answer.json()["file"] == shown
    assert not list(server.uploads.iterdir())


def test_other_pages_cannot_use_it(server: Running) -> None:
    port = server.host[1]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "",
        "[::1",
        "a b",
    ):
        status, body = raw(server.host, "/healthz", Host=host)
        assert status == 400 and [*json.loads(body)] == ["error"], host
    for host in ("localhost", f"localhost:{port}", "app.localhost", "127.0.0.1", "[::1]:80"):
        assert raw(server.host, "/healthz", Host=host)[0] == 200, host
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
        answer = post(server.url, tone(1), headers={"origin": origin})
        refused(answer, 403, "requests of pages")
    own = post(server.url, tone(1), headers={"origin": server.url})
    assert own.status_code == 200
    for answer in (own, httpx.get(server.url), httpx.get(f"{server.url}/nothing")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


# ---- sizes and slow clients


HEAD = (
    "POST /caption HTTP/1.1\r\nHost: localhost\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\n{}\r\n\r\n"
)
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def pour(host: tuple[str, int], head: str, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Sends until it is answered, as curl does; the bytes that the server took, and its answer."""
    sent = 0
    with socket.create_connection(host, timeout=20) as client:
        client.sendall(head.encode())
        client.setblocking(False)
        left = memoryview(b"")
        while not select.select([client], [client], [])[0]:
            left = left or memoryview(next(pieces))
            taken = client.send(left)
            left, sent = left[taken:], sent + taken
        client.settimeout(20)
        answer = rest(client)
    return sent, answer


def rest(client: socket.socket) -> bytes:
    """What is still to come."""
    answer = b""
    with suppress(ConnectionResetError):  # of what was sent and not taken
        while more := client.recv(65536):
            answer += more
    return answer


def test_two_gigabytes_are_refused_and_not_read(server: Running) -> None:
    megabyte = bytes(1 << 20)
    start = time.monotonic()
    declared = HEAD.format(f"Content-Length: {2 << 30}")
    sent, answer = pour(server.host, declared, (megabyte for _ in range(2048)))
    assert answer.startswith(b"HTTP/1.1 413 ") and b"more than the 2 MB" in answer
    assert sent < 32 << 20  # what the kernel holds
    # without a length: read to the limit
    chunked = HEAD.format("Transfer-Encoding: chunked")
    chunk = b"1000\r\n%b\r\n" % bytes(0x1000)
    pieces = iter([b"%x\r\n%b\r\n" % (len(PART), PART)] + [chunk] * (1 << 19))
    sent, answer = pour(server.host, chunked, pieces)
    assert answer.startswith(b"HTTP/1.1 413 ") and sent < 32 << 20
    # a length that is wrong
    short = HEAD.format(f"Content-Length: {len(PART)}")
    sent, answer = pour(server.host, short, iter([PART] + [megabyte] * 2047))
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 422 ")) and sent < 32 << 20
    for length in ("-1", "x", "1, 2"):
        _, answer = pour(server.host, HEAD.format(f"Content-Length: {length}"), repeat(b"a"))
        assert answer.startswith(b"HTTP/1.1 400 ") and b'"error"' in answer
    assert time.monotonic() - start < 30
    assert post(server.url, tone(1)).status_code == 200


def test_what_is_not_http_is_answered_too(
    server: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (1 << 20)
    for sent in (
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\r\n\r\n",
        long,
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(server.host, timeout=20) as client:
            with suppress(ConnectionError):
                client.sendall(sent)
            answer = rest(client)
        assert answer.startswith(b"HTTP/1.1 400 "), sent[:40]
        assert [*json.loads(answer.split(b"\r\n\r\n")[1])] == ["error"]
    assert capfd.readouterr().err == ""


def test_clients_that_hang_are_let_go(
    system: CaptioningSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("earwitness.serving.connection.Connection.pause", 0.7)
    head = HEAD.format("Content-Length: 100000").encode()
    starts = (b"", b"GET / HT", head[:-2], head, head + PART)
    with served(system, limits=Limits(pause=0.7, queue=8)) as running:
        clients = [socket.create_connection(running.host, timeout=10) for _ in starts]
        start = time.monotonic()
        for client, sent in zip(clients, starts, strict=True):
            client.sendall(sent)
        assert post(running.url, tone(1)).status_code == 200  # meanwhile
        answers = [rest(client) for client in clients]
        assert time.monotonic() - start < 8
        assert answers[:3] == [b""] * 3
        for answer in answers[3:]:
            assert answer.startswith(b"HTTP/1.1 408 ") and b"nothing came for 0.7 s" in answer
        for client in clients:
            client.close()
        assert httpx.get(f"{running.url}/healthz").json()["busy"] == 0


def test_a_client_that_sends_slowly_is_ended_too(system: CaptioningSystem) -> None:
    with served(system, limits=Limits(timeout=1.0)) as running:
        head = HEAD.format("Content-Length: 100000").encode() + PART
        with socket.create_connection(running.host, timeout=10) as client:
            client.sendall(head)
            client.settimeout(0.1)
            answer = b""
            for _ in range(60):
                try:
                    client.sendall(b"a")
                    answer = client.recv(1)
                    client.settimeout(10)
                    answer += rest(client)
                    break
                except TimeoutError:
                    continue
        assert answer.startswith(b"HTTP/1.1 408 ") and b"took more than 1 s" in answer


def test_who_leaves_is_not_waited_for(system: CaptioningSystem) -> None:
    with served(system) as running:
        for stop in (0, len(PART) // 2, len(PART) + 5000):
            body = PART + tone(1) + b"\r\n--x--\r\n"
            with socket.create_connection(running.host) as client:
                client.sendall(HEAD.format(f"Content-Length: {len(body)}").encode() + body[:stop])
        assert post(running.url, tone(1)).status_code == 200
        until = time.monotonic() + 10
        while httpx.get(f"{running.url}/healthz").json()["busy"] and time.monotonic() < until:
            time.sleep(0.05)
        assert not list(running.uploads.iterdir())
