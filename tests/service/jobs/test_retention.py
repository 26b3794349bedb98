import uuid

from foremask.service.jobs import retention
from foremask.service.jobs.admission import admit
from foremask.service.jobs.database import Database
from foremask.service.jobs.tokens import create_token
from tests.support.jobs import new_job

DAY_S = 86_400


async def job(database: Database, ended_s_ago: int | None, status: str = "completed") -> str:
    """A job of a token of its own that ended so long ago; None: it has not ended."""
    _, token = await create_token(database, uuid.uuid4().hex)
    made = await admit(database, new_job(token.id))
    if ended_s_ago is not None:
        await database.all(
            """update jobs set status = %s, started_at = created_at,
                   ended_at = now() - make_interval(secs => %s),
                   error = case when %s then '{"reason": "corrupt"}'::jsonb end,
                   result_key = case when %s then 'results/' || id || '/a.mp4' end
               where id = %s""",
            (status, ended_s_ago, status == "failed", status == "completed", made),
        )
    return made


async def known(database: Database, *jobs: str) -> list[bool]:
    rows = await database.all("select id from jobs where id = any(%s)", (list(jobs),))
    kept = {row["id"] for row in rows}
    return [each in kept for each in jobs]


async def test_a_job_is_swept_once_and_only_after_its_end(database: Database) -> None:
    running, failed = await job(database, None), await job(database, 60, "failed")
    done = await job(database, 50)
    waiting = dict(await retention.due(database, "sources"))
    assert running not in waiting
    assert waiting[done] == f"results/{done}/a.mp4"
    assert waiting[failed] is None
    ended = await retention.deleted(database, "sources", failed)
    assert ended is not None
    assert (ended["status"], ended["reason"], ended["wait_s"]) == ("failed", "corrupt", 0)
    assert await retention.deleted(database, "sources", failed) is None
    assert failed not in dict(await retention.due(database, "sources"))


async def test_what_the_network_said_goes_after_a_day(database: Database) -> None:
    old, young = await job(database, 2 * DAY_S), await job(database, 3600)
    without = await job(database, 2 * DAY_S)
    await database.all(
        """update jobs set report = '{"network_bytes": 9}' where id = any(%s)""", ([old, young],)
    )
    due = dict(await retention.due(database, "network", retention.NETWORK_KEPT_S))
    assert due[old] == f"results/{old}/a.mp4"
    assert not {young, without} & set(due)
    await retention.deleted(database, "network", old)
    assert old not in dict(await retention.due(database, "network", retention.NETWORK_KEPT_S))


async def test_records_stay_a_week_after_their_result(database: Database) -> None:
    """30 days after a failure; none goes while a webhook is owed, or before the sweep."""
    week_old, fresh = await job(database, 20 * DAY_S), await job(database, 20 * DAY_S)
    owed, unswept = await job(database, 20 * DAY_S), await job(database, 20 * DAY_S)
    failed_long_ago = await job(database, 31 * DAY_S, "failed")
    failed_lately = await job(database, 29 * DAY_S, "cancelled")
    for each in (week_old, fresh, owed, failed_long_ago, failed_lately):
        await retention.deleted(database, "sources", each)
    for each, days in ((week_old, 8), (fresh, 6), (owed, 8), (unswept, 8)):
        await database.all(
            "update jobs set expired_at = now() - make_interval(days => %s) where id = %s",
            (days, each),
        )
    await database.all(
        """insert into deliveries (job, token, url)
           select id, token, 'https://example.org' from jobs where id = %s""",
        (owed,),
    )
    forgotten = set(await retention.forget_records(database, DAY_S))
    assert forgotten >= {week_old, failed_long_ago}
    kept = (fresh, owed, unswept, failed_lately)
    assert not forgotten & set(kept)
    assert await known(database, week_old, failed_long_ago, *kept) == [False] * 2 + [True] * 4


async def test_rows_of_the_queue_that_nobody_will_finish_are_dropped(database: Database) -> None:
    job_id = await job(database, None)
    await database.all("update procrastinate_jobs set status = 'succeeded'")
    assert await retention.drop_dead_engine_rows(database) >= 1
    assert await retention.drop_dead_engine_rows(database) == 0
    other = await job(database, None)
    assert await retention.drop_dead_engine_rows(database) == 0
    assert await known(database, job_id, other) == [True, True]
