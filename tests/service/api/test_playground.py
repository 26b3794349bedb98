import base64
import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from benchmarks.clips import masks_of
from playwright.sync_api import Browser, JSHandle, Page, Request, Route, expect

from foremask.errors import ERROR_TABLE
from foremask.hints.kinds import Box, Paint, Point
from foremask.masking.runner import run
from foremask.media.verify import verify
from foremask.options import Excerpt, Files, Form, JobSpec, ResultKind
from foremask.service.api.pages import SITE, STATIC, read_folder
from foremask.service.jobs import steps
from foremask.service.jobs.database import Database
from foremask.service.jobs.steps import Beat, IngestDone, JobClip, StoredSegment
from foremask.types import Rgb
from foremask.vision.temporal.frame_hints import read_paint
from tests.service.api import clips
from tests.service.api.conftest import TOKEN, Running, assert_refused, http, post, serves
from tests.service.api.worker import REQUESTS, upload, working
from tests.support import synth
from tests.support.browser import browsing, strict_page
from tests.support.jobs import begun, done
from tests.support.patience import PATIENCE_S
from tests.support.programs import NODE, packages, ran

SAMPLES = STATIC / "samples"
SPEC = synth.Spec(320, 240, pts=synth.even(24, Fraction(24)), last_duration=1250, codec="vp9")
WAIT_MS = 120_000
expect.set_options(timeout=WAIT_MS)
CLIPPED = """[...document.querySelectorAll("button, summary, .tabs label")]
    .filter((each) => each.offsetParent && each.scrollWidth > each.clientWidth + 1)
    .map((each) => each.textContent)"""

service = serves(allow_private=(), own_model=True)
"""As ``make run`` starts it: no private network may be reached; red is foreground in previews."""
open_service = serves()


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synth.write(tmp_path_factory.mktemp("disc") / "disc.webm", SPEC)


# What it is made of


def test_the_page_comes_from_here_and_goes_nowhere_else(service: Running) -> None:
    page = http.get(service.url)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page.text)
    named = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
    playground = STATIC / "playground"
    modules = {f"/static/playground/{path.name}" for path in playground.glob("*.js")}
    assert {each for each in named if each.endswith(".js")} == modules  # all at once
    for path in [STATIC / "index.html", *playground.glob("*.js"), *playground.glob("*.css")]:
        found = re.findall(r"https?://[^\s\"'`$)]+", path.read_text(encoding="utf-8"))
        assert {each.split("/")[2] for each in found} <= {"example.com", "127.0.0.1"}, path


def test_it_is_light_and_travels_packed_and_once(service: Running) -> None:
    files = read_folder(STATIC).items()
    packed = [page.gzipped for name, page in files if not name.startswith("reference")]
    assert sum(map(len, filter(None, packed))) < 82_000
    first = http.get(service.url)
    assert first.headers["content-encoding"] == "gzip"
    again = http.get(service.url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = http.get(service.url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == first.text


@pytest.mark.weights
def test_a_samples_mask_is_made_by_this_version(tmp_path: Path) -> None:
    """If it is not, make all of them anew, by the commands in the samples' NOTICE."""
    files = Files(source=SAMPLES / "bird.webm", target=tmp_path / "mask.webm")
    run(JobSpec(form=Form.WEBM_VP9), files)
    pairs = zip(masks_of(SAMPLES / "bird-mask.webm"), masks_of(tmp_path / "mask.webm"), strict=True)
    for number, (ours, now) in enumerate(pairs):
        both, either = (ours > 127) & (now > 127), (ours > 127) | (now > 127)
        assert both.sum() / either.sum() > 0.97, number


def test_the_samples_are_small_and_name_their_source() -> None:
    page = (STATIC / "playground/samples.js").read_text(encoding="utf-8")
    notice = (SAMPLES / "NOTICE").read_text(encoding="utf-8")
    offered = set(re.findall(r'name: "(\w+)"', page))
    clips_there = {path.stem for path in SAMPLES.glob("*.webm")}
    assert offered == {name for name in clips_there if not name.endswith("-mask")}
    assert all(f"{name}.webm  " in notice for name in offered)
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 450_000


# What it may ask


def test_a_clip_is_shown_only_when_it_is_one(
    open_service: Running, clip_origin: str, drawn: Path
) -> None:
    ask = partial(post, open_service, "/v2/playground/clip")
    for name in ("good.mp4", "two-faced.mp4"):  # what is probed is what is sent
        assert ask(video=f"{clip_origin}/{name}").content == (drawn / "good.mp4").read_bytes()
    assert_refused(ask(video=f"{clip_origin}/matroska.mkv"), 415, "container_unsupported")
    assert_refused(ask(video="http://10.1.2.3/clip.mp4"), 422, "url_private")


POINT = {"type": "point", "x": 60, "y": 120, "negative": True, "frame": 2}
ON_GREEN = {"view": "cutout", "backing": {"kind": "colour", "colour": "#1f7a4d"}}


@pytest.mark.parametrize(
    ("language", "seen", "matte", "made"),
    [
        ("curl", {"view": "mask"}, {"grow_px": 1.5, "despill": "green"}, "mask.mp4"),
        ("python", ON_GREEN, {"invert": True}, "composite.mp4"),
        ("javascript", {"view": "cutout", "backing": {"kind": "checker"}}, {}, "cutout.webm"),
    ],
)
def test_the_programs_of_the_page_run_as_they_stand(
    service: Running,
    disc: Path,
    tmp_path: Path,
    language: str,
    seen: dict[str, Any],
    matte: dict[str, Any],
    made: str,
) -> None:
    fields = {"video": upload(service, disc, "video/webm"), "quality": "fast", "hints": [POINT]}
    arguments = ", ".join(map(json.dumps, (fields, seen, matte)))
    script = (
        f"const {{ PROGRAMS, callOf }} = await import('{STATIC}/playground/programs.js');"
        f"console.log(PROGRAMS.{language}('{service.url}', callOf({arguments})))"
    )
    program = ran(NODE, "--no-warnings", "--input-type=module", "-e", script).stdout
    path = tmp_path / "job.mjs"
    path.write_text(program)
    commands = {
        "curl": ["bash", "-ec", program],
        "python": [sys.executable, "-W", "ignore", "-c", program],
        "javascript": [NODE, str(path)],
    }
    with working(service, tmp_path):
        said = ran(*commands[language], env={**os.environ, "TOKEN": TOKEN}, cwd=tmp_path).stdout
    path = tmp_path / made
    if language != "curl":
        path.write_bytes(http.get(said.strip()).content)
    assert verify(disc, path, ResultKind(path.stem))
    points = [hint for hint in REQUESTS[-1].spec.hints if isinstance(hint, Point)]
    assert [(point.frame, point.negative) for point in points] == [(2, True)]


# A person's way through it


@pytest.fixture(scope="module")
def browser(service: Running) -> Generator[Browser]:
    """Started after the service, whose start needs an event loop of its own."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, service: Running) -> Generator[Page]:
    """Without motion nothing plays by itself: a busy machine draws slowly."""
    size = {"width": 1280, "height": 800}
    with strict_page(browser, service.url, viewport=size, reduced_motion="reduce") as page:
        page.context.set_default_timeout(WAIT_MS)
        page.goto(f"{service.url}/#token={TOKEN}")
        page.wait_for_selector("html[data-ready]")
        yield page


def transfer_of(page: Page, path: Path) -> JSHandle:
    packed = base64.b64encode(path.read_bytes()).decode()
    return page.evaluate_handle(
        """([name, packed]) => {
            const bytes = Uint8Array.from(atob(packed), (each) => each.charCodeAt(0));
            const transfer = new DataTransfer();
            const types = { webm: "video/webm", mp4: "video/mp4", png: "image/png" };
            const type = types[name.split(".").at(-1)];
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [path.name, packed],
    )


def drop(page: Page, path: Path) -> None:
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer_of(page, path)})


def mask(page: Page, clip: Path, verdict: str = "vp9") -> None:
    drop(page, clip)
    expect(page.locator("#verdict")).to_contain_text(verdict)
    page.get_by_role("button", name="Make the mask").click()
    expect(page.locator("#result")).to_be_visible()


def pixels(page: Page) -> "np.ndarray[Any, Any]":
    url = page.evaluate("document.getElementById('canvas').toDataURL()")
    packed = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
    picture = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture[:, :, ::-1])


def wait_for(page: Page, condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, what
        page.wait_for_timeout(100)


def off_by(page: Page, at: tuple[int, int], colour: tuple[int, int, int]) -> int:
    return int(np.abs(pixels(page)[at[1], at[0]].astype(int) - colour).max())


def shows(page: Page, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    wait_for(page, lambda: off_by(page, at, colour) <= 24, f"not {colour} at {at}")


def at_rest(page: Page) -> np.ndarray:
    seen = [pixels(page)]

    def is_still() -> bool:
        page.wait_for_timeout(300)
        seen.append(pixels(page))
        return np.array_equal(seen[-2], seen[-1])

    wait_for(page, is_still, "the stage goes on changing")
    return seen[-1]


def go_to(page: Page, number: int) -> None:
    page.locator("#number").fill(str(number))
    page.locator("#number").press("Enter")


def refuses(page: Page, path: str, code: int, reason: str, details: str) -> None:
    error = {"code": code, "message": "", "details": details, "reason": reason}
    answer = {"request_id": "x", "error": error}
    page.route(f"**/{path}", lambda route: route.fulfill(status=code, json=answer))


def test_from_a_dropped_clip_to_a_link_that_opens_elsewhere(
    page: Page, browser: Browser, service: Running, disc: Path, tmp_path: Path
) -> None:
    with working(service, tmp_path):
        drop(page, disc)
        expect(page.locator("#verdict")).to_contain_text(
            re.compile("320 . 240 · 24 fps · 1.0 s · .*vp9 in webm")
        )
        expect(page.locator("#drop")).to_contain_text("disc.webm")
        page.get_by_role("radio", name="Fast").check()
        held: list[Route] = []
        page.route("**/*disc.mask*", lambda route: held.append(route))
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#result-title")).to_have_text(re.compile("Done"))
        expect(page.locator("#result-name")).to_have_text("disc.webm · 24 frames · 1.0 s")
        expect(page.locator("#strip-legend")).to_be_visible()
        go_to(page, 0)  # before the mask has come
        wait_for(page, lambda: bool(held), "the request for the mask")
        for route in held:
            route.continue_()
        page.unroute("**/*disc.mask*")
        expect(page.locator("#views")).to_be_visible()
        expect(page.locator("#wipe")).to_be_hidden()  # the result, whole
        expect(page.get_by_role("slider", name="Frame")).to_have_attribute(
            "aria-valuetext", re.compile("frame 0 of 0 to 23, 15 percent")
        )
        expect(page.locator("#total")).to_have_text("of 0 to 23")
        page.get_by_role("checkbox", name="Wipe").check()
        expect(page.locator("#strip-coverage")).to_have_text("foreground 15 %")
        red, white, black = (220, 30, 30), (255, 255, 255), (0, 0, 0)
        shows(page, (40, 120), red)  # the cut-out, and the wipe rests at the subject's middle
        shows(page, (80, 120), red)
        expect(page.get_by_role("radio", name="Cut-out")).to_be_checked()
        expect(page.locator("#wipe")).to_have_attribute("aria-valuenow", re.compile("1[789]|20"))
        page.get_by_role("radio", name="Mask").check()
        handle = page.get_by_role("slider", name="Wipe between source and mask")
        handle.press("End")  # all source
        shows(page, (60, 120), red)
        handle.press("Home")  # all mask: the disc is at the left in the first frame
        shows(page, (60, 120), white)

        page.get_by_text("Edges", exact=True).click()
        grow = page.get_by_role("slider", name="Grow")
        shows(page, (125, 120), black)  # the disc's edge is at 119
        for _ in range(20):
            grow.press("ArrowRight")  # 10 px more on each side
        shows(page, (125, 120), white)
        page.get_by_role("button", name="Reset").click()
        shows(page, (125, 120), black)

        page.get_by_role("radio", name="Cut-out").check()
        page.get_by_role("radio", name="Colour").check()
        page.get_by_label("Colour behind the cut-out").fill("#1f7a4d")
        shows(page, (60, 120), red)
        shows(page, (250, 120), (0x1F, 0x7A, 0x4D))
        page.get_by_role("radio", name="Picture").check()
        shows(page, (8, 8), (29, 42, 82))  # a drawn dusk, until a picture is chosen
        cv2.imwrite(str(tmp_path / "blue.png"), np.full((90, 160, 3), (200, 60, 20), np.uint8))
        page.get_by_label("Picture behind the cut-out").set_input_files(tmp_path / "blue.png")
        shows(page, (60, 120), red)
        shows(page, (250, 120), (20, 60, 200))
        page.get_by_role("radio", name="Blur").check()
        wait_for(page, lambda: off_by(page, (300, 120), (20, 60, 200)) > 24, "no blur")
        there, green, blue = (int(each) for each in pixels(page)[120, 300])  # far from the disc
        shows(page, (250, 120), (there, green, blue))  # beside it: no red glows
        page.get_by_role("radio", name="Colour").check()

        strip = page.get_by_role("slider", name="Frame")
        strip.press("End")
        expect(page.locator("#number")).to_have_value("23")
        shows(page, (60, 120), (0x1F, 0x7A, 0x4D))
        shows(page, (250, 120), red)  # the disc has come to the right
        strip.press("ArrowLeft")
        expect(page.locator("#number")).to_have_value("22")
        page.locator("#play").focus()
        page.keyboard.press(",")
        expect(page.locator("#number")).to_have_value("21")
        page.evaluate("document.activeElement.blur()")  # the keys are the page's again
        page.keyboard.press(".")
        expect(page.locator("#number")).to_have_value("22")

        feather = page.get_by_role("slider", name="Feather")
        for _ in range(4):
            feather.press("ArrowRight")  # 2 px
        strip.press("End")
        shows(page, (250, 120), red)
        canvas = at_rest(page).astype(int)
        assert download(page, "What you see", tmp_path / "seen.mp4") == "disc.composite.mp4"
        with av.open(str(tmp_path / "seen.mp4")) as made:
            last = [frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)][23]
        assert np.sqrt(((last - canvas) ** 2).mean()) < 255 / 10 ** (28 / 20)  # 28 dB
        expect(page.locator("#uses").get_by_text("Premiere")).to_have_count(1)
        download(page, "Premiere, Resolve, After Effects", tmp_path / "cut.mov")
        assert verify(disc, tmp_path / "cut.mov", ResultKind.CUTOUT)
        download(page, "Cut-out for the web", tmp_path / "cut.webm")
        assert verify(disc, tmp_path / "cut.webm", ResultKind.CUTOUT)
        assert download(page, "Mask", tmp_path / "mask.mp4") == "disc.mask.mp4"
        assert verify(disc, tmp_path / "mask.mp4")
        for family in ("DejaVu Sans", "Liberation Sans", "sans-serif"):
            page.evaluate("(name) => (document.body.style.fontFamily = name)", family)
            place = page.locator("#canvas").bounding_box()
            for backing in ("Picture", "Colour"):
                page.get_by_role("radio", name=backing).check()
                assert page.locator("#canvas").bounding_box() == place  # nothing has moved
            assert page.locator(".buttons").evaluate("(row) => row.clientHeight") < 60  # one row
            assert not page.evaluate(CLIPPED)
        page.locator("#download").click()
        page.get_by_role("combobox", name="Format of the mask").select_option("mkv_vp9")
        audit(page)
        page.locator("#download").press("Escape")
        assert download(page, "Mask", tmp_path / "mask.mkv") == "disc.mask.mkv"
        assert verify(disc, tmp_path / "mask.mkv")
    come_back(page, browser, service)


def download(page: Page, what: str, target: Path) -> str:
    page.locator("#download").click()
    button = page.locator("#uses").get_by_role("button", name=re.compile(f"^{what}"))
    with page.expect_download(timeout=WAIT_MS) as coming:
        button.click()
    coming.value.save_as(target)
    return coming.value.suggested_filename


def come_back(page: Page, browser: Browser, service: Running) -> None:
    page.reload()
    expect(page.locator("#result-name")).to_contain_text("disc.webm")
    expect(page.locator("#views")).to_be_visible()
    recent = page.locator("#recent-list a")
    expect(recent).to_contain_text(["disc.webm"])
    assert recent.locator("img").first.get_attribute("src").startswith("data:image/webp")  # type: ignore[union-attr]
    page.get_by_role("button", name="New clip").click()
    expect(page.locator("#samples")).to_be_visible()
    assert "job=" not in page.url
    recent.first.click()
    expect(page.locator("#result-name")).to_contain_text("disc.webm")

    other = browser.new_page()
    other.goto(f"{page.url}#token={TOKEN}")
    expect(other.locator("#result-name")).to_contain_text("disc.webm")
    expect(other.get_by_role("checkbox", name="Wipe")).to_be_enabled()  # the clip is there, too
    cutout = other.locator("#recent-list img").first  # its own now
    expect(cutout).to_be_visible()
    assert other.url.startswith(f"{service.url}/?job=")
    other.close()

    page.get_by_label("More for disc.webm").first.click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("sun.webm")
    page.keyboard.press("Enter")
    expect(recent.first).to_contain_text("sun.webm")
    audit(page)
    page.get_by_label("More for sun.webm").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#samples")).to_be_visible()  # it was the one shown
    expect(page.get_by_text("sun.webm")).to_have_count(0)


SHIFTS = """() => new Promise((resolve) => new PerformanceObserver((list) =>
    resolve(list.getEntries().reduce((sum, each) => sum + each.value, 0)))
    .observe({ type: "layout-shift", buffered: true }) || setTimeout(() => resolve(0), 1000))"""


def test_on_a_phone_nothing_moves_while_the_scripts_come(
    browser: Browser, service: Running
) -> None:
    """Recent is beside the other links, where the text of a running job sends its reader."""
    size = {"width": 390, "height": 844}
    with strict_page(browser, service.url, viewport=size, reduced_motion="reduce") as page:

        def late(route: Route) -> None:
            page.wait_for_timeout(500)
            route.continue_()

        page.route("**/main.js", late)
        page.goto(f"{service.url}/#token={TOKEN}")
        page.wait_for_selector("html[data-ready]")
        expect(page.locator("#views")).to_be_visible()
        assert page.evaluate(SHIFTS) < 0.05
        bar = page.locator("nav").bounding_box()
        recent = page.locator("#recent-link").evaluate(
            "(link) => { link.hidden = false; return link.getBoundingClientRect().height }"
        )
        assert recent > 0
        assert page.locator("nav").bounding_box() == bar


def test_the_first_screen_stays_in_place_and_goes_to_any_frame(page: Page) -> None:
    expect(page.locator("#views")).to_be_visible()
    assert page.evaluate(SHIFTS) < 0.02
    page.get_by_role("radio", name="Source").check()
    first = pixels(page)
    go_to(page, 5)
    wait_for(page, lambda: np.abs(pixels(page).astype(int) - first).mean() > 2, "the same frame")


@pytest.mark.parametrize(
    ("name", "more", "silent"),
    [
        ("turned.mp4", {"turn": (90, False), "pts": synth.spread(24, (1001, 2002, 501))}, False),
        ("late.mp4", {"pts": synth.even(24, Fraction(24), start=30_000)}, False),
        ("late.mp4", {"pts": synth.even(24, Fraction(24), start=30_000)}, True),
    ],
)
def test_source_and_mask_are_of_the_same_moment(
    page: Page, service: Running, tmp_path: Path, name: str, more: dict[str, Any], silent: bool
) -> None:
    """A busy browser reports few of the frames that it shows; a silent one reports none."""
    if silent:
        page.add_init_script("HTMLVideoElement.prototype.requestVideoFrameCallback = () => 0")
        page.reload()
    clip = synth.write(tmp_path / name, dataclasses.replace(SPEC, **more))
    with working(service, tmp_path):
        mask(page, clip)
        expect(page.locator("#strip-legend")).to_be_visible()
        expect(page.locator("#views")).to_be_visible()
    page.get_by_role("radio", name="Mask").check()
    page.get_by_role("checkbox", name="Wipe").check()
    handle = page.get_by_role("slider", name="Wipe between source and mask")
    numbers = (0, 1, 8, 15, 22 if name == "late.mp4" else 23)  # Chromium ends a late one too soon
    for number in numbers:
        go_to(page, number)
        expected = pytest.approx(60 + 200 * number / 23, abs=3)

        def is_in_step(expected: object = expected) -> bool:
            handle.press("Home")
            page.wait_for_timeout(100)
            white = pixels(page)[:, :, 0] > 127
            handle.press("End")
            page.wait_for_timeout(100)
            shown = pixels(page).astype(int)
            red = shown[:, :, 0] - shown[:, :, 1] > 80
            across = np.nonzero(red)[0 if name == "turned.mp4" else 1]
            is_there = bool(across.size) and across.mean() == expected
            return is_there and (white & red).sum() / (white | red).sum() > 0.95

        wait_for(page, is_in_step, f"frame {number}: source and mask differ")


def disc_at(page: Page) -> float:
    """The column of the disc's middle, as the player shows it; 60 + 200 / 23 a frame."""
    shown = pixels(page).astype(int)
    across = np.nonzero(shown[:, :, 0] - shown[:, :, 1] > 80)[1]
    return float(across.sum() / max(1, across.size))


def are_in_step(page: Page, number: int, first: int) -> None:
    """On frame ``number`` of the part, source and mask are frame ``first + number`` of the clip."""
    go_to(page, number)
    expected = pytest.approx(60 + 200 * (first + number) / 23, abs=3)
    for view in ("Source", "Mask"):
        page.get_by_role("radio", name=view).check()

        def is_there(view: str = view) -> bool:
            if view == "Source":
                return disc_at(page) == expected
            white = pixels(page)[:, :, 0] > 127
            return bool(white.any()) and np.nonzero(white)[1].mean() == expected

        wait_for(page, is_there, f"{view} of frame {number}")


@pytest.mark.parametrize("name", ["disc.webm", "late.mp4"])
def test_a_part_of_a_clip_is_chosen_masked_and_opened_again(
    page: Page, browser: Browser, service: Running, tmp_path: Path, name: str
) -> None:
    late = {"start": 30_000} if name == "late.mp4" else {}
    spec = dataclasses.replace(SPEC, pts=synth.even(24, Fraction(24), **late))
    with working(service, tmp_path):
        drop(page, synth.write(tmp_path / name, spec))
        expect(page.locator("#verdict")).to_contain_text("24 fps")
        go_to(page, 6)
        page.get_by_role("button", name="Start here").click()
        go_to(page, 17)
        page.get_by_role("button", name="End here").click()
        expect(page.locator("#trim-start")).to_have_value("0:00.250")
        expect(page.locator("#trim-end")).to_have_value("0:00.750")
        expect(page.locator("#trim-said")).to_have_text("0.5 s of the clip")
        expect(page.locator("#code-text")).to_contain_text('"start_s":0.25,"end_s":0.75')
        go_to(page, 9)
        page.get_by_role("button", name="Mark the subject").click()
        page.locator("#marks").press("Enter")
        expect(page.locator("#mark-list")).to_contain_text("point in @9")
        REQUESTS.clear()
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#result-name")).to_have_text(
            f"{name} · 12 frames · 0.5 s · from 0:00.250"
        )
        expect(page.locator("#strip-legend")).to_be_visible()
        (made,) = (each.spec for each in REQUESTS)
        assert made.excerpt == Excerpt(0.25, 0.75)
        assert [hint.frame for hint in made.hints if isinstance(hint, Point)] == [3]
        expect(page.locator("#mark-list")).to_contain_text("point in @3")
        page.get_by_role("button", name="Mark the subject").click()
        expect(page.locator("#total")).to_have_text("of 0 to 11")
        expect(page.locator("#trim-here")).to_be_hidden()
        for number in (0, 5, 11):
            are_in_step(page, number, 6)
        link = page.url

        page.goto("about:blank")
        page.goto(link)
        expect(page.locator("#views")).to_be_visible()
        for number in (11, 0, 4):
            are_in_step(page, number, 6)
        page.get_by_text("Another quality", exact=True).click()
        REQUESTS.clear()
        page.get_by_role("button", name="Fast", exact=True).click()
        wait_for(page, lambda: bool(REQUESTS), "the second mask")
        assert REQUESTS[0].spec.excerpt == made.excerpt
        assert REQUESTS[0].spec.hints == made.hints


# Times of 24 frames a second, cut to milliseconds as some writers do, and a phone's own.
CUT_TO_MS = tuple(30 * (number * 1000 // 24) for number in range(24))
PHONE = tuple(np.cumsum([0, *([997, 1009, 2017, 514, 1511, 3001, 613, 1205] * 3)])[:24].tolist())


@pytest.mark.parametrize("pts", [CUT_TO_MS, PHONE], ids=["milliseconds", "phone"])
def test_a_part_begins_and_ends_with_the_frames_that_were_shown(
    page: Page, service: Running, tmp_path: Path, pts: tuple[int, ...]
) -> None:
    spec = dataclasses.replace(SPEC, pts=pts, codec="h264")

    def shown_after(presses: int) -> int:
        for _ in range(presses):
            before = page.locator("#time").inner_text()
            page.locator("#forward").click()
            expect(page.locator("#time")).not_to_have_text(before)
        page.wait_for_timeout(500)
        return round((disc_at(page) - 60) / 200 * 23)

    with working(service, tmp_path):
        drop(page, synth.write(tmp_path / "part.mp4", spec))
        expect(page.locator("#verdict")).to_contain_text("fps")
        if pts == PHONE:
            expect(page.locator("#verdict")).to_contain_text("mark the subject after a first mask")
        wait_for(page, lambda: disc_at(page) > 0, "no frame is shown")
        first = shown_after(4)
        page.get_by_role("button", name="Start here").click()
        last = shown_after(11)
        page.get_by_role("button", name="End here").click()
        assert last > first
        REQUESTS.clear()
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#result-name")).to_contain_text(f"{last - first + 1} frames")
        expect(page.locator("#strip-legend")).to_be_visible()
        for number in (0, last - first):
            are_in_step(page, number, first)


# A phone's times, then a screen's that stands still for 1.6 s and moves on quickly.
SCREEN = (*PHONE[:8], *(PHONE[8] + 48_000 + 250 * number for number in range(16)))


@pytest.mark.parametrize("pts", [PHONE, SCREEN], ids=["phone", "screen"])
def test_a_step_goes_to_the_next_frame_where_the_rate_varies(
    page: Page, tmp_path: Path, pts: tuple[int, ...]
) -> None:
    drop(page, synth.write(tmp_path / "vfr.mp4", dataclasses.replace(SPEC, pts=pts, codec="h264")))
    expect(page.locator("#verdict")).to_contain_text("varying")
    expect(page.locator("#number")).to_be_hidden()  # which frame of the clip it is is not known
    expect(page.locator("#time")).to_be_visible()

    def steps_to(number: int) -> None:
        at_s = pytest.approx(pts[number] / 30_000, abs=0.002)

        def is_there() -> bool:
            told_s = float(page.locator("#time").inner_text().removeprefix("0:"))
            return round((disc_at(page) - 60) / 200 * 23) == number and told_s == at_s

        wait_for(page, is_there, f"frame {number} is not shown")

    steps_to(0)
    for number in range(1, 12):
        page.locator("#forward").click()
        steps_to(number)
    for number in (10, 9, 8, 7):
        page.locator("#back").click()
        steps_to(number)
    for _ in range(2):  # at once: each counts
        page.locator("#strip").press("ArrowRight")
    steps_to(9)


# A busy browser: the report of the frame before comes late, in place of the sought frame's.
LATE_REPORTS = """
    const native = HTMLVideoElement.prototype.requestVideoFrameCallback;
    const told = new WeakMap();
    HTMLVideoElement.prototype.requestVideoFrameCallback = function (call) {
        return native.call(this, (now, metadata) => {
            const before = told.get(this);
            const isLate = before && !before.isLate && before.mediaTime !== metadata.mediaTime;
            const mediaTime = isLate ? before.mediaTime : metadata.mediaTime;
            told.set(this, { mediaTime, isLate });
            call(now, { mediaTime });
        });
    };
"""


def test_a_step_whose_frame_was_not_reported_is_taken_all_the_same(
    browser: Browser, service: Running, tmp_path: Path
) -> None:
    clip = synth.write(tmp_path / "vfr.mp4", dataclasses.replace(SPEC, pts=PHONE, codec="h264"))
    with strict_page(browser, service.url, reduced_motion="reduce") as page:
        page.add_init_script(LATE_REPORTS)
        page.goto(f"{service.url}/#token={TOKEN}")
        page.wait_for_selector("html[data-ready]")
        drop(page, clip)
        expect(page.locator("#verdict")).to_contain_text("varying")
        for number in (1, 2, 3):
            page.locator("#forward").click()
            told = f"0:{PHONE[number] / 30_000:06.3f}"
            expect(page.locator("#time")).to_have_text(told)


KEEP_VIDEOS = """
    const createElement = document.createElement;
    window.videos = [];
    document.createElement = function (...args) {
        const made = createElement.apply(this, args);
        if (made instanceof HTMLVideoElement) window.videos.push(made);
        return made;
    };
"""
DROP_AS_IT_SEEKS = """(dataTransfer) => {
    const drop = new DragEvent("drop", { dataTransfer, bubbles: true });
    const dropIt = () => document.body.dispatchEvent(drop);
    window.videos[0].addEventListener("seeking", dropIt, { once: true });
}"""


def test_a_clip_that_comes_while_the_sample_seeks_can_be_sought(
    browser: Browser, service: Running, disc: Path
) -> None:
    with strict_page(browser, service.url, reduced_motion="reduce") as page:
        page.add_init_script(KEEP_VIDEOS)
        page.goto(f"{service.url}/#token={TOKEN}")
        page.wait_for_selector("html[data-ready]")
        expect(page.locator("#views")).to_be_visible()
        page.evaluate(DROP_AS_IT_SEEKS, transfer_of(page, disc))
        go_to(page, 20)
        expect(page.locator("#verdict")).to_contain_text("24 fps")
        go_to(page, 6)
        expected = pytest.approx(60 + 200 * 6 / 23, abs=3)
        wait_for(page, lambda: disc_at(page) == expected, "frame 6 is not shown")


def test_marks_outside_of_the_part_are_said_to_be_left_out_and_come_back_with_the_form(
    page: Page, service: Running, disc: Path
) -> None:
    drop(page, disc)
    expect(page.locator("#verdict")).to_contain_text("24 fps")
    page.locator("#quality-fast").check()
    for number in (2, 9):
        go_to(page, number)
        if number == 2:
            page.get_by_role("button", name="Mark the subject").click()
        page.locator("#marks").press("Enter")
        expect(page.locator("#mark-list")).to_contain_text(f"point in @{number}")
    expect(page.locator("#trim-marks")).to_be_hidden()
    go_to(page, 6)
    page.get_by_role("button", name="Start here").click()
    expect(page.locator("#trim-marks")).to_have_text(
        "1 mark is outside of this part and does not count."
    )
    expect(page.locator("#mark-list")).to_contain_text("point in @2, outside of the part")
    page.get_by_text("Format and webhook").click()
    page.locator("#preset").select_option("webm_vp9")
    page.get_by_role("button", name="Make the mask").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-title")).to_have_text("Cancelled")
    link = page.url

    def is_the_form_again() -> None:
        page.get_by_role("button", name="Change settings").click()
        expect(page.locator("#verdict")).to_contain_text("24 fps")
        expect(page.locator("#trim-start")).to_have_value("0:00.250")
        expect(page.locator("#quality-fast")).to_be_checked()
        expect(page.locator("#preset")).to_have_value("webm_vp9")
        expect(page.locator("#mark-list")).to_contain_text("point in @9")
        go_to(page, 6)
        expected = pytest.approx(60 + 200 * 6 / 23, abs=3)
        wait_for(page, lambda: disc_at(page) == expected, "the clip is not whole")
        assert "job=" not in page.url

    is_the_form_again()
    expect(page.locator("#mark-list")).to_contain_text("point in @2, outside of the part")
    expect(page.locator("#code-text")).to_contain_text('"start_s":0.25')
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#job-title")).to_have_text("Cancelled")
    is_the_form_again()


def test_a_minute_of_a_longer_clip_is_masked(page: Page, service: Running, tmp_path: Path) -> None:
    with working(service, tmp_path):
        clip = clips.write(tmp_path / "long.mp4", frames=61 * 2, rate=2)
        expect(page.locator("#file-hint")).to_contain_text("so much of a longer clip")
        drop(page, clip)
        expect(page.locator("#verdict")).to_contain_text("At most 1 min of it is masked at once")
        expect(page.locator("#trim-end")).to_have_value("1:00.000")
        expect(page.get_by_role("button", name="The first 1 min")).to_be_hidden()
        page.locator("#trim-end").fill("")
        page.locator("#trim-end").press("Tab")  # 61 s are too long: the start follows
        expect(page.locator("#trim-start")).to_have_value("0:01.000")
        expect(page.locator("#trim-said")).to_have_text(
            "1 min of the clip, the most that is masked at once"
        )
        page.get_by_role("button", name="The first 1 min").click()
        expect(page.locator("#trim-start")).to_have_value("")
        expect(page.locator("#trim-end")).to_have_value("1:00.000")
        page.locator("#trim-start").fill("0.5")
        page.locator("#trim-start").press("Tab")
        page.locator("#trim-end").fill("0:61")
        page.locator("#trim-end").press("Tab")
        expect(page.locator("#trim-start")).to_have_value("0:01.000")
        page.locator("#trim-start").fill("1.50.5")
        page.locator("#trim-start").press("Tab")
        expect(page.locator("#trim-error")).to_have_text("Write a time as 62.5 or 1:02.5.")
        audit(page)
        page.locator("#trim-end").fill("")
        page.locator("#trim-end").press("Tab")
        page.locator("#trim-start").fill("55,5")
        page.locator("#trim-start").press("Tab")
        expect(page.locator("#trim-error")).to_be_hidden()
        expect(page.locator("#trim-start")).to_have_value("0:55.500")
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#result-name")).to_have_text(
            "long.mp4 · 11 frames · 5.5 s · from 0:55.500"
        )


def test_a_pasted_url_is_shown_without_asking_its_host(
    open_service: Running, browser: Browser, disc: Path
) -> None:
    other = synth.write(disc.with_name("other.mp4"))
    with clips.serving(disc.parent) as host:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{open_service.url}/#token={TOKEN}")
        page.get_by_label("The URL of a clip").fill(f"{host}/{disc.name}")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#verdict")).to_contain_text("vp9 in webm")
        expect(page.locator("#frame")).to_be_visible()
        shows(page, (60, 120), (220, 30, 30))
        assert all(url.startswith((open_service.url, "blob:")) for url in asked)
        # another URL can be given without a reload
        page.get_by_label("The URL of a clip").fill(f"{host}/{other.name}")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#verdict")).to_contain_text("h264 in mp4")
        page.close()


def test_an_error_stands_beside_its_field_with_a_way_out(
    page: Page, service: Running, drawn: Path
) -> None:
    drop(page, drawn / "wide.mp4")
    error = page.locator("#clip-error")
    expect(error).to_contain_text("16016")
    expect(error).to_contain_text("16000 pixels")
    expect(page.locator("#file")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("button", name="Make the mask")).to_be_hidden()
    page.get_by_label("The URL of a clip").fill("http://127.0.0.1/clip.mp4")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#url")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#file")).not_to_have_attribute("aria-invalid", "true")
    expect(error).to_contain_text("FOREMASK_ALLOW_PRIVATE")
    audit(page)
    error.get_by_role("link", name="url_private").click()
    expect(page.locator("#reason-url_private")).to_be_in_viewport()
    ids = page.evaluate("[...document.querySelectorAll('[id^=reason-]')].map((each) => each.id)")
    assert set(ids) == {f"reason-{each.name}" for each in ERROR_TABLE}


def test_a_clip_that_was_cut_off_is_told_and_can_be_masked(
    page: Page, disc: Path, tmp_path: Path
) -> None:
    whole = disc.read_bytes()
    cut = tmp_path / "cut.webm"
    cut.write_bytes(whole[:-500])
    there = f"{len(whole) - 500} of at least {len(whole)} bytes are there, and the end is missing"
    drop(page, cut)
    expect(page.locator("#verdict")).to_contain_text(f"Note: the file was cut off: {there}")
    expect(page.get_by_role("button", name="Make the mask")).to_be_enabled()
    drop(page, disc)
    expect(page.locator("#verdict")).not_to_contain_text("cut off")


def test_a_busy_service_takes_an_upload_without_a_verdict(
    page: Page, service: Running, disc: Path, tmp_path: Path
) -> None:
    refuses(page, "v2/video/probe", 422, "url_unreachable", "too slow")
    with working(service, tmp_path):
        mask(page, disc, "busy")
        expect(page.locator("#total")).to_have_text("of 0 to 23")


def test_a_job_whose_record_cannot_be_read_has_ended(
    page: Page, service: Running, disc: Path
) -> None:
    job = post(service, "/foreground_mask", video=upload(service, disc)).json()["request_id"]
    service.sql('update jobs set spec = spec || \'{"form": "none"}\' where id = %s', job)
    page.goto(f"{service.url}/?job={job}")
    expect(page.locator("#job-error")).to_contain_text(f"report request {job}")
    expect(page.locator("#job-title")).to_have_text("Failed")
    http.delete(f"{service.url}/v2/jobs/{job}", headers=service.headers)


def test_a_mask_that_is_shown_while_the_job_runs_is_said_not_to_be_the_result(
    page: Page, service: Running, disc: Path
) -> None:
    job = post(service, "/foreground_mask", video=upload(service, disc)).json()["request_id"]
    png = cv2.imencode(".png", np.full((240, 320), 255, np.uint8))[1].tobytes()

    async def answer(database: Database) -> None:
        found = IngestDone(JobClip(frames=24), f"sources/{job}/source", (StoredSegment(),))
        await done(database, job, "ingest", found)
        step = await begun(database, job, "segment")
        assert await steps.renew(database, [Beat(step, 1, newest_png=png)])

    service.ask(answer)
    page.goto(f"{service.url}/?job={job}")
    look = page.get_by_role("figure")
    expect(look).to_contain_text("Not the result: the network's first answer for one frame.")
    width = "(picture) => picture.complete && picture.naturalWidth"
    assert look.get_by_role("img").evaluate(width) == 320
    audit(page)
    http.delete(f"{service.url}/v2/status/{job}", headers=service.headers)
    expect(look).to_be_hidden()


def test_a_wrong_token_is_told_at_once(page: Page) -> None:
    page.get_by_role("button", name="Token").click()
    page.get_by_role("button", name="Forget it").click()
    page.get_by_label("API token").fill("wrong")
    page.get_by_role("button", name="Use").click()
    expect(page.locator("#token-error")).to_contain_text("unknown, revoked or expired")
    audit(page)
    page.get_by_label("API token").fill(TOKEN)
    page.get_by_role("button", name="Use").click()
    expect(page.locator("#token-form")).to_be_hidden()
    assert page.evaluate("localStorage.length") == 0


def test_a_links_token_replaces_the_one_in_use_only_at_a_click(
    browser: Browser, service: Running
) -> None:
    """Else a stranger's link would take the next clip into the stranger's account."""
    other = service.new_token()["api_token"]
    page = browser.new_page()
    page.goto(f"{service.url}/#token=nonsense")
    expect(page.locator("#token-error")).to_contain_text("unknown, revoked or expired")
    assert page.evaluate("sessionStorage.length") == 0
    page.goto("about:blank")
    page.goto(f"{service.url}/#token={TOKEN}")
    page.wait_for_selector("html[data-ready]")
    page.goto("about:blank")
    page.goto(f"{service.url}/#token={other}")
    expect(page.locator("#token-error")).to_contain_text(f"another token, {other[:6]}")
    held = "sessionStorage.getItem('foremask-token')"
    assert page.evaluate(held) == TOKEN
    page.get_by_role("button", name="Use", exact=True).click()
    expect(page.locator("#token-form")).to_be_hidden()
    assert page.evaluate(held) == other
    page.close()


# Marks on frames


def at(page: Page, x: int, y: int) -> tuple[float, float]:
    box = page.locator("#marks").bounding_box()
    assert box is not None
    scale = box["width"] / SPEC.width
    return box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale


def draw(page: Page, first: tuple[int, int], *others: tuple[int, int]) -> None:
    page.mouse.move(*at(page, *first))
    page.mouse.down()
    for place in others:
        page.mouse.move(*at(page, *place), steps=3)
    page.mouse.up()


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
        assert REQUESTS[-1].spec.hints == ()

        go_to(page, 0)
        before_marks = page.locator("#canvas").bounding_box()
        page.get_by_role("button", name="Mark the subject").click()
        expect(page.get_by_role("button", name="Apply to the clip")).to_be_disabled()
        page.mouse.click(*at(page, 10, 10))  # a newer mark takes the older one's place
        page.get_by_role("button", name="Undo").click()
        page.mouse.click(*at(page, 60, 120))
        expect(said).to_contain_text("Point in at 60, 120, @0: in the mask of this frame")
        middle = [{"type": "point", "x": 160, "y": 120}]
        looks = [each["picture"] for each in asked if each["hints"] == middle]
        assert asked[-1]["picture"] in looks  # the service saw it before the first click
        png = base64.b64decode(asked[-1]["mask"].partition(",")[2])  # of the result, to correct
        sent = cv2.imdecode(np.frombuffer(png, np.uint8), 0)
        assert sent is not None
        assert sent.shape == (240, 320)
        assert (int(sent[120, 60]), int(sent[20, 160])) == (255, 0)
        tinted = pixels(page)[120, 60].astype(int)
        dark = pixels(page)[20, 160].astype(int)
        assert tinted[0] > 200, tinted
        assert dark.max() < 150, dark  # what is not the subject is dark
        page.mouse.click(*at(page, 250, 40), button="right")
        expect(said).to_contain_text("Point out at 250, 40, @0: not in the mask")

        go_to(page, 23)
        page.get_by_text("Box", exact=True).click()
        draw(page, (200, 60), (280, 140), (319, 180))
        expect(page.locator("#marks .box")).to_have_text("box in")
        expect(said).to_contain_text("Box in at 200, 60, @23: in the mask")

        page.get_by_text("Point", exact=True).click()
        assert page.locator(".toast").count() == 0
        board = page.get_by_role("application")
        board.press("ArrowUp")
        board.press("Shift+ArrowLeft")
        expect(said).to_have_text("159, 110 of 320 by 240")
        board.press("Alt+Enter")
        expect(said).to_contain_text("Point out at 159, 110, @23: not in the mask")
        board.press("Enter")
        expect(page.locator("#mark-list button")).to_have_count(5)
        assert page.locator("#canvas").bounding_box() == before_marks  # nothing has moved
        board.press("Backspace")
        expect(page.locator("#mark-list button")).to_have_count(4)
        expect(page.locator("#marks .point")).to_have_count(1)
        audit(page)
        chips = ["point in @0", "point out @0", "box in @23", "point out @23"]
        expect(page.locator("#mark-list button")).to_have_text(chips)
        page.locator("#mark-list button").first.click()
        expect(page.locator("#number")).to_have_value("0")
        expect(page.locator("#marks .point")).to_have_count(2)

        apply(page)
        expect(page.locator("#result-name")).to_contain_text("disc.webm")
        marked = [
            Point(60, 120, frame=0),
            Point(250, 40, frame=0, negative=True),
            Box(x=200, y=60, width=120, height=121, frame=23),
            Point(159, 110, frame=23, negative=True),
        ]
        assert list(REQUESTS[-1].spec.hints) == marked
        expect(page.locator("#code-text")).to_contain_text('"hints":[{"type":"point","x":60')

        expect(page.get_by_role("button", name="Apply to the clip")).to_be_disabled()
        go_to(page, 11)
        page.get_by_text("Out", exact=True).click()
        page.mouse.click(*at(page, 20, 20))
        expect(said).to_contain_text("Point out at 20, 20, @11: not in the mask")
        assert [each["x"] for each in asked[-1]["hints"]] == [20]
        go_to(page, 0)  # its marks are in the mask already
        page.mouse.click(*at(page, 30, 30))
        expect(said).to_contain_text("Point out at 30, 30, @0: not in the mask")
        assert [each["x"] for each in asked[-1]["hints"]] == [30]
        page.get_by_role("button", name="Undo").click()
        apply(page)
        marked.append(Point(20, 20, frame=11, negative=True))
        assert list(REQUESTS[-1].spec.hints) == marked

        page.reload()  # the marks stay; without one of them the clip is masked anew
        expect(page.locator("#result")).to_be_visible()
        page.get_by_role("button", name="Mark the subject").click()
        expect(page.locator("#mark-list button")).to_have_count(5)
        page.get_by_role("button", name="Undo").click()
        apply(page)
        assert list(REQUESTS[-1].spec.hints) == marked[:-1]


def test_the_marked_frame_stays_when_its_mask_is_made(
    browser: Browser, service: Running, tmp_path: Path
) -> None:
    clip = synth.write(tmp_path / "disc.webm", SPEC)
    size = {"width": 1280, "height": 800}
    with working(service, tmp_path), strict_page(browser, service.url, viewport=size) as page:
        page.context.set_default_timeout(WAIT_MS)
        page.goto(f"{service.url}/#token={TOKEN}")
        page.wait_for_selector("html[data-ready]")
        drop(page, clip)
        expect(page.locator("#verdict")).to_contain_text("vp9")
        go_to(page, 9)
        page.get_by_role("button", name="Mark the subject").click()
        page.mouse.click(*at(page, 140, 120))
        expect(page.locator("#mark-said")).to_contain_text("@9: in the mask")
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#strip-legend")).to_be_visible()
        expect(page.locator("#view-overlay")).to_be_checked()
        page.wait_for_timeout(1000)
        expect(page.locator("#number")).to_have_value("9")
        expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
        expect(page.locator("#marks .point")).to_have_count(1)


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
        failed = "Your marks on @0 are kept, but not masked yet: others are"
        expect(page.locator("#mark-said")).to_contain_text(failed)
        expect(page.locator("#mark-list button")).to_have_text(["point out @0, not masked"])
        page.unroute("**/preview")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#mark-said")).to_contain_text("Point out at 60, 120, @0: not in")
        expect(page.locator("#mark-list button")).to_have_text(["point out @0"])
        page.get_by_role("button", name="Undo").click()
        refuses(page, "preview", 503, "overloaded", "others are")
        page.keyboard.down("Alt")
        page.mouse.click(*at(page, 60, 120))
        page.keyboard.up("Alt")
        expect(page.locator("#mark-list button")).to_have_text(["point out @0, not masked"])
        page.get_by_role("button", name="Make the mask").click()
        expect(page.locator("#result")).to_be_visible()
        expect(page.locator("#mark-list button")).to_have_text(["point out @0"])
        expect(page.locator("#mark-said")).not_to_contain_text("not masked yet")
        assert list(REQUESTS[-1].spec.hints) == [Point(60, 120, frame=0, negative=True)]
        expect(page.locator("#strip-legend")).to_be_visible()
        expect(page.locator("#view-overlay")).to_be_checked()  # what is left out can be seen
        page.get_by_role("button", name="Mark the subject").click()
        expect(page.get_by_role("radio", name="Cut-out")).to_be_checked()


def test_a_look_that_takes_long_is_explained(page: Page, disc: Path) -> None:
    page.clock.install()
    page.route("**/preview", lambda route: None)  # it is never answered
    drop(page, disc)
    page.get_by_role("button", name="Mark the subject").click()
    page.mouse.click(*at(page, 60, 120))
    said = page.locator("#mark-said")
    expect(said).to_have_text("Point in at 60, 120, @0: looking …")
    page.clock.fast_forward(4000)
    expect(said).to_contain_text("still looking … The first look loads the network")


def test_on_a_phone_what_is_said_of_a_mark_hides_none_of_the_picture(
    page: Page, disc: Path
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    drop(page, disc)
    expect(page.locator("#verdict")).to_contain_text("vp9")
    page.get_by_role("button", name="Mark the subject").click()
    page.locator("#marks").press("Enter")
    expect(page.locator("#mark-said")).to_contain_text("Point in at 160, 120, @0: in the mask")
    said = page.locator("#mark-said").bounding_box()
    picture = page.locator("#canvas").bounding_box()
    assert said is not None
    assert picture is not None
    assert said["y"] >= picture["y"] + picture["height"]


def test_a_brush_paints_what_is_put_in_and_what_is_taken_out(
    page: Page, service: Running, tmp_path: Path
) -> None:
    clip = synth.write(tmp_path / "disc.webm", SPEC)
    with working(service, tmp_path):
        mask(page, clip)
        expect(page.locator("#views")).to_be_visible()
        go_to(page, 0)
        page.get_by_role("button", name="Mark the subject").click()
        page.get_by_text("Brush", exact=True).click()
        expect(page.locator("#mark-said")).to_contain_text("Paint over the subject")
        draw(page, (160, 60), (240, 60))
        page.get_by_text("Out", exact=True).click()
        draw(page, (60, 120), (60, 140))
        chips = ["brush in @0", "brush out @0"]
        expect(page.locator("#mark-list button")).to_have_text(chips)
        expect(page.locator("#marks polyline")).to_have_count(2)
        expect(page.locator("#mark-said")).to_contain_text("Brush out at 60, ")
        expect(page.locator("#mark-said")).to_contain_text(
            "not in the mask of this frame's preview"
        )
        audit(page)
        apply(page)
        (paint,) = REQUESTS[-1].spec.hints  # strokes of one frame are one paint
        assert isinstance(paint, Paint)
        levels = read_paint(paint.png)
        assert levels is not None
        assert levels.shape == (240, 320)
        places = [(60, 160), (60, 240), (60, 200), (130, 60), (120, 120), (200, 200)]
        assert [int(levels[place]) for place in places] == [255, 255, 255, 0, 128, 128]
        assert (levels[:, 160] == 255).sum() == pytest.approx(24, abs=1)  # a tenth of the height


def test_two_results_of_a_clip_are_seen_side_by_side(
    page: Page, service: Running, tmp_path: Path
) -> None:
    clip = synth.write(tmp_path / "pair.webm", SPEC)
    with working(service, tmp_path):
        mask(page, clip)
        expect(page.locator("#views")).to_be_visible()
        expect(page.get_by_label("Left of the wipe")).to_be_hidden()
        video = upload(service, clip, "video/webm", name="pair.webm")
        made = post(service, "/foreground_mask", video=video, invert=True).json()["request_id"]
        listed = page.locator("#recent-list a")
        before = listed.count()
        page.reload()
        expect(page.locator("#views")).to_be_visible()
        expect(listed).to_have_count(before)  # a program's job pushes no other out
        page.get_by_label("Jobs of programs, too").check()
        page.locator(f"#recent-list a[href$='{made}']").click()
        expect(page.get_by_label("Left of the wipe")).to_be_visible()  # the name is the same
        expect(page.locator("#result-name")).to_contain_text("pair.webm")
    page.get_by_role("radio", name="Mask").check()
    go_to(page, 0)
    shows(page, (60, 120), (0, 0, 0))
    page.get_by_label("Left of the wipe").select_option(index=1)
    expect(page.locator("#tag-left")).to_contain_text("Balanced")
    handle = page.get_by_role("slider", name="Wipe between source and mask")
    handle.press("Home")
    for _ in range(5):
        handle.press("PageUp")
    shows(page, (60, 120), (255, 255, 255))  # the disc in the first result
    shows(page, (120, 20), (0, 0, 0))
    shows(page, (250, 120), (255, 255, 255))  # what is not the disc in the second one
    go_to(page, 23)  # the disc is at the right
    shows(page, (60, 120), (0, 0, 0))
    shows(page, (260, 120), (0, 0, 0))
    shows(page, (300, 20), (255, 255, 255))
    audit(page)
    page.get_by_label("Left of the wipe").select_option("Source")
    shows(page, (60, 20), (160, 160, 160))


def test_a_late_answer_does_not_replace_the_list_of_jobs_that_was_asked_for_after_it(
    page: Page, service: Running, disc: Path
) -> None:
    video = upload(service, disc, "video/webm")
    made = post(service, "/foreground_mask", video=video).json()["request_id"]
    page.reload()
    of_programs = page.get_by_label("Jobs of programs, too")
    of_programs.check()
    link = page.locator(f"#recent-list a[href$='{made}']")
    expect(link).to_be_visible()
    held: list[Route] = []
    page.route("**/v2/jobs?*key_prefix=*", lambda route: held.append(route))
    of_programs.uncheck()
    wait_for(page, lambda: bool(held), "the request for this page's jobs")
    with page.expect_response(lambda answer: "/v2/jobs?" in answer.url):
        of_programs.check()
    with page.expect_response(lambda answer: "key_prefix=" in answer.url):
        held[0].continue_()
    page.wait_for_timeout(300)
    expect(link).to_be_visible()
    http.delete(f"{service.url}/v2/jobs/{made}", headers=service.headers)


def test_a_picture_is_cut_out_and_saved(page: Page, service: Running, tmp_path: Path) -> None:
    picture, _ = synth.disc(320, 240, 0)
    cv2.imwrite(str(tmp_path / "sun.png"), picture[:, :, ::-1])

    def add_point(route: Route) -> None:
        """The trees know no such network, and leave a single red thing out unless it is marked."""
        body: dict[str, Any] = dict(route.request.post_data_json or {})
        body["hints"] = [{"type": "point", "x": 60, "y": 120}]
        route.continue_(post_data=json.dumps(body))

    refuses(page, "preview", 503, "overloaded", "others are")
    drop(page, tmp_path / "sun.png")
    expect(page.locator("#still-title")).to_have_text("Not cut out")
    page.unroute("**/preview")
    page.route("**/preview", add_point)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#still-title")).to_have_text("Done")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    page.get_by_role("radio", name="Mask").check()
    shows(page, (60, 120), (255, 255, 255))
    shows(page, (300, 20), (0, 0, 0))
    with page.expect_download(timeout=WAIT_MS) as coming:
        page.get_by_role("button", name="Download the cut-out").click()
    coming.value.save_as(tmp_path / "cut.png")
    assert coming.value.suggested_filename == "sun.cutout.png"
    cut = cv2.imread(str(tmp_path / "cut.png"), cv2.IMREAD_UNCHANGED)
    assert cut is not None
    assert cut.shape == (240, 320, 4)
    assert [int(cut[place][3]) for place in ((120, 60), (20, 300))] == [255, 0]
    audit(page)
    page.get_by_role("button", name="Another").click()
    expect(page.locator("#samples")).to_be_visible()


def test_specks_are_removed_as_in_the_file(page: Page, service: Running, tmp_path: Path) -> None:
    def pictures() -> Iterator[Rgb]:
        for picture, _ in synth.draw(SPEC):
            picture[200:210, 150:170] = (220, 30, 30)  # 200 pixels
            yield picture

    clip = synth.write(tmp_path / "specks.webm", SPEC, pictures())
    with working(service, tmp_path):
        mask(page, clip)
        expect(page.locator("#views")).to_be_visible()
        page.get_by_role("radio", name="Mask").check()
        go_to(page, 0)
        shows(page, (160, 205), (255, 255, 255))
        page.get_by_text("Edges", exact=True).click()
        specks = page.get_by_role("slider", name="Remove specks")
        for _ in range(3):
            specks.press("ArrowRight")
        shows(page, (160, 205), (255, 255, 255))  # 150 are fewer
        for _ in range(4):
            specks.press("ArrowRight")
        shows(page, (160, 205), (0, 0, 0))
        shows(page, (60, 120), (255, 255, 255))
        assert download(page, "What you see", tmp_path / "seen.mp4") == "specks.mask.mp4"
    first = next(iter(masks_of(tmp_path / "seen.mp4")))
    assert (first[205, 160], first[120, 60]) == (0, 255)


SETTLED = """async () => {
    await new Promise((so) => requestAnimationFrame(() => requestAnimationFrame(so)));
    const ends = (each) => each.effect.getComputedTiming().endTime < Infinity;
    await Promise.allSettled(document.getAnimations().filter(ends).map((each) => each.finished));
}"""
VIOLATIONS = """async () => {
    const { violations } = await axe.run({ resultTypes: ["violations"] });
    return violations.map(({ id, impact, nodes }) => [id, impact, nodes[0].html.slice(0, 200)]);
}"""
"""Only these: to bring over what axe found to be right, too, takes seconds."""


def audit(page: Page) -> None:
    page.evaluate((packages() / "axe-core/axe.min.js").read_text("utf-8"))
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(SETTLED)
        found += page.evaluate(VIOLATIONS)
    assert not found


# The reference, the documentation and pages that are not there


def test_the_reference_shows_the_api_and_tries_it(service: Running, browser: Browser) -> None:
    policy = http.get(f"{service.url}/reference").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    size = {"width": 360, "height": 740}
    with strict_page(browser, service.url, viewport=size) as page:
        page.context.set_default_timeout(WAIT_MS)
        other = page.context.new_page()
        other.goto(f"{service.url}/#token={TOKEN}")
        other.wait_for_selector("html[data-ready]")
        page.goto(f"{service.url}/reference#reason-duration_too_long")
        expect(page.get_by_label("Your token")).to_have_value(TOKEN)  # the other tab's
        other.get_by_role("link", name="API").click()
        third = page.context.new_page()  # no tab shows the page any more
        third.goto(f"{service.url}/reference")
        expect(third.get_by_label("Your token")).to_have_value(TOKEN)
        third.close()
        expect(page.locator("#reason-duration_too_long")).to_be_in_viewport()
        page.locator("#operations-jobs-submit > summary").click()
        submit = page.locator("#operations-jobs-submit")
        expect(submit.get_by_role("cell", name="video required")).to_be_visible()
        expect(submit.get_by_label("Body")).to_have_value(
            re.compile("https://example.com/clip.mp4")
        )
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
    built = bool(read_folder(SITE))
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
