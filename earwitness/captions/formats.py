"""Captions of sound files as text, CSV, JSON, JSON lines, SRT and WebVTT."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from earwitness.captions.records import SoundRecord, WindowRecord, as_json
from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError
from pipeline.files import shown

Format = Literal["text", "csv", "json", "jsonl", "srt", "vtt"]
ENDINGS = {
    "text": "txt",
    "csv": "csv",
    "json": "json",
    "jsonl": "jsonl",
    "srt": "srt",
    "vtt": "vtt",
}
OF_ONE_SOUND = ("srt", "vtt")
MARKS = {True: "yes", False: "no", None: ""}
WIDEST = 60  # of the column of names
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is run by spreadsheets

Style = Callable[[str, str], str]  # text, and what it is: name, time, unsure or number


def plain(text: str, kind: str) -> str:
    return text


def chosen(name: str, out: Path | None) -> Format:
    """The format of that name; where it is not given, that of a file's ending, else text.

    Raises:
        EarwitnessError: there is none of that name.
    """
    if name:
        if name not in (known := get_args(Format)):
            hint = nearest(name, known)
            raise EarwitnessError(f"format: no '{name}'{hint}; give {', '.join(known)}")
        return name  # type: ignore[return-value]
    if out is None:
        return "text"
    endings = {f".{ending}": kind for kind, ending in ENDINGS.items()}
    return endings.get(out.suffix.lower(), "csv")  # type: ignore[return-value]


def document(sounds: Sequence[SoundRecord], kind: Format, candidates: int) -> str:
    """All of a file.

    Args:
        sounds: of SRT and WebVTT, one.
        candidates: so many hypotheses a window, at most.
    """
    match kind:
        case "csv":
            return "".join(table(sounds, candidates))
        case "json":
            found = [as_json(sound, candidates) for sound in sounds]
            return json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        case "jsonl":
            return "".join(json_line(sound, candidates) for sound in sounds)
        case "srt":
            return "".join(_srt(sound) for sound in sounds)
        case "vtt":
            return "WEBVTT\n" + "".join(_vtt(sound) for sound in sounds)
    width = name_width([sound.file for sound in sounds])
    return "".join(text(sound, width, candidates) for sound in sounds)


def sidecar(sound: SoundRecord, kind: Format, candidates: int) -> str:
    """All of a file that lies beside its sound: text has no name, and JSON no list."""
    match kind:
        case "text":
            lines = text(sound, 0, candidates).splitlines(keepends=True)
            return "".join([lines[0].removeprefix(shown(sound.file)).lstrip(), *lines[1:]])
        case "json":
            return json.dumps(as_json(sound, candidates), indent=2, ensure_ascii=False) + "\n"
    return document([sound], kind, candidates)


def json_line(sound: SoundRecord, candidates: int) -> str:
    return json.dumps(as_json(sound, candidates), ensure_ascii=False) + "\n"


def name_width(files: Sequence[str]) -> int:
    return min(WIDEST, max((len(shown(file)) for file in files), default=0))


def text(sound: SoundRecord, width: int, candidates: int, style: Style = plain) -> str:
    """A line a sound; below it its windows, and other hypotheses, each indented."""
    name = shown(sound.file)
    lines = [f"{style(name, 'name')}{' ' * (width - len(name))}  {sound.caption}"]
    if sound.is_cut:
        for own in sound.windows:
            times = f"{clock(own.start, '.')[:-2]} - {clock(own.end, '.')[:-2]}"
            lines.append(f"  {style(times, 'time')}  {own.candidates[0].caption}")
            lines[-1] += _unsure(own, style)
            lines += _others(own, candidates, style)
    else:
        lines[0] += _unsure(sound.windows[0], style)
        lines += _others(sound.windows[0], candidates, style)
    return "".join(f"{line}\n" for line in lines)


def _unsure(window: WindowRecord, style: Style) -> str:
    return f"  {style('(unsure)', 'unsure')}" if window.unsure else ""


def _others(window: WindowRecord, candidates: int, style: Style) -> Iterator[str]:
    """All hypotheses, the best too, with the share and the log-probability of each."""
    if candidates > 1:
        for each in window.candidates[:candidates]:
            numbers = f"{each.share:6.1%} {each.log_prob:8.2f}"
            yield f"    {style(numbers, 'number')}  {each.caption}"


def table(sounds: Sequence[SoundRecord], candidates: int) -> Iterator[str]:
    """CSV, line by line: a row a sound, whose ``window`` is empty, and one each of its windows."""
    columns = ["file", "caption", "unsure", "window", "start", "end", "log_prob"]
    if candidates > 1:
        columns.append("share")
        for number in range(2, candidates + 1):
            columns += [f"{name}_{number}" for name in ("candidate", "log_prob", "share")]
    yield _row(columns)
    for sound in sounds:
        yield from rows(sound, candidates)


def rows(sound: SoundRecord, candidates: int) -> Iterator[str]:
    name = _path_cell(sound.file)
    if not sound.is_cut:
        own = sound.windows[0]
        numbers = _numbers(own, candidates)
        yield _row([name, _cell(sound.caption), MARKS[own.unsure], "", 0, sound.seconds, *numbers])
        return
    empty = [""] * len(_numbers(sound.windows[0], candidates))
    yield _row([name, _cell(sound.caption), "", "", 0, sound.seconds, *empty])
    for at, own in enumerate(sound.windows, 1):
        caption = _cell(own.candidates[0].caption)
        numbers = _numbers(own, candidates)
        yield _row([name, caption, MARKS[own.unsure], at, own.start, own.end, *numbers])


def _numbers(window: WindowRecord, candidates: int) -> list[object]:
    best = window.candidates[0]
    if candidates == 1:
        return [best.log_prob]
    cells: list[object] = [best.log_prob, best.share]
    for number in range(1, candidates):
        others = window.candidates[number : number + 1]
        own = [[_cell(each.caption), each.log_prob, each.share] for each in others]
        cells += own[0] if own else ["", "", ""]
    return cells


def _row(cells: Sequence[object]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(cells)
    return stream.getvalue()


def _path_cell(file: str) -> str:
    """A name that a spreadsheet takes for text, and that is still the file's."""
    return f"./{file}" if file != "-" and file.startswith(FORMULA) else file


def _cell(caption: str) -> str:
    """A caption that a spreadsheet takes for text."""
    return f"'{caption}" if caption.startswith(FORMULA) else caption


def _srt(sound: SoundRecord) -> str:
    cues = (
        f"{number}\n{clock(own.start, ',')} --> {clock(end, ',')}\n{_cue(own)}\n\n"
        for number, (own, end) in enumerate(_timed(sound), 1)
    )
    return "".join(cues)


def _vtt(sound: SoundRecord) -> str:
    escapes = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "".join(
        f"\n{clock(own.start, '.')} --> {clock(end, '.')}\n{_cue(own).translate(escapes)}\n"
        for own, end in _timed(sound)
    )


def _timed(sound: SoundRecord) -> Iterator[tuple[WindowRecord, float]]:
    """Each window, and when it ends: a cue without any length is not shown."""
    return ((own, max(own.end, own.start + 0.001)) for own in sound.windows)


def _cue(window: WindowRecord) -> str:
    """One line, which is never empty, as an empty one ends a cue."""
    return window.candidates[0].caption.replace("-->", "→") or "…"


def clock(seconds: float, point: str) -> str:
    """``01:02:03,450``, as subtitles have it."""
    total = round(seconds * 1000)
    minutes, rest = divmod(total, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
