import asyncio
import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.types import Message

from foremask.errors import Overloaded
from foremask.hints.kinds import Point
from foremask.options import Quality
from foremask.service.api.context import while_connected
from foremask.service.api.probing import PREVIEWS_WAITING, Previewer
from foremask.service.sandbox.messages import MaskPicture, Preview
from tests.service.api.conftest import Running, assert_refused, post, serves
from tests.service.api.test_cutouts import finished
from tests.service.api.worker import KEPT, REQUESTS, worker
from tests.support.refusals import refused

__all__ = ["worker"]  # a fixture

MASK, POINTS = (f"/v2/video/segment/{name}" for name in ("foreground_mask", "mask_by_key_points"))
PROMPT = "/v2/video/segment/mask_by_prompt"
REMOVE, PREVIEW = "/v2/video/edit/remove_background", "/v2/video/segment/preview"
FIELD = (422, "field_invalid")
BOX = {"type": "box", "y": 0, "width": 9, "height": 9}
TWO_MOMENTS = {"type": "point", "x": 0, "y": 0, "frame": 1, "time_s": 0.1}

service = serves(own_model=True)
"""Previews are by a network that takes red for foreground."""


def test_a_job_by_key_points_is_refined_with_more_hints(worker: Running, good: str) -> None:
    points = [{"x": 5, "y": 24, "type": "positive"}, {"x": 60, "y": 2, "type": "negative"}]
    answer = post(worker, POINTS, video=good, key_points=points, frame_index=9, auto_trim=True)
    status = finished(worker, answer)
    assert status["status"] == "COMPLETED", status
    assert status["result"]["mask_url"] == status["result"]["video_url"]
    asked = [Point(5, 24, frame=9), Point(60, 2, frame=9, negative=True)]
    assert list(REQUESTS[-1].spec.hints) == asked
    assert KEPT[-1] == b"said. "
    more = {"type": "point", "x": 1, "y": 1, "time_s": 0.1}
    path = f"/v2/status/{status['request_id']}/refine"
    assert_refused(post(worker, path, hints=[more]), 422, "video_missing", "video")
    assert_refused(post(worker, path, video=good), *FIELD, "hints")
    refined = finished(worker, post(worker, path, video=good, hints=[more]))
    assert refined["status"] == "COMPLETED", refined
    assert list(REQUESTS[-1].spec.hints) == [*asked, Point(1, 1, time_s=0.1)]
    assert KEPT[-1] == b"said. said. "  # what the network said for the first is known


def test_a_refinement_and_a_conversion_are_safe_to_send_again(worker: Running, good: str) -> None:
    first = finished(worker, post(worker, MASK, video=good))
    hints = [{"type": "point", "x": 5, "y": 24}]
    for call, body, other in (
        ("refine", {"video": good, "hints": hints}, {"video": good, "hints": 2 * hints}),
        ("convert", {"feather_px": 2}, {"feather_px": 3}),
    ):
        path, key = f"/v2/status/{first['request_id']}/{call}", {"Idempotency-Key": call}
        made, again = (post(worker, path, worker.headers | key, **body) for _ in range(2))
        assert made.status_code == 202, made.text
        assert made.json() == again.json()
        changed = post(worker, path, worker.headers | key, **other)
        assert_refused(changed, 422, "idempotency_mismatch", "Idempotency-Key")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (MASK, {"hints": [{"type": "point", "x": 64, "y": 0}]}, "hints[0].x"),
        (REMOVE, {"hints": [BOX | {"x": 60}]}, "hints[0].width"),
        (POINTS, {"key_points": [{"x": 64, "y": 0}]}, "key_points[0].x"),
        (POINTS, {"key_points": [{"x": 0, "y": 0}], "frame_index": 10}, "frame_index"),
        (POINTS, {"key_points": []}, "key_points"),
        (POINTS, {"key_points": [{"x": 0, "y": 0}], "hints": [TWO_MOMENTS]}, "hints[0].time_s"),
        (POINTS, {}, "key_points"),
        (MASK, {"network": "u2net"}, "network"),
        (REMOVE, {"network": "../u2net"}, "network"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field_and_starts_nothing(
    service: Running, good: str, path: str, body: dict[str, Any], param: str
) -> None:
    error = assert_refused(post(service, path, video=good, **body), *FIELD, param)
    if param.endswith((".x", ".width")):
        assert {"limit", "actual"} <= set(error)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (PROMPT, {"prompt": "the red disc"}, "hints"),
        (MASK, {"hints": [{"type": "text", "text": "the red disc"}]}, "hints"),
        (MASK, {"hints": [BOX | {"x": 1}], "tracker": "edgetam"}, "tracker"),
    ],
)
def test_words_and_trackers_are_refused_with_what_the_operator_can_do(
    service: Running, good: str, path: str, body: dict[str, Any], param: str
) -> None:
    error = assert_refused(post(service, path, video=good, **body), *FIELD, param)
    assert "pip install ./integrations/trackers" in error["details"]
    assert "FOREMASK_TRACKERS=sam2.1-tiny" in error["details"]


def encoded(picture: NDArray[np.uint8], kind: str) -> str:
    return base64.b64encode(cv2.imencode(kind, picture)[1].tobytes()).decode()


def test_a_preview_is_the_mask_of_one_picture(service: Running) -> None:
    picture = np.full((96, 192, 3), 90, np.uint8)
    for x in (40, 140):
        cv2.circle(picture, (x, 48), 22, (30, 30, 220), -1)  # blue first
    text = encoded(picture, ".png")
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


def test_a_preview_corrects_the_mask_of_a_result_and_nothing_else_of_it(
    service: Running,
) -> None:
    picture = np.full((96, 192, 3), 90, np.uint8)
    for x in (40, 140):
        cv2.circle(picture, (x, 48), 22, (30, 30, 220), -1)  # blue first
    before = np.zeros((96, 192), np.uint8)
    cv2.circle(before, (40, 48), 22, (251,), -1)
    before[10:20, 80:90] = 77
    pictures = {"picture": encoded(picture, ".png"), "mask": encoded(before, ".png")}
    masks = []
    for negative, x in ((False, 140), (True, 40)):
        hint = {"type": "point", "x": x, "y": 48, "negative": negative}
        body: dict[str, Any] = {**pictures, "hints": [hint]}
        answer = post(service, PREVIEW, **body)
        assert answer.status_code == 200, answer.text
        png = base64.b64decode(answer.json()["result"]["mask"])
        mask = cv2.imdecode(np.frombuffer(png, np.uint8), 0)
        assert mask is not None
        masks.append(mask)
    added, removed = masks
    assert added[48, 140] > 250
    np.testing.assert_array_equal(added[:, :100], before[:, :100])
    assert removed[48, 40] < 5
    assert (removed <= before).all()
    np.testing.assert_array_equal(removed[:, 70:], before[:, 70:])
    wide, tall = np.zeros((2, 20_000), np.uint8), np.zeros((6000, 6000), np.uint8)
    for other, details in (
        (encoded(before[:48], ".png"), "192x48 pixels, its picture 192x96"),
        ("AAAA", "PNG"),
        (encoded(before, ".png")[:80], "mask"),
        (encoded(before, ".png")[:28], "cannot be"),  # up to its width
        (encoded(wide, ".png"), "20000x2; a side may have 16000"),
        (encoded(tall, ".png"), "6000x6000; it may have 18432 pixels. Its picture is 192x96."),
        (encoded(tall, ".jpg"), "has more than 18432 pixels. Its picture is 192x96."),
    ):
        answer = post(service, PREVIEW, picture=pictures["picture"], mask=other)
        assert details in assert_refused(answer, *FIELD, "mask")["details"]


def test_the_cost_of_a_preview_is_bounded_before_it_starts(service: Running) -> None:
    hint = {"type": "point", "x": 4, "y": 4}

    for param, kind, shape, hints, actual in (
        ("hints", ".png", (48, 64), 17, 17),
        ("picture", ".png", (6000, 6000), 1, 36_000_000),
        ("picture", ".png", (64, 20_000), 1, 20_000),
        ("picture", ".webp", (48, 64), 1, None),
    ):
        text = encoded(np.zeros(shape, np.uint8), kind)
        answer = post(service, PREVIEW, picture=text, hints=[hint] * hints)
        assert assert_refused(answer, *FIELD, param).get("actual") == actual


class OneAtATime:
    """A pool, and the previewer over it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.is_at_work, self.goes_on = asyncio.Event(), asyncio.Semaphore(0)
        self.previewer = Previewer(self, Path, 0)  # type: ignore[arg-type]

    async def run(
        self, request: MaskPicture, *, wall_clock_s: float, processor_s: float, owner: str
    ) -> Preview:
        self.begun.append(owner)
        self.is_at_work.set()
        await self.goes_on.acquire()
        return Preview(request.picture, 1, 1)

    async def ask(self, owner: str) -> Preview:
        return await self.previewer.mask(b"", Quality.FAST, [], owner)


async def test_tokens_take_turns_and_few_pictures_of_one_wait() -> None:
    pool = OneAtATime()
    flood = [asyncio.create_task(pool.ask("a")) for _ in range(PREVIEWS_WAITING + 2)]
    await pool.is_at_work.wait()
    other = asyncio.create_task(pool.ask("b"))
    for _ in range(PREVIEWS_WAITING + 3):
        pool.goes_on.release()
    made = await asyncio.gather(*flood, return_exceptions=True)
    assert [type(each) for each in made if not isinstance(each, Preview)] == [Overloaded]
    assert await other
    assert pool.begun[1] == "b"


async def test_a_preview_ends_when_its_caller_hangs_up() -> None:
    pool = OneAtATime()
    hung_up = asyncio.Event()

    async def receive() -> Message:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    asking = asyncio.create_task(while_connected(receive, pool.ask("a")))
    await pool.is_at_work.wait()
    hung_up.set()
    with refused("cancelled"):
        await asking
    pool.goes_on.release()
    assert await pool.ask("b")
