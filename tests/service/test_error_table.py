import re
from pathlib import Path

import foremask
from foremask.errors import BY_REASON, ERROR_TABLE, X264_OPTIONS, CodecUnsupported


def test_the_table_has_a_row_for_each_error_and_no_other() -> None:
    """The library's errors and the service's; the command line's own are in no answer."""
    answered = {kind for kind in BY_REASON.values() if "cli" not in kind.__module__}
    assert set(ERROR_TABLE) == answered


def test_every_hint_encodes_with_the_same_options() -> None:
    script = Path(foremask.__file__).parent / "service/api/static/playground/api.js"
    hints = re.findall(r"-c:v libx264 -crf \d+", script.read_text(encoding="utf-8"))
    hints += re.findall(r"-c:v libx264 -crf \d+", CodecUnsupported.remedy)
    assert hints == [X264_OPTIONS] * 3
