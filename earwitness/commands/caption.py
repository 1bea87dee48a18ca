"""Caption sound files: ``earwitness caption``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from earwitness.commands.shared import Quiet, Root, limit_threads, report_failed
from earwitness.commands.systems import Captioner, Seed

if TYPE_CHECKING:
    from earwitness.captions.formats import Format
    from earwitness.captions.records import SoundRecord
    from earwitness.captions.runs import CaptionSummary
    from earwitness.sound_paths import NamedSound


def caption(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help='sound files, folders, patterns ("rec/**/*.wav"), or - for standard input',
        ),
    ],
    system: Captioner = "",
    seed: Seed = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="text, csv, json, jsonl, srt or vtt; if not given, that of --out's ending",
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="write all captions into this file as well")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="write a file a sound into this folder, as deep as the sounds lie"),
    ] = None,
    sidecar: Annotated[
        bool, typer.Option("--sidecar", help="write a file beside each sound: a.wav.srt")
    ] = False,
    candidates: Annotated[
        int, typer.Option(help="so many of the likeliest captions, with their probability", min=1)
    ] = 1,
    windows: Annotated[
        str,
        typer.Option(
            help="none: one caption a sound; fixed: windows of one length; silence: cut where it "
            "is quiet; auto: silence where a sound is longer than a minute"
        ),
    ] = "auto",
    window_seconds: Annotated[float, typer.Option(help="how long a window is, about")] = 10.0,
    hop_seconds: Annotated[
        float | None, typer.Option(help="a fixed window begins so long after the one before")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="caption also what was done before and is unchanged")
    ] = False,
    longest_minutes: Annotated[
        float | None,
        typer.Option(
            help="longer files are left out; if not given, what is longer than 120 where no "
            "windows are cut",
            min=0.0,
        ),
    ] = None,
    quiet: Quiet = False,
    root: Root = None,
) -> None:
    """Caption sounds: files, folders of them, long recordings in windows with their times.

    earwitness caption street.wav recordings/ --out captions.csv

    earwitness caption concert.flac --windows silence --format srt

    earwitness caption "recordings/**/*.ogg" --sidecar --format json --candidates 3

    With --out, --output-dir or --sidecar a second run captions only what is new or changed; what
    was done is in a file that ends in .state.jsonl, beside what is written.
    """
    from earwitness.captioning import CaptioningSystem
    from earwitness.captions.formats import chosen
    from earwitness.captions.recordings import checked
    from earwitness.captions.runs import CaptionOutput, caption_sounds
    from earwitness.sound_paths import named_sounds

    kind = chosen(format_, out)
    checked(windows, window_seconds, hop_seconds)
    with named_sounds(files) as (sounds, problems):
        output = CaptionOutput(kind, out, output_dir, sidecar, candidates)
        output.check(sounds)
        if not sounds:  # before models are loaded
            report_failed(problems)
            return
        limit_threads(system, root)
        captioner = CaptioningSystem.load(system or None, root=root, seed=seed)
        captioner.check_candidates(candidates)
        is_plain = out is not None or output.has_sidecars
        screen = _Screen("text" if is_plain else kind, sounds, candidates)
        summary = caption_sounds(
            captioner,
            sounds,
            output,
            screen.show,
            again=again,
            windows=windows,
            window_seconds=window_seconds,
            hop_seconds=hop_seconds,
            longest_minutes=longest_minutes,
        )
        screen.end()
        summary.failed[:0] = problems
        if not quiet:
            _say(summary, windows)
        report_failed(summary.failed)


class _Screen:
    """Standard output: sound by sound, where the format can be written so."""

    def __init__(self, kind: Format, sounds: list[NamedSound], candidates: int) -> None:
        from earwitness.captions.formats import name_width, table

        self._kind, self._candidates = kind, candidates
        self._width = name_width([sound.name for sound in sounds])
        self._kept: list[SoundRecord] = []
        if kind == "csv":
            self._write("".join(table([], candidates)))

    def show(self, own: SoundRecord) -> None:
        from earwitness.captions.formats import json_line, rows, text
        from earwitness.terminal import styled

        match self._kind:
            case "text":
                self._write(text(own, self._width, self._candidates, styled))
            case "csv":
                self._write("".join(rows(own, self._candidates)))
            case "jsonl":
                self._write(json_line(own, self._candidates))
            case _:
                self._kept.append(own)

    def end(self) -> None:
        from earwitness.captions.formats import document

        if self._kind == "json" or self._kept:
            self._write(document(self._kept, self._kind, self._candidates))

    def _write(self, content: str) -> None:
        """Whole lines, with the progress bar out of their way."""
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stdout):
            sys.stdout.write(content)
            sys.stdout.flush()


def _say(summary: CaptionSummary, windows: str) -> None:
    """How it ended, where there is more than one sound to count."""
    new, failed = len(summary.records) - summary.before, len(summary.failed)
    if len(summary.records) + failed > 1 or summary.before:
        counts = [f"captioned {new}"]
        counts += [f"{summary.before} done before"] if summary.before else []
        counts += [f"failed {failed}"] if failed else []
        print(", ".join(counts), file=sys.stderr)
    cut = sum(own.is_cut for own in summary.records)
    if cut and windows == "auto":
        print(
            f"note: {cut} longer than a minute, captioned in windows; --windows none gives one "
            "caption each",
            file=sys.stderr,
        )
