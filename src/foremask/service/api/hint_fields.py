"""From the fields of a body to the hints of a job: `hints`, and the hosted service's key points."""

from typing import Any

from msgspec.structs import replace

from foremask.errors import FieldInvalid
from foremask.facts import Clip
from foremask.hints.hint_json import hints_of_json, hints_of_key_points
from foremask.hints.kinds import Hint, check_hints
from foremask.service.api.fields import flag
from foremask.service.api.result_fields import Wanted, foreground_mask
from foremask.service.jobs.step_facts import JobResult


def mask_by_key_points(body: dict[str, Any]) -> Wanted:
    """A mask of the thing at the points; ``auto_trim`` is ignored: all of the clip is masked."""
    flag(body, "auto_trim")
    points = hints_of_key_points(body.get("key_points"), body.get("frame_index"))
    return with_hints(foreground_mask(body), points)


def add_hints(wanted: Wanted, body: dict[str, Any]) -> Wanted:
    """The same with the body's ``hints``, if it has any."""
    return with_hints(wanted, hints_of_json(body.get("hints")))


def with_hints(wanted: Wanted, hints: tuple[Hint, ...]) -> Wanted:
    """The same with these hints after those that it has. Raises FieldInvalid for too many."""
    if not hints:
        return wanted
    result = wanted.result or JobResult()
    together = (*result.hints, *hints)
    check_hints(together)
    return Wanted(wanted.form, replace(result, hints=together))


def check_on_clip(wanted: Wanted, clip: Clip | None, *, key_points: bool = False) -> None:
    """Raise FieldInvalid for a hint that the clip, as far as it is known, has no place for."""
    if wanted.result is None or clip is None:
        return
    try:
        check_hints(wanted.result.hints, clip, "key_points" if key_points else "hints")
    except FieldInvalid as error:
        if key_points and error.param is not None and error.param.endswith(".frame"):
            error.param = "frame_index"
        raise
