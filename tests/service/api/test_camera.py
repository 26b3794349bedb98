"""The camera tab of the page, in a real Chromium with its fake camera, which shows a red disc."""

from collections.abc import Generator
from pathlib import Path

import av
import cv2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service.api.conftest import TOKEN, Running, serves
from tests.support import synth
from tests.support.browser import browsing, screenshot, strict_page
from tests.support.patience import wait_until

WIDTH, HEIGHT = 320, 240
WAIT_MS = 120_000
expect.set_options(timeout=WAIT_MS)
BLUE = [37, 99, 201]  # the colour that is chosen at first
PIXEL = """([x, y]) => [...document.getElementById("camera-canvas").getContext("2d")
    .getImageData(x * document.getElementById("camera-canvas").width,
                  y * document.getElementById("camera-canvas").height, 1, 1).data]"""
WATCH = """() => {
  const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = (wanted) => (window.asked = true, ask(wanted));
}"""
service = serves(own_model=True)


@pytest.fixture(scope="module")
def browser(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    """Started after the service, whose start needs an event loop of its own."""
    camera = tmp_path_factory.mktemp("camera") / "disc.mjpeg"
    with av.open(camera, "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for index in range(20):
            picture, _ = synth.disc(WIDTH, HEIGHT, 0.4 + index / 100)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    with browsing(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",  # without windows, Chromium cannot ask
        f"--use-file-for-fake-video-capture={camera}",
        "--host-resolver-rules=MAP foremask.test 127.0.0.1",
    ) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, service: Running) -> Generator[Page]:
    more = {"permissions": ["camera"], "viewport": {"width": 1280, "height": 800}}
    with strict_page(browser, service.url, **more) as opened:
        opened.goto(f"{service.url}/#token={TOKEN}")
        opened.locator("html[data-ready]").wait_for()
        yield opened


def pixel(page: Page, x: float, y: float) -> list[int]:
    found: list[int] = page.evaluate(PIXEL, [x, y])
    return found


def is_like(found: list[int], wanted: list[int]) -> bool:
    return all(abs(one - other) < 60 for one, other in zip(found, wanted, strict=False))


def test_the_camera_is_asked_for_on_the_click_and_shown_over_what_is_chosen(
    page: Page, tmp_path: Path
) -> None:
    page.evaluate(WATCH)
    page.get_by_role("radio", name="Camera").check()
    expect(page.locator("#stage")).to_be_hidden()
    assert page.evaluate("window.asked") is None
    page.get_by_role("button", name="Start the camera").press("Enter")
    expect(page.locator("#camera-facts")).to_contain_text("frames a second")
    assert page.evaluate("window.asked")
    expect(page.locator("#camera-said")).to_have_text("The camera is on.")
    wait_until(lambda: is_like(pixel(page, 0.02, 0.02), BLUE))
    assert is_like(pixel(page, 0.45, 0.5), [220, 30, 30])
    page.get_by_role("radio", name="Nothing").check()
    wait_until(lambda: pixel(page, 0.02, 0.02)[3] < 16)
    assert pixel(page, 0.45, 0.5)[3] > 200
    page.get_by_role("radio", name="Blur").check()
    wait_until(lambda: pixel(page, 0.02, 0.02)[3] == 255)
    page.get_by_role("radio", name="Nothing").check()
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(3000)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Stop recording").click()
    saved.value.save_as(tmp_path / "camera.webm")
    assert is_transparent(tmp_path / "camera.webm")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#camera-said")).to_have_text("The camera is off.")
    page.get_by_role("radio", name="Clip").check()
    expect(page.locator("#stage")).to_be_visible()


def is_transparent(path: Path) -> bool:
    with av.open(path) as file:
        return file.streams.video[0].metadata.get("alpha_mode") == "1"


def test_a_page_that_gets_no_camera_tells_what_it_needs(browser: Browser, service: Running) -> None:
    """Under another name than 127.0.0.1, and without HTTPS."""
    page = browser.new_page()
    page.goto(service.url.replace("127.0.0.1", "foremask.test"))
    page.locator("html[data-ready]").wait_for()
    page.get_by_role("radio", name="Camera").check()
    expect(page.locator("#camera-error")).to_contain_text("over HTTPS")
    expect(page.get_by_role("button", name="Start the camera")).to_be_disabled()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_on_screens_and_phones(
    browser: Browser, service: Running, scheme: str, width: int, tmp_path: Path
) -> None:
    more = {"permissions": ["camera"], "color_scheme": scheme}
    size = {"width": width, "height": 800}
    with strict_page(browser, service.url, viewport=size, **more) as page:
        page.goto(f"{service.url}/#token={TOKEN}")
        page.locator("html[data-ready]").wait_for()
        page.get_by_role("radio", name="Camera").check()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#camera-facts")).to_contain_text("frames a second")
        cv2.imwrite(str(tmp_path / f"camera-{width}-{scheme}.png"), screenshot(page)[..., ::-1])
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CLIPPED) == []


CLIPPED = """[...document.querySelectorAll("button, summary, .tabs label")]
    .filter((each) => each.offsetParent && each.scrollWidth > each.clientWidth + 1)
    .map((each) => each.textContent)"""
