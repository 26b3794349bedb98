"""The camera tab of the page, in a Chromium whose user refuses the camera."""

from playwright.sync_api import expect

from tests.service.api.conftest import TOKEN, Running, serves
from tests.support.browser import browsing, strict_page

WAIT_MS = 120_000
service = serves()


def test_a_camera_that_is_refused_is_said_to_be_with_a_remedy(service: Running) -> None:
    refusing = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny")
    with browsing(*refusing) as browser, strict_page(browser, service.url) as page:
        page.goto(f"{service.url}/#token={TOKEN}")
        page.locator("html[data-ready]").wait_for(timeout=WAIT_MS)
        page.get_by_role("radio", name="Camera").check()
        start = page.get_by_role("button", name="Start the camera")
        start.click()
        told = page.locator("#camera-error")
        expect(told).to_contain_text("Allow it beside the address", timeout=WAIT_MS)
        expect(start).to_be_enabled()
