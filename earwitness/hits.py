"""What a search found, as text, JSON, JSON lines, CSV or a playlist."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from earwitness.index.opened import Hit
from pipeline.errors import EarwitnessError
from pipeline.files import is_unicode, writable

ENDINGS = {
    ".txt": "text", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".m3u": "m3u",
    ".m3u8": "m3u",
}  # fmt: skip
FORMATS = ("text", "json", "jsonl", "csv", "m3u")
Naming = Callable[[Path], str]


def format_of(wanted: str, out: Path | None) -> str:
    """The format that is asked for; else that of a file's ending, CSV where it says nothing.

    Raises:
        EarwitnessError: there is no such format.
    """
    if wanted and wanted not in FORMATS:
        raise EarwitnessError(f"no format '{wanted}'; give {', '.join(FORMATS)}")
    if wanted or out is None:
        return wanted or "text"
    return ENDINGS.get(out.suffix.lower(), "csv")


def written(hits: Sequence[Hit], form: str, name: Naming, out: Path | None = None) -> str:
    """The hits in one of :data:`FORMATS`, with a line end behind the last.

    Args:
        name: how a file is called, but in a playlist.
        out: where this is going to be, which a playlist's paths are relative to.
    """
    match form:
        case "json":
            rows = [_row(hit, name) for hit in hits]
            return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
        case "jsonl":
            lines = [json.dumps(_row(hit, name), ensure_ascii=False) for hit in hits]
        case "csv":
            return _table(hits, name)
        case "m3u":
            lines = _playlist(hits, out)
        case _:
            lines = [_line(hit, name) for hit in hits]
    return "".join(f"{line}\n" for line in lines)


def _line(hit: Hit, name: Naming) -> str:
    span = "" if hit.start is None else f"  {clock(hit.start)}–{clock(hit.end or 0.0)}"
    return f"{hit.score:6.3f}{span}  {writable(name(hit.path))}"


def clock(seconds: float) -> str:
    """``1:02:03.5``, or ``2:03.5`` below an hour."""
    whole, tenth = divmod(round(seconds * 10), 10)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{front}:{rest:02}.{tenth}"


def _row(hit: Hit, name: Naming) -> dict[str, str | float]:
    row: dict[str, str | float] = {
        "file": writable(name(hit.path)),
        "score": round(hit.score, 6),
    }
    if hit.start is not None and hit.end is not None:
        row |= {"start": hit.start, "end": hit.end}
    return row


def _table(hits: Sequence[Hit], name: Naming) -> str:
    spans = any(hit.start is not None for hit in hits)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("file", "score", *(("start", "end") if spans else ())))
    for hit in hits:
        span = (f"{hit.start:.2f}", f"{hit.end:.2f}") if hit.start is not None else ()
        writer.writerow((writable(name(hit.path)), f"{hit.score:.6f}", *span))
    return text.getvalue()


def _playlist(hits: Sequence[Hit], out: Path | None) -> list[str]:
    """Extended M3U; a moment is played by VLC's options, and other players play the whole file."""
    lines = ["#EXTM3U"]
    for hit in hits:
        title = " ".join(writable(hit.path.name).split())
        if hit.start is None or hit.end is None:
            lines.append(f"#EXTINF:{max(1, round(hit.duration))},{title}")
        else:
            span = f"{clock(hit.start)}–{clock(hit.end)}"
            lines.append(f"#EXTINF:{max(1, round(hit.end - hit.start))},{title} {span}")
            lines.append(f"#EXTVLCOPT:start-time={hit.start:g}")
            lines.append(f"#EXTVLCOPT:stop-time={hit.end:g}")
        lines.append(_entry(hit.path, out))
    return lines


def _entry(path: Path, out: Path | None) -> str:
    """A playlist's line of a file: relative where it lies below the playlist's folder, so that both
    can be moved, else absolute; a URI where a line cannot hold the name.
    """
    whole = Path(os.path.normpath(path))
    text = str(whole)
    if not (text.isprintable() and is_unicode(text)) or text != text.strip():
        return whole.as_uri()
    folder = None if out is None else out.parent.resolve()
    if folder is None or not whole.is_relative_to(folder):
        return text
    name = str(whole.relative_to(folder))
    return f"./{name}" if name.startswith("#") or ":" in name.split("/")[0] else name
