import io
import json
import zipfile
import zlib
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from bria_client import BriaSyncClient
from bria_client.toolkit.models import Status
from numpy.typing import NDArray

from foremask.facts import SEGMENT_GRID, SegmentGrid
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import COLOURS, ResultKind
from foremask.service.api.bodies import BackgroundColor, GreenShade
from foremask.service.worker import job_stages
from tests.service.api import clip_server, clips
from tests.service.api.conftest import Running, assert_refused, http
from tests.service.api.worker import ended, upload, worker
from tests.support import synth
from tests.support.patience import PATIENCE_S
from tests.support.synth import Spec, Tone

__all__ = ["worker"]  # a fixture
pytestmark = [pytest.mark.postgres, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

REMOVE, SCREEN, REPLACE = (
    f"/v2/video/edit/{name}" for name in ("remove_background", "green_screen", "replace_background")
)
MASK = "/v2/video/segment/foreground_mask"
URL, INVALID, FORM = "background_url", "background_invalid", "output_container_and_codec"
TRANSPARENT = {"background_color": "Transparent"}  # in a preset that has no alpha
RED = (220, 30, 30)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    synth.write(folder / "clip.mp4", Spec(sound=(Tone(language="eng"),)))
    blue = np.zeros((48, 64, 3), np.uint8)
    blue[:] = (200, 100, 0)  # blue first
    for name in ("behind.png", "behind.jpg", "behind.webp"):
        cv2.imwrite(str(folder / name), blue)
    behind = Spec(pts=synth.even(3, Fraction(15)))
    synth.write(folder / "behind.mp4", behind, [np.full((48, 64, 3), (0, 100, 200), np.uint8)] * 3)
    clips.write(folder / "long.mp4", frames=61 * 2, rate=2)
    clips.write(folder / "behind.mkv")
    (folder / "half.png").write_bytes((folder / "behind.png").read_bytes()[:60])
    (folder / "huge.png").write_bytes(_with_size(folder / "behind.png", 60_000, 60_000))
    spec = Spec(pts=synth.even(60, Fraction(30)), b_frames=2)
    synth.broken(folder / "broken.mp4", synth.write(folder / "whole.mp4", spec))
    spec = Spec(96, 32, pts=synth.even(60, Fraction(30)), keyframe_every=12)
    synth.write(folder / "minute.mp4", spec)
    return folder


def _with_size(png: Path, width: int, height: int) -> bytes:
    data = png.read_bytes()
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
    return data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:]


@pytest.fixture(scope="module")
def origin(files: Path) -> Generator[str]:
    with clip_server.serving(files) as address:
        yield address


def finished(service: Running, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"request_id", "status_url"}
    return ended(service, answer.json()["request_id"])


def made(service: Running, answer: httpx.Response, target: Path) -> Path:
    status = finished(service, answer)
    assert status["status"] == "COMPLETED", status
    file = http.get(status["result"]["video_url"])
    target.write_bytes(file.content)
    return target


def corner(path: Path, at: tuple[int, int] = (2, 2)) -> NDArray[np.int64]:
    with VideoReader(path) as reader:
        frame = next(iter(reader))
        return np.asarray(frame.rgb(frame.width, frame.height)[at], np.int64)


def middle(path: Path) -> NDArray[np.int64]:
    return corner(path, (24, 12))


def test_a_cut_out_comes_as_webm_with_alpha_sound_and_every_frame(
    worker: Running, client: httpx.Client, origin: str, files: Path, tmp_path: Path
) -> None:
    answer = client.post(REMOVE, json={"video": f"{origin}/clip.mp4"})
    status = finished(worker, answer)
    assert status["status"] == "COMPLETED", status
    result = status["result"]
    assert result["kind"] == result["report"]["kind"] == "cutout"
    assert "mask_url" not in result
    assert result["video_url"].partition("?")[0].endswith(".webm")
    target = made(worker, answer, tmp_path / "cut.webm")
    verify(files / "clip.mp4", target, ResultKind.CUTOUT)
    assert [track.language for track in synth.describe(target).audio] == ["eng"]


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("mkv_vp9", "video/x-matroska"),
        ("mov_proresks", "video/quicktime"),
        ("gif", "image/gif"),
        ("png_zip", "application/zip"),
    ],
)
def test_each_preset_with_alpha_is_transparent(
    worker: Running, client: httpx.Client, origin: str, tmp_path: Path, name: str, media_type: str
) -> None:
    body = {"video": f"{origin}/clip.mp4", "output_container_and_codec": name}
    answer = client.post(REMOVE, json=body)
    target = made(worker, answer, tmp_path / "cut")
    link = client.get(answer.json()["status_url"]).json()["result"]["video_url"]
    assert http.head(link).headers["content-type"] == media_type
    if name == "png_zip":
        with zipfile.ZipFile(io.BytesIO(target.read_bytes())) as archive:
            assert len(archive.namelist()) == 11
    elif name in ("mkv_vp9", "mov_proresks"):
        assert synth.describe(target).alpha


def test_the_sdk_gets_each_colour_and_each_shade(
    worker: Running, files: Path, tmp_path: Path
) -> None:
    wanted: set[tuple[str, str, str | None]]
    wanted = {("remove_background", "background_color", each) for each in list(BackgroundColor)[1:]}
    wanted |= {("green_screen", "green_shade", each) for each in GreenShade}
    wanted |= {("remove_background", "webhook_url", None)}
    with BriaSyncClient(base_url=worker.url, api_token=worker.token) as client:
        url = client.upload(files / "clip.mp4", "video/mp4")
        jobs = {
            (call, value): client.submit(
                f"video/edit/{call}",
                {"video": url, field: value, "output_container_and_codec": "mp4_h264"},
                raise_for_status=True,
            )
            for call, field, value in wanted
        }
        for (_, value), job in jobs.items():
            done = client.poll(job, interval=0.2, timeout=int(PATIENCE_S))
            assert done.status == Status.COMPLETED, done
            assert done.result is not None
            target = tmp_path / "made.mp4"
            target.write_bytes(http.get(done.result.video_url).content)
            colour = COLOURS[(value or "black").lower()]
            assert np.abs(corner(target) - colour).max() <= 4, value
            assert np.abs(middle(target) - RED).max() <= 30, value
        verify(files / "clip.mp4", target, ResultKind.COMPOSITE)


@pytest.mark.parametrize("name", ["behind.png", "behind.jpg", "behind.webp", "behind.mp4"])
def test_a_file_is_behind_the_subject(
    worker: Running, client: httpx.Client, origin: str, tmp_path: Path, name: str
) -> None:
    body = {"video": f"{origin}/clip.mp4", "background_url": f"{origin}/{name}"}
    target = made(worker, client.post(REPLACE, json=body), tmp_path / "made.webm")
    assert np.abs(corner(target) - (0, 100, 200)).max() <= 6
    assert np.abs(middle(target) - RED).max() <= 30


def test_an_uploaded_picture_and_a_named_background_are_behind_it_too(
    worker: Running, files: Path, client: httpx.Client, origin: str, tmp_path: Path
) -> None:
    picture = upload(worker, files / "behind.png", "image/png")
    body: dict[str, Any] = {"video": f"{origin}/clip.mp4", "preserve_audio": False}
    uploaded = body | {"background_url": picture}
    target = made(worker, client.post(REPLACE, json=uploaded), tmp_path / "made.webm")
    assert np.abs(corner(target) - (0, 100, 200)).max() <= 6
    assert not synth.describe(target).audio
    named = body | {"background": "#123456", "output_container_and_codec": "mp4_h264"}
    target = made(worker, client.post(REPLACE, json=named), tmp_path / "made.mp4")
    assert np.abs(corner(target) - (0x12, 0x34, 0x56)).max() <= 4


@pytest.mark.parametrize(
    ("path", "body", "reason", "param"),
    [
        (REMOVE, {"background_color": "Pink"}, "field_invalid", "background_color"),
        (REMOVE, {"background_color": "#fff"}, "field_invalid", "background_color"),
        (REMOVE, {"auto_zoom": "yes"}, "field_invalid", "auto_zoom"),
        (REMOVE, {"preserve_audio": 1}, "field_invalid", "preserve_audio"),
        (REMOVE, {"output_container_and_codec": "png_files"}, "preset_unknown", None),
        (REMOVE, TRANSPARENT | {"output_container_and_codec": "mov_h265"}, "preset_cannot", FORM),
        (REMOVE, TRANSPARENT | {"output_container_and_codec": "mp4_h264"}, "preset_cannot", FORM),
        (SCREEN, {"green_shade": "green"}, "field_invalid", "green_shade"),
        (REPLACE, {}, "field_invalid", URL),
        (REPLACE, {URL: 5}, "field_invalid", URL),
        (REPLACE, {URL: "ftp://a.example/a.png"}, "url_scheme", URL),
        (REPLACE, {URL: "http://"}, INVALID, URL),
        (REPLACE, {URL: "http://10.1.2.3/a.png"}, "url_private", URL),
        (REPLACE, {URL: "ORIGIN/none.png"}, "url_status", URL),
        (REPLACE, {URL: "ORIGIN/page.mp4"}, INVALID, URL),
        (REPLACE, {URL: "ORIGIN/long.mp4"}, INVALID, URL),
        (REPLACE, {URL: "ORIGIN/behind.mkv"}, INVALID, URL),
        (REPLACE, {URL: "ORIGIN/half.png"}, INVALID, URL),
        (REPLACE, {URL: "ORIGIN/huge.png"}, INVALID, URL),
        (REPLACE, {"background": "/etc/passwd"}, "field_invalid", "background"),
        (REPLACE, {"background": "blur:0"}, "field_invalid", "background"),
        (REPLACE, {"background": "transparent"}, "field_invalid", "background"),
        (REPLACE, {"background": "#\ud800"}, "field_invalid", "background"),
        (REPLACE, {"background": "blur:nan"}, "field_invalid", "background"),
        (REPLACE, {"background": "blur:" + 9999 * "9"}, "field_invalid", "background"),
        (REPLACE, {"background": "#" + 9999 * "f"}, "field_invalid", "background"),
        (REMOVE, {"background_color": "\ud800"}, "field_invalid", "background_color"),
        (REPLACE, {"background": "blur", URL: "ORIGIN/behind.png"}, "field_invalid", "background"),
        (MASK, {"grow_px": 51}, "field_invalid", "grow_px"),
        (MASK, {"despill": "green"}, "field_invalid", "despill"),
        (SCREEN, {"feather_px": "2"}, "field_invalid", "feather_px"),
        (SCREEN, {"min_part_px": 1.5}, "field_invalid", "min_part_px"),
        (SCREEN, {"black": 0.5, "white": 0.4}, "field_invalid", "black"),
        (SCREEN, {"despill": "red"}, "field_invalid", "despill"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(
    client: httpx.Client,
    origin: str,
    path: str,
    body: dict[str, Any],
    reason: str,
    param: str | None,
) -> None:
    given = {
        name: value.replace("ORIGIN", origin) if isinstance(value, str) else value
        for name, value in body.items()
    }
    content = json.dumps({"video": f"{origin}/clip.mp4"} | given)
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    error = assert_refused(answer, 422, reason)
    assert error["param"] == param or param is None
    assert error.get("actual", 0) is not None, "a number that JSON has"
    assert len(error["details"]) < 500
    if reason == "field_invalid" and param in ("grow_px", "feather_px", "min_part_px"):
        assert "from" in error["details"]


def test_a_key_is_for_one_call(client: httpx.Client, origin: str) -> None:
    body = {"video": f"{origin}/clip.mp4"}
    key = {"Idempotency-Key": "a-cut-out"}
    first, again = (client.post(REMOVE, json=body, headers=key) for _ in range(2))
    assert first.json()["request_id"] == again.json()["request_id"]
    other = client.post(SCREEN, json=body, headers=key)
    assert_refused(other, 422, "idempotency_mismatch")


def test_a_background_that_breaks_ends_the_job_with_the_frame(
    worker: Running, client: httpx.Client, origin: str
) -> None:
    body = {"video": f"{origin}/minute.mp4", "background_url": f"{origin}/broken.mp4"}
    answer = client.post(REPLACE, json=body)
    status = finished(worker, answer)
    assert status["status"] == "ERROR", status
    error = status["error"]
    assert (error["code"], error["reason"], error["param"]) == (422, "corrupt", "background_url")
    assert "after frame" in error["details"]
    (row,) = worker.sql("select result from jobs where id = %s", answer.json()["request_id"])
    assert "background_url" not in row["result"]  # it has ended
    assert row["result"]["options"]["kind"] == "composite"


def test_zoomed_in_the_subject_fills_the_picture(
    worker: Running, client: httpx.Client, origin: str, tmp_path: Path
) -> None:
    body = {"video": f"{origin}/clip.mp4", "auto_zoom": True}
    clip = synth.describe(made(worker, client.post(REMOVE, json=body), tmp_path / "made.webm"))
    assert (clip.width, clip.frames or 10) == (64, 10)
    assert 24 <= clip.height <= 32


def test_a_stored_mask_becomes_all_kinds_without_the_network(
    worker: Running, client: httpx.Client, files: Path, origin: str, tmp_path: Path
) -> None:
    url = upload(worker, files / "clip.mp4")
    uploaded, linked = (
        client.post(MASK, json={"video": each, "output_container_and_codec": "mkv_vp9"})
        for each in (url, f"{origin}/clip.mp4")
    )
    for each in (uploaded, linked):
        assert finished(worker, each)["status"] == "COMPLETED"
    convert, other = (f"{each.json()['status_url']}/convert" for each in (uploaded, linked))
    cut = made(worker, client.post(convert, json={"kind": "cutout"}), tmp_path / "cut.webm")
    verify(files / "clip.mp4", cut, ResultKind.CUTOUT)
    body: dict[str, Any] = {"kind": "composite", "background_url": f"{origin}/behind.png"}
    target = made(worker, client.post(convert, json=body), tmp_path / "made.webm")
    assert np.abs(corner(target) - (0, 100, 200)).max() <= 6
    body = {"invert": True, "output_container_and_codec": "mp4_h264"}
    inverted = made(worker, client.post(other, json=body), tmp_path / "inverted.mp4")
    assert corner(inverted).min() > 250
    assert middle(inverted).max() < 5
    assert_refused(client.post(other, json={"kind": "cutout"}), 422, "video_missing")
    body = {"kind": "cutout", "video": f"{origin}/clip.mp4"}
    assert synth.describe(made(worker, client.post(other, json=body), tmp_path / "cut.webm")).alpha
    wrong = client.post(other, json={"kind": "cutout", "video": f"{origin}/minute.mp4"})
    status = finished(worker, wrong)
    assert (status["error"]["reason"], status["error"]["param"]) == ("field_invalid", "video")
    assert_refused(client.post(other, json={"kind": "composite"}), 422, "field_invalid")


@pytest.mark.parametrize(
    ("path", "body", "segments"),
    [
        (REMOVE, {"grow_px": 2}, 1),
        (REMOVE, {}, 3),
        (REMOVE, {"output_container_and_codec": "gif", "preserve_audio": False}, 1),
        (REMOVE, {"auto_zoom": True}, 1),
        (SCREEN, {}, 3),
        (REPLACE, {"background": "blur"}, 1),
    ],
)
def test_a_finished_cut_out_becomes_every_other_kind(
    worker: Running,
    client: httpx.Client,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
    segments: int,
) -> None:
    grid = SEGMENT_GRID if segments == 1 else SegmentGrid(20, 12, 20)
    monkeypatch.setattr(job_stages, "SEGMENT_GRID", grid)
    url = upload(worker, files / "minute.mp4")
    wanted = client.post(MASK, json={"video": url, "output_container_and_codec": "mkv_vp9"})
    plain = levels(made(worker, wanted, tmp_path / "plain.mkv"))
    first = client.post(path, json={"video": url} | body)
    report = finished(worker, first)["result"]["report"]
    assert report.get("segments", 1) == segments
    assert report["mask_bytes"] > 0
    assert "mask_url" not in client.get(first.json()["status_url"]).json()["result"]
    convert = f"{first.json()['status_url']}/convert"
    answer = client.post(convert, json={"output_container_and_codec": "mp4_h265"})
    mask = made(worker, answer, tmp_path / "mask.mp4")  # whose times are those of the clip exactly
    assert "source_url" not in client.get(f"/v2/jobs/{answer.json()['request_id']}").json()
    verify(files / "minute.mp4", mask)
    assert synth.describe(mask).audio == synth.describe(tmp_path / "plain.mkv").audio
    for ours, theirs in zip(levels(mask), plain, strict=True):
        assert np.abs(ours - theirs).max() <= 1
    second = client.post(convert, json={"kind": "composite", "background": "red"})
    assert finished(worker, second)["result"]["kind"] == "composite"
    convert = f"{second.json()['status_url']}/convert"
    answer = client.post(convert, json={"kind": "cutout"})
    cut = made(worker, answer, tmp_path / "cut.webm")
    verify(files / "minute.mp4", cut, ResultKind.CUTOUT)


def levels(path: Path) -> list[NDArray[np.int64]]:
    with VideoReader(path) as reader:
        return [np.asarray(frame.luma(), np.int64) for frame in reader]
