"""Pictures of every state of the playground, and what axe-core finds in them.

``python -m benchmarks.speed.page_states URL TOKEN FOLDER`` opens the page of a running service. Jobs are
not run: the script answers for the service, so that each state stays until it is photographed.
"""

import base64
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from playwright.sync_api import Browser, Page, Route, expect
from tests.support.browser import axe_source, browsing

STATIC = Path(__file__).parents[2] / "src/foremask/service/api/static"
SIZES = ((1280, 800), (360, 740))
SCHEMES = ("light", "dark")
JOB = "3f0c9d52-7f5e-4a77-9a30-5b0d8c0e7a11"
CLIP, MASK = "/static/samples/person.webm", "/static/samples/person-mask.webm"
FRAMES, FPS = 16, 8
REPORT = {
    "frames_in": FRAMES, "frames_out": FRAMES, "duration_s": FRAMES / FPS, "duration_drift_ms": 0.0,
    "audio": [], "coverage": 0.09, "flicker": 0.006, "bytes": 118_000, "fps": FPS,
}  # fmt: skip

type Answer = dict[str, Any]
type Act = Callable[[Page], None]


def running(**more: object) -> Answer:
    """The status of a job that goes on."""
    return {"request_id": JOB, "status": "IN_PROGRESS", "frames_done": 0, "progress": 0, **more}


def failed(code: int, reason: str, details: str) -> Answer:
    """The status of a job that has ended without a mask."""
    error = {"code": code, "reason": reason, "message": "", "details": details}
    return {"request_id": JOB, "status": "ERROR", "error": error}


COMPLETED: Answer = {
    "request_id": JOB, "status": "COMPLETED", "progress": 100, "stage": "join",
    "result": {"video_url": MASK, "mask_url": MASK, "kind": "mask", "report": REPORT},
}  # fmt: skip


def listed(name: str, status: str, minutes: int, **more: object) -> Answer:
    """A job of the list."""
    return {
        "request_id": name, "name": name, "status": status, "quality": "balanced",
        "output_container_and_codec": "webm_vp9", "created_at": f"2026-11-25T{23 - minutes // 60}:10:00Z",
        "stage": "segment", **more,
    }  # fmt: skip


def list_of_jobs() -> Answer:
    """Four, in each state that a job can be in."""
    link = "/static/samples/{}-mask.webm"
    jobs = [
        listed("dance.mp4", "IN_PROGRESS", 0, progress=42),
        listed("fox.mov", "COMPLETED", 60, result={"video_url": link.format("animal")}),
        listed("car.webm", "COMPLETED", 180, result={"video_url": link.format("thing")}),
        listed("old.avi", "ERROR", 300, error={"reason": "cancelled"}),
    ]
    return {"request_id": "x", "result": {"jobs": jobs, "next": "old.avi"}}


def strip() -> Answer:
    """Some coverage and change of each frame."""
    rows = [
        [n / FPS, 0.085 + 0.012 * math.sin(n / 3.8), abs(0.004 * math.sin(n / 1.7)) + 0.002]
        for n in range(FRAMES)
    ]
    return {"request_id": JOB, "result": {"frames": rows}}


def picture(number: int = 9) -> str:
    """A frame of the mask as the service sends pictures."""
    with av.open(str(STATIC / "samples/person-mask.webm")) as clip:
        frame = [each.to_ndarray(format="gray") for each in clip.decode(video=0)][number]
    return base64.b64encode(cv2.imencode(".png", frame)[1].tobytes()).decode()


class Acted:
    """A page for which this script answers what a job's status would."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.status: Answer | None = None
        one = listed("dance.mp4", "COMPLETED", 0, result={"video_url": MASK}, source_url=CLIP)
        self._answer("**/v2/jobs?*", list_of_jobs())
        self._answer(f"**/v2/jobs/{JOB}", {**one, "request_id": JOB, "frames_total": FRAMES})
        self._answer(f"**/v2/status/{JOB}/strip", strip())
        mask = {"request_id": JOB, "result": {"mask": picture()}}
        for path in (f"**/v2/status/{JOB}/newest_mask", "**/v2/video/segment/preview"):
            self._answer(path, mask)
        page.route(f"**/v2/status/{JOB}", self._told)

    def _answer(self, path: str, body: Answer) -> None:
        self.page.route(path, lambda route: route.fulfill(json=body))

    def _told(self, route: Route) -> None:
        if self.status is None:
            route.abort()
        else:
            route.fulfill(json=self.status)


def shown(status: Answer | None, then: Act = lambda _: None) -> Callable[[Acted, str, str], None]:
    """The state of a job that is opened by its link."""

    def act(acted: Acted, url: str, token: str) -> None:
        acted.status = status
        acted.page.goto(f"{url}/?job={JOB}#token={token}")
        acted.page.wait_for_selector("html[data-ready]")
        acted.page.wait_for_timeout(1800)
        then(acted.page)

    return act


def still(page: Page, number: int, position: int = 50) -> None:
    """Stop at a frame, the wipe at so many percent."""
    expect(page.locator("#views")).to_be_visible(timeout=30_000)
    page.locator("#number").fill(str(number))
    page.locator("#number").press("Enter")
    if page.locator("#wipe").is_visible():
        page.locator("#wipe").press("Home")
        for _ in range(position // 10):
            page.locator("#wipe").press("PageUp")
    page.wait_for_timeout(1500)


def cut_out(kind: str) -> Act:
    """The cut-out over something."""

    def act(page: Page) -> None:
        page.get_by_role("radio", name="Cut-out").check()
        page.get_by_role("radio", name=kind).check()
        still(page, 10, 0)

    return act


def _masking(page: Page) -> None:
    """Wait for the newest mask."""
    page.wait_for_selector("#job-newest:not([hidden])")


def _marks(page: Page) -> None:
    """A mark on the subject, one beside it, and a box."""
    still(page, 10, 0)
    page.locator("#mark").click()
    page.locator("#stage").scroll_into_view_if_needed()
    board = page.locator("#marks").bounding_box()
    assert board is not None  # noqa: S101  # it has just been shown
    left, top, width, height = (board[name] for name in ("x", "y", "width", "height"))
    page.mouse.click(left + 0.51 * width, top + 0.42 * height)
    page.mouse.click(left + 0.88 * width, top + 0.6 * height, button="right")
    page.mouse.move(left + 0.3 * width, top + 0.08 * height)
    page.mouse.down()
    page.mouse.move(left + 0.62 * width, top + 0.96 * height, steps=5)
    page.mouse.up()
    expect(page.locator("#mark-said")).to_contain_text("of the frame", timeout=60_000)
    page.wait_for_timeout(800)


def _empty(acted: Acted, url: str, token: str) -> None:
    acted.page.goto(url)
    acted.page.wait_for_selector("html[data-ready]")
    acted.page.wait_for_timeout(1800)
    still(acted.page, 10)


def _with_token(acted: Acted, url: str, token: str) -> None:
    acted.page.goto(f"{url}/#token={token}")
    acted.page.wait_for_selector("html[data-ready]")
    acted.page.wait_for_timeout(1800)
    acted.page.get_by_role("radio", name="Animal").check()
    acted.page.wait_for_timeout(1800)
    still(acted.page, 10)


def _uploading(acted: Acted, url: str, token: str) -> None:
    page, sample = acted.page, STATIC / "samples/person.webm"
    page.route("**/v2/uploads", lambda _: None)  # never answered
    page.goto(f"{url}/#token={token}")
    page.wait_for_selector("html[data-ready]")
    page.locator("#file").set_input_files(sample)
    page.wait_for_timeout(1500)
    said = "Uploading: 84 MB of 212 MB, about 14 s left"  # the loopback is too fast for a picture
    page.evaluate(f"document.getElementById('upload-said').textContent = {json.dumps(said)}")
    page.evaluate("document.getElementById('upload-bar').value = 0.4")


def _token_refused(acted: Acted, url: str, token: str) -> None:
    acted.page.goto(f"{url}/#token=not-a-token-of-this-service")
    acted.page.wait_for_selector("#token-error:not([hidden])")
    acted.page.wait_for_timeout(1500)


QUEUED = running(stage="queued", queue_position=3)
MASKING = running(stage="segment", frames_done=7, frames_total=16, progress=43, eta_s=9.4)
CORRUPT = failed(422, "corrupt", "The clip breaks off at frame 7 of 16.")
CANCELLED = failed(410, "cancelled", "The job was cancelled by its owner.")
EXPIRED = failed(
    410,
    "result_expired",
    "The mask was kept for its time and then deleted; submit the clip again.",
)

STATES: dict[str, Callable[[Acted, str, str], None]] = {
    "empty": _empty,
    "token": _with_token,
    "uploading": _uploading,
    "queued": shown(QUEUED),
    "working": shown(MASKING, _masking),
    "done": shown(COMPLETED, lambda page: still(page, 10)),
    "marks": shown(COMPLETED, _marks),
    "cutout": shown(COMPLETED, cut_out("Picture")),
    "blur": shown(COMPLETED, cut_out("Blur")),
    "failed": shown(CORRUPT),
    "cancelled": shown(CANCELLED),
    "expired": shown(EXPIRED),
    "offline": shown(None),
    "refused": _token_refused,
}


@contextmanager
def opened(browser: Browser, size: tuple[int, int], scheme: str) -> Iterator[Acted]:
    """A page of that size, which nobody has visited before."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    yield Acted(context.new_page())
    context.close()


def photograph(page: Page, path: Path) -> None:
    """As WebP, of the window's size."""
    pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None  # noqa: S101  # a screenshot is a picture
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_WEBP_QUALITY, 82])


def findings(page: Page) -> list[str]:
    """What axe-core has against the page as it stands."""
    page.evaluate(axe_source())
    found = page.evaluate("axe.run()")["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in found]


def main(url: str, token: str, folder: Path, only: str = "") -> None:
    """Every state in each size and scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    with browsing() as browser:
        for name, act in STATES.items():
            if only and name not in only.split(","):
                continue
            for size in SIZES:
                for scheme in SCHEMES:
                    with opened(browser, size, scheme) as acted:
                        act(acted, url, token)
                        photograph(acted.page, folder / f"{name}-{size[0]}-{scheme}.webp")
                        axe = findings(acted.page)
                        wide = acted.page.evaluate("document.documentElement.scrollWidth")
                        print(name, *size, scheme, "axe:", axe or "nothing", f"width {wide}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:5])
