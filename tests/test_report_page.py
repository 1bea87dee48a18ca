"""The page of a run in a real browser, used as a person would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browsers import CHROMIUM, DESKTOP, PHONE, started, until
from report_run import (
    MEANS,
    RATE,
    make_run,
    opened,
    ready,
    write_json,
    write_report,
    write_scores,
)

from earwitness.report.run import Run
from pipeline.config.params import parse_params
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.times import Stopwatch

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
VIEWS = ("scores", "curves", "clips", "settings")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started("--autoplay-policy=no-user-gesture-required") as chromium:
        yield chromium


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("run"))
    plan = run.data / "plans/captioners/heard/1.json"
    write_json(plan, {})
    with Stopwatch(run.data / "times", "train_captioner", ("heard", "1"), "abc") as watch:
        watch.given(plan)
        watch.before = 250.0  # of a run that was stopped
    return write_report(run)


def systems(page: Any) -> list[str]:
    return page.locator(".scores tbody:not(.yardsticks) th a").all_inner_texts()


def rows(page: Any) -> list[str]:
    """The clips of the list, as they stand one below the other."""
    return page.evaluate(
        "[...document.querySelectorAll('#clip-list .row')]"
        ".sort((a, b) => a.offsetTop - b.offsetTop)"
        ".map((row) => row.querySelector('.row-name').textContent)"
    )


def chosen(page: Any) -> str:
    return str(page.inner_text("#clip h3"))


# ---- part 1: scores -----------------------------------------------------------


def test_scores_are_sorted_by_a_click_and_by_the_keyboard(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        assert systems(page) == ["alpha", "beta", "gamma"]  # as in params.yaml
        page.click("[data-sort=cider_d]")
        assert systems(page) == ["alpha", "gamma", "beta"]
        page.keyboard.press("Enter")  # the heading still has the focus
        assert systems(page) == ["beta", "gamma", "alpha"]
        heading = page.locator("th:has([data-sort=cider_d])")
        assert heading.get_attribute("aria-sort") == "ascending"
        assert page.locator(".yardsticks tr").count() == 2  # apart, whatever the order
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        assert systems(page) == ["alpha", "beta", "gamma"]


def test_best_and_ties_are_marked_by_the_intervals(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        marks = page.evaluate(
            "[...document.querySelectorAll('.scores tbody:not(.yardsticks) tr')].map((row) =>"
            "[...row.querySelectorAll('td')].map((cell) =>"
            "cell.querySelector('.mark')?.textContent ?? ''))"
        )
        # CIDEr-D, repetition (the lower the better), vocabulary (neither)
        assert marks == [["★", "", ""], ["", "★", ""], ["≈", "", ""]]
        cell = page.locator(".scores tbody tr").first.locator("td").first
        assert cell.inner_text().split() == ["★0.650", "±", "0.010", "0.500", "–", "0.800"]
        assert "seed 1: 0.660, seed 2: 0.640" in (cell.get_attribute("title") or "")


def test_more_columns_are_chosen(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        assert page.locator("[data-sort=bleu_4]").count() == 0
        page.click(".chooser summary")
        page.check(".chooser input[value=bleu_4]")
        page.uncheck(".chooser input[value=repetition]")
        headings = page.locator(".scores thead button").all_inner_texts()
        assert [each.strip() for each in headings] == ["System", "CIDEr-D", "Vocabulary", "BLEU 4"]
        page.click("[data-sort=bleu_4]")
        assert systems(page) == ["beta", "alpha", "gamma"]


# ---- part 2: curves -----------------------------------------------------------


def test_curves_have_every_validation_and_a_line_a_seed(browser: Any, report: Path) -> None:
    with opened(browser, report, "curves") as page:
        assert page.locator(".line.thin").count() == 2
        assert page.locator(".line circle").count() == 6
        ring = page.locator(".line circle.best title").all_text_contents()
        assert ring == [
            "heard, seed 1: CIDEr-D (validation) 0.5 at epoch 2, the best validation",
            "heard, seed 2: CIDEr-D (validation) 0.6 at epoch 3, the best validation",
        ]
        heights = page.evaluate(
            "[...document.querySelectorAll('.line circle')].map((c) => +c.getAttribute('cy'))"
        )
        order = np.argsort([-value for value in heights]).tolist()  # the page's y goes down
        assert order == np.argsort([0.1, 0.5, 0.4, 0.2, 0.3, 0.6]).tolist()
        page.locator(".curve-card select").nth(0).select_option("total")
        page.locator(".curve-card select").nth(1).select_option("step")
        texts = page.locator(".line circle title").all_text_contents()
        assert texts[2] == "heard, seed 1: training loss 1 at step 30"
        page.uncheck(".legend input")
        assert page.locator(".line").count() == 0
        log = page.locator(".log tbody tr").first.locator("td").all_inner_texts()
        assert log[:6] == ["1", "3", "30", "2", "0.500", "4 min 10 s"]


# ---- part 3: clips ------------------------------------------------------------


def test_clips_are_walked_through_and_played_by_the_keyboard(browser: Any, report: Path) -> None:
    with opened(browser, report, "clips") as page:
        assert chosen(page) == "dog"
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert chosen(page) == "bell" and "clip=bell" in page.url
        page.keyboard.press("k")
        until(page, "!!document.querySelector('#clip audio')")
        page.keyboard.press("Space")
        until(page, "document.querySelector('#clip audio').currentTime > 0.1")
        page.keyboard.press("Space")
        assert page.evaluate("document.querySelector('#clip audio').paused")
        head = page.evaluate("parseFloat(document.querySelector('.playhead').style.left)")
        assert 5 < head < 100
        page.keyboard.press("j")  # another clip stops it, and is another sound
        until(page, "document.querySelector('#clip audio')?.duration > 1")
        page.focus("#clip audio")  # as after a click on its controls
        page.keyboard.press("k")
        assert chosen(page) == "rain"
        page.focus("#clip-list")
        page.keyboard.press("End")
        assert chosen(page) == "hostile"


def test_a_click_in_the_spectrogram_goes_there(browser: Any, report: Path) -> None:
    with opened(browser, report, "clips?clip=bell") as page:
        until(page, "document.querySelector('#clip audio')?.duration > 1")
        box = page.locator("#clip .spectrogram").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
        until(page, "document.querySelector('#clip audio').currentTime > 0.5")
        colours = page.evaluate(
            "() => { const c = document.querySelector('#clip canvas');"
            "const d = c.getContext('2d').getImageData(c.width >> 1, 0, 1, c.height).data;"
            "const sums = Array.from({ length: c.height }, (_, y) => d[4 * y] + d[4 * y + 1]);"
            "return [c.height, sums.indexOf(Math.max(...sums))]; }"
        )
        mel = 2595 * np.log10(1 + np.array([2000.0, RATE / 2]) / 700)
        assert colours == [64, pytest.approx(63 - (mel[0] / mel[1] * 65 - 1), abs=1)]


def test_clips_are_found_by_text_and_by_event(browser: Any, report: Path) -> None:
    with opened(browser, report, "clips") as page:
        page.keyboard.press("/")
        page.keyboard.type("engines hum")  # gamma's caption alone
        until(page, "document.querySelectorAll('#clip-list .row').length === 1")
        assert rows(page) == ["rain"] and chosen(page) == "rain"
        assert page.inner_text("#clip-count") == "1 of 4 clips"
        page.fill("#clip-filter", "")
        page.locator("[data-tool=event] select").select_option("wind")
        assert rows(page) == ["rain", "hostile"]
        page.fill("#clip-filter", "nothing has this")
        assert page.inner_text("#clip") == "No clip has all of that."
        page.keyboard.press("j")
        page.keyboard.press("Escape")


def test_clips_are_sorted_by_disagreement_and_by_scores(browser: Any, report: Path) -> None:
    """Of three captions: "a dog barks" twice and "a dog howls" share 7 of 3 × 3 words."""
    with opened(browser, report, "clips") as page:
        page.keyboard.press("j")
        page.keyboard.press("s")
        assert rows(page) == ["rain", "hostile", "dog", "bell"] and chosen(page) == "rain"
        shown = page.locator("#clip-list .row-head .faint").all_inner_texts()
        assert (shown[0], shown[2], shown[3]) == ("1.00", "0.22", "0.00")
        page.click("#clip-order")
        assert rows(page) == ["bell", "dog", "hostile", "rain"]
        page.locator("[data-tool=sort] select").select_option("score")
        page.locator("[data-tool=system] select").select_option("gamma")
        page.click("#clip-order")
        assert rows(page) == ["dog", "bell", "rain", "hostile"]  # one without a score is last
        page.locator("[data-tool=sort] select").select_option("spread")
        assert rows(page)[0] == "dog"  # 1.5 − 0.4
        page.locator("[data-tool=seed] select").select_option("2")
        assert page.locator("#clip-list .row-head .faint").all_inner_texts() == ["0.00"] * 4


def test_words_that_one_system_alone_says_are_marked(browser: Any, report: Path) -> None:
    with opened(browser, report, "clips?clip=dog") as page:
        assert page.locator(".answer mark").all_inner_texts() == ["howls"]
        best = page.locator(".answer:has(.score.best)")
        assert best.evaluate_all("all => all.map((one) => one.dataset.system)") == [
            "alpha", "gamma",
        ]  # fmt: skip
        page.locator("[data-tool=seed] select").select_option("2")
        assert page.locator(".answer mark").count() == 0
        said = page.locator(".answer .said").all_inner_texts()
        assert said == ["a cat mews"] * 3 + ["A dog barks."]  # the human has one seed alone


def test_a_system_leads_to_its_captions(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        page.click(".scores a >> text=beta")
        ready(page, "clips")
        assert page.locator("[data-tool=system] select").input_value() == "beta"
        assert rows(page) == ["bell", "dog", "rain", "hostile"]
        page.go_back()
        until(page, "!document.getElementById('view-scores').hidden")


# ---- part 7: the run ----------------------------------------------------------


def test_parameters_are_searched(browser: Any, report: Path) -> None:
    with opened(browser, report, "settings") as page:
        assert page.locator("#params-tree details").count() > 3
        assert not page.is_visible("text=logmel >> nth=0")
        page.keyboard.press("/")
        page.keyboard.type("heard features")
        until(page, "document.querySelectorAll('#params-tree .leaf').length === 1")
        assert page.inner_text("#params-tree .leaf") == "features: [logmel]"
        assert page.inner_text(".times tbody th") == "train_captioner@heard-1"
        assert page.inner_text(".times tbody td >> nth=0") == "4 min 10 s"


# ---- the frame ----------------------------------------------------------------


def test_light_and_dark(browser: Any, report: Path) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, report, scheme="dark") as page:
        dark = page.evaluate(back)
        page.click("#theme")
        light = page.evaluate(back)
        assert dark != light and page.get_attribute("#theme", "aria-pressed") == "false"
    with opened(browser, report, scheme="light") as page:
        assert page.evaluate(back) == light
        page.click("#theme")
        assert page.evaluate(back) == dark


def test_keys_are_listed_and_open_views(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        page.keyboard.press("3")
        ready(page, "clips")
        assert page.get_attribute("nav [aria-current]", "data-view") == "clips"
        page.keyboard.press("?")
        assert "next clip" in page.inner_text("#help-keys")
        page.keyboard.press("j")  # not while the dialog is open
        page.keyboard.press("Escape")
        assert chosen(page) == "dog"


def test_hostile_text_stays_text(browser: Any, report: Path) -> None:
    with opened(browser, report, "clips?clip=hostile", PHONE) as page:
        assert page.locator("main img").count() == 0
        assert "</script><img src=x" in page.inner_text(".references")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.locator(".references bdi").count() == 1  # its direction ends with it
        page.locator("[data-tool=event] select").select_option("<b>bold</b>")
        assert rows(page) == ["hostile"]


def test_print_has_what_was_not_opened_too(browser: Any, report: Path) -> None:
    with opened(browser, report, scheme="dark") as page:
        page.click("#theme")
        page.click("#theme")  # dark by choice: paper is light all the same
        for view in ("scores", "curves", "settings"):
            ready(page, view)
        page.emulate_media(media="print")
        for view in ("scores", "curves", "settings"):
            assert page.is_visible(f"#{view}-title")
        assert not page.is_visible("nav") and page.is_visible(".chart")
        page.set_viewport_size({"width": 794, "height": 1123})  # A4
        assert page.evaluate("document.documentElement.scrollWidth") == 794
        colour = page.evaluate("getComputedStyle(document.querySelector('h1')).color")
        assert colour == "rgb(22, 32, 31)"


def test_the_results_are_skipped_to(browser: Any, report: Path) -> None:
    with opened(browser, report, "curves") as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        assert page.url.endswith("#curves") and page.is_visible(".chart")


def test_a_part_that_fails_says_so_and_the_others_open(browser: Any, report: Path) -> None:
    broken = report.with_name("broken.html")
    text = report.read_text(encoding="utf-8")
    at = text.index('id="data-curves">') + len('id="data-curves">')
    broken.write_text(text[:at] + "AAAA" + text[at:], encoding="utf-8")
    page = browser.new_page()
    page.goto(broken.as_uri() + "#curves")
    ready(page, "curves")
    assert "This part cannot be shown" in page.inner_text("#view-curves [role=alert]")
    page.click("nav [data-view=scores]")
    ready(page, "scores")
    assert systems(page) == ["alpha", "beta", "gamma"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_accessible_and_fits(
    browser: Any, report: Path, size: dict[str, int], scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for view in VIEWS:
        with opened(browser, report, view, size, scheme) as page:
            if view == "clips":
                until(page, "!!document.querySelector('#clip audio')")
            found = axe.Axe().run(page)
            assert len(found.response["passes"]) > 10  # that it looked at all
            assert found.violations_count == 0, f"{view}: {found.generate_report()}"
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width == size["width"], f"{view} is {width} wide"


def test_a_thousand_clips_open_at_once(browser: Any, tmp_path: Path) -> None:
    """Two seconds on a quiet machine; a generous limit here, for one that is not."""
    run = large_run(tmp_path, 1045, ("alpha", "beta", "gamma"))
    report = write_report(run)
    began = time.perf_counter()
    with opened(browser, report, "clips") as page:
        until(page, "!!document.querySelector('#clip audio')")
        assert time.perf_counter() - began < 10
        assert page.inner_text("#clip-count") == "1045 of 1045 clips"
        assert page.locator("#clip-list .row").count() < 60
        page.focus("#clip-list")
        page.keyboard.press("End")
        assert chosen(page) == "clip-1044"
        assert rows(page)[-1] == "clip-1044"
        began = time.perf_counter()
        page.keyboard.press("s")
        page.evaluate("1")
        assert time.perf_counter() - began < 3


def large_run(root: Path, count: int, names: tuple[str, ...]) -> Run:
    """Clips that share one short recording."""
    run = make_run(root)
    (root / "sounds").mkdir(exist_ok=True)
    soundfile.write(root / "sounds/one.wav", 0.1 * np.sin(np.arange(8000)), RATE)
    clips = tuple(
        Clip(f"clip-{at:04}", "evaluation", "one.wav", 0.5, (f"sound {at}", "a sound"), (), "0d")
        for at in range(count)
    )
    Manifest("toy", "sounds", clips).save(root / "data/corpora/toy.json")
    for path in (root / "data/scores/toy").glob("*.csv"):
        path.unlink()
    for number, name in enumerate(names):
        table = [
            {"seed": "1", "clip_id": clip.clip_id, "caption": f"sound {at % (number + 2)}",
             "cider_d": (at * 7 + number) % 11 / 10}
            for at, clip in enumerate(clips)
        ]  # fmt: skip
        write_scores(root / f"data/scores/toy/{name}.csv", table)
    systems = {name: {"captioners": ["heard"]} for name in names}
    params = run.params.model_dump(mode="json", exclude_unset=True) | {"systems": systems}
    return Run(root, root, parse_params(params))


def test_hundreds_of_systems_can_be_filtered(browser: Any, tmp_path: Path) -> None:
    names = tuple(f"system-{at:03}" for at in range(300))
    run = large_run(tmp_path, 3, names)
    for at, name in enumerate(names):
        write_json(tmp_path / f"metrics/toy/{name}.json", {"N": 3, "cider_d": at / 1000})
    report = write_report(run)
    with opened(browser, report) as page:
        assert len(systems(page)) == 300
        page.fill(".score-card input[type=search]", "-29")
        assert systems(page) == [f"system-29{at}" for at in range(10)]
    with opened(browser, report, "clips") as page:
        assert page.locator(".answer").count() < 20
        page.click("text=All 300 systems")
        assert page.locator(".answer").count() == 300


def test_a_recording_that_is_linked_plays_from_beside_the_page(
    browser: Any, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    report = run.params.report.model_copy(update={"audio_megabytes": 0})
    params = run.params.model_copy(update={"report": report})
    path = write_report(Run(run.root, run.original, params))
    with opened(browser, path, "clips?clip=bell") as page:
        until(page, "document.querySelector('#clip audio')?.duration > 1")
        assert page.get_attribute("#clip audio", "src") == (
            "../sounds/bell%2C%2050%20%25%20%26%20more.ogg"
        )
        assert page.locator("#clip canvas").count() == 1


def test_of_a_run_without_captions_the_rest_is_shown(browser: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for path in (run.data / "scores/toy").glob("*.csv"):
        path.unlink()
    for name in MEANS:
        (tmp_path / f"metrics/toy/{name}.json").unlink()
    with opened(browser, write_report(run), "clips?clip=rain") as page:
        assert chosen(page) == "rain"
        assert "No system has captioned it." in page.inner_text("#clip")
        assert page.locator("nav a").all_inner_texts() == ["Curves", "Clips", "Run"]
