"""The JSON of a job's rows: what 0.1.0 wrote is read, and what is written has the same names."""

import json

import msgspec

from foremask.facts import SoundTrack
from foremask.service.jobs.step_facts import IngestDone, JobReport, MaskDone, StepArgs
from tests.service.worker.stand_in import CLIP

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


def test_a_report_of_an_older_row_is_shown_as_it_was() -> None:
    """No field is lost, none is added, and numbers stay what they are."""
    for row in (REPORT_ROW, JOINED_ROW, '{"frames_out": 7}'):
        report = msgspec.convert(json.loads(row), JobReport)
        assert json.loads(msgspec.json.encode(report)) == json.loads(row)
    report = msgspec.convert(json.loads(REPORT_ROW), JobReport)
    assert report.audio == (SoundTrack("aac", "aac", "kept", "", None),)


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
