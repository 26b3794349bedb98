import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Error

from foremask.service.api.pages import read_folder
from tests.documentation.pages import DOCS
from tests.documentation.site import build
from tests.support.browser import browsing, strict_page
from tests.support.http_server import Handler, serving
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    build(target)
    return target


def test_every_page_is_there_as_html_and_as_markdown_and_no_other_is_promised(site: Path) -> None:
    index = (site / "llms.txt").read_text(encoding="utf-8")
    promised = set(re.findall(r"\]\(([\w./-]+\.md)\)", index))
    assert {page.name for page in DOCS.glob("*.md")} <= promised
    for name in promised:
        html = site / ("index.html" if name == "README.md" else f"{name.removesuffix('.md')}.html")
        assert (site / name).is_file(), name
        assert not re.search(r">[\w-]+\.md</a>", html.read_text(encoding="utf-8")), name
    found = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    assert not [each["location"] for each in found if each["location"].startswith("adr/")]


def test_search_finds_a_page_under_the_strict_policy(site: Path) -> None:
    found, asked = read_folder(site), list[str]()

    class Pages(Handler):
        def do_GET(self) -> None:  # noqa: N802
            name = self.path.lstrip("/").partition("?")[0]
            asked.append(name)
            page = found[name]
            self.send_response(200)
            self.send_header("Content-Type", page.media_type)
            self.send_header("Content-Security-Policy", page.policy)
            self.end_headers()
            self.wfile.write(page.content)

    with serving(Pages) as address, browsing() as browser, strict_page(browser, address) as page:
        page.goto(f"{address}/index.html", wait_until="networkidle")
        words = page.get_by_role("combobox").or_(page.get_by_placeholder("Search")).first
        for _ in range(int(PATIENCE_S)):
            page.keyboard.press("Control+k")  # unheard until the page's script has run
            with suppress(Error):
                words.wait_for(timeout=1000)
                break
        words.fill("idempotency")
        page.get_by_text("Send a request again safely").first.wait_for(timeout=1000 * PATIENCE_S)
    assert set(asked) <= found.keys()
