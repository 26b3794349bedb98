"""Clips that are masked by a tracker; this one follows colours, and needs no weights."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from foremask.errors import FieldInvalid, ModelUnavailable
from foremask.facts import Report
from foremask.hints.kinds import Hint, Point, Text, upright_size
from foremask.masking.hinting import marks_of_frames
from foremask.masking.library import Masker
from foremask.masking.pipeline import run
from foremask.masking.tracked_masker import TrackedMasker
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import Files, Form, JobSpec, Quality, Resources, ResultKind
from foremask.vision.temporal.tier import TIERS
from tests.support import synth
from tests.support.trackers import ColourTracker

SPEC = synth.Spec(width=160, height=90, pts=tuple(range(0, 48_000, 1_000)), sound=(synth.Tone(),))


def tracked(source: Path, target: Path, *hints: Hint) -> Report:
    """Mask a clip by the hints, with foremask's own edges."""
    marks = marks_of_frames(partial(VideoReader, source), hints, upright_size(probe(source)))
    masker = TrackedMasker(ColourTracker(), TIERS[Quality.BALANCED], hints, marks)
    files = Files(source=source, target=target, replace=True)
    return run(JobSpec(hints=hints), files, masker=masker)


def test_a_tracker_s_mask_has_the_frames_sound_and_edges_of_any_mask(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    target = tmp_path / "mask.mp4"
    report = tracked(source, target, Point(22, 45))
    verify(source, target)
    truths = [levels for _, levels in synth.draw(SPEC)]
    assert report.frames_out == len(truths)
    assert [track.action for track in report.audio] == ["kept"]
    for mask, truth in zip(synth.decode_grey(target), truths, strict=True):
        shared = (mask > 127) & (truth > 127)
        assert shared.sum() / ((mask > 127) | (truth > 127)).sum() > 0.85


def test_a_hint_after_the_last_frame_is_refused_by_its_number(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    with pytest.raises(FieldInvalid, match=r"hints\[1\]\.frame is 60"):
        tracked(source, tmp_path / "mask.mp4", Text("a disc"), Point(1, 1, frame=60))


def test_words_and_trackers_without_their_files_say_the_commands_that_bring_them(
    tmp_path: Path,
) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    files = Files(source=source, target=tmp_path / "mask.mp4")
    asked = JobSpec(hints=(Point(1, 1),), tracker="edgetam")
    nowhere = Resources(tracker_dir=tmp_path / "none")
    with pytest.raises(ModelUnavailable) as missing:
        run(asked, files, resources=nowhere)
    assert "`foremask models pull edgetam` fetches its weights (56 MB," in missing.value.details
    with pytest.raises(ModelUnavailable, match=r"`foremask models pull sam2\.1-tiny`"):
        run(JobSpec(hints=(Text("a disc"),)), files, resources=nowhere)


def test_a_masker_that_preloads_a_tracker_says_what_it_lacks_before_the_first_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="foremask models pull edgetam"):
        Masker(tracker="edgetam")
    Masker(tracker="edgetam", preload=False).close()


def test_a_zoomed_cut_out_is_by_its_tracker_too(tmp_path: Path) -> None:
    """Its mask is made first, by a spec of its own."""
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    files = Files(source=source, target=tmp_path / "a.webm", mask_target=tmp_path / "mask.mkv")
    asked = JobSpec(
        kind=ResultKind.CUTOUT,
        form=Form.WEBM_VP9,
        hints=(Point(22, 45),),
        tracker="edgetam",
        auto_zoom=True,
    )
    with pytest.raises(ModelUnavailable, match="foremask models pull edgetam"):
        run(asked, files, resources=Resources(tracker_dir=tmp_path / "none"))


def test_only_a_tracker_s_masker_warns_and_only_with_the_last_mask(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    masker = TrackedMasker(ColourTracker(), TIERS[Quality.FAST], (Text("a cat"),), {})
    with VideoReader(source) as frames:
        masks = list(masker(frames))
    assert not np.any(masks)
    assert masker.remarks == ['nothing in the clip was found for "a cat": the mask is empty']
