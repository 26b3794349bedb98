"""Finds files of ended jobs that are due for deletion, and deletes the rows of old jobs."""

from typing import Any, Final, Literal, LiteralString

from foremask.service.jobs.database import Database, Row

RECORD_EXTRA_S = 7 * 86400  # time from a result's deletion to that of the job's row
FAILED_KEPT_S = 30 * 86400
NETWORK_KEPT_S = 86400  # `/refine` reuses network results, about 0.02 MB a frame
AT_ONCE = 50

type Kind = Literal["sources", "network", "result"]
"""Files of an ended job: the source and its segments, the network's results, or the result."""
_STORED: Final[dict[Kind, LiteralString]] = {
    "sources": "swept_at is null",
    "network": "report ? 'network_bytes' and expired_at is null",
    "result": "result_key is not null and expired_at is null",
}
_NOTED: Final[dict[Kind, LiteralString]] = {
    "sources": "swept_at = clock()",
    "network": "report = report - 'network_bytes'",
    "result": "expired_at = clock()",
}


async def due(database: Database, kind: Kind, kept_s: float = 0.0) -> list[tuple[str, Any]]:
    """Return (id, result key) of jobs that ended over ``kept_s`` ago and have files of ``kind``."""
    # After the clock was set back, ended_at may be in the future; kept_s = 0 includes such jobs.
    rows = await database.all(
        f"""select id, result_key from jobs where ended_at is not null and {_STORED[kind]}
            and (%s = 0 or ended_at < clock() - make_interval(secs => %s))
            order by ended_at limit %s""",  # noqa: S608
        (kept_s, kept_s, AT_ONCE),
    )
    return [(row["id"], row["result_key"]) for row in rows]


async def uploads_in_use(database: Database) -> set[str]:
    """Return the keys of the uploads that unfinished jobs read."""
    rows = await database.all(
        """select key from jobs, unnest(array[source_key, background_key]) key
           where status in ('queued', 'running') and key like 'uploads/%%'"""
    )
    return {row["key"] for row in rows}


async def deleted(database: Database, kind: Kind, request_id: str) -> Row | None:
    """Record that the files are deleted; return None if that was recorded before.

    The row has the job's ``status`` and its error's ``reason`` (or ""). ``wait_s`` (or None) and
    ``seconds`` are the times from the job's creation to its first step and to its end.
    """
    return await database.one(
        f"""update jobs set {_NOTED[kind]} where id = %s and {_STORED[kind]}
            returning status, coalesce(error ->> 'reason', '') as reason,
                extract(epoch from started_at - created_at)::float8 as wait_s,
                extract(epoch from ended_at - created_at)::float8 as seconds""",  # noqa: S608
        (request_id,),
    )


async def forget_records(database: Database, result_ttl_s: float) -> list[str]:
    """Delete old jobs without a pending webhook, and return their ids.

    A completed job is old `RECORD_EXTRA_S` after its result expired. A failed or cancelled job is
    old when both `FAILED_KEPT_S` and ``result_ttl_s`` have passed since its end. A job that its
    caller has deleted (``expired_at`` is the epoch) is old at once.
    """
    rows = await database.all(
        """delete from jobs where swept_at is not null
           and ((status = 'completed' and expired_at < clock() - make_interval(secs => %s))
                or expired_at = 'epoch' or (status in ('failed', 'cancelled')
                    and ended_at < clock() - make_interval(secs => %s)))
           and not exists (select from deliveries d where d.job = jobs.id and d.status = 'pending')
           returning id""",
        (RECORD_EXTRA_S, max(FAILED_KEPT_S, result_ttl_s)),
    )
    return [row["id"] for row in rows]
