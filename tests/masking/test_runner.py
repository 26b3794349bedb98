import dataclasses
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from foremask import errors
from foremask.masking.runner import run
from foremask.media.frames import frame_of
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import MASK_FORMS, Excerpt, Files, Form, JobSpec, Limits, Quality, Resources
from foremask.pipeline.progress import Progress, ProgressCounter, Statistics, Work
from foremask.pipeline.stages.decode import Decode
from foremask.types import Alpha, Image
from tests.support import synth
from tests.support.programs import fresh
from tests.support.refusals import refused
from tests.support.synth import Spec, Tone


def long_clip(folder: Path, frames: int = 60) -> Path:
    return synth.write(folder / "long.mp4", Spec(pts=synth.even(frames, Fraction(30)), b_frames=2))


def test_the_report_has_the_numbers(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(sound=(Tone(language="eng"),)))
    report = synth.mask(source, tmp_path / "mask.mp4")
    assert (report.frames_in, report.frames_out) == (10, 10)
    assert report.duration_s == pytest.approx(1 / 3)
    assert report.duration_drift_ms == 0
    assert [(track.action, track.language) for track in report.audio] == [("kept", "eng")]
    truth = np.mean([levels.mean() / 255 for _, levels in synth.draw(Spec())])
    assert report.coverage == pytest.approx(float(truth), abs=0.02)
    assert 0 < report.flicker < 0.2
    assert report.warnings == ()
    assert len(report.sha256) == 64
    assert report.bytes == (tmp_path / "mask.mp4").stat().st_size


@pytest.mark.parametrize("decision_s", [5, 7, 30])  # of a window; the network takes 39 s for it
def test_the_time_left_is_within_a_fifth_from_the_first_tenth_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision_s: float
) -> None:
    """Four windows by a clock of ours; of an unusual decision, once the first is made."""
    now_s, told = 0.0, list[tuple[float, float | None]]()
    monkeypatch.setattr("foremask.pipeline.progress.time.monotonic", lambda: now_s)
    work = Work(anchors_per_frame=0.28)  # somewhat more than it will be
    clip = dataclasses.replace(probe(synth.write(tmp_path / "a.mp4")), frames=4 * 144)
    decode = Decode()
    counter = ProgressCounter(
        clip, lambda progress: told.append((now_s, progress.left_s)), work, decode, Statistics()
    )
    frames = decode(frame_of(np.zeros((2, 2, 3), np.uint8), n) for n in range(4 * 144))
    for window in range(4):
        list(islice(frames, 144))
        for anchor in range(1, 37):
            now_s += 4 if anchor == 5 else 1  # the basis is fitted on four
            work.add_anchor(np.zeros((2, 2), np.uint8))
            if anchor % 3 == 0:
                work.ask_to(144 * window + 4 * anchor)
            counter.report()
        now_s += decision_s
        work.decide_to(144 * (window + 1), list)
        for _ in range(144):
            now_s += 1 / 64
            counter.wrote()
    since = 39 + 30 if decision_s == 30 else now_s / 10
    known = [(at_s, left_s) for at_s, left_s in told if at_s > since]
    assert all(
        left_s is not None and abs(at_s + left_s - now_s) < now_s / 5 for at_s, left_s in known
    )
    assert known[-1][1] == 0


def test_anchors_without_a_further_frame_are_a_sign_of_life_every_30_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, told = 0.0, list[int]()
    monkeypatch.setattr("foremask.pipeline.progress.time.monotonic", lambda: now_s)
    work = Work()
    counter = ProgressCounter(
        probe(synth.write(tmp_path / "a.mp4")),
        lambda progress: told.append(progress.frames_done),
        work,
        Decode(),
        Statistics(),
    )
    for _ in range(10):
        now_s += 9
        work.add_anchor(np.zeros((2, 2), np.uint8))
        counter.report()
    assert told == [0, 0]
    for _ in range(2):
        now_s += 1000
        counter.report()
    assert told == [0, 0, 0], "no anchor came after the third report"


def test_no_time_left_is_told_while_the_stages_to_come_are_unknown() -> None:
    work = Work(anchors_per_frame=0.25, asks=False)
    for _ in range(3):
        work.add_anchor(np.zeros((2, 2), np.uint8))
    work.ask_to(12)
    assert work.left_s(12) is None
    work.decide_to(12, list)
    assert work.left_s(12) is None
    for _ in range(12):
        work.write()
    assert work.left_s(12) == 0


def test_progress_never_goes_back_and_ends_with_all_frames(tmp_path: Path) -> None:
    reported: list[Progress] = []
    threads: set[int] = set()

    def hear(progress: Progress) -> None:
        reported.append(progress)
        threads.add(threading.get_ident())

    synth.mask(long_clip(tmp_path), tmp_path / "mask.mp4", on_progress=hear)
    done = [progress.frames_done for progress in reported]
    assert done == sorted(set(done))
    assert {(each.frames_total, each.total_is_known) for each in reported} == {(60, True)}
    assert (done[-1], reported[-1].left_s) == (60, 0)
    assert threads == {threading.get_ident()}


def test_the_number_of_frames_is_told_before_a_frame_is_masked(tmp_path: Path) -> None:
    heard: list[Progress] = []

    def masker(images: Iterable[Image], /) -> Iterator[Alpha]:
        assert heard == [Progress(0, 60)]
        yield from synth.red_is_foreground(images)

    synth.mask(long_clip(tmp_path), tmp_path / "mask.mp4", masker=masker, on_progress=heard.append)


def test_the_number_of_frames_of_an_excerpt_is_told_as_an_estimate(tmp_path: Path) -> None:
    heard: list[Progress] = []
    clip = long_clip(tmp_path)
    synth.mask(
        clip, tmp_path / "mask.mp4", JobSpec(excerpt=Excerpt(0, 1)), on_progress=heard.append
    )
    assert heard[0] == Progress(0, 30, total_is_known=False)
    assert heard[-1] == Progress(30, 30)


def test_progress_moves_while_nothing_is_written_yet(tmp_path: Path) -> None:
    heard = threading.Event()

    def patient(images: Iterable[Image], /) -> Iterator[Alpha]:
        masks = list(synth.red_is_foreground(images))
        assert heard.wait(120), "no progress before the first mask"
        yield from masks

    def hear(progress: Progress) -> None:
        if 0 < progress.frames_done < 60:
            heard.set()

    synth.mask(long_clip(tmp_path), tmp_path / "mask.mp4", masker=patient, on_progress=hear)


def test_raising_in_on_progress_cancels_and_leaves_what_was_there(tmp_path: Path) -> None:
    def cancel(progress: Progress) -> None:
        if progress.frames_done >= 5:
            raise errors.Ended("enough", reason="cancelled")

    source, target = long_clip(tmp_path, 300), tmp_path / "mask.mp4"
    target.write_text("the old one")
    before = threading.active_count()
    with refused("cancelled"):
        synth.mask(source, target, on_progress=cancel, replace=True)
    assert threading.active_count() == before
    assert target.read_text() == "the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"long.mp4", "mask.mp4"}


@pytest.mark.parametrize("frames", [3, 200])
def test_a_masker_must_answer_each_picture_once(tmp_path: Path, frames: int) -> None:
    def miscounting(images: Iterable[Image], /) -> Iterator[Alpha]:
        alpha = np.zeros((4, 4), np.float32)
        yield from (alpha for _ in islice(images, frames))
        if frames > 60:
            yield alpha

    with pytest.raises(errors.Internal, match="masker"):
        synth.mask(long_clip(tmp_path), tmp_path / "mask.mp4", masker=miscounting)


def test_a_clip_that_breaks_is_refused_with_frame_and_time(tmp_path: Path) -> None:
    broken = synth.broken(tmp_path / "broken.mp4", long_clip(tmp_path))
    with pytest.raises(errors.CorruptVideo, match=r"after \d+ frames, at \d+\.\d+ s"):
        synth.mask(broken, tmp_path / "mask.mp4")
    assert not (tmp_path / "mask.mp4").exists()


@pytest.mark.parametrize(
    ("limits", "reason", "limit", "actual"),
    [
        (Limits(max_frames=115), "too_many_frames", 115, 117),
        (Limits(max_frame_pixels=115 * 3072), "resolution_too_large", 115 * 3072, 116 * 3072),
    ],
    ids=["one frame over the limit is taken, the next is refused", "and no pixel over its budget"],
)
def test_limits_hold_while_decoding_where_the_header_is_silent(
    tmp_path: Path, limits: Limits, reason: str, limit: int, actual: int
) -> None:
    """A live WebM of 120 frames, first at 10 then at 100 fps: header and tail suggest 111."""
    pts = (*range(0, 2000, 100), *range(2000, 3000, 10))
    spec = Spec(pts=pts, codec="vp9", time_base=Fraction(1, 1000), last_duration=10)
    live = dataclasses.replace(spec, muxer_options={"live": "1"})
    source = synth.write(tmp_path / "live.webm", live)
    assert probe(source).expected_frames == 111
    with refused(reason) as caught:
        synth.mask(source, tmp_path / "mask.mp4", resources=Resources(limits=limits))
    assert (caught.value.limit, caught.value.actual) == (limit, actual)
    assert not (tmp_path / "mask.mp4").exists()


def test_a_size_that_changes_on_the_way_is_scaled_to_the_first(tmp_path: Path) -> None:
    avi = Spec(
        codec="mjpeg",
        pixel_format="yuvj420p",
        time_base=Fraction(1, 25),
        pts=tuple(range(8)),
        last_duration=1,
    )
    first = synth.write(tmp_path / "1.avi", avi)
    second = synth.write(tmp_path / "2.avi", dataclasses.replace(avi, width=80, height=60))
    source = synth.concat(tmp_path / "both.avi", [first, second])
    report = synth.mask(source, tmp_path / "mask.mp4")
    assert report.frames_out == 16
    assert any("changes size" in warning for warning in report.warnings)


@pytest.mark.parametrize(("quality", "decodes"), [(Quality.FAST, 1), (Quality.BEST, 2)])
def test_frames_that_may_wait_for_their_masks_are_decoded_once(
    tmp_path: Path, model: Path, quality: Quality, decodes: int
) -> None:
    source = long_clip(tmp_path, 4)
    target = tmp_path / "mask.mp4"
    files = Files(source=source, target=target)
    report = run(JobSpec(quality=quality), files, resources=Resources(model=model))
    assert sum(stage.startswith("decode") for stage in report.stage_cpu_s) == decodes
    assert {"network", "flow", "classifier", "regions", "trees", "time pass", "propagation"} <= set(
        report.stage_cpu_s
    )
    assert {"edges", "encode", "waiting", "libraries"} <= set(report.stage_cpu_s)
    assert report.frames_out == 4
    verify(source, target)


def test_a_masker_that_needs_no_pictures_holds_nothing_up(tmp_path: Path) -> None:
    def known(_: Iterable[Image], /) -> Iterator[Alpha]:
        return (np.full((8, 8), 0.5, np.float32) for _ in range(60))

    report = synth.mask(long_clip(tmp_path), tmp_path / "mask.mp4", masker=known)
    assert report.frames_out == 60


@pytest.mark.parametrize("wanted", MASK_FORMS)
@pytest.mark.parametrize("kept", [Form.MP4_H264, Form.MOV_PRORESKS, Form.MKV_VP9])
def test_every_preset_comes_from_every_other(kept: Form, wanted: Form, tmp_path: Path) -> None:
    spec = Spec(pts=synth.even(10, Fraction(25)), last_duration=1200, turn=(90, False))
    source = synth.write(tmp_path / "a.mp4", dataclasses.replace(spec, sound=(Tone(),)))
    first, other = tmp_path / f"first{kept.suffix}", tmp_path / f"other{wanted.suffix}"
    synth.mask(source, first, kept)
    reported: list[int] = []
    files = Files(source=first, target=other, mask=first)
    report = run(JobSpec(form=Form(wanted)), files, lambda now: reported.append(now.frames_done))
    assert (report.frames_in, report.frames_out, len(report.strip)) == (10, 10, 10)
    assert 0 < report.coverage < 1
    assert reported == list(range(1, 11))
    verify(source, other)
    with VideoReader(first) as wanted_frames, VideoReader(other) as found_frames:
        for before, after in zip(wanted_frames, found_frames, strict=True):
            difference = before.rgb(48, 64).astype(int) - after.rgb(48, 64)
            assert np.abs(difference).mean() < 1.5


WRITE_AGAIN = """
import sys
from pathlib import Path
from foremask.masking.runner import run
from foremask.options import Files, Form, JobSpec
source, mask, target = map(Path, sys.argv[1:])
run(JobSpec(form=Form.WEBM_VP9), Files(source=source, mask=mask, target=target))
print("openvino" in sys.modules)
"""


@pytest.mark.slow
def test_a_stored_mask_is_written_again_without_openvino(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "a.mp4")
    mask = tmp_path / "mask.mp4"
    synth.mask(source, mask)
    target = tmp_path / "again.webm"
    assert fresh(WRITE_AGAIN, str(source), str(mask), str(target)).stdout == "False\n"
    verify(source, target)
