"""Uploads whose request did not end as it should: nothing stays stored, and nothing counted."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from foremask.fetch.client import Outbound
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.service.worker.job_stages import WorkerContext
from foremask.service.worker.maintenance import sweep_abandoned
from tests.service.api.conftest import PATH, Running, assert_refused, running, serves
from tests.service.api.test_bad_clients import crowd_of, dial
from tests.service.api.test_files import form, head_of, packed, send, send_clip, stored
from tests.service.api.test_slow_clients import MIB, begun_upload
from tests.service.api.worker import RedIsForeground
from tests.support.databases import new_database
from tests.support.patience import wait_until

pytestmark = pytest.mark.slow

hasty = serves({"api.calls.SETTLED_AFTER_S": 0.5, "api.unsettled.SETTLE_EVERY_S": 0.2})


@pytest.fixture
def own_database(postgres: EmbeddedPostgres, template: str) -> str:
    return new_database(postgres, options=f"template {template}")


async def sweep(service: Running, scratch: Path) -> None:
    async with service.database() as database, Outbound() as outbound:
        runner = RedIsForeground()
        work = WorkerContext(
            database=database,
            objects=await service.objects(),
            outbound=outbound,
            masks=runner,
            files=runner,
            scratch=scratch,
            worker="test",
            result_ttl_s=0,
        )
        await sweep_abandoned(work)


def test_what_a_killed_api_was_receiving_is_deleted(
    own_database: str, tmp_path: Path, drawn: Path
) -> None:
    with running(own_database, tmp_path) as service:
        kept = send_clip(service, drawn / "good.mp4").json()["request_id"]
        given = form(service)
        assert send(form(service), b"whole").status_code == 204
        whole = stored(service)
        body, headers = packed(given, bytes(2 * MIB))
        with crowd_of(service, 2) as (upload, clip):
            upload.sendall(head_of(headers) + body[:-100])
            clip.sendall(begun_clip(service))
            reserved = "select 1 as one from uploads where bytes > 1000000"
            wait_until(lambda: len(service.sql(reserved)) == 2)
            service.process.kill()
            service.process.join()
        asyncio.run(sweep(service, tmp_path))
        assert len(service.sql(reserved)) == 2  # it may only be slow
        service.sql("update processes set seen_at = clock() - interval '3 min'")
        service.sql("update uploads set made_at = made_at - interval '3 min'")
        service.sql("update uploads set claim = %s where key like %s", "dead/x", f"%{kept}%")
        asyncio.run(sweep(service, tmp_path))
        assert stored(service) == whole
        files = [each.name for each in (tmp_path / "objects/uploads").rglob("*") if each.is_file()]
        assert sorted(files) == sorted(key.rpartition("/")[2] for key in whole)
        counted = sum(whole.values()) + service.sql("select sum(stored) as n from jobs")[0]["n"]
        assert service.sql("select sum(stored) as n from tokens")[0]["n"] == counted


def begun_clip(service: Running) -> bytes:
    """A job's form, up to the middle of its clip."""
    body = b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\napi_token: {service.token}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {4 * MIB}\r\n\r\n"
    )
    return head.encode() + body + bytes(2 * MIB)


def test_a_clip_whose_job_the_database_did_not_take_is_deleted(hasty: Running, drawn: Path) -> None:
    before = stored(hasty)
    with psycopg.connect(hasty.database_url) as other:
        other.execute("set idle_in_transaction_session_timeout = 0")
        other.execute("lock table jobs in share row exclusive mode")
        answer = send_clip(hasty, drawn / "good.mp4")
        assert_refused(answer, 503, "unavailable")
        blocked = "select 1 as one from pg_stat_activity where wait_event_type = 'Lock'"
        wait_until(lambda: not hasty.sql(blocked))  # else the job might be made after all
    wait_until(lambda: stored_is(hasty, before))
    assert send_clip(hasty, drawn / "good.mp4").status_code == 202


def stored_is(service: Running, expected: dict[str, int]) -> bool:
    rows = service.sql("select key from uploads where bytes > 0 or claim is not null")
    return {row["key"] for row in rows} == set(expected) and stored(service) == expected


def test_a_stop_answers_those_who_upload(own_database: str, tmp_path: Path) -> None:
    with running(own_database, tmp_path, {"api.connection.STOPPING_S": 1.0}) as service:
        with dial(service) as raw:
            raw.sendall(begun_upload(form(service), MIB))
            wait_until(lambda: service.sql("select 1 as one from uploads where bytes > 0"))
            service.process.terminate()
            heard = b""
            while block := raw.recv(65_536):
                heard += block
        head, _, body = heard.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in head.lower()
        assert b'"unavailable"' in body
        wait_until(lambda: not list((tmp_path / "objects").rglob("uploads/*/*")))
        wait_until(lambda: not service.sql("select 1 as one from uploads where bytes > 0"))
