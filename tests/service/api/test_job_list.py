import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from foremask.service.jobs import retention, steps
from foremask.service.jobs.database import Database
from foremask.service.jobs.steps import Beat
from foremask.service.jobs.tokens import TokenLimits
from foremask.service.sandbox.messages import ChildProgress
from foremask.service.worker.job_stages import MAX_NEWEST_BYTES, PNG_HEAD, StepProgress
from tests.service.api.conftest import PATH, Running, assert_refused, http, post
from tests.service.api.worker import complete, upload
from tests.support.jobs import begun


def test_the_jobs_of_a_token_come_newest_first_with_their_names(
    service: Running, good: str, drawn: Path
) -> None:
    headers = service.new_token()
    name = "C:\\clips\\Zo\u00eb's\u202e cat.mp4"
    uploaded = upload(service, drawn / "good.mp4", name=name, **headers)
    asked = {"quality": "fast", "output_container_and_codec": "webm_vp9"}
    made = [
        str(post(service, PATH, headers, video=video, **asked).json()["request_id"])
        for video in (uploaded, f"{good}#secret", uploaded)
    ]
    asyncio.run(complete(service, made[0], drawn / "good.mp4"))
    http.delete(f"{service.url}/v2/status/{made[1]}", headers=headers)
    converted = post(service, f"/v2/status/{made[0]}/convert", headers).json()["request_id"]

    def page(query: str = "") -> tuple[list[dict[str, Any]], str | None]:
        result = http.get(f"{service.url}/v2/jobs{query}", headers=headers).json()["result"]
        return result["jobs"], result["next"]

    jobs, following = page()
    assert following is None
    assert [each["request_id"] for each in jobs] == [converted, *reversed(made)]
    cat = "Zo\u00eb's cat.mp4"
    assert [each.get("name") for each in jobs] == [cat, cat, "good.mp4", cat]
    assert [each["status"] for each in jobs] == ["IN_PROGRESS"] * 2 + ["ERROR", "COMPLETED"]
    assert [each.get("quality") for each in jobs] == [None, "fast", "fast", "fast"]
    assert jobs[3]["output_container_and_codec"] == "webm_vp9"
    assert jobs[2]["error"]["reason"] == "cancelled"
    assert "secret" not in str(jobs)

    first, following = page("?limit=2&conversions=false")
    assert [each["request_id"] for each in first] == [made[2], made[1]]
    rest, end = page(f"?limit=2&conversions=false&before={following}")
    assert ([each["request_id"] for each in rest], end) == ([made[0]], None)

    finished, gone, waiting, remade = (
        http.get(f"{service.url}/v2/jobs/{each}", headers=headers).json()
        for each in (*made, converted)
    )
    for link in (finished["result"]["video_url"], waiting["source_url"]):
        assert link.startswith(f"{service.url}/v2/files/")
        assert http.get(link).content == (drawn / "good.mp4").read_bytes()
    assert "source_url" not in gone
    assert "source_url" not in remade  # its source is the mask

    service.sql('update jobs set spec = spec || \'{"quality": "of old"}\' where id = %s', made[2])
    shown, _ = page()
    assert [each["status"] for each in shown] == ["IN_PROGRESS", "UNKNOWN", "ERROR", "COMPLETED"]
    assert shown[1]["error"]["reason"] == "internal"
    assert made[2] in shown[1]["error"]["details"]
    alone = f"{service.url}/v2/jobs/{made[2]}"
    assert http.delete(alone, headers=headers).status_code == 200
    assert_refused(http.get(alone, headers=headers), 404, "request_unknown")

    headers = service.new_token()
    assert page() == ([], None)
    for path in (f"/{made[0]}", f"?before={made[0]}", "?before=%00"):
        answer = http.get(f"{service.url}/v2/jobs{path}", headers=headers)
        assert_refused(answer, 404, "request_unknown")


def test_jobs_are_listed_by_the_beginning_of_their_key(service: Running, good: str) -> None:
    headers = service.new_token()
    made = {}
    for key in ("page-1", "nightly-1", None):
        keyed = headers if key is None else {**headers, "Idempotency-Key": key}
        made[key] = post(service, PATH, keyed, video=good).json()["request_id"]

    def listed(prefix: str) -> list[str]:
        page = http.get(f"{service.url}/v2/jobs?key_prefix={prefix}", headers=headers).json()
        return [each["request_id"] for each in page["result"]["jobs"]]

    assert listed("page-") == [made["page-1"]]
    assert listed("nightly-2") == []
    assert listed("") == [made[None], made["nightly-1"], made["page-1"]]


def test_renaming_counts_against_the_rate(service: Running) -> None:
    headers = service.new_token(TokenLimits(rate_per_minute=1, burst=1))
    assert_refused(post(service, "/v2/jobs/none", headers, name="x"), 404, "request_unknown")
    assert_refused(post(service, "/v2/jobs/none", headers, name="x"), 429, "rate_limited")


def test_a_job_is_renamed_and_deleted_by_its_token(
    service: Running, good: str, drawn: Path
) -> None:
    headers, other = service.new_token(), service.new_token()
    made = [str(post(service, PATH, headers, video=good).json()["request_id"]) for _ in range(2)]
    ended, waiting = made
    asyncio.run(complete(service, ended, drawn / "good.mp4"))
    path = f"/v2/jobs/{ended}"
    url = service.url + path
    assert_refused(post(service, path, other, name="x"), 404, "request_unknown")
    for name in ("", "x" * 201, 7, "\x00"):
        assert_refused(post(service, path, headers, name=name), 422, "field_invalid")
    renamed = post(service, path, headers, name="/x/Zo\u00eb\u202e.mp4")
    assert renamed.json()["name"] == "Zo\u00eb.mp4"
    entry = http.get(url, headers=headers).json()
    assert entry["name"] == "Zo\u00eb.mp4"
    link = entry["result"]["video_url"]
    assert "Zo%C3%AB.mask.mp4" in http.get(link).headers["content-disposition"]

    assert_refused(http.delete(url, headers=other), 404, "request_unknown")
    for each in made:
        gone = http.delete(f"{service.url}/v2/jobs/{each}", headers=headers)
        assert (gone.status_code, "result" in gone.json()) == (200, False)
    assert http.get(link).status_code in (404, 410)
    assert http.get(f"{service.url}/v2/jobs", headers=headers).json()["result"]["jobs"] == []
    for path in (f"jobs/{ended}", f"status/{waiting}", f"status/{ended}/strip"):
        answer = http.get(f"{service.url}/v2/{path}", headers=headers)
        assert_refused(answer, 404, "request_unknown")

    async def forgotten(database: Database) -> list[str]:
        for each in made:
            await retention.deleted(database, "sources", each)
        return await retention.forget_records(database, 0.0)

    assert set(service.ask(forgotten)) == set(made)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=", "conversions=1"])
def test_a_page_that_cannot_be_is_refused(service: Running, query: str) -> None:
    answer = http.get(f"{service.url}/v2/jobs?{query}", headers=service.headers)
    assert_refused(answer, 422, "field_invalid", query.partition("=")[0])
    assert_refused(http.get(f"{service.url}/v2/jobs"), 403, "token_missing")


def test_the_newest_mask_of_a_job_under_way_is_its_tokens(service: Running, good: str) -> None:
    headers = service.new_token()
    job = post(service, PATH, headers, video=good).json()["request_id"]
    path = f"{service.url}/v2/status/{job}/newest_mask"

    def shown() -> object:
        return http.get(path, headers=headers).json()["result"]["mask"]

    async def work(database: Database) -> None:
        step = await begun(database, job)
        for picture in (b"one", b"two", None):
            assert await steps.renew(database, [Beat(step, 1, newest_png=picture)])

    assert shown() is None
    service.ask(work)
    assert shown() == base64.b64encode(b"two").decode()
    assert_refused(http.get(path, headers=service.new_token()), 404, "request_unknown")
    assert http.delete(f"{service.url}/v2/status/{job}", headers=headers).status_code == 200
    assert shown() is None
    assert service.sql("select 1 from newest_masks where job = %s", job) == []


async def test_a_childs_picture_is_bounded() -> None:
    """The child reads untrusted files: what is too large or no PNG is left out."""
    advance = StepProgress()
    png = PNG_HEAD + bytes(100)
    for picture in (png, b"<svg>", PNG_HEAD + bytes(MAX_NEWEST_BYTES), b""):
        await advance.note_frames(ChildProgress(1, picture))
    assert advance.take_newest() == png
    assert advance.take_newest() is None
