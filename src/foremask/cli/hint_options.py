"""The options by which a shell's user says what is the subject, for `mask` and `cutout`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from foremask.cli.exits import Usage
from foremask.errors import FieldInvalid
from foremask.hints.hint_json import hints_of_file
from foremask.hints.hint_words import parse_paint, parse_place, parse_thing
from foremask.hints.kinds import Box, Hint, Point, check_hints

Words = Parameter(negative="", show_default=False)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class HintOptions:
    """What is the subject (docs/hints.md).

    Parameters
    ----------
    point
        This is the subject: x,y@MOMENT; a frame, or 0.5s.
    against
        This is not the subject, written as --point.
    box
        The subject is in this box: x,y,width,height@MOMENT.
    thing
        A thing of foremask tracks, NUMBER@FILE of its JSON.
    paint
        A rough mask, mask.png@MOMENT (docs/hints.md).
    hints
        A JSON file of hints.
    """

    point: Annotated[list[str] | None, Words] = None
    against: Annotated[list[str] | None, Words, Parameter(name="--not")] = None
    box: Annotated[list[str] | None, Words] = None
    thing: Annotated[list[str] | None, Words] = None
    paint: Annotated[list[str] | None, Words] = None
    hints: Annotated[Path | None, Words] = None

    def parsed(self) -> tuple[Hint, ...]:
        """All of them, those of the file first. Raises Usage."""
        try:
            hints: list[Hint] = [] if self.hints is None else list(hints_of_file(self.hints))
            hints += [parse_paint(each) for each in self.paint or ()]
            hints += [parse_place(Box, each) for each in self.box or ()]
            hints += [parse_thing(each) for each in self.thing or ()]
            hints += [parse_place(Point, each) for each in self.point or ()]
            hints += [parse_place(Point, each, negative=True) for each in self.against or ()]
            check_hints(hints)
        except FieldInvalid as error:
            raise Usage(error.details) from None
        return tuple(hints)


def hints_of(options: HintOptions, clips: object, *, may_be_many: bool) -> tuple[Hint, ...]:
    """The hints of a command; raises Usage where they are of more than the one clip of a list."""
    hints = options.parsed()
    is_one = isinstance(clips, list) and len(clips) == 1
    if hints and (may_be_many or not is_one):
        raise Usage("hints are of one clip: name one INPUT, and leave out --skip-existing")
    return hints
