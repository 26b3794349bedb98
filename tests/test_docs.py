"""The documentation keeps up with the code: pages are fresh, links lead somewhere, examples run."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foremask.errors import BY_REASON
from tests.pages import DOCS, GENERATED, REMEDIES

ROOT = DOCS.parent
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What can follow a page's name after ``#``, as GitHub makes it of the headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


def links(page: Path) -> Iterator[str]:
    """The links of a page that stay inside the repository."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", link):
            yield link


@pytest.mark.parametrize(("name", "page"), GENERATED.items(), ids=GENERATED)
def test_a_generated_page_is_fresh(name: str, page: Callable[[], str]) -> None:
    """``make docs`` would change nothing."""
    assert (DOCS / name).read_text(encoding="utf-8") == page()


def test_every_reason_has_its_anchor() -> None:
    """An error leads to a paragraph that says what to do."""
    known = {r for r, kind in BY_REASON.items() if kind.__module__ == "foremask.errors"}
    assert known <= anchors(DOCS / "errors.md")
    assert known == REMEDIES.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that is in it."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    """docs/README.md and llms.txt lead to every page; the decision records are a folder."""
    index = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "README.md")}
    told = (ROOT / "llms.txt").read_text(encoding="utf-8")
    for page in set(DOCS.glob("*.md")) - {DOCS / "README.md"}:
        assert page in index, page
        assert f"(docs/{page.name})" in told, page
