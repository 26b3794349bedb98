"""Makes docs/pictures/fails.webp, real clips that fail with their remedies, and prints the numbers.

``python -m tools.fail_pictures [FILM]`` masks clips made from two of the page's
samples and one of Intel's, ``balanced`` and with the real network: by themselves, and with each
remedy. For each, it prints which share of the picture is white in the first, middle and last mask,
and which share the remedy has added on these frames and, at the least, on any.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from benchmarks.clips import DATA, frames_of, masks_of
from numpy.typing import NDArray

import foremask
from foremask.hints.kinds import Box, Hint, Paint, Point
from foremask.service.api.pages import STATIC
from foremask.types import Rgb

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "fails.webp"
SAMPLES = STATIC / "samples"
BEHIND = (60, 180, 60)
WIDTH_PX, GAP_PX = 400, 6

type Masks = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Film:
    name: str
    clip: Path
    first: int
    """Frames of the clip before this one are left out."""
    shown: int
    marks: dict[str, tuple[Hint, ...]] = field(default_factory=dict)
    """By the remedy's name; the first is drawn, if nothing below is."""
    change: Callable[[Rgb], Rgb] = lambda picture: picture
    is_cut: bool = False
    """The remedy that is drawn is the mask of the clip, changed as the film is."""
    window: tuple[slice, slice] | None = None
    """The remedy that is drawn is the mask of this part of the film, over that of the failure."""


def body(picture: Rgb) -> Rgb:
    return picture[180:480, 160:560]


def leaves(*polygons: list[tuple[int, int]]) -> Paint:
    """White on these leaves of the second film's first frame; clear elsewhere."""
    board = np.zeros((360, 640, 4), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(board, [np.array(polygon)], (255, 255, 255, 255))
    return Paint(cv2.imencode(".png", board)[1].tobytes())


LEAVES = (
    [(165, 236), (200, 207), (270, 202), (325, 240), (300, 262), (210, 268)],
    [(395, 130), (455, 48), (520, 58), (500, 110), (440, 180), (395, 190)],
    [(402, 262), (425, 262), (480, 310), (494, 355), (450, 355), (405, 290)],
    [(42, 354), (90, 285), (140, 255), (195, 255), (150, 290), (90, 330)],
)
CAR_PARK = DATA / "media/intel-sample-videos/person-bicycle-car-detection.gif"
ON_PEOPLE = (Point(332, 14, frame=8), Point(180, 8, frame=8))
ON_LEAVES = tuple(Point(x, y) for x, y in ((250, 238), (460, 110), (450, 310), (110, 295)))
FILMS = (
    Film(
        "body",
        SAMPLES / "person.webm",
        0,
        30,
        {"badge": (Point(148, 172, frame=40),)},
        change=body,
        is_cut=True,
    ),
    Film(
        "plant",
        SAMPLES / "flower.webm",
        7,
        24,
        {
            "points": ON_LEAVES,
            "paint": (leaves(*LEAVES),),
            "box": (Box(35, 40, 490, 318),),
        },
    ),
    Film("cyclist", CAR_PARK, 0, 8, {"points": ON_PEOPLE}, window=np.s_[0:110, 260:480]),
)


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="foremask-fails-") as folder:
        rows = [drawn(film, Path(folder)) for film in FILMS if not names or film.name in names]
    if names:
        return
    line = np.full((GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    picture = np.vstack([part for row in rows for part in (row, line)][:-1])
    cv2.imwrite(str(PICTURE), picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 80])


def drawn(film: Film, folder: Path) -> Rgb:
    """Mask the film, print the numbers, and draw its row."""
    clip = folder / f"{film.name}.mp4"
    originals = list(frames_of(film.clip))[film.first :]
    pictures = [film.change(picture) for picture in originals]
    write(clip, pictures)
    plain = masked(clip)
    say(film.name, "before", plain, plain)
    repaired = {name: masked(clip, hints) for name, hints in film.marks.items()}
    part = clip.with_suffix(".part.mp4")
    if film.is_cut:
        write(part, originals)
        found = masked(part)
        repaired = {"whole": np.stack([film.change(mask) for mask in found]), **repaired}
    if film.window is not None:
        write(part, [picture[film.window] for picture in pictures])
        joined = plain.copy()
        there = joined[:, *film.window]
        np.maximum(there, masked(part), out=there)
        repaired = {"part": joined, **repaired}
    for name, masks in repaired.items():
        say(film.name, name, masks, plain)
    columns = [pictures[film.shown]]
    for masks in (plain, next(iter(repaired.values()))):
        alpha = masks[film.shown][..., None] / np.float32(255)
        columns.append(
            (pictures[film.shown] * alpha + np.array(BEHIND) * (1 - alpha)).astype(np.uint8)
        )
    return np.hstack(
        [part for column in columns for part in (sized(column), gap(sized(column)))][:-1]
    )


def sized(picture: Rgb) -> Rgb:
    height = round(picture.shape[0] * WIDTH_PX / picture.shape[1])
    return np.asarray(
        cv2.resize(picture, (WIDTH_PX, height), interpolation=cv2.INTER_AREA), np.uint8
    )


def gap(picture: Rgb) -> Rgb:
    return np.full((picture.shape[0], GAP_PX, 3), 255, np.uint8)


def masked(clip: Path, hints: tuple[Hint, ...] = ()) -> Masks:
    target = clip.with_suffix(".mask.mp4")
    target.unlink(missing_ok=True)
    foremask.mask_video(clip, target, hints=hints, cache=clip.with_suffix(".cache"))
    return np.stack(list(masks_of(target)))


def say(film: str, name: str, masks: Masks, plain: Masks) -> None:
    white, before = masks > 127, plain > 127
    added = white & ~before
    at = (0, len(masks) // 2, len(masks) - 1)
    shares = ", ".join(f"{100 * white[frame].mean():.1f} %" for frame in at)
    more = ", ".join(f"{100 * added[frame].mean():.1f} %" for frame in at)
    least = f"{100 * added.mean(axis=(1, 2)).min():.1f} %"
    print(f"{film:6} {name:8} white {shares}; added {more}, least {least}")


def write(path: Path, pictures: list[Rgb]) -> None:
    with av.open(path, "w") as target:
        height, width = pictures[0].shape[:2]
        stream = target.add_stream("libx264", Fraction(24), {"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            target.mux(stream.encode(frame))
        target.mux(stream.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
