"""Hints: points, boxes, paints and words by which a user says what the subject of a clip is.

Coordinates are pixels of the upright picture, from its upper left corner. A hint is on one frame.
The frame's number or time counts from the first frame that is masked. Words are of the whole clip,
and only a tracker understands them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from foremask.errors import FieldInvalid
from foremask.facts import Clip

MOST_HINTS: Final = 64
MOST_PIXELS: Final = 16_000  # longest side of a picture or clip
MOST_FRAMES: Final = 1_000_000_000
MOST_SECONDS: Final = 1_000_000_000.0
MOST_PAINT_BYTES: Final = 512 << 10
MOST_LETTERS: Final = 200  # of words; Grounding DINO reads 256 parts of words
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"


Pixel = Annotated[float, Meta(ge=0, le=MOST_PIXELS - 1)]
Extent = Annotated[float, Meta(ge=1, le=MOST_PIXELS)]
FrameNumber = Annotated[int, Meta(ge=0, le=MOST_FRAMES)]


class _OnFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A hint on one frame: the first, if ``frame`` and ``time_s`` are None."""

    frame: Annotated[FrameNumber | None, Meta(description="The number of the frame, from 0.")] = (
        None
    )
    time_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Instead of frame: seconds from the first frame."),
    ] = None
    negative: Annotated[bool, Meta(description="True for a hint outside the subject.")] = False


class Point(_OnFrame, frozen=True, tag_field="type", tag="point"):
    """A hint on the object at this pixel of the upright picture."""

    x: Pixel
    y: Pixel


class Box(_OnFrame, frozen=True, tag_field="type", tag="box"):
    """A hint on the object inside this rectangle; its upper left corner is ``x`` and ``y``."""

    x: Pixel
    y: Pixel
    width: Extent
    height: Extent


class Paint(_OnFrame, frozen=True, tag_field="type", tag="paint"):
    """A rough mask: a PNG of the picture's size.

    White pixels are added to the mask, black pixels are removed, and grey and transparent pixels
    change nothing. ``negative`` exchanges white and black.
    """

    png: Annotated[bytes, Meta(description="The PNG in base64.")]

    @classmethod
    def read(
        cls,
        path: str | Path,
        frame: int | None = None,
        time_s: float | None = None,
        *,
        negative: bool = False,
    ) -> "Paint":
        try:
            if Path(path).exists() and not Path(path).is_file():  # such as a device or a pipe
                raise FieldInvalid(f"the paint {path} is not a file", param="paint")
            with Path(path).open("rb") as file:
                png = file.read(MOST_PAINT_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = error.strerror if isinstance(error, OSError) else error
            raise FieldInvalid(
                f"the paint {str(path)!r} cannot be read: {why}", param="paint"
            ) from error
        return cls(png=png, frame=frame, time_s=time_s, negative=negative)

    @property
    def size_px(self) -> tuple[int, int] | None:
        """Width and height from the file's header; None if it is not a PNG."""
        if self.png[:8] != _PNG_HEAD or self.png[12:16] != b"IHDR" or len(self.png) < 33:
            return None
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """Words that name the subject, such as "the red car". A tracker follows what they name."""

    text: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MOST_LETTERS,
            description="What is masked, in English words.",
            extra={"text": f"from 1 to {MOST_LETTERS} characters"},
        ),
    ]


type MarkedHint = Point | Box | Paint
"""A hint on a frame."""
type Hint = MarkedHint | Text


def marked_hints(hints: Sequence[Hint]) -> list[MarkedHint]:
    return [hint for hint in hints if not isinstance(hint, Text)]


def words_of(hints: Sequence[Hint]) -> list[str]:
    return [hint.text for hint in hints if isinstance(hint, Text)]


def check_hints(
    hints: Sequence[Hint], clip: Clip | None = None, size_px: tuple[int, int] | None = None
) -> None:
    """Raise FieldInvalid for an invalid value, with its path (``hints[3].x``) and any limit.

    Without ``clip`` and ``size_px``, only the limits that hold for all pictures are checked.
    """
    if len(hints) > MOST_HINTS:
        details = f"{len(hints)} hints were given, and at most {MOST_HINTS} are taken."
        raise FieldInvalid(details, param="hints", limit=MOST_HINTS, actual=len(hints))
    frames = MOST_FRAMES
    duration_s = MOST_SECONDS
    if clip is not None:
        size_px = upright_size(clip)
        frames = clip.frames or MOST_FRAMES
        duration_s = clip.duration_s or MOST_SECONDS
    width, height = size_px or (MOST_PIXELS, MOST_PIXELS)
    for number, hint in enumerate(hints):
        where = f"hints[{number}]"
        given: object = hint
        if not isinstance(given, Point | Box | Paint | Text):
            details = f"{where} is a {type(given).__name__}; write foremask.Point(x=640, y=360)"
            raise FieldInvalid(details, param=where)
        if isinstance(hint, Text):
            check_range(f"{where}.text", len(hint.text.strip()), 1, MOST_LETTERS)
            continue
        _check_moment(where, hint, frames, duration_s)
        if isinstance(hint, Paint):
            _check_paint(where, hint, size_px)
            continue
        check_range(f"{where}.x", hint.x, 0, width - 1)
        check_range(f"{where}.y", hint.y, 0, height - 1)
        if isinstance(hint, Box):
            check_range(f"{where}.width", hint.width, 1, width - hint.x)
            check_range(f"{where}.height", hint.height, 1, height - hint.y)


def _check_moment(where: str, hint: MarkedHint, frames: int, duration_s: float) -> None:
    if hint.time_s is not None and hint.frame is not None:
        raise FieldInvalid(
            f"{where} has a frame and a time_s: leave one out.", param=f"{where}.time_s"
        )
    if hint.time_s is None:
        check_range(f"{where}.frame", hint.frame or 0, 0, frames - 1)
    else:
        check_range(f"{where}.time_s", hint.time_s, 0.0, duration_s)


def upright_size(clip: Clip) -> tuple[int, int]:
    if clip.rotation % 180:
        return clip.height, clip.width
    return clip.width, clip.height


def check_range(param: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # nan fails, too
        raise FieldInvalid.out_of_range(param, value, low, high)


def _check_paint(where: str, paint: Paint, size: tuple[int, int] | None) -> None:
    found = paint.size_px
    if found is None:
        raise FieldInvalid(f"{where}.png is no PNG picture.", param=f"{where}.png")
    if len(paint.png) > MOST_PAINT_BYTES:
        raise FieldInvalid(
            f"{where}.png has {len(paint.png)} bytes or more and may have {MOST_PAINT_BYTES}.",
            param=f"{where}.png",
            limit=MOST_PAINT_BYTES,
            actual=len(paint.png),
        )
    for side, wanted in zip(found, size or found, strict=True):
        if side != wanted or not 1 <= side <= MOST_PIXELS:
            columns, rows = size or (MOST_PIXELS, MOST_PIXELS)
            details = (
                f"{where}.png is {found[0]}x{found[1]}; the clip's upright picture is"
                f" {columns}x{rows}."
            )
            raise FieldInvalid(details, param=f"{where}.png", limit=wanted, actual=side)


def frame_beyond(hint: MarkedHint, number: int, frames: int) -> FieldInvalid:
    name = "frame"
    value: float = hint.frame or 0
    limit: int | None = frames - 1
    if hint.time_s is not None:
        name = "time_s"
        value = hint.time_s
        limit = None
    return FieldInvalid(
        f"hints[{number}].{name} is {value:g}, and the last frame that is masked is {frames - 1};"
        " frames count from the first that is.",
        param=f"hints[{number}].{name}",
        limit=limit,
        actual=value,
    )
