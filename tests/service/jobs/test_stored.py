import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from foremask.errors import Failed
from foremask.facts import Report
from foremask.service.jobs import admission, retention, steps
from foremask.service.jobs.admission import NewJob, admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Event
from foremask.service.jobs.steps import IngestDone, JobClip, MaskDone, StoredSegment
from foremask.service.jobs.tokens import create_token
from tests.support.jobs import begun, cancel, done, new_job, report_of, value
from tests.support.refusals import refused

KINDS: tuple[retention.Kind, ...] = "sources", "network", "result"


async def bytes_of(database: Database, token: uuid.UUID) -> int:
    found: int = await value(database, "select stored from tokens where id = %s", (token,))
    return found


def job(token: uuid.UUID, size: int, **facts: Any) -> NewJob:  # noqa: ANN401
    return new_job(token, clip=JobClip(size_bytes=size), **facts)


async def masked(database: Database, name: str, clip: int, made: Report) -> None:
    found = IngestDone(JobClip(size_bytes=clip), "sources/x", (StoredSegment(),))
    await done(database, name, "ingest", found)
    await done(database, name, "segment", MaskDone("results/x", made))


async def test_uploads_over_the_quota_of_their_token_are_refused(database: Database) -> None:
    _, a = await create_token(database, "a")
    _, b = await create_token(database, "b")
    for key, token in (("uploads/1", a), ("uploads/2", a), ("uploads/3", b)):
        await admission.new_upload(database, key, token.id)
    await admission.reserve(database, "uploads/1", 60, 100)
    with refused("storage_quota") as caught:
        await admission.reserve(database, "uploads/2", 41, 100)
    assert (caught.value.limit, caught.value.actual) == (100, 101)
    assert caught.value.retry_after_s > 1
    await admission.reserve(database, "uploads/2", 40, 100)
    await admission.reserve(database, "uploads/3", 100, 100)
    await admission.reserve(database, "uploads/1", 10, 100)  # less came than was declared
    assert await bytes_of(database, a.id) == 50
    await admission.forget(database, datetime.now(UTC) + timedelta(days=1), ())
    assert await bytes_of(database, a.id) == 0


async def test_a_jobs_files_count_until_they_are_deleted(
    database: Database, token: uuid.UUID
) -> None:
    made = await admit(database, job(token, 100), storage_limit=300)
    assert await bytes_of(database, token) == 300
    with refused("storage_quota"):
        await admit(database, job(token, 1), storage_limit=300)
    unknown = await admit(database, new_job(token), storage_limit=300)
    report = report_of(1, bytes=7, mask_bytes=3, network_bytes=50)
    await masked(database, unknown, 30, report)
    assert await bytes_of(database, token) == 420
    for kind, left in zip(KINDS, (360, 310, 300), strict=True):
        await retention.deleted(database, kind, unknown)
        assert await bytes_of(database, token) == left
    await cancel(database, made)
    assert await bytes_of(database, token) == 200
    await retention.deleted(database, "sources", made)
    assert await bytes_of(database, token) == 0


async def test_sizes_that_are_no_numbers_stop_no_sweep(
    database: Database, token: uuid.UUID
) -> None:
    made = await admit(database, job(token, 100))
    await masked(database, made, 30, report_of(1, bytes=7))
    await database.all("alter table jobs disable trigger count_stored")
    await database.all(
        """update jobs set clip = '{"size_bytes": "many"}',
           report = '{"bytes": "many", "mask_bytes": 1e400, "network_bytes": 5}' where id = %s""",
        (made,),
    )
    await database.all("alter table jobs enable trigger count_stored")
    for kind in KINDS:
        await retention.deleted(database, kind, made)
    assert await bytes_of(database, token) == 0


async def test_optional_files_are_stored_only_within_the_quota(
    database: Database, token: uuid.UUID
) -> None:
    begun_steps = [await begun(database, await admit(database, job(token, 10))) for _ in range(3)]
    allowed = [await admission.reserve_result(database, each, 10, 50, 200) for each in begun_steps]
    assert allowed == [True, True, False]
    assert await bytes_of(database, token) == 3 * 30 + 2 * 50


async def test_a_worker_that_has_lost_its_step_stores_nothing(
    database: Database, token: uuid.UUID
) -> None:
    made = await admit(database, job(token, 10))
    stale = await begun(database, made)
    await steps.fail(database, stale, Failed("it was away", reason="worker_crashed"), Event.LOST)
    current = await begun(database, made)
    assert await admission.reserve_result(database, current, 40, 0, 200)
    assert not await admission.reserve_result(database, stale, 100, 0, 200)
    assert await bytes_of(database, token) == 20 + 40


async def test_a_days_forms_are_forgotten_at_once_whosever_they_are(
    database: Database, token: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "FORGOTTEN_AT_ONCE", 1000)
    _, b = await create_token(database, "b")
    await database.all(
        """insert into uploads (key, token, bytes) select 'uploads/flood/' || n, %s, 2
           from generate_series(1, 2500) n""",
        (token,),
    )
    await database.all("update tokens set stored = 5000 where id = %s", (token,))
    await admission.new_upload(database, "uploads/late", b.id)
    await admission.reserve(database, "uploads/late", 70, 100)
    await admission.forget(database, datetime.now(UTC) + timedelta(minutes=1), ())
    assert (await bytes_of(database, token), await bytes_of(database, b.id)) == (0, 0)


@pytest.mark.parametrize(
    ("facts", "counted"),
    [({"video_url": None, "source_key": "uploads/1/1.mp4"}, 200), ({"fetched_bytes": 40}, 340)],
)
async def test_a_job_counts_no_upload_twice_and_a_background_as_it_was_fetched(
    database: Database, token: uuid.UUID, facts: dict[str, Any], counted: int
) -> None:
    new = job(token, 100, **facts)
    with refused("storage_quota") as caught:
        await admit(database, new, storage_limit=counted - 1)
    assert (caught.value.limit, caught.value.actual) == (counted - 1, counted)
    made = await admit(database, new, storage_limit=counted)
    assert await bytes_of(database, token) == counted
    found = IngestDone(JobClip(size_bytes=100), "sources/x", (StoredSegment(),), fetched_bytes=41)
    await done(database, made, "ingest", found)
    assert await bytes_of(database, token) == 341
    await done(database, made, "segment", MaskDone("results/x", report_of(1)))
    await retention.deleted(database, "sources", made)
    assert await bytes_of(database, token) == 0


async def ended_job(
    database: Database,
    token: uuid.UUID,
    days_ago: int,
    status: str = "completed",
    expired_days_ago: int | None = None,
) -> str:
    made = await admit(database, new_job(token))
    await database.all(
        """update jobs set status = %s, started_at = created_at,
               ended_at = now() - make_interval(days => %s),
               expired_at = now() - make_interval(days => %s),
               error = case when %s then '{"reason": "corrupt"}'::jsonb end,
               result_key = case when %s then 'results/' || id || '/a.mp4' end
           where id = %s""",
        (status, days_ago, expired_days_ago, status == "failed", status == "completed", made),
    )
    return made


async def test_a_network_cache_goes_after_a_day(database: Database, token: uuid.UUID) -> None:
    old, young, without = [await ended_job(database, token, days) for days in (2, 0, 2)]
    await database.all(
        """update jobs set report = '{"network_bytes": 9}' where id = any(%s)""", ([old, young],)
    )
    due = dict(await retention.due(database, "network", retention.NETWORK_KEPT_S))
    assert due[old] == f"results/{old}/a.mp4"
    assert not {young, without} & set(due)


async def test_records_stay_a_week_after_their_result_or_30_days_after_a_failure(
    database: Database, token: uuid.UUID
) -> None:
    week_old, fresh, owed, unswept = [
        await ended_job(database, token, 20, expired_days_ago=days) for days in (8, 6, 8, 8)
    ]
    failed_long_ago = await ended_job(database, token, 31, "failed")
    failed_lately = await ended_job(database, token, 29, "cancelled")
    for each in (week_old, fresh, owed, failed_long_ago, failed_lately):
        await retention.deleted(database, "sources", each)
    await database.all(
        "insert into deliveries (job, token, url) values (%s, %s, 'https://example.org')",
        (owed, token),
    )
    forgotten = set(await retention.forget_records(database, 86_400))
    assert forgotten >= {week_old, failed_long_ago}
    assert not forgotten & {fresh, owed, unswept, failed_lately}
