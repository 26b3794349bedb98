"""The shapes of hints on the wire, for the OpenAPI document."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from foremask.hints.kinds import MOST_FRAMES, MOST_HINTS, MOST_PIXELS

Pixel = Annotated[float, Meta(ge=0, le=MOST_PIXELS - 1)]
Extent = Annotated[float, Meta(ge=1, le=MOST_PIXELS)]
FrameNumber = Annotated[int, Meta(ge=0, le=MOST_FRAMES)]


class HintFields(Struct, kw_only=True):
    """When a hint is, and whether it takes in or keeps out."""

    frame: Annotated[
        FrameNumber | None, Meta(description="The frame that it is on; or else time_s.")
    ] = None
    time_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Instead of a frame: seconds from the first one."),
    ] = None
    negative: Annotated[bool | None, Meta(description="This is not the subject.")] = False


class PointHint(HintFields, kw_only=True, tag_field="type", tag="point"):
    """The thing at a pixel of the upright picture."""

    x: Pixel
    y: Pixel


class BoxHint(HintFields, kw_only=True, tag_field="type", tag="box"):
    """The thing inside of a rectangle; x and y are its upper left corner."""

    x: Pixel
    y: Pixel
    width: Extent
    height: Extent


class PaintHint(HintFields, kw_only=True, tag_field="type", tag="paint"):
    """A rough mask of the picture's size, as PNG: white is the subject, black is not."""

    png: Annotated[str, Meta(description="In base64.")]


Hints = Annotated[list[PointHint | BoxHint | PaintHint], Meta(max_length=MOST_HINTS)]
HintsField = Annotated[
    Hints | None, Meta(description="Which thing is the subject, on some frames: docs/hints.md.")
]


class KeyPoint(Struct):
    """A pixel of the upright picture."""

    x: Annotated[int, Meta(ge=0, le=MOST_PIXELS - 1)]
    y: Annotated[int, Meta(ge=0, le=MOST_PIXELS - 1)]
    type: Literal["positive", "negative"] = "positive"


KeyPoints = Annotated[list[KeyPoint], Meta(min_length=1, max_length=MOST_HINTS)]


class RefineRequest(Struct):
    """More hints on a job that has completed."""

    hints: Annotated[
        Annotated[list[PointHint | BoxHint | PaintHint], Meta(min_length=1, max_length=MOST_HINTS)],
        Meta(description="They come after those that the job had."),
    ]
    video: Annotated[
        str | None,
        Meta(description="The clip, where it was no upload or is no longer stored: its URL."),
    ] = None


class PreviewRequest(Struct):
    """One picture, and what a person says of it."""

    picture: Annotated[str, Meta(min_length=1, description="A JPEG or PNG in base64.")]
    hints: HintsField = None
    quality: Literal["fast", "balanced", "best"] | None = "balanced"


class PreviewMask(Struct):
    """The mask of the picture."""

    mask: Annotated[str, Meta(description="A grey PNG in base64; white is the foreground.")]
    width: int
    height: int


class Preview(Struct):
    """The mask of one picture."""

    request_id: str
    result: PreviewMask
