import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from foremask.facts import Report
from foremask.fetch import client
from foremask.hints.kinds import Point
from foremask.media.presets import KEPT_MASK
from foremask.options import Form, JobSpec, ResultKind
from foremask.service.jobs import deliveries, steps
from foremask.service.jobs.database import Database, Row
from foremask.service.jobs.life import MAX_CRASHES, Status
from foremask.service.jobs.records import JobError, Record
from foremask.service.jobs.steps import JobClip
from foremask.service.jobs.tokens import TokenLimits, create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.sandbox import pool
from foremask.service.sandbox.messages import Make, Request
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import Objects
from foremask.service.worker import maintenance, queues
from foremask.service.worker.job_stages import Timing
from foremask.service.worker.maintenance import run_maintenance
from foremask.service.worker.queues import Leases, do_next
from tests.service.worker import stand_in
from tests.service.worker.conftest import HURRY, Caller, Risen, announce_slots, working
from tests.service.worker.stand_in import TextMedia
from tests.support import origin
from tests.support.disks import disk_of
from tests.support.jobs import begun, cancel_all, value
from tests.support.origin import Request as Asked
from tests.support.patience import PATIENCE_S, running, until, until_so
from tests.support.postgres import read_only, without_connections


def error_of(record: Record) -> JobError:
    assert record.error is not None
    return record.error


CUTOUT = JobSpec(kind=ResultKind.CUTOUT, form=Form.WEBM_VP9)


@pytest.mark.parametrize(
    ("slots", "spec", "segments"),
    [
        (0, JobSpec(), 0),
        (1, JobSpec(), 0),
        (2, JobSpec(), 2),
        # Seven segments, of which four are in flight, would take as long as four larger ones.
        (7, JobSpec(), 4),
        (100, JobSpec(), 12),
        (7, JobSpec(form=Form.GIF), 0),
        (7, structs.replace(CUTOUT, form=Form.PNG_ZIP), 0),
        (7, structs.replace(CUTOUT, auto_zoom=True), 0),
    ],
)
async def test_two_free_slots_cut_a_clip_unless_its_result_must_be_made_whole(
    caller: Caller, slots: int, spec: JobSpec, segments: int
) -> None:
    await announce_slots(caller.database, slots)
    record = await caller.served(caller.site.clip(117), spec=spec)
    assert await caller.result(record) == stand_in.mask(117)
    assert record.report is not None
    assert (record.report.frames_out, record.report.segments) == (117, segments or None)
    assert (record.progress, record.frames_done, record.frames_total) == (100, 117, 117)
    masked = [("join", "done")] * bool(segments) + [("segment", "done")] * (segments or 1)
    assert sorted(await caller.outcomes(record.request_id)) == [("ingest", "done"), *masked]


class NotingModels(TextMedia):
    """Notes the network's file of each request to make something."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[Path | None] = []

    async def run[R](self, request: Request[R], **more: Any) -> R:  # noqa: ANN401
        if isinstance(request, Make):
            self.models.append(request.resources.model)
        return await super().run(request, **more)


async def test_a_jobs_network_is_the_file_that_its_worker_has_by_this_name(
    caller: Caller, tmp_path: Path
) -> None:
    media = NotingModels()
    work = replace(caller.work, masks=media, networks={"hats": tmp_path / "hats.onnx"})
    url = caller.site.clip(3)
    assert (await caller.served(url, work, spec=JobSpec(network="hats"))).error is None
    assert (await caller.served(url, work, spec=JobSpec())).error is None
    assert media.models == [tmp_path / "hats.onnx", None]
    record = await caller.served(url, work, spec=JobSpec(network="coats"))
    assert error_of(record).reason == "model_unavailable"
    assert media.models == [tmp_path / "hats.onnx", None]


async def test_a_mask_is_stored_once_in_whatever_preset(caller: Caller) -> None:
    record = await caller.served(caller.site.clip(3), spec=JobSpec(form=Form(KEPT_MASK)))
    assert record.report is not None
    assert record.report.mask_bytes is None


class KeepingMedia(stand_in.TextMedia):
    cache: Path

    async def _make(self, request: Make, on_progress: OnProgress | None) -> Report:
        assert request.files.cache is not None
        request.files.cache.hardlink_to(self.cache)
        return await super()._make(request, on_progress)


async def test_a_network_cache_without_room_fails_no_job(caller: Caller, tmp_path: Path) -> None:
    media = KeepingMedia()
    media.cache = tmp_path / "cache"
    media.cache.write_bytes(bytes(1 << 20))
    with disk_of(100_000), capture_logs() as logs:
        record = await caller.served(caller.site.clip(7), replace(caller.work, masks=media))
    assert await caller.result(record) == stand_in.mask(7)
    assert record.report is not None
    assert record.report.network_bytes is None
    assert [line["event"] for line in logs].count("step.network_results_not_kept") == 1


async def test_slots_that_others_wait_for_are_not_free(caller: Caller) -> None:
    await announce_slots(caller.database, 2)
    request_id = await caller.submit(caller.site.clip(5))
    await begun(caller.database, request_id)
    assert await steps.free_slots(caller.database, request_id) == 2
    assert await steps.free_slots(caller.database, "another") == 1
    await caller.cancel(request_id)
    assert await steps.free_slots(caller.database, "another") == 2
    request_id = await caller.submit(caller.site.clip(5))
    await do_next(caller.work, "files", Leases())
    assert await steps.free_slots(caller.database, "another") == 1
    await caller.cancel(request_id)
    assert await steps.free_slots(caller.database, "another") == 2


async def test_a_poison_clip_is_given_up_and_hurts_no_other(caller: Caller) -> None:
    caller.site.files["/poison.mp4"] = stand_in.clip(35, die_at=15)
    caller.site.files["/good.mp4"] = stand_in.clip(35)
    async with working(caller.work):
        poison = await caller.submit(caller.site.url + "/poison.mp4")
        good = await caller.ended(await caller.submit(caller.site.url + "/good.mp4"))
        ended = await caller.ended(poison)
    assert await caller.result(good) == stand_in.mask(35)
    assert (error_of(ended).code, error_of(ended).reason) == (500, "worker_crashed")
    crashed = [each for each in await caller.outcomes(poison) if each[1] == "crashed"]
    assert crashed == [("segment", "crashed")] * MAX_CRASHES


@pytest.mark.parametrize(
    ("limit", "pause_s", "reason", "details"),
    [
        ("stall_s", 300.0, "worker_crashed", "no frame was finished"),
        ("wall_clock_s", 0.05, "timed_out", "was not done after 1 s"),
    ],
)
async def test_a_job_without_a_frame_for_too_long_and_one_over_its_time_end(
    caller: Caller, limit: str, pause_s: float, reason: str, details: str
) -> None:
    brief = replace(caller.work, timing=replace(caller.work.timing, **{limit: 1.0}))
    error = error_of(await caller.served(caller.site.clip(400, pause_s=pause_s), brief))
    assert (error.code, error.reason) == (500, reason)
    assert details in error.details


def test_a_worker_ends_a_silent_attempt_before_its_pool_ends_the_job() -> None:
    """The step's own limit is a crash, after which it is tried again; the pool's is final."""
    assert Timing().stall_s < pool.STALL_S


@pytest.mark.parametrize("operation", ["", "probe", "plan", "cut", "make", "join"])
async def test_any_stage_can_be_cancelled(caller: Caller, tmp_path: Path, operation: str) -> None:
    caller.site.files["/a.mp4"] = stand_in.clip(35)
    media = stand_in.TextMedia(slow=operation)
    slow = replace(caller.work, masks=media, files=media)
    request_id = await caller.submit(caller.site.url + "/a.mp4")
    async with working(slow, masks=1):
        await until_so(lambda: operation in media.doing or not operation)
        record = await caller.cancel(request_id)
        assert (record.status, error_of(record).code) == (Status.CANCELLED, 410)
        media.slow = ""
        assert (await caller.ended(await caller.submit(caller.site.url + "/a.mp4"))).error is None
        left = f"objects/*/{request_id}/**/*"
        await until_so(lambda: not any(each.is_file() for each in tmp_path.glob(left)))
        await until_so(lambda: not list(caller.work.scratch.iterdir()))
    assert await caller.record(request_id) == record
    assert None not in [each[1] for each in await caller.outcomes(request_id)]


async def test_after_a_stop_the_next_worker_goes_on_where_the_first_one_was(
    caller: Caller, tmp_path: Path
) -> None:
    """Of 5 frames, the first worker masks 3: the second waits for the network twice."""
    request_id = await caller.submit(caller.site.clip(5, pause_s=1))
    frames = asyncio.Semaphore(3)
    media = stand_in.TextMedia(pause=lambda _: frames.acquire(), keeps=True)
    held = replace(caller.work, masks=media)
    async with working(held):
        await caller.masking(request_id, 3)
    frames.release()
    frames.release()
    async with working(replace(held, worker="second")):
        record = await caller.ended(request_id)
        left = f"objects/parts/{request_id}/**/*"
        await until_so(lambda: not any(each.is_file() for each in tmp_path.glob(left)))
    assert await caller.result(record) == stand_in.mask(5)


async def test_a_stopped_worker_gives_its_step_back(caller: Caller) -> None:
    request_id = await caller.submit(caller.site.clip(5, pause_s=1))
    frames = asyncio.Semaphore(1)
    held = replace(caller.work, masks=stand_in.TextMedia(pause=lambda _: frames.acquire()))
    async with working(held):
        record = await until(lambda: caller.record(request_id), lambda record: record.eta_s)
        assert (record.frames_done, 0 < (record.eta_s or 0) <= 100) == (1, True)
    for _ in range(5):
        frames.release()
    assert ("segment", "given back") in await caller.outcomes(request_id)
    async with working(replace(held, worker="second")):
        record = await caller.ended(request_id)
    assert await caller.result(record) == stand_in.mask(5)
    crashes = "select max(crashes) from steps where job = %s"
    assert await value(caller.database, crashes, (request_id,)) == 0


async def test_a_webhook_is_retried(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "SCHEDULE_S", (0, 1, 1, 1, 1, 1))
    caller.site.statuses = [503, 302]
    async with working(caller.work):
        request_id = await caller.submit(caller.site.clip(3), caller.site.hook)
        delivered = "select 1 from deliveries where status = 'delivered' and job = %s"
        await until(lambda: caller.database.all(delivered, (request_id,)))
    posts = caller.site.posts_to("/hook")
    assert len(posts) == 3
    assert len({post.body for post in posts}) == 1
    assert {post.headers["bria-webhook-id"] for post in posts} == {request_id}


async def test_one_tokens_receivers_that_hang_hold_up_no_other_tokens_webhooks(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "WEBHOOK_S", 2 * PATIENCE_S)
    monkeypatch.setattr(deliveries, "HELD_S", 2 * PATIENCE_S)
    site, url = caller.site, caller.site.clip(3)
    site.hanging = {"/slow"}
    secret, token = await create_token(caller.database, "b", TokenLimits(concurrent=1000))
    other = replace(caller, secret=secret, token_id=token.id)
    await allow_webhooks(caller.database, 2)
    async with working(caller.work):
        hung = [await caller.submit(url, site.url + "/slow") for _ in range(8)]
        for request_id in hung:
            await caller.ended(request_id)
        await until_so(lambda: len(site.posts_to("/slow")) == 2)
        request_id = await other.submit(url, site.url + "/quick")
        await other.ended(request_id)
        await until_so(lambda: site.posts_to("/quick"))
        assert len(site.posts_to("/slow")) == 2
        await allow_webhooks(caller.database, 4)
        site.released.set()
        await until_so(lambda: len(site.posts_to("/slow")) == 8)
    sent = [post.headers["bria-webhook-id"] for post in site.posts_to("/slow")]
    assert sorted(sent) == sorted(hung)


async def allow_webhooks(database: Database, per_token: int) -> None:
    await database.all("update queues set per_token = %s where queue = 'webhooks'", (per_token,))


async def test_what_the_limit_held_back_is_sent_when_a_worker_died_in_the_middle(
    caller: Caller, risen: Risen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "HELD_S", 2 * PATIENCE_S)
    for _ in range(3):
        await caller.cancel(await caller.submit(caller.site.page(), caller.site.hook))
    await allow_webhooks(caller.database, 1)
    assert await deliveries.begin(caller.database) is not None
    assert await deliveries.begin(caller.database) is None
    assert risen("held_back_total", limit="webhooks") == 1
    await caller.database.all("update deliveries set held_until = clock()")
    assert await deliveries.begin(caller.database) is not None
    await allow_webhooks(caller.database, 4)


class SlowToDelete(Objects):
    """A store whose deletions never end."""

    asked = asyncio.Event()

    async def delete_under(self, prefix: str) -> None:
        self.asked.set()
        await asyncio.Event().wait()


async def test_dead_workers_are_found_while_a_store_is_slow_to_delete(caller: Caller) -> None:
    await caller.cancel(await caller.submit("https://example.org/a.mp4"))
    store = SlowToDelete(caller.work.objects._store, caller.work.objects.signer)
    async with running(run_maintenance(replace(caller.work, objects=store))):
        await store.asked.wait()
        began = await value(caller.database, "select clock()")
        looked_after = "select last_at from housekeeping where last_at > %s"
        await until(lambda: caller.database.all(looked_after, (began,)))


@pytest.mark.parametrize(("frames", "param"), [((9, 0), "frame_index"), ((0, 9), "hints[0].frame")])
async def test_a_late_hint_has_its_callers_name(
    caller: Caller, frames: tuple[int, int], param: str
) -> None:
    """A key point comes first, in a field of its own."""
    spec = JobSpec(hints=tuple(Point(1, 1, frame=each) for each in frames))
    error = error_of(await caller.served(caller.site.clip(3), spec=spec, key_points=1))
    assert (error.code, error.param) == (422, param)
    assert error.details == (
        f"{param} is 9, and the last frame that is masked is 2;"
        " frames count from the first that is."
    )


async def test_the_last_of_many_workers_looks_after_leases_as_one_alone(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others have died at once, and still count as alive."""
    monkeypatch.setattr(maintenance, "SLOWEST", 1e9)
    caller.work.fleet.workers = 1 << 40
    job = await caller.submit("https://example.org/a.mp4")
    await begun(caller.database, job, lease_s=0.0)
    await caller.database.all("update housekeeping set last_at = clock() - interval '1 hour'")

    async def rows(statement: LiteralString) -> list[Row]:
        return await caller.database.all(statement, (job,))

    async with running(run_maintenance(caller.work)):
        # The first round finds that nobody was there, and gives each lease its time again.
        await until(lambda: rows("select 1 from steps where job = %s and lease_until > clock()"))
        await rows("update steps set lease_until = clock() - interval '1 s' where job = %s")
        await until(lambda: rows("select 1 from attempts where job = %s and outcome = 'lost'"))
    await cancel_all(caller.database)


async def test_a_worker_that_was_paused_does_not_blame_the_origin_for_it(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGSTOP, a frozen container or a moved machine: all timeouts have passed after it."""
    monkeypatch.setattr(client, "SPEED_WINDOW_S", 0.5)
    monkeypatch.setattr(client, "MIN_BYTES_PER_S", 1 << 20)
    clip = b"clip 1 " + bytes(2 << 20) + b"\nframe 0\n"
    has_begun = asyncio.Event()

    async def in_two_pieces(_: Asked, writer: asyncio.StreamWriter) -> None:
        head = origin.head(Content_Type="video/mp4", Content_Length=len(clip))
        writer.write(head + clip[:9000])
        await writer.drain()
        await asyncio.sleep(0.0 if has_begun.is_set() else 0.2)
        has_begun.set()
        writer.write(clip[9000:])

    async with origin.listening() as host:
        host.answers["/clip.mp4"] = in_two_pieces
        async with working(replace(caller.work, timing=replace(HURRY, lease_s=1.0))):
            request_id = await caller.submit(host.url())
            await until_so(lambda: host.requests)
            await asyncio.sleep(0.1)
            time.sleep(2.0)  # noqa: ASYNC251  # the whole process, and the worker in it
            record = await caller.ended(request_id)
    assert record.status is Status.COMPLETED, record.error
    assert (await caller.outcomes(request_id))[:2] == [
        ("ingest", "unavailable"),
        ("ingest", "done"),
    ]


async def test_a_lost_source_is_an_error_that_says_so(caller: Caller) -> None:
    request_id = await caller.submit(caller.site.clip(3))
    await do_next(caller.work, "files", Leases())
    await caller.work.objects.delete_under(f"sources/{request_id}")
    await do_next(caller.work, "masks", Leases())
    record = await caller.record(request_id)
    assert (error_of(record).code, error_of(record).reason) == (500, "object_lost")


async def test_a_store_that_is_away_only_delays(caller: Caller, tmp_path: Path) -> None:
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    (tmp_path / "objects").write_bytes(b"no directory")
    async with working(caller.work):
        request_id = await caller.submit(caller.site.clip(3))
        await until(lambda: caller.outcomes(request_id), lambda o: len(o) > MAX_CRASHES + 1)
        (tmp_path / "objects").unlink()
        (tmp_path / "elsewhere").rename(tmp_path / "objects")
        record = await caller.ended(request_id)
    assert await caller.result(record) == stand_in.mask(3)
    reported = {each for each in await caller.outcomes(request_id) if each[1] != "done"}
    assert reported == {("ingest", "unavailable")}


@pytest.mark.parametrize("trouble", [read_only, without_connections])
async def test_a_result_that_the_database_does_not_take_only_delays(
    caller: Caller,
    postgres: EmbeddedPostgres,
    database_url: str,
    trouble: Callable[[EmbeddedPostgres], AbstractContextManager[None]],
) -> None:
    """The worker goes on, and the segment whose result could not be counted is no crash."""
    frames = asyncio.Semaphore(2)
    media = TextMedia(pause=lambda _: frames.acquire())
    request_id = await caller.submit(caller.site.clip(8, pause_s=1))
    async with (
        Database(database_url, patience_s=0.1) as impatient,
        working(replace(caller.work, database=impatient, masks=media)),
    ):
        await caller.masking(request_id, 2)
        with capture_logs() as logs, trouble(postgres):
            for _ in range(16):
                frames.release()
            await until_so(lambda: "step.unrecorded" in [each["event"] for each in logs])
        record = await caller.ended(request_id)
    assert await caller.result(record) == stand_in.mask(8)
    assert {outcome for _, outcome in await caller.outcomes(request_id)} <= {"done", "unavailable"}


async def test_a_worker_without_a_scratch_directory_only_delays(caller: Caller) -> None:
    caller.work.scratch.rmdir()
    request_id = await caller.submit("https://example.org/a.mp4")
    await do_next(caller.work, "files", Leases())
    assert await caller.outcomes(request_id) == [("ingest", "unavailable")]


async def test_a_clip_that_changed_after_the_probe_counts_as_fetched(caller: Caller) -> None:
    record = await caller.served(caller.site.clip(3), clip=JobClip(frames=10))
    assert (record.frames_done, record.frames_total) == (3, 3)
