import asyncio
import json
from http.client import HTTPConnection
from pathlib import Path

import httpx

from tests.service.api.conftest import PATH, Running, assert_refused, http
from tests.service.api.worker import complete

type Part = tuple[str | None, bytes | str, str]
MARKS = [{"type": "point", "x": 3, "y": 4}]


def send(
    service: Running, clip: Path | bytes, path: str = PATH, part: str = "video", **fields: str
) -> httpx.Response:
    content = clip.read_bytes() if isinstance(clip, Path) else clip
    key = fields.pop("key", None)
    headers = service.headers | ({} if key is None else {"Idempotency-Key": key})
    files = {part: ("my dog.mp4", content, "video/mp4")}
    return http.post(service.url + path, data=fields, files=files, headers=headers)


def stored(service: Running) -> dict[str, int]:

    async def kept() -> list[str]:
        objects = await service.objects()
        return [each["path"] async for each in objects.list("uploads")]

    rows = service.sql("select key, bytes from uploads where bytes > 0")
    counted = {row["key"]: row["bytes"] for row in rows}
    assert set(counted) == set(asyncio.run(kept()))
    return counted


def test_one_call_uploads_the_clip_and_starts_its_job(service: Running, drawn: Path) -> None:
    before = stored(service)
    answer = send(service, drawn / "good.mp4", quality="fast", hints=json.dumps(MARKS),
                  sync="false", grow_px="2.5")  # fmt: skip
    assert answer.status_code == 202, answer.text
    assert "unknown-fields" not in answer.headers
    job = answer.json()["request_id"]
    new = {key: size for key, size in stored(service).items() if key not in before}
    assert new == {f"uploads/{job}/{job}.mp4": (drawn / "good.mp4").stat().st_size}
    (row,) = service.sql("select quality, name, source_key, result from jobs where id = %s", job)
    assert (row["quality"], row["name"], [row["source_key"]]) == ("fast", "my dog.mp4", list(new))
    assert [(each["x"], each["y"]) for each in row["result"]["hints"]] == [(3, 4)]
    asyncio.run(complete(service, job, drawn / "good.mp4"))
    status = http.get(answer.json()["status_url"], headers=service.headers).json()
    assert status["status"] == "COMPLETED"


def test_the_key_makes_it_safe_to_send_again(service: Running, drawn: Path) -> None:
    first = send(service, drawn / "good.mp4", key="form-1", quality="fast")
    assert first.status_code == 202
    before = stored(service)
    again = send(service, drawn / "good.mp4", key="form-1", quality="fast")
    assert again.json() == first.json()
    other = (drawn / "good.mp4").read_bytes() + b"\0"
    for clip, quality in ((drawn / "good.mp4", "best"), (other, "fast")):
        answer = send(service, clip, key="form-1", quality=quality)
        assert_refused(answer, 422, "idempotency_mismatch")
    assert_refused(send(service, other, key="a b"), 422, "field_invalid", "Idempotency-Key")
    assert stored(service) == before


def test_what_is_refused_is_not_kept(service: Running, drawn: Path) -> None:
    before = stored(service)
    for path, fields, param in (
        (PATH, {"hints": "[{"}, "hints"),
        (PATH, {"hints": '[{"type": "point", "x": -1, "y": 0}]'}, "hints[0].x"),
        ("/v2/video/segment/mask_by_key_points", {}, "key_points"),
        ("/v2/video/edit/remove_background", {"auto_zoom": "maybe"}, "auto_zoom"),
    ):
        answer = send(service, drawn / "good.mp4", path, **fields)
        assert_refused(answer, 422, "field_invalid", param)
    assert_refused(send(service, b""), 422, "empty_file")
    assert send(service, b"no clip" * 100).status_code in (415, 422)
    assert_refused(send(service, drawn / "good.mp4", part="clip"), 400, "bad_form")
    unknown = {"api_token": "unknown"}
    answer = http.post(service.url + PATH, files={"video": b"x"}, headers=unknown)
    assert_refused(answer, 403, "token_invalid")
    assert stored(service) == before


def test_fields_may_come_behind_the_clip(service: Running, drawn: Path) -> None:
    """Generated clients send fields in any order, and each object of a list as a part."""
    clip: Part = ("good.mp4", (drawn / "good.mp4").read_bytes(), "video/mp4")
    point: Part = (None, json.dumps(MARKS[0]), "application/json")
    points = [("hints", point), ("hints", point)]
    parts: list[tuple[str, Part]] = [("video", clip), ("quality", (None, "best", "text/plain"))]
    before = stored(service)
    for more, codes in ((points, {202}), (parts[:1], {400, 422}), (parts[1:], {400, 422})):
        answer = http.post(service.url + PATH, files=parts + more, headers=service.headers)
        assert answer.status_code in codes, answer.text
    assert len(stored(service)) == len(before) + 1


def test_a_clip_is_too_large_before_it_is_read(service: Running) -> None:
    caller = HTTPConnection("127.0.0.1", service.settings.port)
    head = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(2 << 30)}
    caller.request("POST", PATH, headers=head | service.headers)
    answer = caller.getresponse()
    assert (answer.status, b'"file_too_large"' in answer.read()) == (413, True)
    caller.close()


def test_only_calls_of_a_clip_take_a_form(service: Running, drawn: Path) -> None:
    for path in ("/v2/video/probe", "/v2/status/none/convert", "/v2/status/none/refine"):
        assert_refused(send(service, drawn / "good.mp4", path), 415, "content_type")
