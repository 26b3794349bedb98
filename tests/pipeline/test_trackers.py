"""Trackers of other packages, found by their entry points; the package here is made by the test."""

from pathlib import Path

import pytest

import foremask
from foremask.errors import FieldInvalid, ModelUnavailable
from foremask.hints.kinds import Point, Text
from foremask.masking.library import Masker
from foremask.masking.runner import run
from foremask.options import Files, Form, JobSpec, Resources, ResultKind
from foremask.pipeline.trackers import forget_trackers, tracker_folders
from tests.support import synth

SPEC = synth.Spec(width=160, height=90, pts=tuple(range(0, 12_000, 1_000)))
MODULE = """
import numpy as np
from pathlib import Path


class Whole:
    runtime = "whole"

    def folders(self, tracker_dir):
        return [Path("whole"), Path("words")]

    def load(self, tracker_dir, device):
        return self

    def masker(self, marked, observer, remarks):
        def masks(images):
            for number, image in enumerate(images):
                yield np.full((9, 16), len(marked.marks_on(image)) > 0 or number > 3, np.float32)
            remarks.append("followed")

        return masks


WHOLE = Whole()
"""
POINTS = """[foremask.trackers]
whole = whole_tracker:WHOLE
broken = no_such_module:WHOLE
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a tracker that masks all pixels of marked frames and after."""
    folder = tmp_path / "packages"
    facts = folder / "whole_tracker-1.0.dist-info"
    facts.mkdir(parents=True)
    (folder / "whole_tracker.py").write_text(MODULE)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: whole-tracker\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(folder))
    forget_trackers()


@pytest.mark.usefixtures("package")
def test_a_tracker_of_an_installed_package_masks_by_its_name(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    target = tmp_path / "mask.mkv"
    report = foremask.mask_video(source, target, tracker="whole", hints=[Point(22, 45, frame=1)])
    assert report.runtime == "whole"
    assert "followed" in report.warnings
    means = [mask.mean() for mask in synth.decode_grey(target)]
    assert [round(mean / 255) for mean in means] == [0, 1, 0, 0, *[1] * 8]


@pytest.mark.usefixtures("package")
def test_a_hint_after_the_last_frame_is_refused_by_its_number(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    asked = JobSpec(hints=(Text("a disc"), Point(1, 1, frame=60)), tracker="whole")
    with pytest.raises(FieldInvalid, match=r"hints\[1\]\.frame is 60"):
        run(asked, Files(source=source, target=tmp_path / "mask.mp4"))


@pytest.mark.usefixtures("package")
def test_the_folders_of_several_trackers_are_named_once() -> None:
    assert tracker_folders(["whole", "whole"], Path()) == [Path("whole"), Path("words")]


@pytest.mark.usefixtures("package")
def test_a_tracker_that_is_not_there_or_broken_is_named() -> None:
    with pytest.raises(ModelUnavailable, match=r"no tracker sam4: broken, .*whole are installed"):
        Masker(tracker="sam4")
    with pytest.raises(ModelUnavailable, match=r"broken cannot be imported: .*no_such_module"):
        Masker(tracker="broken")


def test_without_the_package_the_command_that_brings_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foremask.pipeline.trackers.entry_points", lambda group: ())
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    files = Files(source=source, target=tmp_path / "mask.mp4")
    for asked in (JobSpec(hints=(Point(1, 1),), tracker="edgetam"), JobSpec(hints=(Text("a"),))):
        with pytest.raises(ModelUnavailable, match=r"`pip install \./integrations/trackers`"):
            run(asked, files)
    with pytest.raises(ModelUnavailable, match="edgetam neither"):
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
        tracker="no such",
        auto_zoom=True,
    )
    with pytest.raises(ModelUnavailable, match="no such"):
        run(asked, files, resources=Resources(tracker_dir=tmp_path / "none"))
