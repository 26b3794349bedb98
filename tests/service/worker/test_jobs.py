import asyncio
import base64
import hmac
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import msgspec
import pytest
from structlog.testing import capture_logs

from foremask.facts import Report
from foremask.hints.kinds import Point
from foremask.media.presets import KEPT_MASK
from foremask.options import AlphaFormat, Form, Preset, ResultKind, ResultOptions
from foremask.service.jobs import deliveries, records, steps
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database, Row
from foremask.service.jobs.records import Record, Status
from foremask.service.jobs.steps import JobClip, JobResult
from foremask.service.jobs.tokens import TokenLimits, create_token, webhook_key
from foremask.service.observability import metrics
from foremask.service.sandbox.messages import Mask
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import Objects
from foremask.service.worker import maintenance, queues
from foremask.service.worker.job_stages import WorkerContext
from foremask.service.worker.maintenance import run_maintenance
from foremask.service.worker.queues import Leases, do_next
from tests.media.test_writer import disk_of
from tests.service.worker import stand_in
from tests.service.worker.conftest import Caller, Site, announce_slots, another, error_of, working
from tests.support.jobs import begun, cancel_all, new_job, value
from tests.support.patience import PATIENCE_S, until, until_so


async def result(work: WorkerContext, record: Record, tmp_path: Path) -> bytes:
    assert record.status is Status.COMPLETED, record.error
    assert record.result_key is not None
    await work.objects.get(record.result_key, tmp_path / "result")
    return (tmp_path / "result").read_bytes()


async def outcomes(database: Database, request_id: str) -> list[tuple[str, str | None]]:
    return [(a.stage, a.outcome) for a in await records.history(database, request_id)]


@pytest.mark.parametrize(("slots", "segments"), [(0, None), (1, None), (2, 2), (7, 4), (100, 12)])
async def test_a_clip_is_cut_only_where_more_than_one_slot_is_free(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path, slots: int, segments: object
) -> None:
    """Never more than slots; four take as long as seven, a round of four and one of three."""
    await announce_slots(work.database, slots)
    record = await caller.served(work, site.clip(117))
    assert record.report is not None
    assert (record.report.frames_out, record.report.segments) == (117, segments)
    assert await result(work, record, tmp_path) == stand_in.mask(117)
    assert (record.progress, record.frames_done, record.frames_total) == (100, 117, 117)
    if segments is None:  # no cut and no join
        whole = [("ingest", "done"), ("segment", "done")]
        assert await outcomes(work.database, record.request_id) == whole


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (Preset.GIF, ResultOptions()),
        (AlphaFormat.PNG_ZIP, ResultOptions(ResultKind.CUTOUT)),
        (AlphaFormat.WEBM_VP9, ResultOptions(ResultKind.CUTOUT, auto_zoom=True)),
    ],
)
async def test_a_gif_pngs_and_a_zoom_are_made_in_one_piece(
    work: WorkerContext, caller: Caller, site: Site, form: Form, options: ResultOptions
) -> None:
    await announce_slots(work.database, 7)
    result = JobResult(options)
    new = new_job(caller.token_id, video_url=site.clip(117), preset=form, result=result)
    async with working(work):
        record = await caller.ended(await admit(work.database, new))
    assert record.report is not None
    assert (record.report.frames_out, record.report.segments) == (117, None)


async def test_a_mask_is_stored_once_in_whatever_preset(
    work: WorkerContext, caller: Caller, site: Site
) -> None:
    new = new_job(caller.token_id, video_url=site.clip(3), preset=KEPT_MASK)
    async with working(work):
        record = await caller.ended(await admit(work.database, new))
    assert record.report is not None
    assert record.report.mask_bytes is None


class KeepingMedia(stand_in.TextMedia):
    def __init__(self, results: Path) -> None:
        super().__init__()
        self._results = results

    async def _mask(self, request: Mask, on_progress: OnProgress | None) -> Report:
        assert request.kept is not None
        request.kept.hardlink_to(self._results)
        return await super()._mask(request, on_progress)


async def test_a_disk_without_room_for_network_results_fails_no_job(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    results.write_bytes(bytes(1 << 20))
    work = replace(work, masks=KeepingMedia(results))
    with disk_of(100_000), capture_logs() as logs:
        record = await caller.served(work, site.clip(7))
    assert await result(work, record, tmp_path) == stand_in.mask(7)
    assert record.report is not None
    assert record.report.network_bytes is None
    history = await outcomes(work.database, record.request_id)
    assert history == [("ingest", "done"), ("segment", "done")]
    assert [line["event"] for line in logs].count("step.network_results_not_kept") == 1


async def test_slots_that_others_wait_for_are_not_free(
    work: WorkerContext, caller: Caller, site: Site
) -> None:
    await announce_slots(work.database, 2)
    request_id = await caller.submit(site.clip(5))
    await do_next(work, "files", Leases())
    assert await steps.free_slots(work.database) == 1
    await caller.cancel(request_id)
    assert await steps.free_slots(work.database) == 2


async def test_a_long_clip_is_cut_masked_and_joined_once(
    work: WorkerContext, caller: Caller, site: Site
) -> None:
    begun_all = asyncio.Event()
    held = replace(work, masks=stand_in.TextMedia(pause=lambda _: begun_all.wait()))
    in_flight = (
        "select count(*) from steps where job = %s and stage = 'segment'"
        " and status in ('todo', 'running')"
    )
    async with working(held, masks=8):
        request_id = await caller.submit(site.clip(117, pause_s=1))
        counted = await until(lambda: value(work.database, in_flight, (request_id,)))
        assert counted == steps.IN_FLIGHT
        begun_all.set()
        assert (await caller.ended(request_id)).status is Status.COMPLETED
    history = await outcomes(work.database, request_id)
    assert sorted(history) == [("ingest", "done"), ("join", "done")] + [("segment", "done")] * 12


async def test_progress_moves_and_the_queue_has_places(
    work: WorkerContext, caller: Caller, site: Site
) -> None:
    first, second = [await caller.submit(site.clip(4, pause_s=1)) for _ in range(2)]
    assert [(await caller.record(each)).queue_position for each in (first, second)] == [1, 2]
    await caller.cancel(second)
    frames, observed = asyncio.Semaphore(0), list[Record]()
    async with working(replace(work, masks=stand_in.TextMedia(pause=lambda _: frames.acquire()))):
        for done in range(1, 4):
            frames.release()
            await caller.masking(first, done)
            observed.append(await caller.record(first))
    assert [each.frames_done for each in observed] == [1, 2, 3]
    assert any(each.eta_s for each in observed)
    assert all(0 <= each.eta_s <= 100 for each in observed if each.eta_s is not None)


async def test_a_poison_clip_is_given_up_and_hurts_no_other(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path
) -> None:
    site.files["/poison.mp4"] = stand_in.clip(35, die_at=15)
    site.files["/good.mp4"] = stand_in.clip(35)
    async with working(work):
        poison = await caller.submit(site.url + "/poison.mp4")
        good = await caller.ended(await caller.submit(site.url + "/good.mp4"))
        ended = await caller.ended(poison)
    assert await result(work, good, tmp_path) == stand_in.mask(35)
    assert (error_of(ended).code, error_of(ended).reason) == (500, "worker_crashed")
    crashed = [each for each in await outcomes(work.database, poison) if each[1] == "crashed"]
    assert crashed == [("segment", "crashed")] * steps.MAX_CRASHES


async def test_no_frame_for_too_long_loses_the_step(
    work: WorkerContext, caller: Caller, site: Site
) -> None:
    """A heartbeat proves the process, not the job: the lease needs frames."""
    record = await caller.served(
        replace(work, timing=replace(work.timing, stall_s=1.0)), site.clip(2, pause_s=300.0)
    )
    assert error_of(record).reason == "worker_crashed"
    assert "no frame was finished" in error_of(record).details


@pytest.mark.parametrize("operation", ["", "probe", "plan", "cut", "mask", "join"])
async def test_a_job_can_be_cancelled_in_every_stage(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path, operation: str
) -> None:
    site.files["/a.mp4"] = stand_in.clip(35)
    media = stand_in.TextMedia(slow=operation)
    slow = replace(work, masks=media, files=media)
    request_id = await caller.submit(site.url + "/a.mp4")
    async with working(slow, masks=1):
        await until_so(lambda: operation in media.doing or not operation)
        record = await caller.cancel(request_id)
        assert (record.status, error_of(record).code) == (Status.CANCELLED, 410)
        media.slow = ""
        assert (await caller.ended(await caller.submit(site.url + "/a.mp4"))).error is None
        left = f"objects/*/{request_id}/**/*"
        await until_so(lambda: not any(each.is_file() for each in tmp_path.glob(left)))
        await until_so(lambda: not list(work.scratch.iterdir()))
    assert await caller.record(request_id) == record
    assert None not in [each[1] for each in await outcomes(work.database, request_id)]


async def test_a_job_over_its_time_ends(work: WorkerContext, caller: Caller, site: Site) -> None:
    brief = replace(work, timing=replace(work.timing, wall_clock_s=1.0))
    record = await caller.served(brief, site.clip(400, pause_s=0.05))
    assert (error_of(record).code, error_of(record).reason) == (500, "timed_out")


async def test_a_stopped_worker_gives_its_step_back(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path
) -> None:
    request_id = await caller.submit(site.clip(5, pause_s=1))
    frames = asyncio.Semaphore(1)
    held = replace(work, masks=stand_in.TextMedia(pause=lambda _: frames.acquire()))
    async with working(held):
        await caller.masking(request_id)
    for _ in range(5):
        frames.release()
    assert ("segment", "given back") in await outcomes(work.database, request_id)
    async with working(another(held, "second")):
        record = await caller.ended(request_id)
    assert await result(work, record, tmp_path) == stand_in.mask(5)
    crashes = "select max(crashes) from steps where job = %s"
    assert await value(work.database, crashes, (request_id,)) == 0


async def test_a_webhook_is_retried_until_it_is_taken(
    work: WorkerContext, caller: Caller, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "SCHEDULE_S", (0, 1, 1, 1, 1, 1))
    site.statuses = [503, 302]
    async with working(work):
        request_id = await caller.submit(site.clip(3), site.url + "/hook")
        record = await caller.ended(request_id)
        found = "select status = 'delivered' from deliveries where job = %s"
        await until(lambda: value(work.database, found, (request_id,)))
    posts = site.posts_to("/hook")
    assert len(posts) == 3
    assert len({post.body for post in posts}) == 1
    for post in posts:
        assert post.headers["bria-webhook-id"] == request_id
        signed = f"{request_id}.{post.headers['bria-webhook-timestamp']}.".encode() + post.body
        wanted = hmac.digest(webhook_key(caller.secret), signed, "sha256")
        signature = base64.b64encode(wanted).decode()
        assert post.headers["bria-webhook-signature"] == f"v1={signature}"
    reported = msgspec.json.decode(posts[0].body)
    assert (reported["request_id"], reported["status"]) == (request_id, "COMPLETED")
    assert record.result_key is not None
    assert record.result_key in reported["result"]["video_url"]


async def test_one_tokens_receivers_that_hang_hold_up_no_other_tokens_webhooks(
    work: WorkerContext, caller: Caller, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "WEBHOOK_S", 2 * PATIENCE_S)
    monkeypatch.setattr(deliveries, "HELD_S", 2 * PATIENCE_S)
    site.files["/a.mp4"] = stand_in.clip(3)
    site.hanging = {"/slow"}
    secret, token = await create_token(work.database, "b", TokenLimits(concurrent=1000))
    other = Caller(work.database, secret, token.id)
    await allow_webhooks(work.database, 2)
    async with working(work):
        hung = [await caller.submit(site.url + "/a.mp4", site.url + "/slow") for _ in range(8)]
        for request_id in hung:
            await caller.ended(request_id)
        await until_so(lambda: len(site.posts_to("/slow")) == 2)
        request_id = await other.submit(site.url + "/a.mp4", site.url + "/quick")
        await other.ended(request_id)
        await until_so(lambda: site.posts_to("/quick"))
        assert len(site.posts_to("/slow")) == 2
        await allow_webhooks(work.database, 4)
        site.released.set()
        await until_so(lambda: len(site.posts_to("/slow")) == 8)
    sent = [post.headers["bria-webhook-id"] for post in site.posts_to("/slow")]
    assert sorted(sent) == sorted(hung)


async def allow_webhooks(database: Database, per_token: int) -> None:
    await database.all("update queues set per_token = %s where queue = 'webhooks'", (per_token,))


async def test_what_the_limit_held_back_is_sent_when_a_worker_died_in_the_middle(
    work: WorkerContext, caller: Caller, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "HELD_S", 2 * PATIENCE_S)
    jobs = [await caller.submit(site.clip(3), site.url + "/hook") for _ in range(3)]
    for _ in jobs:
        for queue in ("files", "masks"):
            await do_next(work, queue, Leases())
    await allow_webhooks(work.database, 1)
    assert await deliveries.begin(work.database) is not None
    held_back = "foremask_held_back_total", (("limit", "webhooks"),)
    before = metrics.counted()[held_back]
    assert await deliveries.begin(work.database) is None
    assert metrics.counted()[held_back] == before + 1
    await work.database.all("update deliveries set held_until = clock()")
    assert await deliveries.begin(work.database) is not None
    await allow_webhooks(work.database, 4)


class SlowToDelete(Objects):
    """A store whose deletions are done when the test says so."""

    def __init__(self, other: Objects) -> None:
        super().__init__(other._store, other.signer)
        self.asked, self.may_end = asyncio.Event(), asyncio.Event()

    async def delete_under(self, prefix: str) -> None:
        self.asked.set()
        await self.may_end.wait()


async def test_dead_workers_are_found_while_a_store_is_slow_to_delete(
    work: WorkerContext, caller: Caller
) -> None:
    job = await caller.submit("https://example.org/a.mp4")
    await work.database.all("select end_job(%s, 'cancelled', null, null, null)", (job,))
    store = SlowToDelete(work.objects)
    looking = asyncio.create_task(run_maintenance(replace(work, objects=store)))
    await store.asked.wait()
    began = await value(work.database, "select clock()")
    looked_after = "select last_at from housekeeping where last_at > %s"
    try:
        await until(lambda: work.database.all(looked_after, (began,)))
    finally:
        looking.cancel()
        await asyncio.wait({looking})


@pytest.mark.parametrize(("frames", "param"), [((9, 0), "frame_index"), ((0, 9), "hints[0].frame")])
async def test_a_hint_beyond_the_end_is_named_as_its_caller_named_it(
    work: WorkerContext, caller: Caller, site: Site, frames: tuple[int, int], param: str
) -> None:
    """A key point comes first, in a field of its own; how long the clip is nobody knew."""
    hints = tuple(Point(1, 1, frame=frame) for frame in frames)
    new = new_job(
        caller.token_id, video_url=site.clip(3), result=JobResult(hints=hints, key_points=1)
    )
    async with working(work):
        record = await caller.ended(await admit(work.database, new))
    assert (error_of(record).code, error_of(record).param) == (422, param)
    assert error_of(record).details == f"{param} is 9, and the clip ends with frame 2."


async def test_the_last_of_many_workers_looks_after_leases_as_one_alone(
    work: WorkerContext, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many workers look months apart; all others died at once, and still count as alive."""
    monkeypatch.setattr(maintenance, "SLOWEST", 1e9)
    work.fleet.workers = 1 << 40
    job = await caller.submit("https://example.org/a.mp4")
    await begun(work.database, job, lease_s=0.0)
    await work.database.all("update housekeeping set last_at = clock() - interval '1 hour'")
    looking = asyncio.create_task(run_maintenance(work))

    async def rows(statement: LiteralString) -> list[Row]:
        return await work.database.all(statement, (job,))

    try:  # the first round finds that nobody was there, and gives each lease its time again
        await until(lambda: rows("select 1 from steps where job = %s and lease_until > clock()"))
        await rows("update steps set lease_until = clock() - interval '1 s' where job = %s")
        await until(lambda: rows("select 1 from attempts where job = %s and outcome = 'lost'"))
    finally:
        looking.cancel()
        await asyncio.wait({looking})
        await cancel_all(work.database)


async def test_a_lost_source_is_an_error_that_says_so(
    work: WorkerContext, caller: Caller, site: Site
) -> None:
    request_id = await caller.submit(site.clip(3))
    await do_next(work, "files", Leases())
    await work.objects.delete_under(f"sources/{request_id}")
    await do_next(work, "masks", Leases())
    record = await caller.record(request_id)
    assert (error_of(record).code, error_of(record).reason) == (500, "object_lost")


async def test_a_store_that_is_away_only_delays(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    (tmp_path / "objects").write_bytes(b"no directory")
    async with working(work):
        request_id = await caller.submit(site.clip(3))
        await until(
            lambda: outcomes(work.database, request_id), lambda o: len(o) > steps.MAX_CRASHES + 1
        )
        (tmp_path / "objects").unlink()
        (tmp_path / "elsewhere").rename(tmp_path / "objects")
        record = await caller.ended(request_id)
    assert await result(work, record, tmp_path) == stand_in.mask(3)
    reported = {each for each in await outcomes(work.database, request_id) if each[1] != "done"}
    assert reported == {("ingest", "unavailable")}


async def test_a_worker_without_a_scratch_directory_only_delays(
    work: WorkerContext, caller: Caller
) -> None:
    work.scratch.rmdir()
    request_id = await caller.submit("https://example.org/a.mp4")
    await do_next(work, "files", Leases())
    assert await outcomes(work.database, request_id) == [("ingest", "unavailable")]


async def test_of_a_clip_that_changed_after_the_probe_what_was_fetched_counts(
    work: WorkerContext, caller: Caller, site: Site
) -> None:
    new = new_job(caller.token_id, video_url=site.clip(3), clip=JobClip(frames=10))
    async with working(work):
        record = await caller.ended(await admit(work.database, new))
    assert (record.frames_done, record.frames_total) == (3, 3)
