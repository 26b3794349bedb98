import base64
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foremask.errors import FieldInvalid
from foremask.hints.hint_parsing import hints_of_file, hints_of_json
from foremask.hints.kinds import (
    MOST_HINTS,
    MOST_PAINT_BYTES,
    Box,
    Hint,
    Paint,
    Point,
    Text,
    check_hints,
)
from foremask.media.probe import probe
from tests.support import synth

PNG = cv2.imencode(".png", np.zeros((48, 64), np.uint8))[1].tobytes()
POINT = {"type": "point", "x": 1, "y": 2}
PNG_TEXT = base64.b64encode(PNG).decode()


def test_json_has_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(PNG)
    rows = [
        {"type": "point", "x": 1, "y": 2.5, "frame": 3, "negative": True, "more": "ignored"},
        {"type": "box", "x": 1, "y": 2, "width": 3, "height": 4, "time_s": 0.5},
        {"type": "paint", "file": "mask.png"},
        {"type": "text", "text": "the red car"},
    ]
    (tmp_path / "hints.json").write_text(json.dumps({"hints": rows}))
    expected: tuple[Hint, ...] = (
        Point(1, 2.5, frame=3, negative=True),
        Box(1, 2, 3, 4, time_s=0.5),
        Paint(PNG),
        Text("the red car"),
    )
    assert hints_of_file(tmp_path / "hints.json") == expected
    rows[2] = {"type": "paint", "png": PNG_TEXT}
    assert hints_of_json(rows) == expected


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", ".", "a\0b", "none.png"])
def test_a_paint_is_read_from_files_only(tmp_path: Path, name: str) -> None:
    """A device never ends, and a pipe waits for a writer."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "hints.json").write_text(json.dumps([{"type": "paint", "file": name}]))
    with pytest.raises(FieldInvalid, match=r"is not a file|cannot be read"):
        hints_of_file(tmp_path / "hints.json")


def test_a_paint_is_read_no_further_than_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(PNG + bytes(MOST_PAINT_BYTES))
    with pytest.raises(FieldInvalid, match=f"has {MOST_PAINT_BYTES + 1} bytes or more"):
        check_hints([Paint.read(tmp_path / "mask.png")])


@pytest.mark.parametrize(
    ("value", "param", "limit", "actual"),
    [
        ({}, "hints", None, None),
        ([{"type": "line"}], "hints[0].type", None, None),
        ([{"type": "point", "x": 1}], "hints[0].y", None, None),
        ([{"type": "point", "x": True, "y": 2}], "hints[0].x", None, None),
        ([POINT, POINT | {"x": -1}], "hints[1].x", 0, -1),
        ([{"type": "point", "x": 1, "y": 10**400}], "hints[0].y", 15_999, None),
        ([{"type": "point", "x": 1, "y": 2, "frame": -1}], "hints[0].frame", 0, -1),
        ([POINT | {"frame": 1, "time_s": 1}], "hints[0].time_s", None, None),
        ([{"type": "box", "x": 1, "y": 2, "width": 0, "height": 4}], "hints[0].width", 1, 0),
        ([{"type": "paint", "png": "?"}], "hints[0].png", None, None),
        ([{"type": "text", "text": ""}], "hints[0].text", None, None),
        ([{"type": "text", "text": " "}], "hints[0].text", 1, 0),
        ([{"type": "text", "text": "car " * 51}], "hints[0].text", 200, 204),
        ([{"type": "paint", "png": "\ud800"}], "hints[0].png", None, None),
        ([{"type": "\ud800", "x": 1, "y": 2}], "hints[0].type", None, None),
        ([{"type": "x - at `$.frame`", "x": 1, "y": 2}], "hints[0].type", None, None),
        ([{"type": "point", "x": 1, "y": 2}] * 65, "hints", MOST_HINTS, 65),
    ],
)
def test_a_refusal_names_the_element_the_value_and_the_range(
    value: object, param: str, limit: float | None, actual: float | None
) -> None:
    with pytest.raises(FieldInvalid) as refused:
        hints_of_json(value)
    error = refused.value
    assert (error.param, error.limit, error.actual) == (param, limit, actual)


FIELDS = ("x", "y", "width", "height", "frame", "time_s", "negative", "png", "text", "unknown")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)
VALUES = st.integers(-1, 20_000) | st.floats() | st.just(PNG_TEXT) | ANYTHING
ALMOST_HINTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["point", "box", "paint", "text"])},
    optional=dict.fromkeys(FIELDS, VALUES),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANYTHING | st.lists(ALMOST_HINTS | ANYTHING, max_size=3))
def test_any_json_is_hints_or_is_refused_by_the_name_of_a_field(value: object) -> None:
    param: str | None = "hints"
    try:
        hints_of_json(value)
    except FieldInvalid as refused:
        param = refused.param
    assert param is not None
    assert param.startswith("hints")


@pytest.mark.parametrize(
    ("hint", "param", "limit"),
    [
        (Point(10, 64), "hints[1].y", 63),
        (Point(1, 1, time_s=9.0), "hints[1].time_s", None),
        (Box(40, 1, 9, 9), "hints[1].width", 8),
        (Paint(PNG), "hints[1].png", 48),
    ],
)
def test_hints_must_fit_the_upright_picture_and_the_length(
    tmp_path: Path, hint: Hint, param: str, limit: float | None
) -> None:
    """A clip of 64x48 that players turn by 90 degrees is 48x64."""
    clip = probe(synth.write(tmp_path / "clip.mp4", synth.Spec(turn=synth.TURNS["90"])))
    check_hints([Point(47, 63, frame=9)], clip)
    with pytest.raises(FieldInvalid) as refused:
        check_hints([Point(0, 0), hint], clip)
    assert refused.value.param == param
    assert limit is None or refused.value.limit == limit
