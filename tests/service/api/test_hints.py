import asyncio
import base64
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from litestar.types import HTTPDisconnectEvent

from foremask.errors import JobCancelled, Overloaded
from foremask.hints.kinds import Point
from foremask.options import Quality
from foremask.service.api.context import while_heard
from foremask.service.api.probing import PREVIEWS_WAITING, Previewer
from foremask.service.sandbox.messages import MaskPicture, Preview
from tests.service.api.conftest import Running, assert_refused, http, serves
from tests.service.api.test_cutouts import finished
from tests.service.api.worker import KEPT, REQUESTS, worker

__all__ = ["worker"]  # a fixture
pytestmark = [pytest.mark.postgres, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

MASK, POINTS = (f"/v2/video/segment/{name}" for name in ("foreground_mask", "mask_by_key_points"))
REMOVE, PREVIEW = "/v2/video/edit/remove_background", "/v2/video/segment/preview"
FIELD = (422, "field_invalid")
TWO_MOMENTS = {"type": "point", "x": 0, "y": 0, "frame": 1, "time_s": 0.1}


service = serves(own_model=True)
"""Previews are by a network that takes red for foreground."""


@pytest.fixture(scope="module")
def clip(clip_origin: str) -> str:
    return f"{clip_origin}/good.mp4"


def post(service: Running, path: str, **body: object) -> httpx.Response:
    return http.post(service.url + path, json=body, headers=service.headers)


def test_a_job_by_key_points_is_refined_with_more_hints(worker: Running, clip: str) -> None:
    points = [{"x": 5, "y": 24, "type": "positive"}, {"x": 60, "y": 2, "type": "negative"}]
    answer = post(worker, POINTS, video=clip, key_points=points, frame_index=9, auto_trim=True)
    status = finished(worker, answer)
    assert status["status"] == "COMPLETED", status
    assert status["result"]["mask_url"] == status["result"]["video_url"]
    asked = [Point(5, 24, frame=9), Point(60, 2, frame=9, negative=True)]
    assert list(REQUESTS[-1].options.hints) == asked
    assert KEPT[-1] == b"said. "
    more = {"type": "point", "x": 1, "y": 1, "time_s": 0.1}
    path = f"/v2/status/{status['request_id']}/refine"
    assert_refused(post(worker, path, hints=[more]), 422, "video_missing", "video")
    assert_refused(post(worker, path, video=clip), *FIELD, "hints")
    refined = finished(worker, post(worker, path, video=clip, hints=[more]))
    assert refined["status"] == "COMPLETED", refined
    assert list(REQUESTS[-1].options.hints) == [*asked, Point(1, 1, time_s=0.1)]
    assert KEPT[-1] == b"said. said. "  # what the network said for the first is known


def test_a_refinement_and_a_conversion_are_safe_to_send_again(worker: Running, clip: str) -> None:
    first = finished(worker, post(worker, MASK, video=clip))
    headers = dict(worker.headers)
    hints = [{"type": "point", "x": 5, "y": 24}]
    for call, body, other in (
        ("refine", {"video": clip, "hints": hints}, {"video": clip, "hints": 2 * hints}),
        ("convert", {"feather_px": 2}, {"feather_px": 3}),
    ):
        url = f"{worker.url}/v2/status/{first['request_id']}/{call}"
        headers["Idempotency-Key"] = call
        made, again = (http.post(url, json=body, headers=headers) for _ in range(2))
        assert made.status_code == 202, made.text
        assert made.json() == again.json()
        changed = http.post(url, json=other, headers=headers)
        assert_refused(changed, 422, "idempotency_mismatch", "Idempotency-Key")


def test_cut_outs_take_hints_too(worker: Running, clip: str) -> None:
    hint = {"type": "box", "x": 0, "y": 8, "width": 30, "height": 30}
    status = finished(worker, post(worker, REMOVE, video=clip, hints=[hint]))
    assert status["status"] == "COMPLETED", status
    assert len(REQUESTS[-1].options.hints) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"hints": [{"type": "point", "x": 64, "y": 0}]}, "hints[0].x"),
        ({"hints": [{"type": "point", "x": 0, "y": 0, "frame": 10}]}, "hints[0].frame"),
        ({"hints": [{"type": "box", "x": 60, "y": 0, "width": 9, "height": 9}]}, "hints[0].width"),
        ({"key_points": [{"x": 64, "y": 0}]}, "key_points[0].x"),
        ({"key_points": [{"x": 0, "y": 0}], "frame_index": 10}, "frame_index"),
        ({"key_points": []}, "key_points"),
        ({"key_points": [{"x": 0, "y": 0}], "hints": [TWO_MOMENTS]}, "hints[0].time_s"),
        ({}, "key_points"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field_and_starts_nothing(
    service: Running, clip: str, body: dict[str, Any], param: str
) -> None:
    path = MASK if "hints" in body and "key_points" not in body else POINTS
    error = assert_refused(post(service, path, video=clip, **body), *FIELD, param)
    if param.endswith((".x", ".y", ".frame", ".width")):
        assert {"limit", "actual"} <= set(error)


def test_a_preview_is_the_mask_of_one_picture(service: Running) -> None:
    picture = np.full((96, 192, 3), 90, np.uint8)
    for x in (40, 140):
        cv2.circle(picture, (x, 48), 22, (30, 30, 220), -1)  # blue first
    text = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
    hint = {"type": "point", "x": 140, "y": 48, "frame": 77}
    answer = post(service, PREVIEW, picture=text, hints=[hint])
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    mask = cv2.imdecode(np.frombuffer(base64.b64decode(result["mask"]), np.uint8), 0)
    assert mask is not None
    assert mask.shape == (result["height"], result["width"]) == (96, 192)
    assert mask[48, 140] > 250
    assert mask[48, 40] < 5
    assert_refused(post(service, PREVIEW, picture="AAAA"), *FIELD, "picture")
    assert_refused(post(service, PREVIEW, hints=[hint]), *FIELD, "picture")
    outside = [{"type": "point", "x": 192, "y": 48}]
    assert_refused(post(service, PREVIEW, picture=text, hints=outside), *FIELD, "hints[0].x")


def test_the_cost_of_a_preview_is_bounded_before_it_starts(service: Running) -> None:
    picture = np.full((48, 64, 3), 90, np.uint8)
    hint = {"type": "point", "x": 4, "y": 4}

    def ask(kind: str, shape: tuple[int, int], hints: int = 1) -> httpx.Response:
        pixels = picture if shape == (48, 64) else np.zeros(shape, np.uint8)
        text = base64.b64encode(cv2.imencode(kind, pixels)[1].tobytes()).decode()
        return post(service, PREVIEW, picture=text, hints=[hint] * hints)

    many = assert_refused(ask(".png", (48, 64), hints=17), *FIELD, "hints")
    assert (many["limit"], many["actual"]) == (16, 17)
    large = assert_refused(ask(".png", (6000, 6000)), *FIELD, "picture")
    assert large["actual"] == 36_000_000
    long = assert_refused(ask(".png", (64, 20_000)), *FIELD, "picture")
    assert (long["limit"], long["actual"]) == (16_000, 20_000)
    for kind in (".bmp", ".tiff", ".webp"):
        assert_refused(ask(kind, (48, 64)), *FIELD, "picture")


class OneAtATime:
    """A pool, and the previewer over it."""

    def __init__(self, scratch: Path) -> None:
        self.begun: list[tuple[str, bytes]] = []
        self.is_at_work, self.goes_on = asyncio.Event(), asyncio.Semaphore(0)
        self.previewer = Previewer(self, lambda: scratch, 0)  # type: ignore[arg-type]

    async def run(self, request: MaskPicture, *, wall_clock_s: float, owner: str) -> Preview:
        self.begun.append((owner, request.picture))
        self.is_at_work.set()
        await self.goes_on.acquire()
        return Preview(request.picture, 1, 1)

    def ask(self, owner: str, picture: bytes = b"") -> "asyncio.Task[Preview]":
        return asyncio.create_task(self.previewer.mask(picture, Quality.FAST, [], owner))


@pytest.fixture
async def pool(tmp_path: Path) -> OneAtATime:
    return OneAtATime(tmp_path)


async def test_pictures_are_masked_in_turns_of_tokens(pool: OneAtATime) -> None:
    first = pool.ask("a", b"1")
    await pool.is_at_work.wait()
    second, other = pool.ask("a", b"2"), pool.ask("b", b"3")
    for _ in range(3):
        pool.goes_on.release()
    made = await asyncio.gather(first, second, other)
    assert [each.mask for each in made] == [b"1", b"2", b"3"]
    assert pool.begun == [("a", b"1"), ("b", b"3"), ("a", b"2")]


async def test_of_one_token_few_pictures_wait(pool: OneAtATime) -> None:
    flood = [pool.ask("a") for _ in range(PREVIEWS_WAITING + 2)]
    await pool.is_at_work.wait()
    other = pool.ask("b")
    for _ in range(PREVIEWS_WAITING + 3):
        pool.goes_on.release()
    made = await asyncio.gather(*flood, return_exceptions=True)
    assert [type(each) for each in made if not isinstance(each, Preview)] == [Overloaded]
    assert await other
    assert pool.begun[1][0] == "b"


async def test_a_preview_ends_when_its_caller_hangs_up(pool: OneAtATime) -> None:
    hung_up = asyncio.Event()

    async def receive() -> HTTPDisconnectEvent:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    masking = pool.previewer.mask(b"1", Quality.FAST, [], "a")
    asking = asyncio.create_task(while_heard(receive, masking))
    await pool.is_at_work.wait()
    hung_up.set()
    with pytest.raises(JobCancelled):
        await asking
    pool.goes_on.release()
    assert (await pool.ask("b", b"2")).mask == b"2"
