"""The report's views of attention, retrieval and the modality gap, used in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import CHROMIUM, PHONE, started, until

from earwitness.report import attention
from earwitness.report.run import Run
from tests.report_run import opened, write_report
from tests.report_views_run import QUERIES, models_run, ranked_run
from tests.test_report_views import unpacked

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
PLAYING = "[...document.querySelectorAll('audio')].some((audio) => !audio.paused)"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("models")
    (folder / "outside").mkdir()
    run = models_run(folder / "run", folder / "outside")
    write_report(run)
    return run


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = ranked_run(tmp_path_factory.mktemp("ranked") / "run")
    write_report(run)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started("--autoplay-policy=no-user-gesture-required") as chromium:
        yield chromium


def page_of(run: Run) -> Path:
    return run.data / "report.html"


def test_words_are_gone_through_and_played(browser: Any, models: Run) -> None:
    (found,) = attention.data(models)["datasets"]
    clip = found["clips"][1]
    with opened(browser, page_of(models), f"attention?clip={clip}&system=three") as page:
        page.wait_for_selector("#attention .word")
        words = page.locator("#attention .word")
        assert words.all_inner_texts() == ["two", "bells", "ring"]
        words.nth(0).hover()
        assert words.nth(0).get_attribute("aria-pressed") == "true"
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#attention [role=status]").startswith("“bells” looked most at")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        assert "“ring”" in page.inner_text("#attention [role=status]")
        until(page, "document.querySelector('#attention audio').readyState > 0")
        page.keyboard.press("Space")
        until(page, PLAYING)
        until(page, f"!{PLAYING}")  # it stops behind what the word looked at
        own = next(system for system in found["systems"] if system["name"] == "three")
        weights = unpacked(own["clips"][clip])[2]
        most = (weights.argmax() + 1) / len(weights)
        seconds = page.evaluate("document.querySelector('#attention audio').currentTime")
        whole = page.evaluate("document.querySelector('#attention audio').duration")
        assert seconds >= min(most * whole, whole - 0.2) - 0.1


def test_the_brightest_of_a_strip_is_where_the_word_looked(browser: Any, models: Run) -> None:
    (found,) = attention.data(models)["datasets"]
    clip = found["clips"][0]
    own = next(system for system in found["systems"] if system["name"] == "alone")
    weights = unpacked(own["clips"][clip])
    with opened(browser, page_of(models), f"attention?clip={clip}&system=alone") as page:
        page.wait_for_selector("#attention .word")
        brightest = page.evaluate("""() => [...document.querySelectorAll("#attention .strip")].map(
          (canvas) => {
            const { width } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, 1);
            const sums = Array.from({ length: width },
              (_, at) => data[4 * at] + data[4 * at + 1] + data[4 * at + 2]);
            return sums.indexOf(Math.max(...sums));
          })""")
    rows = [row.round(6) for row in weights]
    assert len(brightest) == len(rows) == 3
    for row, at in zip(rows, brightest, strict=True):
        assert row[at] >= row.max() * 0.99


def test_edtcs_encoder_is_shown_and_the_choice_of_system_is_kept(browser: Any, models: Run) -> None:
    with opened(browser, page_of(models), "attention") as page:
        page.wait_for_selector("#attention h3")
        page.get_by_label("Read by").select_option("fused")
        page.wait_for_selector("#attention .square")
        text = page.inner_text("#attention")
        assert "FUSER: each encoder’s share" in text.replace("'", "’")
        labels = page.locator("#attention .row-label").all_inner_texts()
        assert labels == ["logmel", "panns"] * 2
        assert page.locator("#attention .square").count() == 2
        assert "system=fused" in page.url
        page.get_by_label("Read by").select_option("alone")
        until(page, "!document.querySelector('#attention .square')")
        page.locator("h2:visible").click()
        page.keyboard.press("j")
        until(page, "location.hash.includes('clip=')")


def test_a_query_is_found_and_the_right_clip_stands_beyond_the_tenth(
    browser: Any, ranked: Run
) -> None:
    with opened(browser, page_of(ranked), "retrieval") as page:
        page.wait_for_selector("#query .hit")
        assert page.locator("#query-list [role=option]").count() == len(QUERIES)
        page.keyboard.press("/")
        page.keyboard.type("nothing at")
        until(page, "document.querySelectorAll('#query-list [role=option]').length === 1")
        assert page.inner_text("#query h3") == "nothing at all"
        first, second = page.locator("#query .ranking").all()
        assert first.locator(".rank").inner_text() == "right clip at 12"
        assert (
            first.locator(".back").inner_text() == "From the right clip, this query is at 4 of 5."
        )
        hits = first.locator(".hit")
        assert hits.count() == 11  # ten, and the right one where it stands
        assert hits.nth(10).locator(".place").inner_text() == "12"
        assert "clip-3" in hits.nth(10).inner_text() and "right" in hits.nth(10).inner_text()
        assert second.locator(".hit.right .place").inner_text() == "14"
        page.get_by_label("Seed").select_option("2")
        until(page, "document.querySelector('#query .rank').textContent === 'right clip at 13'")
        page.locator("#query .hit").nth(1).click()
        until(page, PLAYING)
        assert page.locator("#query .hit").nth(1).get_attribute("aria-pressed") == "true"
        heard = page.inner_text("#query .heard h4")
        assert page.locator("#query .hit").nth(1).inner_text().splitlines()[-2] == heard
        page.click("#query .heard h4 a")
        until(page, "location.hash.startsWith('#clips')")
        assert f"clip={heard}" in page.url


def test_queries_by_keys_and_by_rank(browser: Any, ranked: Run) -> None:
    with opened(browser, page_of(ranked), "retrieval?query=2") as page:
        page.wait_for_selector("#query .hit")
        assert page.inner_text("#query h3") == QUERIES[1]
        page.locator("h2:visible").click()
        page.keyboard.press("j")
        until(page, f"document.querySelector('#query h3').textContent === '{QUERIES[2]}'")
        page.keyboard.press("k")
        until(page, f"document.querySelector('#query h3').textContent === '{QUERIES[1]}'")
        assert page.locator("#query .hit.right .place").all_inner_texts() == ["3", "1"]
        page.keyboard.press("n")
        until(page, "document.querySelectorAll('#query .hit')[1].ariaPressed === 'true'")
        page.get_by_label("Sort by").select_option("worst")
        until(page, "document.querySelector('#query-list .query-text').textContent"
                    f" === '{QUERIES[3]}'")  # fmt: skip
        page.locator("#query-list [role=option]").last.click()
        texts = page.locator("#query-list .query-text").all_inner_texts()
        assert texts[-1] == QUERIES[0]


@pytest.mark.parametrize("view", ["clips", "attention", "retrieval", "space"])
def test_a_sound_that_is_ended_before_it_began_is_no_error(
    browser: Any, models: Run, ranked: Run, view: str
) -> None:
    with opened(browser, page_of(ranked if view == "retrieval" else models), view) as page:
        if view == "space":
            page.wait_for_selector("#space rect[data-pair]", state="attached")
            page.keyboard.press("j")
        until(page, f"document.querySelector('#view-{view} audio')")
        page.evaluate("""(view) => {
          const audio = document.querySelector(`#view-${view} audio`);
          audio.addEventListener("pause", () => { window.paused = true; });
          audio.load(); // nothing of it is there yet
          document.body.dispatchEvent(new KeyboardEvent("keydown", { key: " ", bubbles: true }));
          audio.pause();
        }""", view)  # fmt: skip
        until(page, "window.paused")
        assert not page.evaluate(PLAYING)


def test_markup_in_a_query_is_text(browser: Any, ranked: Run) -> None:
    with opened(browser, page_of(ranked), "retrieval?query=5") as page:
        page.wait_for_selector("#query .hit")
        assert page.locator("#query h3 b").count() == 0
        assert "<b>bold</b>" in page.inner_text("#query h3")


def test_the_gap_closes_when_the_means_are_subtracted(browser: Any, models: Run) -> None:
    with opened(browser, page_of(models), "space") as page:
        page.wait_for_selector("#space svg circle[data-pair]")
        assert page.locator("#space circle[data-pair]").count() == 4
        before = page.locator("#space svg[role=img]").get_attribute("aria-label")
        assert "as they are" in before
        page.click("#space-means")
        after = page.locator("#space svg[role=img]").get_attribute("aria-label")
        assert "means subtracted" in after
        assert page.inner_text("#space td.now >> nth=0") == after.split()[-2]
        page.keyboard.press("m")
        assert page.locator("#space-means").get_attribute("aria-pressed") == "false"
        page.locator("#space rect[data-pair='2']").click(force=True)
        until(page, "document.querySelector('#space .pair a')?.textContent === '3'")
        assert page.locator("#space .tie").count() == 1
        page.keyboard.press("j")
        until(page, "document.querySelector('#space .pair a')?.textContent === '4'")
        until(page, "document.querySelector('#space .pair audio')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["attention", "retrieval", "space"])
def test_axe_finds_nothing_serious_and_a_phone_cuts_nothing(
    browser: Any, models: Run, ranked: Run, view: str, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    run = ranked if view == "retrieval" else models
    with opened(browser, page_of(run), view, PHONE, scheme) as page:
        until(page, f"document.querySelector('#view-{view} audio')"
                    f" || document.querySelector('#view-{view} svg')")  # fmt: skip
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        found = axe.Axe().run(page).response["violations"]
        serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, found
