import re

import pytest
from playwright.sync_api import expect

from foremask.service.api import pages
from tests.service.api.conftest import Running, http
from tests.service.api.test_playground import audit
from tests.support.browser import browsing, strict_page


def test_the_reference_shows_the_api_and_tries_it(service: Running) -> None:
    policy = http.get(f"{service.url}/reference").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    size = {"width": 360, "height": 740}
    with browsing() as browser, strict_page(browser, service.url, viewport=size) as page:
        page.goto(f"{service.url}/reference#reason-duration_too_long")
        expect(page.locator("#reason-duration_too_long")).to_be_in_viewport()
        page.locator("#operations-jobs-submit > summary").click()
        submit = page.locator("#operations-jobs-submit")
        expect(submit.get_by_role("cell", name="video required")).to_be_visible()
        expect(submit.get_by_label("Body")).to_have_value(
            re.compile("https://example.com/clip.mp4")
        )
        page.get_by_label("Your token").fill(service.token)
        page.locator("#operations-jobs-read_status > summary").click()
        read = page.locator("#operations-jobs-read_status")
        read.get_by_label("request_id").fill("no-such-request")
        read.get_by_role("button", name="Send").click()
        expect(read.get_by_role("status")).to_contain_text("404")
        expect(read.get_by_role("status")).to_contain_text("request_unknown")
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        audit(page)


def test_the_docs_lead_to_the_reference_where_they_are_not_built(service: Running) -> None:
    built = bool(pages.read_folder(pages.SITE))
    answer = http.get(f"{service.url}/docs", follow_redirects=False)
    wanted = "/docs/index.html" if built else "/reference"
    assert (answer.status_code, answer.headers["location"]) == (302, wanted)
    assert http.get(f"{service.url}/static/../app.py").status_code == 404
    assert http.get(f"{service.url}/static/none.js").json()["error"]["reason"] == "path_unknown"


@pytest.mark.parametrize("path", ["/none", "/static/none.js", "/v2/none"])
def test_a_browser_gets_a_page_where_nothing_is(service: Running, path: str) -> None:
    page = http.get(service.url + path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert 'href="/docs/"' in page.text
    assert http.get(service.url + path).json()["error"]["reason"] == "path_unknown"
