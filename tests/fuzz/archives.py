"""Harm that knows the format: zip, 7z, and the answers of HTTP servers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from random import Random

from tests.fuzz.harm import BYTES, file_change

LINK = 0xA1FF << 16  # the mode of a link, in a zip's attributes


def zip_changed(draw: Random, path: Path, outside: Path) -> None:
    """Members that leave the folder, are links, encrypted, repeated or far larger unpacked."""
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    number = draw.randrange(len(members))
    info, content = members[number]
    match draw.randrange(6):
        case 0:
            info.filename = draw.choice(
                ("../outside/x", "/x", "a\0b", "x" * 5000, "", info.filename)
            )
        case 1:
            info.external_attr, content = LINK, str(outside / "canary.json").encode()
        case 2:
            info.compress_type, content = zipfile.ZIP_DEFLATED, bytes(300_000_000)
        case 3:
            members.append((info, content))
        case 4:
            members.pop()
    members[number : number + 1] = [(info, content)] if number < len(members) else []
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members:
            archive.writestr(info, content)
    if draw.random() < 0.2:  # the bit that says a member is encrypted
        data = bytearray(path.read_bytes())
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            if (found := data.find(mark)) >= 0:
                data[found + at] |= 1
        path.write_bytes(bytes(data))


def seven_zip_changed(draw: Random, path: Path, outside: Path) -> None:
    """Another 7z: encrypted, of links, a bomb, with names too long or out of its folder."""
    import py7zr

    folder = path.parent / "new"
    folder.mkdir()
    (folder / "a.wav").write_bytes(draw.randbytes(200))
    password = "secret" if (what := draw.randrange(8)) in (0, 1) else None
    with py7zr.SevenZipFile(path, "w", password=password, header_encryption=what == 1) as archive:
        match what:
            case 2:
                (folder / "a.wav").unlink()
                target = draw.choice((str(outside / "canary.wav"), "../../outside", "a.wav"))
                (folder / "a.wav").symlink_to(target)
                archive.writeall(folder, "sound")
            case 3:
                archive.writestr(bytes(250_000_000), "sound/zeros.wav")
            case 4:
                archive.writestr(b"x", "sound")
            case 5:
                archive.writestr(b"x", "sound/" + "n" * draw.choice((256, 5000)))
            case 6:
                archive.writestr(b"x", "sound/b")
                archive.writestr(b"y", "sound/b/c")
            case _:
                archive.writeall(folder, "sound")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    if what == 7:  # a name of the same length that leaves the folder; its checksum is then wrong
        data = path.read_bytes()
        path.write_bytes(data.replace("sound".encode("utf-16-le"), "../..".encode("utf-16-le")))


def http_changed(draw: Random, data: bytes, outside: Path) -> bytes:
    """A server that lies about what it sends."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next((i for i, line in enumerate(lines) if line.startswith(b"Content-Length")), None)
    lies = ("x", "-5", "1.5", "9" * 30, str(len(body) + 9), str(len(body) - 9), "", "0", "1, 2")
    match draw.randrange(8):
        case 0 | 1 if length is not None:
            lines[length] = b"Content-Length: " + draw.choice(lies).encode()
        case 2 if length is not None:
            del lines[length]
        case 3:
            lines[0] = draw.choice(
                (
                    *(b"HTTP/1.1 206 Partial Content", b"HTTP/1.1 301 Moved\r\nLocation: /again"),
                    *(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd", b"HTTP/1.1 999 x"),
                    *(b"HTTP/1.1 416 x", b"HTTP/1.1 204 None", b"HTTP/9.9 200 OK", b"200", b"\0"),
                    *(b"HTTP/1.1 301 Moved\r\nLocation: http://[", b"HTTP/1.1 xxx OK"),
                )
            )
        case 4:
            sizes = (b"5\r\nabcde\r\n0\r\n\r\n", b"zz\r\nabc", b"-1\r\nabc", b"f" * 40 + b"\r\nabc")
            lines += [b"Transfer-Encoding: chunked"]
            body = draw.choice(sizes)
        case 5:
            lines += [
                draw.choice(
                    (b"Content-Range: bytes x", b"Content-Range: bytes 5-", b"X: " * 30_000)
                )
            ] * draw.choice((1, 200))
        case 6:
            body = b"<html>not the file</html>"
            lines = [lines[0], b"Content-Length: %d" % len(body)]
        case _:
            body = draw.choice((body[:10], body + b"more", b"", body[::-1]))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


ZIP = (*BYTES * 2, *(zip_changed,) * 2)
SEVEN_ZIP = (*BYTES * 3, seven_zip_changed)
HTTP = (*BYTES, *(file_change(http_changed),) * 4)
