import asyncio
from functools import partial
from pathlib import Path

import httpx

from foremask.service.api.probing import SHOWS_PER_OWNER
from tests.service.api import clips
from tests.service.api.conftest import PATH, Running, assert_refused, http, post, running, serves
from tests.service.api.test_files import form, packed
from tests.support.origin import Answer, Request, gives, listening
from tests.support.patience import PATIENCE_S

# A disk whose reserve is larger than the disk.
FULL_DISK = {"storage.objects.RESERVE_SHARE": 2, "storage.objects.RESERVE_BYTES": 1 << 60}


def waits(data: bytes, released: asyncio.Event, quick_start: int) -> Answer:
    """Serve ``data``; ranges that start after ``quick_start`` wait until ``released``."""
    quick = gives(data)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        wanted = request.headers.get("range", "bytes=0-").removeprefix("bytes=")
        if int(wanted.partition("-")[0]) > quick_start:
            await released.wait()
        await quick(request, writer)

    return answer


async def test_a_caller_who_hangs_up_gives_the_place_of_a_shown_clip_back(
    service: Running, tmp_path: Path
) -> None:
    token = await asyncio.to_thread(service.new_token)
    small = clips.write(tmp_path / "small.mp4").read_bytes()
    data = small + (2 << 20).to_bytes(4) + b"free" + bytes((2 << 20) - 8)
    async with (
        listening() as origin,
        httpx.AsyncClient(base_url=service.url, timeout=PATIENCE_S, headers=token) as client,
    ):
        origin.answers["/half.mp4"] = waits(data, asyncio.Event(), (1 << 20) - 1)
        body = {"video": origin.url("/half.mp4")}
        for _ in range(SHOWS_PER_OWNER + 1):
            async with client.stream("POST", "/v2/playground/clip", json=body) as answer:
                assert answer.status_code == 200, await answer.aread()
                assert await anext(answer.aiter_bytes())


patient = serves({"api.probing.BUDGET_S": PATIENCE_S})


async def test_slow_ranged_origins_of_one_token_leave_probes_for_another(
    patient: Running, tmp_path: Path
) -> None:
    token = await asyncio.to_thread(patient.new_token)
    released = asyncio.Event()
    large = clips.write(
        tmp_path / "large.mp4", codec="mjpeg", frames=30, size=(640, 480), pixel_format="yuvj420p"
    ).read_bytes()
    assert len(large) > 100_000
    async with (
        listening() as origin,
        httpx.AsyncClient(base_url=patient.url, timeout=PATIENCE_S) as client,
    ):
        origin.answers["/slow.mp4"] = waits(large, released, 0)
        origin.answers["/good.mp4"] = gives(large)
        slow = {"video": origin.url("/slow.mp4")}
        asked = [asyncio.create_task(client.post(PATH, json=slow, headers=token)) for _ in range(8)]
        await asyncio.sleep(1.0)
        body = {"video": origin.url("/good.mp4")}
        for _ in range(3):
            answer = await client.post("/v2/video/probe", json=body, headers=patient.headers)
            assert answer.status_code == 200, answer.text
        assert not all(task.done() for task in asked)
        released.set()
        assert [(await task).status_code for task in asked] == [202] * 8


def test_uploads_stop_at_the_tokens_quota_and_at_the_disks_reserve(
    database_url: str, tmp_path: Path
) -> None:
    with running(database_url, tmp_path / "a", storage_per_token=1000) as service:
        given = form(service)
        body, own = packed(given, b"x" * 5000)
        for content in (body, iter([body])):  # with its size declared, and without
            kind = {"Content-Type": own["content-type"]}
            answer = http.post(given["upload_url"], content=content, headers=kind)
            assert assert_refused(answer, 429, "storage_quota")["limit"] == 1000
            assert int(answer.headers["retry-after"]) >= 1
        assert not list((tmp_path / "a").rglob("uploads/*/*"))
    with running(database_url, tmp_path / "b", FULL_DISK) as service:
        answer = post(service, "/v2/video/upload")
        assert_refused(answer, 503, "storage_full")
        assert int(answer.headers["retry-after"]) >= 1


async def test_clips_of_hosts_that_hang_hold_up_no_other_tokens_clip(
    service: Running, good: str
) -> None:
    stranger = await asyncio.to_thread(service.new_token)
    asked, ended = asyncio.Semaphore(0), asyncio.Event()

    async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
        asked.release()
        await ended.wait()
        writer.close()

    async with (
        listening() as origin,
        httpx.AsyncClient(base_url=f"{service.url}/v2", timeout=PATIENCE_S) as client,
    ):
        origin.answers["/clip.mp4"] = hang
        shown = partial(client.post, "/playground/clip")
        body = {"video": origin.url()}
        hung = [asyncio.create_task(shown(json=body, headers=stranger)) for _ in range(4)]
        for _ in hung:
            await asked.acquire()
        answer = await shown(json={"video": good}, headers=service.headers)
        assert answer.status_code == 200
        assert not any(each.done() for each in hung)
        ended.set()
        await asyncio.wait(hung)
