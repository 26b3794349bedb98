"""Finds in a picture what an earlier mask shows, or what clicks make of it."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image
from foremask.vision.image import Cropped
from foremask.vision.network.opinions import CropBox, span_round

_CROP_SIDES: Final = 1.4  # a crop's sides, divided by those of what is in it
_LEAST_CROP: Final = 0.2  # of the picture's sides: a crop's sides are at least as long
_NARROWEST: Final = 0.6  # a crop's shorter side, at least, divided by its longer one
_MOST_CROP: Final = 0.7  # of the picture's area: instead of a larger crop, all is shown
_THING_SIDES: Final = 2 / 3  # of the picture's smaller side: the square that shows a clicked thing
_SAME_PLACE: Final = 0.75  # intersection over union with the earlier mask: docs/adr/0172
_FOREGROUND: Final = 0.5


class Click(NamedTuple):
    """A point of the picture: on the thing that is meant or, if not ``inside``, off it."""

    x: float  # of the picture's width, from 0 to 1
    y: float  # and of its height
    inside: bool


class MaskFinder(Protocol):
    def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
        """The mask, in this image, of the thing that ``earlier`` shows; of the same shape.

        ``earlier`` is a mask of this image or of a near one. ``clicks`` say what is wrong in it.
        """
        ...

    def thing_at(self, image: Image, click: Click, shape: tuple[int, int]) -> Alpha:
        """The thing that a click in the image is on; of ``shape`` (rows, columns)."""
        ...


class Unmoved:
    """Returns the earlier mask as it is, and no thing; used if there is no network to ask."""

    def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
        return earlier

    def thing_at(self, image: Image, click: Click, shape: tuple[int, int]) -> Alpha:
        return np.zeros(shape, np.float32)


def find_thing(finder: MaskFinder, image: Image, click: Click, shape: tuple[int, int]) -> Alpha:
    """`MaskFinder.thing_at` in a square round the click; 0 outside it."""
    box = _square_round(click, shape, _THING_SIDES)
    (inside,) = _in_crop([click], box, shape)
    down, across = box
    size = (down.stop - down.start, across.stop - across.start)
    found = np.zeros(shape, np.float32)
    found[box] = finder.thing_at(_cropped(image, box, shape), inside, size)
    return found


def find_again(
    finder: MaskFinder, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()
) -> Alpha:
    """`MaskFinder.find` in a crop of the image; outside it, the earlier foreground stays.

    If the last click is inside, the crop is the largest square round it, and clicks outside the
    square are left out. Otherwise the crop has all of the earlier mask and all clicks, or is the
    whole image if that is nearly as large. Without clicks, the image is looked at once more, round
    what was found, if this has moved far from the earlier mask.
    """
    found = _find_close(finder, image, earlier, clicks)
    is_lost = not (found > _FOREGROUND).any()
    if clicks or is_lost or _similarity(found, earlier) > _SAME_PLACE:
        return found
    return _find_close(finder, image, found, ())


def _similarity(one: Alpha, other: Alpha) -> float:
    """Intersection over union of the foregrounds; 1 if both are empty."""
    ours = one > _FOREGROUND
    theirs = other > _FOREGROUND
    either = int((ours | theirs).sum())
    return int((ours & theirs).sum()) / either if either else 1.0


def _find_close(finder: MaskFinder, image: Image, earlier: Alpha, clicks: Sequence[Click]) -> Alpha:
    shape = (earlier.shape[0], earlier.shape[1])
    box = _crop(earlier, clicks)
    if box is None:
        return finder.find(image, earlier, clicks)
    found = np.where(earlier > _FOREGROUND, earlier, np.float32(0))
    found[box] = finder.find(
        _cropped(image, box, shape),
        np.ascontiguousarray(earlier[box]),
        _in_crop(clicks, box, shape),
    )
    return found


def _cropped(image: Image, box: CropBox, shape: tuple[int, int]) -> Cropped:
    rows, columns = shape
    down, across = box
    part = (across.start / columns, down.start / rows, across.stop / columns, down.stop / rows)
    return Cropped(image, part)


def _in_crop(clicks: Sequence[Click], box: CropBox, shape: tuple[int, int]) -> list[Click]:
    """The clicks that a crop has, in shares of its sides."""
    rows, columns = shape
    down, across = box
    moved = [
        Click(
            (each.x * columns - across.start) / (across.stop - across.start),
            (each.y * rows - down.start) / (down.stop - down.start),
            each.inside,
        )
        for each in clicks
    ]
    return [each for each in moved if 0 <= each.x < 1 and 0 <= each.y < 1]


def _crop(earlier: Alpha, clicks: Sequence[Click]) -> CropBox | None:
    """The crop of `find_again`; None for the whole picture.

    What a click means is found better in a large square round it than in a crop that has to have
    all of the mask: docs/adr/0172.
    """
    rows, columns = earlier.shape
    if clicks and clicks[-1].inside:
        return _square_round(clicks[-1], (rows, columns), 1)
    place = earlier > _FOREGROUND
    for click in clicks:
        place[min(rows - 1, int(click.y * rows)), min(columns - 1, int(click.x * columns))] = True
    return _box_round(place)


def _square_round(click: Click, shape: tuple[int, int], sides: float) -> CropBox:
    rows, columns = shape
    side = sides * min(shape)
    return span_round(click.y * rows, side, rows), span_round(click.x * columns, side, columns)


def _box_round(place: NDArray[np.bool_]) -> CropBox | None:
    """The rows and columns of a crop round a place, as in training; None if it is nearly all."""
    rows, columns = place.shape
    left, top, width, height = cv2.boundingRect(place.astype(np.uint8))
    tall = max(height * _CROP_SIDES, rows * _LEAST_CROP)
    wide = max(width * _CROP_SIDES, columns * _LEAST_CROP)
    tall = max(tall, _NARROWEST * wide)
    wide = max(wide, _NARROWEST * tall)
    if not width or min(tall, rows) * min(wide, columns) > _MOST_CROP * rows * columns:
        return None
    middle_row = top + height / 2
    middle_column = left + width / 2
    return (
        slice(int(max(0, middle_row - tall / 2)), int(min(rows, middle_row + tall / 2))),
        slice(int(max(0, middle_column - wide / 2)), int(min(columns, middle_column + wide / 2))),
    )
