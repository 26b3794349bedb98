"""Clips that are masked by a tracker; this one follows colours, and needs no weights."""

import tomllib
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from foremask_trackers import commands
from foremask_trackers.files import TRACKER_NAMES, WEIGHTS
from foremask_trackers.named import Loaded, Named
from tests.support import synth
from tests.support.programs import environ_with, fresh

from foremask.errors import ModelUnavailable
from foremask.facts import Report
from foremask.hints.kinds import Hint, Point, Text, upright_size
from foremask.masking.runner import run
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import Device, Files, JobSpec, Quality
from foremask.pipeline.hinting import marks_of_frames
from foremask.pipeline.progress import Work
from foremask.pipeline.trackers import GROUP, Marked, TrackedMasker
from tracker_tests.colours import ColourTracker

PACKAGE = Path(__file__).parents[1]
SPEC = synth.Spec(width=160, height=90, pts=tuple(range(0, 48_000, 1_000)), sound=(synth.Tone(),))


def masker_of(marked: Marked) -> TrackedMasker:
    return TrackedMasker(Loaded(ColourTracker(), None, Device()), marked)


def tracked(source: Path, target: Path, *hints: Hint) -> Report:
    """Mask a clip by the hints, with foremask's own edges."""
    marks = marks_of_frames(partial(VideoReader, source), hints, upright_size(probe(source)))
    masker = masker_of(Marked(hints, marks, Quality.BALANCED))
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


def test_each_entry_point_is_the_tracker_of_its_name() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        name: EntryPoint(name, value, GROUP).load()
        for name, value in project["entry-points"][GROUP].items()
    }
    assert named == {name: Named(name) for name in TRACKER_NAMES}
    assert EntryPoint("", project["scripts"]["foremask-trackers"], "").load() is commands.main


def test_neither_torch_nor_transformers_is_imported_before_a_tracker_is_loaded() -> None:
    code = (
        "import sys, foremask_trackers.named, foremask_trackers.commands\n"
        "print({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    )
    imported = fresh(code, env=environ_with(PYTHONPATH=str(PACKAGE)))
    assert imported.stdout == "set()\n"


def test_trackers_and_words_without_their_files_say_the_commands_that_bring_them(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelUnavailable) as missing:
        Named("edgetam").load(tmp_path, Device())
    assert "`foremask-trackers pull edgetam` fetches its weights (56 MB," in missing.value.details
    with pytest.raises(ModelUnavailable, match=r"`foremask-trackers pull sam2\.1-tiny`"):
        Named("sam2.1-tiny").folders(tmp_path)
    loaded = Loaded(ColourTracker(), tmp_path, Device())
    with pytest.raises(ModelUnavailable, match="`foremask-trackers pull grounding-dino-tiny`"):
        loaded.masker(Marked((Text("a cat"),), {}, Quality.FAST), Work(), [])


def test_a_run_reads_the_tracker_s_folder_and_that_of_what_finds_words(tmp_path: Path) -> None:
    for name in ("edgetam", "grounding-dino-tiny"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / WEIGHTS).write_bytes(b"")
    folders = [tmp_path / "edgetam", tmp_path / "grounding-dino-tiny"]
    assert Named("edgetam").folders(tmp_path) == folders


def test_only_a_tracker_s_masker_warns_and_only_with_the_last_mask(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "clip.mp4", SPEC)
    masker = masker_of(Marked((Point(1, 1),), {}, Quality.FAST))
    with VideoReader(source) as frames:
        masks = list(masker(frames))
    assert not np.any(masks)
    assert masker.remarks == ["nothing in the clip was found for the hints: the mask is empty"]
