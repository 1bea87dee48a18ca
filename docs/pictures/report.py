"""Draws report.png and report-clips.png: ``python docs/pictures/report.py REPOSITORY``.

They are a browser's pictures of the page of a finished run; Playwright and its Chromium are needed.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1280, "height": 800}
VIEWS = {"report.png": "scores", "report-clips.png": "clips"}

if __name__ == "__main__":
    address = (Path(sys.argv[1]) / "data/report.html").resolve().as_uri()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, view in VIEWS.items():
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            page.goto(f"{address}#{view}")
            page.wait_for_selector(f"#view-{view}[data-ready]")
            page.wait_for_timeout(1000)
            page.screenshot(path=Path(__file__).with_name(name))
        browser.close()
