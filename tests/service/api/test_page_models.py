"""The page of a service whose operator allows a second network and two trackers."""

from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service.api.conftest import TOKEN, Running, serves
from tests.service.api.test_playground import SPEC, WAIT_MS, at, audit, mask
from tests.service.api.worker import REQUESTS, working
from tests.support import synth
from tests.support.browser import browsing, strict_page

service = serves(trackers=("edgetam", "sam2.1-tiny"), networks=("u2net",), own_model=True)
plain_service = serves()


@pytest.fixture(scope="module")
def browser(service: Running, plain_service: Running) -> Generator[Browser]:
    with browsing() as browser:
        yield browser


def open_page(page: Page, service: Running) -> None:
    page.context.set_default_timeout(WAIT_MS)
    page.goto(f"{service.url}/#token={TOKEN}")
    page.wait_for_selector("html[data-ready]")


def test_a_network_and_a_tracker_are_chosen_where_the_service_has_more_than_one(
    service: Running, browser: Browser, tmp_path: Path
) -> None:
    clip = synth.write(tmp_path / "disc.webm", SPEC)
    size = {"width": 390, "height": 844}
    with (
        working(service, tmp_path, networks=["u2net"]),
        strict_page(browser, service.url, viewport=size, reduced_motion="reduce") as page,
    ):
        open_page(page, service)
        mask(page, clip)
        assert (REQUESTS[-1].spec.network, REQUESTS[-1].spec.tracker) == (None, None)

        page.get_by_role("button", name="New clip").click()
        page.set_input_files("#file", clip)
        expect(page.locator("#verdict")).to_contain_text("vp9")
        network, tracker = page.get_by_label("Network"), page.get_by_label("Marks are followed by")
        expect(network.locator("option")).to_have_text(["the operator's own", "u2net"])
        expect(tracker.locator("option")).to_have_text(
            ["the network above", "edgetam", "sam2.1-tiny"]
        )
        tracker.select_option("sam2.1-tiny")
        network.select_option("u2net")
        means = page.locator("#models-means")
        expect(means).to_contain_text("Only what you mark is in the mask")
        expect(means).to_contain_text("The preview of a mark is made by the operator's network")
        audit(page)
        page.get_by_role("button", name="Make the mask").click()  # nothing is marked
        expect(page.locator("#models-error")).to_contain_text("no hint marks the subject")

        page.get_by_role("button", name="Mark the subject").click()
        page.mouse.click(*at(page, 60, 120))
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#result")).to_be_visible()
        assert (REQUESTS[-1].spec.network, REQUESTS[-1].spec.tracker) == ("u2net", "sam2.1-tiny")
        audit(page)

        page.reload()  # the job's own are chosen again
        expect(page.locator("#result")).to_be_visible()
        page.locator("#again-fold summary").click()
        expect(tracker).to_have_value("sam2.1-tiny")
        expect(network).to_have_value("u2net")
        tracker.select_option("edgetam")
        page.get_by_role("button", name="Fast", exact=True).click()
        expect(page.locator("#job")).to_be_visible()
        expect(page.locator("#result")).to_be_visible()
        assert (REQUESTS[-1].spec.network, REQUESTS[-1].spec.tracker) == ("u2net", "edgetam")


def test_where_there_is_one_network_and_no_tracker_nothing_is_asked(
    plain_service: Running, browser: Browser, tmp_path: Path
) -> None:
    clip = synth.write(tmp_path / "disc.webm", SPEC)
    with strict_page(browser, plain_service.url) as page:
        with page.expect_response("**/v2/models") as answer:
            open_page(page, plain_service)
        assert answer.value.ok
        page.set_input_files("#file", clip)
        expect(page.get_by_role("button", name="Make the mask")).to_be_enabled()
        expect(page.get_by_label("Network")).to_be_hidden()
        expect(page.get_by_label("Marks are followed by")).to_be_hidden()
