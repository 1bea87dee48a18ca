"""The page of ``earwitness serve`` in a real browser: Chromium, without a window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import browsers
import numpy as np
import pytest
from browsers import CHROMIUM, DESKTOP, PHONE, started, watched
from serving import FakeIndex, Running, Watched, served, tone
from tiny_repository import make_repository

from earwitness.captioning import CaptioningSystem
from earwitness.serving.limits import Limits

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")

until = partial(browsers.until, seconds=20)
DROP = """([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(
      new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    make_repository(root)
    return root


@pytest.fixture(scope="module")
def system(root: Path) -> CaptioningSystem:
    return CaptioningSystem.load("three", root=root, device="cpu")


@pytest.fixture(scope="module")
def server(system: CaptioningSystem, root: Path) -> Iterator[Running]:
    limits = Limits(upload_bytes=1 << 20, longest_minutes=0.5)
    with served(system, FakeIndex(root / "sounds"), limits) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Its microphone is a file of Chromium's own, beeps."""
    arguments = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with started(*arguments) as chromium:
        yield chromium


@contextmanager
def opened(browser: Any, url: str, size: Any = DESKTOP, scheme: str = "light") -> Iterator[Any]:
    """The page; see :func:`browsers.watched`: it may ask its own host."""
    with watched(browser, size, scheme, url) as page:
        page.goto(url)
        until(page, "document.getElementById('kinds').textContent")
        yield page


def drop(page: Any, content: bytes, name: str = "dog.wav") -> None:
    import base64

    page.evaluate(DROP, [base64.b64encode(content).decode(), name])


def captioned(page: Any) -> str:
    page.wait_for_selector("#result", state="visible", timeout=20_000)
    return str(page.inner_text("#caption"))


def likely(text: str) -> float:
    """The number in ``12 %`` and in ``1.2 × 10⁻⁵``."""
    plain = text.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")).strip()
    if plain.endswith("%"):
        return float(plain[:-1]) / 100
    return float(plain.replace(" × 10", "e"))


def test_a_dropped_sound(
    browser: Any, server: Running, system: CaptioningSystem, root: Path
) -> None:
    path = root / "sounds/1.wav"
    (own,) = system.caption([path])
    with opened(browser, server.url) as page:
        drop(page, path.read_bytes())
        assert captioned(page) == own.text
        assert page.inner_text("#status") == "dog.wav, 2.3 s"
        items = page.locator("#candidates li")
        shown = [items.nth(n).inner_text() for n in range(items.count())]
        assert items.count() == min(3, len(own.candidates))
        for text, (other, log_prob) in zip(shown, own.candidates, strict=False):
            assert text.startswith(other) and likely(text.removeprefix(other)) == pytest.approx(
                np.exp(log_prob), rel=0.06
            )
        words = page.locator("#words th").all_inner_texts()
        assert words == own.text.split()
        colours = page.evaluate(
            "() => { const c = document.getElementById('spectrogram');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "return [c.width, c.height, new Set(d).size]; }"
        )
        assert colours[1] == 64 and 100 < colours[0] < 480 and colours[2] > 50
        assert page.locator("#similar li").count() == 5
        until(page, "document.getElementById('player').duration > 2.2")


def test_the_sweep_rises_in_the_spectrogram(browser: Any, server: Running) -> None:
    """Low tones are at the bottom, and time goes to the right."""
    brightest = """() => {
      const c = document.getElementById("spectrogram");
      const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
      return [0.1, 0.9].map((part) => {
        const at = (y) => 4 * (y * c.width + Math.floor(part * c.width));
        const sums = Array.from({ length: c.height }, (_, y) => d[at(y)] + d[at(y) + 1]);
        return sums.indexOf(Math.max(...sums));
      });
    }"""
    with opened(browser, server.url) as page:
        drop(page, tone(3, 300))
        captioned(page)
        early, late = page.evaluate(brightest)
        assert late < early - 5


def test_a_chosen_file_and_a_wrong_one(browser: Any, server: Running, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    (tmp_path / "large.wav").write_bytes(bytes(2 << 20))
    with opened(browser, server.url) as page:
        page.set_input_files("#file", tmp_path / "large.wav")
        until(page, "document.getElementById('error').textContent")
        assert "large.wav is larger than the 1 MB" in page.inner_text("#error")
        page.set_input_files("#file", {"name": "dog.wav", "mimeType": "", "buffer": tone(1)})
        captioned(page)
        assert page.inner_text("#error") == ""
    context = browser.new_context()
    page = context.new_page()  # its console tells of the 415
    page.goto(server.url)
    page.set_input_files("#file", tmp_path / "notes.txt")
    until(page, "document.getElementById('error').textContent")
    assert page.inner_text("#error").startswith("notes.txt: not sound that can be decoded")
    assert not page.is_visible("#result") and page.inner_text("#status") == ""
    context.close()


def test_a_name_cannot_become_markup(browser: Any, server: Running) -> None:
    with opened(browser, server.url) as page:
        drop(page, tone(1), "<img src=x onerror=alert(1)>.wav")
        captioned(page)
        assert page.locator("main img").count() == 0
        assert "<img" in page.inner_text("#status")


def test_search_and_moments_by_the_keyboard_alone(browser: Any, server: Running) -> None:
    with opened(browser, server.url) as page:
        for _ in range(3):  # file, record, search
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "q"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.type("a dog barks")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.type("music")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.keyboard.press("Enter")
        page.wait_for_selector("#hits li")
        asked = server.desk.index.asked[-1]  # type: ignore[union-attr]
        assert asked["text"] == "a dog barks" and asked["without"] == ("music",)
        assert asked["moments"] is True
        assert page.inner_text("#found").startswith("The best 5 for “a dog barks”")
        jump = page.locator("#hits button").first
        assert jump.inner_text() == "Play 0.3 s to 0.8 s"
        jump.focus()
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#hits audio').currentTime >= 0.25")
        jump.evaluate("(button) => { button.click(); button.click(); }")  # the first never begins
        until(page, "document.querySelector('#hits audio').currentTime >= 0.25")


def test_an_index_without_moments_offers_none(
    browser: Any, system: CaptioningSystem, root: Path
) -> None:
    index = FakeIndex(root / "sounds")
    for index.has_moments in (True, False):
        with served(system, index) as running, opened(browser, running.url) as page:
            page.wait_for_selector("#searching", state="visible")
            assert page.is_visible("[name=moments]") is index.has_moments
            assert page.locator("#q").is_visible()


def test_a_recording(browser: Any, server: Running) -> None:
    with opened(browser, server.url) as page:
        page.click("#record")
        until(page, "parseFloat(document.getElementById('record').textContent.slice(5)) > 1")
        page.click("#record")
        captioned(page)
        name, seconds = page.inner_text("#status").removesuffix(" s").split(", ")
        assert name == "recording.wav" and 0.8 < float(seconds) < 10
        assert page.inner_text("#record") == "Record"


def test_of_two_sounds_the_last_is_shown(
    browser: Any, system: CaptioningSystem, root: Path
) -> None:
    watched = Watched(system)
    with served(watched) as running, opened(browser, running.url) as page:
        assert not page.is_visible("#searching")  # without an index
        watched.seconds = 0.5
        drop(page, tone(2), "first.wav")
        page.wait_for_timeout(100)
        watched.seconds = 0.0
        drop(page, tone(1), "second.wav")
        captioned(page)
        page.wait_for_timeout(700)
        assert page.inner_text("#status") == "second.wav, 1.0 s"


def test_an_unsure_caption_is_marked_and_a_captioner_without_attention_shows_none(
    browser: Any, root: Path
) -> None:
    """Its feature is pooled: there is no time to look at."""
    pooled = CaptioningSystem.load(root / "data/models/captioners/other/1", device="cpu")

    class Unsure(Watched):
        def caption(self, sounds: Any, **settings: Any) -> Any:
            return [each._replace(unsure=True) for each in super().caption(sounds, **settings)]

    with served(Unsure(pooled)) as running, opened(browser, running.url) as page:
        drop(page, tone(1))
        captioned(page)
        assert "Unsure: less likely than nearly all" in page.inner_text("#sure")
        assert not page.is_visible("#alike") and not page.is_visible("#attention")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_accessible_and_fits(
    browser: Any, server: Running, size: dict[str, int], scheme: str, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(browser, server.url, size, scheme) as page:
        before = axe.Axe().run(page)
        assert before.violations_count == 0, before.generate_report()
        drop(page, tone(2))
        captioned(page)
        page.fill("#q", "a dog barks")
        page.check("[name=moments]")
        page.click("#search button")
        page.wait_for_selector("#hits li")
        after = axe.Axe().run(page)
        assert after.violations_count == 0, after.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_a_server_that_is_gone_is_said(browser: Any, system: CaptioningSystem) -> None:
    context = browser.new_context()
    page = context.new_page()
    with served(system) as running:
        page.goto(running.url)
        until(page, "document.getElementById('kinds').textContent")
    drop(page, tone(1))
    until(page, "document.getElementById('error').textContent")
    assert "did not answer" in page.inner_text("#error")
    context.close()
