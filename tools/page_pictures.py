"""Makes the page's pictures in docs/pictures: ``python -m tools.page_pictures LINK``.

LINK is the one that ``make run`` prints, with its token; the service masks with the real network.
"""

import re
import sys
from pathlib import Path

import cv2
from playwright.sync_api import Page, expect
from tests.support.browser import browsing, screenshot

from foremask.service.api.pages import STATIC

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SIZE = {"width": 1280, "height": 800}
WAIT_MS = 600_000
REST_MS = 1500
expect.set_options(timeout=WAIT_MS)


def take(page: Page, name: str) -> None:
    page.wait_for_timeout(REST_MS)
    path = PICTURES / f"{name}-1280-light.webp"
    cv2.imwrite(str(path), screenshot(page)[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 90])


def go_to(page: Page, frame: int) -> None:
    page.locator("#number").fill(str(frame))
    page.locator("#number").press("Enter")
    page.wait_for_timeout(REST_MS)


def mark(page: Page, x: float, y: float, button: str) -> None:
    """Mark at these shares of the picture's width and height, and wait for the preview."""
    box = page.locator("#marks").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"], button=button)  # type: ignore[arg-type]
    said = page.locator("#mark-said")
    expect(said).to_contain_text(re.compile("of this frame's preview|not masked yet"))
    while page.get_by_role("button", name="Try again").is_visible():  # the machine is busy
        page.get_by_role("button", name="Try again").click()
        expect(said).to_contain_text(re.compile("of this frame's preview|not masked yet"))


def main(link: str) -> None:
    with browsing() as browser:
        page = browser.new_page(viewport=SIZE, reduced_motion="reduce", color_scheme="light")  # type: ignore[arg-type]
        page.goto(link)
        page.wait_for_selector("html[data-ready]")
        expect(page.locator("#views")).to_be_visible()
        take(page, "page-empty")

        page.set_input_files("#file", STATIC / "samples" / "bird.webm")
        expect(page.locator("#trim-here")).to_be_visible()
        go_to(page, 6)
        page.locator("#trim-here").click()
        go_to(page, 26)
        page.locator("#trim-to-here").click()
        take(page, "page-part")

        page.locator("#trim-clear").click()
        page.locator("#go").click()
        expect(page.locator("#views")).to_be_visible()
        expect(page.locator("#strip-legend")).to_be_visible()
        go_to(page, 20)
        page.locator("#mark").click()
        mark(page, 0.48, 0.5, "left")
        mark(page, 0.1, 0.2, "right")
        take(page, "page-marks")


if __name__ == "__main__":
    main(sys.argv[1])
