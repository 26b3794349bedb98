import re
from http import HTTPStatus
from pathlib import Path

import foremask
from foremask.errors import (
    BY_REASON,
    ERROR_TABLE,
    X264_OPTIONS,
    CodecUnsupported,
    CorruptVideo,
    ForemaskError,
    PresetUnsuitable,
    QueueFull,
)


def test_the_table_has_a_row_for_each_error_and_no_other() -> None:
    """The library's errors and the service's; the command line's own are in no answer."""
    answered = {kind for kind in BY_REASON.values() if "cli" not in kind.__module__}
    assert set(ERROR_TABLE) == answered


def test_an_error_of_the_library_gets_status_and_field_from_the_table() -> None:
    """The library names neither; what an error names itself goes before the table."""
    error = CorruptVideo("It breaks after frame 7.", actual=7)
    assert error.facts() == {
        "code": 422,
        "reason": "corrupt",
        "message": HTTPStatus(422).phrase,
        "details": "It breaks after frame 7.",
        "param": "video",
        "actual": 7,
    }
    assert PresetUnsuitable("x").facts()["param"] == "output_container_and_codec"
    assert CorruptVideo("x", param="file").facts()["param"] == "file"
    assert "param" not in QueueFull("x").facts()
    assert ForemaskError.status == 500


def test_every_hint_encodes_with_the_same_options() -> None:
    script = Path(foremask.__file__).parent / "service/api/static/playground/api.js"
    hints = re.findall(r"-c:v libx264 -crf \d+", script.read_text(encoding="utf-8"))
    hints += re.findall(r"-c:v libx264 -crf \d+", CodecUnsupported.remedy)
    assert hints == [X264_OPTIONS] * 3
