import json
import zipfile
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from foremask.facts import SegmentGrid
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import COLOURS, ResultKind
from foremask.service.api.bodies import BackgroundColor, GreenShade
from foremask.service.worker import job_stages
from tests.service.api import clips
from tests.service.api.conftest import Running, assert_refused, http, post
from tests.service.api.worker import ended, upload, worker
from tests.support import synth
from tests.support.synth import Spec, Tone

__all__ = ["worker"]  # a fixture

REMOVE, SCREEN, REPLACE = (
    f"/v2/video/edit/{name}" for name in ("remove_background", "green_screen", "replace_background")
)
MASK = "/v2/video/segment/foreground_mask"
URL, INVALID, FORM = "background_url", "background_invalid", "output_container_and_codec"
RED, BLUE = (220, 30, 30), (0, 100, 200)
SUBJECT = (24, 12)  # a pixel of the subject on the first frame


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    synth.write(folder / "clip.mp4", Spec(sound=(Tone(language="eng"),)))
    blue = np.full((48, 64, 3), BLUE[::-1], np.uint8)  # OpenCV's order
    for name in ("behind.png", "behind.jpg", "behind.webp"):
        cv2.imwrite(str(folder / name), blue)
    wide = np.pad(blue, ((0, 0), (32, 32), (0, 0)))  # black at the sides
    cv2.imwrite(str(folder / "wide.png"), wide)
    behind = Spec(pts=synth.even(3, Fraction(15)))
    synth.write(folder / "behind.mp4", behind, [np.full((48, 64, 3), BLUE, np.uint8)] * 3)
    clips.write(folder / "long.mp4", frames=61 * 2, rate=2)
    clips.write(folder / "behind.mkv")
    (folder / "half.png").write_bytes((folder / "behind.png").read_bytes()[:60])
    spec = Spec(pts=synth.even(60, Fraction(30)), b_frames=2)
    synth.broken(folder / "broken.mp4", synth.write(folder / "whole.mp4", spec))
    spec = Spec(96, 32, pts=synth.even(60, Fraction(30)), keyframe_every=12)
    synth.write(folder / "minute.mp4", spec)
    return folder


@pytest.fixture(scope="module")
def origin(files: Path) -> Generator[str]:
    with clips.serving(files) as address:
        yield address


def finished(service: Running, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    return ended(service, answer.json()["request_id"])


def made(service: Running, answer: httpx.Response, target: Path) -> Path:
    status = finished(service, answer)
    target.write_bytes(http.get(status["result"]["video_url"]).content)
    return target


def corner(path: Path, at: tuple[int, int] = (2, 2)) -> NDArray[np.int64]:
    with VideoReader(path) as reader:
        frame = next(iter(reader))
        return np.asarray(frame.rgb(frame.width, frame.height)[at], np.int64)


@pytest.mark.parametrize(
    ("preset", "media_type"),
    [
        (None, "video/webm"),
        ("mkv_vp9", "video/x-matroska"),
        ("mov_proresks", "video/quicktime"),
        ("gif", "image/gif"),
        ("png_zip", "application/zip"),
    ],
)
def test_a_cut_out_is_transparent_in_each_preset_with_alpha(
    worker: Running, origin: str, files: Path, tmp_path: Path, preset: str, media_type: str
) -> None:
    body: dict[str, Any] = {"video": f"{origin}/clip.mp4", FORM: preset}
    result = finished(worker, post(worker, REMOVE, **body))["result"]
    assert result["kind"] == result["report"]["kind"] == "cutout"
    assert "mask_url" not in result
    file = http.get(result["video_url"])
    assert file.headers["content-type"] == media_type
    (tmp_path / "cut").write_bytes(file.content)
    if preset == "png_zip":
        assert len(zipfile.ZipFile(tmp_path / "cut").namelist()) == 11
    elif preset != "gif":
        verify(files / "clip.mp4", tmp_path / "cut", ResultKind.CUTOUT)
        assert [track.language for track in synth.describe(tmp_path / "cut").audio] == ["eng"]


@pytest.mark.parametrize("preset", ["mp4_h264", "mov_h265"])
def test_transparent_is_white_with_a_warning_in_a_preset_without_alpha(
    worker: Running, origin: str, tmp_path: Path, preset: str
) -> None:
    """As the hosted service's page says: the request is taken, and the colour falls back."""
    body: dict[str, Any] = {
        "video": f"{origin}/clip.mp4",
        "background_color": "Transparent",
        FORM: preset,
    }
    result = finished(worker, post(worker, REMOVE, **body))["result"]
    assert result["kind"] == "composite"
    (warning,) = [each for each in result["report"]["warnings"] if "alpha" in each]
    assert warning.startswith(f"{preset} has no alpha: the background is white")
    (tmp_path / "made").write_bytes(http.get(result["video_url"]).content)
    assert corner(tmp_path / "made").min() >= 249


def test_each_colour_and_each_shade_is_a_known_background() -> None:
    assert {each.lower() for each in (*BackgroundColor, *GreenShade)} - {"transparent"} <= {
        *COLOURS
    }


@pytest.mark.parametrize(
    ("path", "body", "colour"),
    [
        (REMOVE, {FORM: "mp4_h264"}, (0, 0, 0)),
        (REMOVE, {"background_color": "Orange"}, (255, 165, 0)),
        (SCREEN, {}, (0, 177, 64)),
        (SCREEN, {"green_shade": "blue_screen"}, (0, 0, 255)),
        (REPLACE, {URL: "ORIGIN/behind.png"}, BLUE),
        (REPLACE, {URL: "ORIGIN/behind.jpg"}, BLUE),
        (REPLACE, {URL: "ORIGIN/behind.webp"}, BLUE),
        (REPLACE, {URL: "ORIGIN/behind.mp4"}, BLUE),
        (REPLACE, {URL: "ORIGIN/wide.png"}, (0, 0, 0)),
        (REPLACE, {URL: "ORIGIN/wide.png", "background_fit": "cover"}, BLUE),
        (REPLACE, {"background": "#123456"}, (0x12, 0x34, 0x56)),
    ],
)
def test_the_subject_is_in_front_of_what_was_asked_for(
    worker: Running,
    origin: str,
    files: Path,
    tmp_path: Path,
    path: str,
    body: dict[str, Any],
    colour: tuple[int, int, int],
) -> None:
    given = {name: value.replace("ORIGIN", origin) for name, value in body.items()}
    answer = post(worker, path, video=f"{origin}/clip.mp4", **given)
    target = made(worker, answer, tmp_path / "made")
    verify(files / "clip.mp4", target, ResultKind.COMPOSITE)
    assert np.abs(corner(target) - colour).max() <= 6
    assert np.abs(corner(target, SUBJECT) - RED).max() <= 30


def test_an_uploaded_picture_may_be_behind_and_the_sound_left_out(
    worker: Running, files: Path, origin: str, tmp_path: Path
) -> None:
    picture: dict[str, Any] = {URL: upload(worker, files / "behind.png", "image/png")}
    answer = post(worker, REPLACE, video=f"{origin}/clip.mp4", preserve_audio=False, **picture)
    target = made(worker, answer, tmp_path / "made.webm")
    assert np.abs(corner(target) - BLUE).max() <= 6
    assert not synth.describe(target).audio


@pytest.mark.parametrize(
    ("path", "body", "reason", "param"),
    [
        (REMOVE, {"background_color": "Pink"}, "field_invalid", "background_color"),
        (REMOVE, {"auto_zoom": "yes"}, "field_invalid", "auto_zoom"),
        (REMOVE, {"output_container_and_codec": "png_files"}, "preset_unknown", FORM),
        (SCREEN, {"green_shade": "green"}, "field_invalid", "green_shade"),
        (REPLACE, {}, "field_invalid", URL),
        (REPLACE, {URL: "ftp://a.example/a.png"}, "url_scheme", URL),
        (REPLACE, {URL: "http://"}, INVALID, URL),
        (REPLACE, {URL: "http://10.1.2.3/a.png"}, "url_private", URL),
        (REPLACE, {URL: "ORIGIN/none.png"}, "url_status", URL),
        (REPLACE, {URL: "ORIGIN/page.mp4"}, INVALID, URL),
        (REPLACE, {URL: "ORIGIN/long.mp4"}, INVALID, URL),
        (REPLACE, {URL: "ORIGIN/behind.mkv"}, INVALID, URL),
        (REPLACE, {URL: "ORIGIN/half.png"}, INVALID, URL),
        (REPLACE, {"background": "/etc/passwd"}, "field_invalid", "background"),
        (REPLACE, {"background": "transparent"}, "field_invalid", "background"),
        (REPLACE, {"background_fit": "contain"}, "field_invalid", "background_fit"),
        (REPLACE, {"background": "#\ud800"}, "field_invalid", "background"),
        (REPLACE, {"background": "blur:nan"}, "field_invalid", "background"),
        (REPLACE, {"background": "blur:" + 9999 * "9"}, "field_invalid", "background"),
        (REMOVE, {"background_color": "\ud800"}, "field_invalid", "background_color"),
        (REPLACE, {"background": "blur", URL: "ORIGIN/behind.png"}, "field_invalid", "background"),
        (MASK, {"grow_px": 51}, "field_invalid", "grow_px"),
        (MASK, {"despill": "green"}, "field_invalid", "despill"),
        (SCREEN, {"min_part_px": 1.5}, "field_invalid", "min_part_px"),
        (SCREEN, {"black": 0.5, "white": 0.4}, "field_invalid", "black"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(
    client: httpx.Client, origin: str, path: str, body: dict[str, Any], reason: str, param: str
) -> None:
    content = json.dumps({"video": f"{origin}/clip.mp4"} | body).replace("ORIGIN", origin)
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    error = assert_refused(answer, 422, reason, param)
    assert error.get("actual", 0) is not None, "a number that JSON has"
    assert len(error["details"]) < 500
    if param in ("grow_px", "min_part_px"):
        assert "from" in error["details"]


def test_a_background_that_breaks_ends_the_job_with_the_frame(worker: Running, origin: str) -> None:
    behind = f"{origin}/broken.mp4"
    answer = post(worker, REPLACE, video=f"{origin}/minute.mp4", background_url=behind)
    error = finished(worker, answer)["error"]
    assert (error["code"], error["reason"], error["param"]) == (422, "corrupt", "background_url")
    assert " frames, at " in error["details"]
    (row,) = worker.sql(
        "select background_url from jobs where id = %s", answer.json()["request_id"]
    )
    assert row["background_url"] is None  # it has ended


def test_a_zoom_fills_the_picture(worker: Running, origin: str, tmp_path: Path) -> None:
    answer = post(worker, REMOVE, video=f"{origin}/clip.mp4", auto_zoom=True)
    clip = synth.describe(made(worker, answer, tmp_path / "made.webm"))
    assert clip.width == 64
    assert 24 <= clip.height <= 32


def test_a_stored_mask_becomes_all_kinds_without_the_network(
    worker: Running, files: Path, origin: str, tmp_path: Path
) -> None:
    linked = f"{origin}/clip.mp4"
    convert, other = (
        f"/v2/status/{finished(worker, post(worker, MASK, video=video))['request_id']}/convert"
        for video in (upload(worker, files / "clip.mp4"), linked)
    )
    cut = made(worker, post(worker, convert, kind="cutout"), tmp_path / "cut.webm")
    verify(files / "clip.mp4", cut, ResultKind.CUTOUT)
    answer = post(worker, convert, kind="composite", background_url=f"{origin}/behind.png")
    assert np.abs(corner(made(worker, answer, tmp_path / "made.webm")) - BLUE).max() <= 6
    inverted = made(worker, post(worker, other, invert=True), tmp_path / "inverted.mp4")
    assert corner(inverted).min() > 250
    assert corner(inverted, SUBJECT).max() < 5
    assert_refused(post(worker, other, kind="cutout"), 422, "video_missing")
    assert_refused(post(worker, other, kind="composite"), 422, "field_invalid")
    cut = made(worker, post(worker, other, kind="cutout", video=linked), tmp_path / "cut.webm")
    assert synth.describe(cut).alpha
    wrong = finished(worker, post(worker, other, kind="cutout", video=f"{origin}/minute.mp4"))
    assert (wrong["error"]["reason"], wrong["error"]["param"]) == ("field_invalid", "video")


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
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
    segments: int,
) -> None:
    if segments > 1:
        monkeypatch.setattr(job_stages, "SEGMENT_GRID", SegmentGrid(20, 12, 20))
    url = upload(worker, files / "minute.mp4")
    wanted = post(worker, MASK, video=url, output_container_and_codec="mkv_vp9")
    plain = levels(made(worker, wanted, tmp_path / "plain.mkv"))
    first = finished(worker, post(worker, path, video=url, **body))
    assert first["result"]["report"].get("segments", 1) == segments
    assert first["result"]["report"]["mask_bytes"] > 0
    convert = f"/v2/status/{first['request_id']}/convert"
    answer = post(worker, convert, output_container_and_codec="mp4_h265")
    mask = made(worker, answer, tmp_path / "mask.mp4")  # whose times are those of the clip exactly
    listed = f"{worker.url}/v2/jobs/{answer.json()['request_id']}"
    assert "source_url" not in http.get(listed, headers=worker.headers).json()
    verify(files / "minute.mp4", mask)
    assert synth.describe(mask).audio == synth.describe(tmp_path / "plain.mkv").audio
    for ours, theirs in zip(levels(mask), plain, strict=True):
        assert np.abs(ours - theirs).max() <= 1
    second = finished(worker, post(worker, convert, kind="composite", background="red"))
    assert second["result"]["kind"] == "composite"
    convert = f"/v2/status/{second['request_id']}/convert"
    cut = made(worker, post(worker, convert, kind="cutout"), tmp_path / "cut.webm")
    verify(files / "minute.mp4", cut, ResultKind.CUTOUT)


def levels(path: Path) -> list[NDArray[np.int64]]:
    with VideoReader(path) as reader:
        return [np.asarray(frame.luma(), np.int64) for frame in reader]


# A part of the clip

PART: dict[str, Any] = {"start_s": 1.5, "end_s": 2.0}
FRAMES = list(range(45, 60))
"""Its frames, at 30 a second."""


@pytest.fixture(scope="module")
def numbered(files: Path) -> Path:
    """A clip of red numbers: the worker's network masks what is red, so a mask shows them."""
    spec = Spec(96, 32, tuple(range(90)), Fraction(1, 30), 1, sound=(Tone(seconds=3),))
    pictures = [synth.numbered(number) for number in range(90)]
    for picture in pictures:
        picture[:, :, 1:] = 0
    return synth.write(files / "numbered.mp4", spec, pictures)


def check_part(path: Path) -> None:
    with VideoReader(path) as reader:
        frames = [(synth.number_of(f.rgb(96, 32)[:, :, 0]), float(f.time_s)) for f in reader]
    assert [number for number, _ in frames] == FRAMES
    assert [time_s for _, time_s in frames] == pytest.approx(
        [index / 30 for index in range(15)], abs=0.0011
    )
    with av.open(str(path)) as opened:
        heard_s = [frame.time or 0.0 for frame in opened.decode(audio=0)]
    assert heard_s[0] == pytest.approx(0, abs=0.05)  # sound is cut between packets
    assert heard_s[-1] == pytest.approx(0.5, abs=0.05)


def test_a_part_of_a_clip_has_its_frames_and_its_sound_in_every_kind(
    worker: Running, numbered: Path, tmp_path: Path
) -> None:
    url = upload(worker, numbered)
    mask = finished(worker, post(worker, MASK, video=url, **PART))
    (tmp_path / "mask.mp4").write_bytes(http.get(mask["result"]["video_url"]).content)
    check_part(tmp_path / "mask.mp4")
    assert mask["frames_total"] == 15
    listed = http.get(f"{worker.url}/v2/jobs/{mask['request_id']}", headers=worker.headers).json()
    assert {name: listed[name] for name in PART} == PART

    convert = f"/v2/status/{mask['request_id']}/convert"
    answer = post(worker, convert, output_container_and_codec="mkv_vp9")
    check_part(made(worker, answer, tmp_path / "mask.mkv"))
    composite = finished(worker, post(worker, convert, kind="composite", background="black"))
    (tmp_path / "black.webm").write_bytes(http.get(composite["result"]["video_url"]).content)
    check_part(tmp_path / "black.webm")
    again = f"/v2/status/{composite['request_id']}/convert"
    answer = post(worker, again, kind="composite", background="blue", preserve_audio=True)
    check_part(made(worker, answer, tmp_path / "blue.webm"))

    last = [{"type": "point", "x": 5, "y": 5, "frame": 14}]
    refined = post(worker, f"/v2/status/{mask['request_id']}/refine", hints=last)
    check_part(made(worker, refined, tmp_path / "refined.mp4"))


@pytest.mark.parametrize("zoom", [False, True])
def test_the_mask_beside_a_cut_out_of_a_part_is_of_that_part(
    worker: Running, numbered: Path, tmp_path: Path, *, zoom: bool
) -> None:
    cut = finished(
        worker, post(worker, REMOVE, video=upload(worker, numbered), **PART, auto_zoom=zoom)
    )
    assert cut["result"]["report"]["frames_out"] == 15
    answer = post(worker, f"/v2/status/{cut['request_id']}/convert")
    check_part(made(worker, answer, tmp_path / "mask.mp4"))


def test_a_clip_may_be_longer_than_a_minute_where_its_part_is_not(
    worker: Running, origin: str
) -> None:
    video = f"{origin}/long.mp4"  # 61 s
    error = assert_refused(post(worker, MASK, video=video), 400, "duration_too_long")
    assert error["details"].endswith("Choose a part of the video by start_s and end_s.")
    too_long = post(worker, MASK, video=video, start_s=0.05, end_s=60.95)
    error = assert_refused(too_long, 400, "duration_too_long")
    assert error["details"].startswith("60.90 s are to be masked; at most 60 s are taken.")
    probed = post(worker, "/v2/video/probe", video=video, start_s=50).json()["result"]
    assert probed["duration_s"] == pytest.approx(11)
    status = finished(worker, post(worker, MASK, video=video, start_s=50))
    assert status["result"]["report"]["frames_out"] == 22


@pytest.mark.parametrize(
    ("body", "reason", "param"),
    [
        ({"start_s": -1}, "field_invalid", "start_s"),
        ({"start_s": 2, "end_s": 2}, "field_invalid", "end_s"),
        ({"end_s": "2"}, "field_invalid", "end_s"),
        ({"start_s": 3.1}, "no_frames", "start_s"),
    ],
)
def test_a_part_that_is_none_is_refused(
    worker: Running, numbered: Path, body: dict[str, Any], reason: str, param: str
) -> None:
    answer = post(worker, MASK, video=upload(worker, numbered), **body)
    assert_refused(answer, 422, reason, param)
