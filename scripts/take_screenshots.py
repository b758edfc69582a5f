"""Take the documentation's screenshots of a running app: `python scripts/take_screenshots.py URL docs/images`.

Takes each tab at desktop and phone width. Knows the pages' element ids; needs Chromium (`make browser`).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

TABS = ("compare", "maths", "mix", "evolution")
WIDTHS = {"desktop": (1280, 900, "en-GB", "light"), "phone": (390, 1560, "ja-JP", "dark")}


def main(url: str, folder: Path) -> None:
    """Open each tab of the app at `url`, ask a question, and save a screenshot in `folder`."""
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for name, (width, height, locale, scheme) in WIDTHS.items():
            context = browser.new_context(
                locale=locale, color_scheme=scheme, viewport={"width": width, "height": height}
            )
            page = context.new_page()
            page.goto(url)
            page.wait_for_selector("#compare-ask")
            page.wait_for_timeout(2500)
            for number, tab in enumerate(TABS):
                page.locator("#tabs button[role=tab]").nth(number).click()
                page.wait_for_timeout(2500)
                take(page, tab, folder / f"app-{tab}-{name}.png")
            context.close()
        browser.close()


def take(page: Page, tab: str, path: Path) -> None:
    """Save a screenshot of one tab with its answers, scrolled to the top."""
    if tab != "evolution":
        page.click(f"#{tab}-ask")
        page.locator(f"#{tab}-answers .answer.done").first.wait_for()
        page.wait_for_timeout(1500)
    page.mouse.move(0, 0)  # so that no button has its hover colours
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=path)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
