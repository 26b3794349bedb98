"""The JSON of a job's rows: what 0.1.0 wrote is read, and what is written has the same names."""

import json

import msgspec

from foremask.facts import SoundTrack, Span
from foremask.service.jobs.step_facts import (
    IngestDone,
    JobClip,
    JobReport,
    MaskDone,
    PartDone,
    StepArgs,
)
from tests.service.worker.stand_in import CLIP

CLIP_ROW = """{"container": "mp4", "codec": "h264", "width": 64, "height": 48, "mirrored": false,
    "matrix": [0, 65536, 0, -65536, 0, 0, 3145728, 0, 1073741824], "frames": 25, "hdr": null,
    "size_bytes": 1234, "warnings": ["the file has 2 video tracks"]}"""
REPORT_ROW = """{"frames_in": 25, "frames_out": 25, "duration_s": 1.0, "fps": 25.0,
    "duration_drift_ms": 0.0,
    "audio": [{"codec": "aac", "written_as": "aac", "action": "kept", "why": "", "language": null}],
    "warnings": [], "coverage": 0.25, "flicker": 0.01, "runtime": "openvino 2026.3 CPU",
    "stage_cpu_s": {"decode": 0.1, "see": 2.5}, "sha256": "ab", "bytes": 99}"""
JOINED_ROW = """{"frames_in": 50, "frames_out": 50, "duration_s": 2.0, "fps": 25.0,
    "duration_drift_ms": 0.0,
    "audio": [], "sound_warnings": ["no sound"], "warnings": [], "coverage": 0.25, "flicker": 0.01,
    "runtime": "openvino 2026.3 CPU", "stage_cpu_s": {}, "sha256": "ab", "bytes": 99,
    "segments": 2}"""
PART_ROW = """{"key": "parts/J/0/1", "frames": 25, "report": {"frames_in": 25, "frames_out": 25,
    "strip": [[0.0, 0.25, 0.0], [0.04, 0.25, 0.01]]}}"""


def test_a_clip_of_an_older_row_is_read() -> None:
    """Further fields are ignored; of a job that only encodes again the frames are known."""
    clip = msgspec.convert(json.loads(CLIP_ROW), JobClip)
    assert (clip.container, clip.codec, clip.width, clip.height) == ("mp4", "h264", 64, 48)
    assert (clip.frames, clip.size_bytes) == (25, 1234)
    assert clip.warnings == ("the file has 2 video tracks",)
    assert msgspec.convert({"frames": None}, JobClip) == JobClip()


def test_a_report_of_an_older_row_is_shown_as_it_was() -> None:
    """No field is lost, none is added, and numbers stay what they are."""
    for row in (REPORT_ROW, JOINED_ROW, '{"frames_out": 7}'):
        report = msgspec.convert(json.loads(row), JobReport)
        assert json.loads(msgspec.json.encode(report)) == json.loads(row)
    report = msgspec.convert(json.loads(REPORT_ROW), JobReport)
    assert report.audio == (SoundTrack("aac", "aac", "kept", "", None),)


def test_the_arguments_of_an_older_segment_are_read() -> None:
    """Of a whole clip, of a span, and of the last span, which has no end."""
    rows = {
        '{"whole": true}': StepArgs(whole=True),
        '{"span": {"first_pts": 0, "end_pts": 9}, "source_key": "segments/J/1/0"}': StepArgs(
            span=Span(0, 9), source_key="segments/J/1/0"
        ),
        '{"span": {"first_pts": 9, "end_pts": null}}': StepArgs(span=Span(9, None)),
        "{}": StepArgs(),
    }
    for row, args in rows.items():
        assert msgspec.convert(json.loads(row), StepArgs) == args
        assert msgspec.json.decode(msgspec.json.encode(args), type=StepArgs) == args


def test_the_result_of_an_older_segment_is_read() -> None:
    """The strip of a part stays with it until the parts are joined."""
    part = msgspec.convert(json.loads(PART_ROW), PartDone)
    assert (part.key, part.frames, part.report.frames_in) == ("parts/J/0/1", 25, 25)
    assert part.report.strip == ((0.0, 0.25, 0.0), (0.04, 0.25, 0.01))
    assert json.loads(msgspec.json.encode(part)) == json.loads(PART_ROW)


def test_what_the_sql_reads_is_written_under_its_names() -> None:
    """`finish_step` and the byte counts read these keys of the columns."""
    ingest = msgspec.to_builtins(IngestDone(CLIP, "sources/J/1/source", (StepArgs(whole=True),)))
    assert ingest["clip"].keys() == set(CLIP.__slots__)
    assert (ingest["fetched_bytes"], ingest["source_key"]) == (0, "sources/J/1/source")
    assert list(ingest["segments"]) == [{"whole": True}]
    report = JobReport(frames_out=7, bytes=99, mask_bytes=5)
    assert msgspec.to_builtins(MaskDone("results/J", 7, report)) == {
        "result_key": "results/J",
        "frames": 7,
        "report": {"frames_out": 7, "bytes": 99, "mask_bytes": 5},
    }
