"""What a person reads when something is wrong: one line, whatever a file or a library says."""

from __future__ import annotations

import pytest

from pipeline.errors import LONGEST, EarwitnessError, one_line


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_line_ends_of_what_is_quoted_do_not_end_the_line(end: str) -> None:
    text = str(EarwitnessError(f"x.csv: no column a{end}b; rename it"))
    assert text.splitlines() == [text]
    assert text.startswith("x.csv: no column a ") and text.endswith("b; rename it")


def test_controls_are_shown_and_not_sent_to_the_terminal() -> None:
    """Escape sequences of a file's own text could clear the screen."""
    text = str(EarwitnessError("\x1b[2J\x07 é 狗 \u200b\udcff.wav"))
    assert text == "\\x1b[2J\\x07 é 狗 \u200b\udcff.wav"


def test_a_long_message_keeps_its_ends() -> None:
    text = str(EarwitnessError(f"x.csv: {'[' * 100_000}; correct it"))
    assert text.startswith("x.csv: [[[") and text.endswith("[; correct it")
    assert len(text) < LONGEST + 10


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("a\n  b"), "a b"),
        (RecursionError("too deep"), "too deep"),
        (MemoryError(), "not enough memory"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_what_a_library_raises_becomes_one_line(error: Exception, reason: str) -> None:
    with pytest.raises(EarwitnessError) as raised, one_line("x", "get it again", "broken"):
        raise error
    assert str(raised.value) == f"x: broken ({reason}); get it again"


def test_our_own_errors_and_a_persons_interrupt_pass() -> None:
    with pytest.raises(EarwitnessError, match=r"^own$"), one_line("x"):
        raise EarwitnessError("own")
    with pytest.raises(KeyboardInterrupt), one_line("x"):
        raise KeyboardInterrupt
