import asyncio
import dataclasses
import json
import socket
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from foremask.service.jobs.tokens import token_hash
from foremask.service.storage.objects import Upload
from tests.service.api.conftest import PATH, Running, assert_refused, http, post
from tests.service.api.worker import complete, completed
from tests.support.patience import wait_until


@pytest.fixture(scope="module")
def mask_url(service: Running, good: str, drawn: Path) -> str:
    made = completed(service, good, drawn / "good.mp4")
    status = http.get(made["status_url"], headers=service.headers).json()
    assert (status["status"], status["progress"]) == ("COMPLETED", 100)
    return str(status["result"]["video_url"])


def test_a_mask_is_downloaded_by_its_link_alone(mask_url: str, drawn: Path) -> None:
    content = (drawn / "good.mp4").read_bytes()
    answer, head = http.get(mask_url), http.head(mask_url)
    assert answer.content == content
    assert head.content == b""
    for name in ("content-length", "accept-ranges", "etag", "content-disposition"):
        assert answer.headers[name] == head.headers[name]
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "good.mask.mp4" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my clip.mask.mp4", "filename=\"my clip.mask.mp4\"; filename*=UTF-8''my%20clip.mask.mp4"),
        ("Zo\u00eb.mp4", "filename=\"Zo_.mp4\"; filename*=UTF-8''Zo%C3%AB.mp4"),
        ("mask.exe", None), ("../mask.mp4", None), ('a".mp4', None), ("a\r\nb.mp4", None),
    ],
)  # fmt: skip
def test_a_download_is_named_as_the_link_wants_it(
    mask_url: str, name: str, told: str | None
) -> None:
    usual = http.head(mask_url).headers["content-disposition"]
    asked = http.head(f"{mask_url}&{urlencode({'name': name})}").headers["content-disposition"]
    assert asked == (f"attachment; {told}" if told else usual)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=100-", 100, None),
     ("bytes=-7", -7, None), ("bytes=5-999999999", 5, None), ("bytes=-999999999", 0, None)],
)  # fmt: skip
def test_a_range_is_answered_with_these_bytes(
    mask_url: str, drawn: Path, asked: str, start: int, stop: int | None
) -> None:
    content = (drawn / "good.mp4").read_bytes()
    answer = http.get(mask_url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, content[start:stop])
    first = range(len(content))[start]
    last = first + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"


def test_a_range_behind_the_end_is_416(mask_url: str) -> None:
    size = int(http.head(mask_url).headers["content-length"])
    for asked in (f"bytes={size}-", "bytes=-0"):
        answer = http.get(mask_url, headers={"Range": asked})
        assert assert_refused(answer, 416, "range_invalid")["limit"] == size
        assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *((200, {"Range": each}) for each in
          ("bytes=1-2,4-5", "bytes=9-1", "lines=1-2", "bytes=x-", "bytes=-")),
        (304, {"If-None-Match": "ETAG"}),
        (304, {"If-None-Match": '"other", W/ETAG'}),
        (304, {"If-None-Match": "*"}),
        (200, {"If-None-Match": '"other"'}),
        (200, {"Range": "bytes=0-1", "If-Range": '"other"'}),
        (206, {"Range": "bytes=0-1", "If-Range": "ETAG"}),
    ],
)  # fmt: skip
def test_conditions_and_odd_ranges_are_those_of_rfc_9110(
    mask_url: str, status: int, headers: dict[str, str]
) -> None:
    etag = http.head(mask_url).headers["etag"]
    asked = {name: text.replace("ETAG", etag) for name, text in headers.items()}
    answer = http.get(mask_url, headers=asked)
    assert (answer.status_code, answer.headers["etag"]) == (status, etag)
    assert bool(answer.content) == (status != 304)


def test_a_link_that_was_changed_is_refused(mask_url: str) -> None:
    path, _, query = mask_url.partition("?")
    for changed in (
        mask_url.replace("/results/", "/uploads/"),
        mask_url.replace("expires=", "expires=9"),
        mask_url.replace("expires=", "expires=soon"),
        mask_url.replace("signature=", "signature=A"),
        mask_url.replace("signature=", "signature=&x="),
        mask_url.replace("signature=", "signature=%C3%A9"),
        path,
        f"{path}?expires=9999999999",
        f"{path}/../../signing-key?{query}",
        path.rsplit("/results", 1)[0] + f"/signing-key?{query}",
    ):
        assert http.get(changed).json()["error"]["reason"] in ("link_invalid", "path_unknown")


def form(service: Running, media_type: str | None = None) -> dict[str, Any]:
    answer = post(service, "/v2/video/upload", media_type=media_type)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"request_id", "result"}
    result: dict[str, Any] = answer.json()["result"]
    assert set(result) == {"upload_url", "upload_fields", "file_url"}
    assert all(isinstance(each, str) for each in result["upload_fields"].values())
    return result


def send(
    given: dict[str, Any], content: bytes, kind: str = "video/mp4", **changes: str
) -> httpx.Response:
    return http.post(
        given["upload_url"],
        data={**given["upload_fields"], "Content-Type": kind, **changes},
        files={"file": ("clip.mp4", content, kind)},
    )


def packed(given: dict[str, Any], content: bytes) -> tuple[bytes, httpx.Headers]:
    files = {"file": ("clip.mp4", content, "video/mp4")}
    request = httpx.Request("POST", given["upload_url"], data=given["upload_fields"], files=files)
    return request.read(), request.headers


def head_of(headers: httpx.Headers) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST /v2/uploads HTTP/1.1", *lines, "", ""]).encode()


def test_an_upload_becomes_a_job(service: Running, drawn: Path) -> None:
    content = (drawn / "good.mp4").read_bytes()
    given = form(service, media_type="video/mp4")
    answer = send(given, content)
    assert (answer.status_code, answer.content) == (204, b"")
    assert http.get(given["file_url"]).content == content
    probed = post(service, "/v2/video/probe", video=given["file_url"])
    assert probed.status_code == 200, probed.text
    clip = probed.json()["result"]
    assert (clip["width"], clip["height"], clip["frames"]) == (64, 48, 10)
    assert post(service, PATH, video=given["file_url"]).status_code == 202
    assert_refused(send(given, content), 403, "link_invalid")


def test_an_upload_keeps_to_its_form(service: Running) -> None:
    given = form(service, media_type="video/mp4")
    assert_refused(send(given, b"x", "image/tiff"), 422, "field_invalid", "Content-Type")
    assert_refused(send(given, b"x", "video/webm"), 422, "field_invalid", "Content-Type")
    changed = {"key": "results/1", "max_bytes": str(1 << 50), "signature": ""}
    for name, value in {**changed, "media_type": "", "expires": "9999999999"}.items():
        assert_refused(send(given, b"x", **{name: value}), 403, "link_invalid")
    objects = asyncio.run(service.objects())
    key = form(service)["upload_fields"]["key"]
    small = Upload(key, int(time.time()) + 60, 100_000, "")
    url = f"{service.url}/v2/uploads"
    fitted = {"upload_url": url, "upload_fields": objects.signer.upload_form(small)}
    assert assert_refused(send(fitted, b"x" * 100_001), 413, "file_too_large")["limit"] == 100_000
    assert_refused(send(fitted, b"x" * 300_000), 413, "file_too_large")
    late = dataclasses.replace(small, expires=int(time.time()) - 1)
    expired = {"upload_url": url, "upload_fields": objects.signer.upload_form(late)}
    assert_refused(send(expired, b"x"), 403, "link_invalid")
    assert_refused(post(service, PATH, video=given["file_url"]), 422, "url_status", "video")
    assert send(fitted, b"x" * 100_000).status_code == 204


def test_one_form_stores_one_file_and_only_while_its_token_is_good(service: Running) -> None:
    given = form(service)
    sent, headers = packed(given, b"the first")
    claimed = "select 1 from uploads where key = %s and bytes > 0"
    with socket.create_connection(("127.0.0.1", service.settings.port), timeout=120) as raw:
        raw.sendall(head_of(headers) + sent[:-20])
        wait_until(lambda: service.sql(claimed, given["upload_fields"]["key"]))
        assert_refused(send(given, b"x"), 403, "link_invalid")
        raw.sendall(sent[-20:])
        assert raw.recv(1000).startswith(b"HTTP/1.1 204")
    assert http.get(given["file_url"]).content == b"the first"
    secret = service.new_token()
    given = form(dataclasses.replace(service, token=secret["api_token"]))
    service.sql(
        "update tokens set revoked_at = now() where hash = %s", token_hash(secret["api_token"])
    )
    assert_refused(send(given, b"x"), 403, "link_invalid")


BOUNDARY = "a-boundary"
END = b"x\r\n--a-boundary--\r\n"
FIELD = b'--a-boundary\r\nContent-Disposition: form-data; name="key"\r\n\r\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "bad_form"),
        (b"no form", "bad_form"),
        (FIELD + b"value", "bad_form"),
        (FIELD + b"x" * 9000, "bad_form"),
        (b"--a-boundary\r\nContent-Disposition: none\r\n\r\nv\r\n--a-boundary--\r\n", "bad_form"),
        ((FIELD + b"v\r\n") * 40, "bad_form"),
        (FIELD.replace(b"key", b"\xff") + END, "bad_form"),
        (FIELD.replace(b'"key"', b'"file"; filename="a"') + END, "link_invalid"),
    ],
    ids=str,
)  # fmt: skip
def test_a_form_that_is_broken_is_told_so(service: Running, content: bytes, reason: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = http.post(f"{service.url}/v2/uploads", content=content, headers=headers)
    assert_refused(answer, 403 if reason == "link_invalid" else 400, reason)


def test_a_file_that_breaks_off_is_not_stored(service: Running) -> None:
    given = form(service, media_type="video/mp4")
    whole, headers = packed(given, b"half of it")
    kind = {"Content-Type": headers["content-type"]}
    half = http.post(given["upload_url"], content=whole[:-45], headers=kind)
    assert_refused(half, 400, "bad_form")
    assert send(given, b"all of it").status_code == 204


def test_a_caller_who_hangs_up_is_no_fault_of_ours(service: Running) -> None:
    given = form(service, media_type="video/mp4")
    content, headers = packed(given, b"x" * 500_000)
    with socket.create_connection(("127.0.0.1", service.settings.port)) as caller:
        caller.sendall(head_of(headers) + content[: len(content) // 2])
    metrics, counted = f"{service.url}/metrics", 'route="/v2/uploads",status="{}"'
    wait_until(lambda: counted.format(400) in http.get(metrics).text)
    assert counted.format(500) not in http.get(metrics).text
    assert_refused(http.get(given["file_url"]), 404, "request_unknown")


def test_uploads_are_forms_of_the_right_type(service: Running) -> None:
    assert_refused(http.post(f"{service.url}/v2/uploads", json={}), 415, "content_type")
    for value in ("image/tiff", 5, "video", "video/mp4\n", "video/\u017f"):
        answer = post(service, "/v2/video/upload", media_type=value)
        assert_refused(answer, 422, "field_invalid", "media_type")
    empty = http.post(f"{service.url}/v2/video/upload", headers=service.headers)
    assert empty.status_code == 200


# The clip in the call itself

type Part = tuple[str | None, bytes | str, str]
MARKS = [{"type": "point", "x": 3, "y": 4}]


def send_clip(
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
    answer = send_clip(service, drawn / "good.mp4", quality="fast", hints=json.dumps(MARKS),
                  sync="false", grow_px="2.5")  # fmt: skip
    assert answer.status_code == 202, answer.text
    assert "unknown-fields" not in answer.headers
    job = answer.json()["request_id"]
    new = {key: size for key, size in stored(service).items() if key not in before}
    assert new == {f"uploads/{job}/{job}.mp4": (drawn / "good.mp4").stat().st_size}
    (row,) = service.sql("select spec, name, source_key from jobs where id = %s", job)
    assert (row["name"], [row["source_key"]]) == ("my dog.mp4", list(new))
    assert row["spec"]["quality"] == "fast"
    assert [(each["x"], each["y"]) for each in row["spec"]["hints"]] == [(3, 4)]
    asyncio.run(complete(service, job, drawn / "good.mp4"))
    status = http.get(answer.json()["status_url"], headers=service.headers).json()
    assert status["status"] == "COMPLETED"


def test_the_key_makes_it_safe_to_send_again(service: Running, drawn: Path) -> None:
    first = send_clip(service, drawn / "good.mp4", key="form-1", quality="fast")
    assert first.status_code == 202
    before = stored(service)
    again = send_clip(service, drawn / "good.mp4", key="form-1", quality="fast")
    assert again.json() == first.json()
    other = (drawn / "good.mp4").read_bytes() + b"\0"
    for clip, quality in ((drawn / "good.mp4", "best"), (other, "fast")):
        answer = send_clip(service, clip, key="form-1", quality=quality)
        assert_refused(answer, 422, "idempotency_mismatch")
    assert_refused(send_clip(service, other, key="a b"), 422, "field_invalid", "Idempotency-Key")
    assert stored(service) == before


def test_what_is_refused_is_not_kept(service: Running, drawn: Path) -> None:
    before = stored(service)
    for path, fields, param in (
        (PATH, {"hints": "[{"}, "hints"),
        (PATH, {"hints": '[{"type": "point", "x": -1, "y": 0}]'}, "hints[0].x"),
        ("/v2/video/segment/mask_by_key_points", {}, "key_points"),
        ("/v2/video/edit/remove_background", {"auto_zoom": "maybe"}, "auto_zoom"),
    ):
        answer = send_clip(service, drawn / "good.mp4", path, **fields)
        assert_refused(answer, 422, "field_invalid", param)
    assert_refused(send_clip(service, b""), 422, "empty_file")
    assert send_clip(service, b"no clip" * 100).status_code in (415, 422)
    assert_refused(send_clip(service, drawn / "good.mp4", part="clip"), 400, "bad_form")
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
        assert_refused(send_clip(service, drawn / "good.mp4", path), 415, "content_type")
