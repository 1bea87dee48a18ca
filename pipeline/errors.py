"""The one exception, and the one warning, that a person is meant to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 1500  # characters of a message; a longer one loses its middle
REASON = 200  # characters of what a library says
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
CONTROLS |= dict.fromkeys(map(ord, "\t\n\v\f\r\x85\u2028\u2029"), " ")


class EarwitnessError(Exception):
    """Something the user can fix. The message is one line: what, where, and how to fix it.

    Stages and the command line print it as ``error: …`` and exit with 1; everything else is a
    bug and keeps its traceback. What a file says is often part of the message, so that line ends
    and control characters are replaced here, and a message that is too long loses its middle.
    """

    def __init__(self, message: str) -> None:
        line = message.translate(CONTROLS)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
        super().__init__(line)


class NotSoundError(EarwitnessError):
    """A file is not sound, or of a kind that cannot be decoded."""


class TooLongError(EarwitnessError):
    """A sound lasts longer than is read."""


class SyntheticSoundWarning(UserWarning):
    """A system was trained on synthetic sound alone, and does not know any other."""


def reason(error: BaseException) -> str:
    """What an exception of a library says, in a few words."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    return " ".join(str(error).split())[:REASON] or type(error).__name__


@contextmanager
def one_line(
    source: Path | str, hint: str = "", problem: str = "cannot be loaded"
) -> Iterator[None]:
    """Turns a library's error about the files at ``source`` into one line.

    Parsers of foreign formats raise anything at all on a damaged file, so every exception is
    turned: only their calls belong into the block, and what is ours behind it.

    Args:
        hint: what to do about it.
        problem: what could not be done.
    """
    try:
        yield
    except EarwitnessError:
        raise
    except Exception as error:
        end = f"; {hint}" if hint else ""
        raise EarwitnessError(f"{source}: {problem} ({reason(error)}){end}") from None
