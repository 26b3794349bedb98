"""The API reference at /reference, in a browser, and the documentation at /docs."""

import hashlib
from importlib import resources

import msgspec
import pytest
from playwright.sync_api import ConsoleMessage

from foremask.errors import by_reason
from foremask.service.api import pages
from foremask.service.api.openapi import build
from foremask.service.api.routes import HANDLERS
from foremask.service.jobs.wire_format import Problem
from tests.service.api.conftest import Running
from tests.service.api.patient import http
from tests.support.browser import browsing

VENDORED = {
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "NOTICE": "0d20d1adef18aee3f40dd258172155521ce702ac445cb5f7b7d60ed32dad2fb2",
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}


def test_swagger_ui_is_the_release_that_was_chosen() -> None:
    folder = resources.files(pages.__package__) / "static" / "swagger-ui"
    for name, digest in VENDORED.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_each_reason_has_an_example() -> None:
    for name, example in build(HANDLERS)["components"]["examples"].items():
        problem = msgspec.convert(example["value"], Problem)
        kind = by_reason(name)
        assert kind is not None
        assert (problem.error.reason, problem.error.code) == (name, kind.status)


def test_the_reference_shows_the_api_under_the_strict_policy(service: Running) -> None:
    """Operations, an example and an error's anchor; nothing is asked of another server."""
    policy = http.get(f"{service.url}/reference").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    complaints: list[str] = []
    asked: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    with browsing() as browser:
        page = browser.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{service.url}/reference#reason-duration_too_long")
        error = page.locator("#reason-duration_too_long")
        error.wait_for(state="visible", timeout=60_000)
        page.locator("#operations-jobs-submit .opblock-summary button").first.click()
        page.get_by_text("https://example.com/clip.mp4").first.wait_for(timeout=60_000)
        page.locator("#operations-jobs-submit").get_by_text("status_url").first.wait_for()
    assert not complaints
    assert asked
    assert all(url.startswith((service.url, "data:")) for url in asked)


def test_the_docs_lead_to_the_reference_where_they_are_not_built(service: Running) -> None:
    """A path of the documentation does so too; an unknown file of a page is not found."""
    built = bool(pages.read_pages("site"))
    answer = http.get(f"{service.url}/docs", follow_redirects=False)
    wanted = "/docs/index.html" if built else "/reference"
    assert (answer.status_code, answer.headers["location"]) == (302, wanted)
    assert http.get(f"{service.url}/static/../app.py").status_code == 404
    assert http.get(f"{service.url}/static/none.js").json()["error"]["reason"] == "path_unknown"


@pytest.mark.parametrize("path", ["/none", "/docs/none.html", "/static/none.js", "/v2/none"])
def test_a_browser_gets_a_page_where_nothing_is(service: Running, path: str) -> None:
    if path.startswith("/docs/") and not pages.read_pages("site"):
        path = "/none.html"
    page = http.get(service.url + path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert 'href="/docs/"' in page.text
    assert http.get(service.url + path).json()["error"]["reason"] == "path_unknown"
