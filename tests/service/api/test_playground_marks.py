from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Request, expect

from foremask.hints.kinds import Box, Point
from tests.service.api.conftest import Running, serves
from tests.service.api.test_playground import (
    SPEC,
    WAIT_MS,
    audit,
    browser,
    drop,
    go_to,
    mask,
    page,
    pixels,
    refuses,
)
from tests.service.api.worker import REQUESTS, working
from tests.support import synth

__all__ = ["browser", "page"]  # fixtures, over the service of this module


service = serves(allow_private=(), own_model=True)


def at(page: Page, x: int, y: int) -> tuple[float, float]:
    box = page.locator("#marks").bounding_box()
    assert box is not None
    scale = box["width"] / SPEC.width
    return box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale


def apply(page: Page) -> None:
    before = page.url
    page.get_by_role("button", name="Apply to the clip").click()
    page.wait_for_url(lambda url: url != before, timeout=WAIT_MS)
    expect(page.locator("#result")).to_be_visible()


def test_a_subject_is_marked_on_frames_and_the_clip_follows(
    page: Page, service: Running, tmp_path: Path
) -> None:
    clip = synth.write(tmp_path / "disc.webm", SPEC)  # its middle goes from x = 60 to 260
    said = page.locator("#mark-said")
    asked: list[Any] = []

    def hear(sent: Request) -> None:
        if "preview" in sent.url:
            asked.append(sent.post_data_json)

    page.on("request", hear)
    with working(service, tmp_path):
        mask(page, clip)
        expect(page.locator("#strip-legend")).to_be_visible()
        expect(page.locator("#views")).to_be_visible()
        assert REQUESTS[-1].options.hints == ()

        go_to(page, 1)
        before_marks = page.locator("#canvas").bounding_box()
        page.get_by_role("button", name="Mark the subject").click()
        expect(page.get_by_role("button", name="Apply to the clip")).to_be_disabled()
        assert page.locator("#canvas").bounding_box() == before_marks  # nothing has moved
        page.mouse.click(*at(page, 10, 10))  # a newer mark takes the older one's place
        page.get_by_role("button", name="Undo").click()
        page.mouse.click(*at(page, 60, 120))
        expect(said).to_contain_text("This, point at 60, 120, frame 1: in the mask; 15 %")
        middle = [{"type": "point", "x": 160, "y": 120}]
        looks = [each["picture"] for each in asked if each["hints"] == middle]
        assert asked[-1]["picture"] in looks  # the service saw it before the first click
        tinted = pixels(page)[120, 60].astype(int)
        dark = pixels(page)[20, 160].astype(int)
        assert tinted[0] > 200, tinted
        assert dark.max() < 150, dark  # what is not the subject is dark
        page.mouse.click(*at(page, 250, 40), button="right")
        expect(said).to_contain_text("Not this, point at 250, 40, frame 1: not in the mask")

        go_to(page, 24)
        page.mouse.move(*at(page, 200, 60))
        page.mouse.down()
        page.mouse.move(*at(page, 280, 140), steps=3)
        page.mouse.move(*at(page, 319, 180), steps=3)
        page.mouse.up()
        expect(said).to_contain_text("This, box at 200, 60, frame 24: in the mask")

        assert page.locator(".toast").count() == 0
        board = page.get_by_role("application")
        board.press("ArrowUp")
        board.press("Shift+ArrowLeft")
        expect(said).to_have_text("159, 110 of 320 by 240")
        board.press("Alt+Enter")
        expect(said).to_contain_text("Not this, point at 159, 110, frame 24: not in the mask")
        board.press("Enter")
        expect(page.locator("#mark-list button")).to_have_count(5)
        board.press("Backspace")
        expect(page.locator("#mark-list button")).to_have_count(4)
        expect(page.locator("#marks .point")).to_have_count(1)
        audit(page)
        page.locator("#mark-list button").first.click()
        expect(page.locator("#number")).to_have_value("1")
        expect(page.locator("#marks .point")).to_have_count(2)

        apply(page)
        expect(page.locator("#result-name")).to_contain_text("disc.webm")
        marked = [
            Point(60, 120, frame=0),
            Point(250, 40, frame=0, negative=True),
            Box(x=200, y=60, width=120, height=121, frame=23),
            Point(159, 110, frame=23, negative=True),
        ]
        assert list(REQUESTS[-1].options.hints) == marked
        expect(page.locator("#code-text")).to_contain_text('"hints":[{"type":"point","x":60')

        expect(page.get_by_role("button", name="Apply to the clip")).to_be_disabled()
        go_to(page, 12)
        page.get_by_text("Not this", exact=True).click()
        page.mouse.click(*at(page, 20, 20))
        expect(said).to_contain_text("Not this, point at 20, 20, frame 12: not in the mask")
        apply(page)
        marked.append(Point(20, 20, frame=11, negative=True))
        assert list(REQUESTS[-1].options.hints) == marked

        page.reload()  # the marks stay; without one of them the clip is masked anew
        expect(page.locator("#result")).to_be_visible()
        page.get_by_role("button", name="Mark the subject").click()
        expect(page.locator("#mark-list button")).to_have_count(5)
        page.get_by_role("button", name="Undo").click()
        apply(page)
        assert list(REQUESTS[-1].options.hints) == marked[:-1]


def test_marks_before_the_mask_go_with_it(page: Page, service: Running, tmp_path: Path) -> None:
    clip = synth.write(tmp_path / "disc.webm", SPEC)
    refuses(page, "preview", 503, "overloaded", "others are")
    with working(service, tmp_path):
        with page.expect_request("**/preview", timeout=WAIT_MS):  # before anything is marked
            drop(page, clip)
        expect(page.locator("#verdict")).to_contain_text("vp9")
        page.get_by_role("button", name="Mark the subject").click()
        expect(page.get_by_role("button", name="Apply to the clip")).to_be_hidden()
        page.keyboard.down("Alt")
        page.mouse.click(*at(page, 60, 120))
        page.keyboard.up("Alt")
        expect(page.locator("#toasts")).to_contain_text("others are")
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#result")).to_be_visible()
        assert list(REQUESTS[-1].options.hints) == [Point(60, 120, frame=0, negative=True)]
