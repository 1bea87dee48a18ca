"""A real browser for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def started(*arguments: str) -> Iterator[Any]:
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=[*arguments, "--no-sandbox"]
        )
        yield chromium
        chromium.close()


@contextmanager
def watched(browser: Any, size: Any, scheme: str, *addresses: str) -> Iterator[Any]:
    """An empty page; at the end what was opened in it must have had no error and asked for no
    address but those that begin as ``addresses``, ``blob:`` and ``data:``."""
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda said: problems.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on(
        "request",
        lambda request: None if request.url.startswith((*addresses, "blob:", "data:"))
        else problems.append(request.url),
    )  # fmt: skip
    yield page
    context.close()
    assert not problems, problems


def until(page: Any, true: str, seconds: int = 10) -> None:
    """Waits; Playwright's own way to ask again needs ``eval``, which the pages' policies forbid."""
    for _ in range(40 * seconds):
        if page.evaluate(true):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"still not: {true}")
