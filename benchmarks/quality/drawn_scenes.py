"""Three scenes that our code draws, with their exact alpha: a walker, a dog, a balloon. Each loops."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import cv2
import numpy as np

from foremask.types import Levels, Rgb

WIDTH, HEIGHT, FRAMES, FPS = 640, 360, 48, 24
FINE: Final = 4  # drawn so much larger, then averaged: smooth edges
type Colour = tuple[int, int, int]
type Points = list[tuple[float, float]]


class Pen:
    """Draws on a large canvas, in pixels of the picture; ``white`` draws the alpha instead."""

    def __init__(self, canvas: Rgb, *, white: bool = False) -> None:
        self.canvas = canvas
        self.white = white

    def _colour(self, colour: Colour) -> Colour:
        return (255, 255, 255) if self.white else colour

    def polygon(self, points: Points, colour: Colour) -> None:
        """Filled."""
        shape = np.round(np.array(points) * FINE).astype(np.int32)
        cv2.fillPoly(self.canvas, [shape], self._colour(colour), cv2.LINE_AA)

    def limb(self, points: Points, width: float, colour: Colour) -> None:
        """A thick line with round joints and ends."""
        places = [(round(x * FINE), round(y * FINE)) for x, y in points]
        for begin, end in pairwise(places):
            cv2.line(
                self.canvas, begin, end, self._colour(colour), round(width * FINE), cv2.LINE_AA
            )
        for place in places:
            cv2.circle(
                self.canvas, place, round(width * FINE / 2), self._colour(colour), -1, cv2.LINE_AA
            )

    def ellipse(
        self, at: tuple[float, float], axes: tuple[float, float], colour: Colour, turn: float = 0
    ) -> None:
        """Filled; ``turn`` in degrees."""
        cv2.ellipse(
            self.canvas,
            (round(at[0] * FINE), round(at[1] * FINE)),
            (round(axes[0] * FINE), round(axes[1] * FINE)),
            turn,
            0,
            360,
            self._colour(colour),
            -1,
            cv2.LINE_AA,
        )


@dataclass(frozen=True)
class Scene:
    """What is behind, and what is in front; both are drawn for a moment from 0 to 1."""

    label: str
    behind: Callable[[Pen, float], None]
    subject: Callable[[Pen, float], None]

    def frames(self) -> Iterator[tuple[Rgb, Levels]]:
        """Every frame, and its alpha."""
        for number in range(FRAMES):
            yield self.frame(number)

    def frame(self, number: int) -> tuple[Rgb, Levels]:
        """One of them."""
        moment = number / FRAMES
        canvas, alpha = (np.zeros((HEIGHT * FINE, WIDTH * FINE, 3), np.uint8) for _ in "ab")
        self.behind(Pen(canvas), moment)
        self.subject(Pen(canvas), moment)
        self.subject(Pen(alpha, white=True), moment)
        return _small(canvas), np.asarray(_small(alpha)[..., 0], np.uint8)


def _small(canvas: Rgb) -> Rgb:
    return np.asarray(cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _sky(pen: Pen, top: Colour, bottom: Colour) -> None:
    down = np.linspace(0, 1, HEIGHT * FINE)[:, None, None]
    shades = np.array(top, np.float64) * (1 - down) + np.array(bottom, np.float64) * down
    pen.canvas[:] = shades.astype(np.uint8)


def _hills(pen: Pen, moment: float, layers: list[tuple[Colour, float, float, int]]) -> None:
    """Ridges that pass by, each by whole waves of its own in a loop."""
    columns = np.linspace(0, WIDTH, 161)
    for colour, level, swing, waves in layers:
        phase = 2 * math.pi * (columns / WIDTH * waves + moment)
        tops = level + swing * (np.sin(phase) + 0.4 * np.sin(2 * phase + 1))
        ridge: Points = list(zip(columns.tolist(), tops.tolist(), strict=True))
        pen.polygon([*ridge, (WIDTH, HEIGHT), (0, HEIGHT)], colour)


# A walker in a street

_WALLS: Final = ((196, 132, 104), (214, 188, 150), (150, 160, 168), (186, 148, 128))


def _street(pen: Pen, moment: float) -> None:
    _sky(pen, (150, 190, 220), (226, 232, 226))
    tile, count = 200, len(_WALLS)
    for number in range(-1, count + 1):
        left = number * tile - moment * tile * count % (tile * count)
        if left < -tile:
            left += tile * count
        wall = _WALLS[number % count]
        tall = 60 + 26 * (number % count % 3)
        pen.polygon([(left, tall), (left + tile, tall), (left + tile, 268), (left, 268)], wall)
        dark = (wall[0] * 2 // 3, wall[1] * 2 // 3, wall[2] * 2 // 3)
        for row in range(tall + 22, 230, 52):
            for column in (24, 84, 144):
                x = left + column
                pen.polygon(
                    [(x, row), (x + 32, row), (x + 32, row + 34), (x, row + 34)], (70, 84, 98)
                )
                pen.polygon(
                    [(x - 2, row + 34), (x + 34, row + 34), (x + 34, row + 38), (x - 2, row + 38)],
                    dark,
                )
    pen.polygon([(0, 266), (WIDTH, 266), (WIDTH, 330), (0, 330)], (168, 164, 158))
    pen.polygon([(0, 330), (WIDTH, 330), (WIDTH, HEIGHT), (0, HEIGHT)], (92, 94, 98))
    for number in range(-1, 11):
        x = number * 80 - moment * 800 % 80
        pen.polygon([(x, 266), (x + 2, 266), (x - 10, 330), (x - 13, 330)], (140, 136, 130))


def _step(
    hip: tuple[float, float], swing: float, lengths: tuple[float, float], back: float
) -> Points:
    """Hip, knee, foot: ``swing`` in radians; the knee bends by ``back``."""
    knee = (hip[0] + lengths[0] * math.sin(swing), hip[1] + lengths[0] * math.cos(swing))
    low = swing - back
    return [hip, knee, (knee[0] + lengths[1] * math.sin(low), knee[1] + lengths[1] * math.cos(low))]


def _walker(pen: Pen, moment: float) -> None:
    turn = 2 * math.pi * moment * 2  # two double steps in a loop
    x, y = 312 + 14 * math.sin(2 * math.pi * moment), 188 + 4 * math.cos(2 * turn)
    skin, shirt, dark = (222, 170, 138), (226, 120, 44), (186, 92, 30)
    trousers, shade, shoe = (52, 74, 128), (38, 54, 98), (240, 240, 236)
    for side, cloth, sleeve in ((math.pi, shade, dark), (0.0, trousers, shirt)):
        swing = 0.55 * math.sin(turn + side)
        leg = _step((x, y), swing, (58, 58), max(0.1, 0.75 * math.cos(turn + side)))
        if side:
            arm = _step((x + 2, y - 84), -swing * 0.9, (42, 40), -0.45)
            pen.limb(arm[:2], 17, sleeve)
            pen.limb(arm[1:], 13, (200, 150, 120))
        pen.limb(leg, 25, cloth)
        foot = leg[2]
        pen.limb([(foot[0] - 2, foot[1] + 7), (foot[0] + 17, foot[1] + 8)], 13, shoe)
    pen.limb([(x, y - 8), (x + 3, y - 82)], 46, shirt)
    pen.limb([(x + 4, y - 104), (x + 5, y - 116)], 16, skin)
    pen.ellipse((x + 8, y - 138), (22, 26), skin)
    pen.ellipse((x + 30, y - 134), (5, 5), skin)
    pen.ellipse((x + 1, y - 150), (25, 20), (64, 42, 32), -12)
    for number in range(7):
        blown = 0.35 * math.sin(turn + number)
        root = (x - 16 + number, y - 152 + 5 * number)
        pen.limb([root, (root[0] - 20, root[1] + 8 + 8 * blown)], 4, (64, 42, 32))
    pen.ellipse((x + 20, y - 142), (2.4, 3.4), (40, 30, 30))
    arm = _step((x + 2, y - 84), -0.5 * math.sin(turn), (42, 40), -0.45)
    pen.limb(arm[:2], 18, (240, 136, 58))
    pen.limb(arm[1:], 13, skin)


# A dog in a meadow


def _meadow(pen: Pen, moment: float) -> None:
    _sky(pen, (112, 164, 206), (214, 226, 214))
    _hills(pen, moment, [((150, 180, 170), 176, 16, 1), ((112, 156, 116), 214, 14, 2)])
    for x, y, size in ((90.0, 60, 30), (330.0, 44, 24), (560.0, 74, 34)):
        for dx, share in ((-1.1, 0.7), (0, 1), (1.1, 0.75)):
            pen.ellipse(
                (x + dx * size, y), (size * share * 1.3, size * share * 0.55), (206, 220, 226)
            )
    pen.polygon([(0, 248), (WIDTH, 248), (WIDTH, HEIGHT), (0, HEIGHT)], (116, 168, 78))
    for number in range(-2, 44):
        x = number * 20 - moment * 640 % 20
        row = 262 + (number * 37 % 92)
        pen.polygon([(x, row), (x + 3, row - 12), (x + 6, row)], (82, 138, 58))


def _dog(pen: Pen, moment: float) -> None:
    turn = 2 * math.pi * moment * 3  # three bounds in a loop
    x, y = 300 + 18 * math.sin(2 * math.pi * moment), 232 + 6 * math.sin(2 * turn)
    fur, shade, white, black = (196, 124, 60), (158, 94, 44), (244, 238, 226), (40, 34, 32)
    tip = (x - 150, y - 72 + 16 * math.sin(turn))
    pen.limb([(x - 86, y - 20), (x - 124, y - 44 + 6 * math.sin(turn)), tip], 20, fur)
    pen.limb([tip, (tip[0] - 7, tip[1] - 8)], 15, white)
    for hip, offset, cloth in (
        ((x - 66, y + 12), 0.6, shade), ((x + 52, y + 14), math.pi + 0.6, shade),
        ((x - 78, y + 10), 0.0, fur), ((x + 40, y + 16), math.pi, fur),
    ):  # fmt: skip
        leg = _step(hip, 0.7 * math.sin(turn + offset), (38, 36), 0.5 * math.cos(turn + offset))
        pen.limb(leg, 19, cloth)
        pen.limb([leg[2], (leg[2][0] + 7, leg[2][1] + 2)], 16, white)
    pen.ellipse((x - 18, y - 6), (94, 40), fur, -4)
    pen.ellipse((x + 44, y + 2), (40, 36), fur)
    pen.ellipse((x + 62, y + 8), (24, 28), white)
    for number in range(11):
        root = (x - 96 + 17 * number, y - 40 - 8 * math.sin(number / 10 * math.pi))
        pen.limb([root, (root[0] - 13, root[1] - 5 + 3 * math.sin(turn + number))], 6, shade)
    pen.limb([(x + 56, y - 20), (x + 92, y - 62)], 44, fur)
    pen.ellipse((x + 102, y - 76), (36, 31), fur)
    pen.limb([(x + 122, y - 68), (x + 152, y - 62)], 25, white)
    pen.ellipse((x + 164, y - 67), (8, 7), black)
    pen.ellipse((x + 112, y - 84), (4.4, 5.4), black)
    flap = 10 * math.sin(turn + 1)
    pen.polygon(
        [
            (x + 74, y - 96),
            (x + 96, y - 104),
            (x + 66 - flap, y - 52 - flap),
            (x + 52 - flap, y - 60),
        ],
        shade,
    )


# A balloon over hills

_STRIPES: Final = ((202, 52, 44), (248, 196, 66), (142, 36, 68), (248, 196, 66))


def _land(pen: Pen, moment: float) -> None:
    _sky(pen, (112, 160, 196), (236, 222, 196))
    layers: list[tuple[Colour, float, float, int]] = [
        ((150, 178, 178), 240, 16, 1), ((104, 146, 132), 280, 20, 1), ((58, 98, 84), 324, 18, 2)
    ]  # fmt: skip
    _hills(pen, moment, layers)


def _balloon(pen: Pen, moment: float) -> None:
    turn = 2 * math.pi * moment
    x, y, sway = 320 + 60 * math.sin(turn), 134 + 14 * math.cos(turn), 0.07 * math.sin(turn + 1)

    def placed(points: Points) -> Points:
        return [
            (
                x + a * math.cos(sway) - b * math.sin(sway),
                y + a * math.sin(sway) + b * math.cos(sway),
            )
            for a, b in points
        ]

    def outline(bulge: float) -> Points:
        """One edge of a stripe, top to mouth: ``bulge`` is -1 at the left rim and 1 at the right."""
        crown = np.linspace(0, 2.4, 40)
        wide = [*np.sin(crown), *np.linspace(math.sin(2.4), 0.13, 12)[1:]]
        down = [*(-12 - 112 * np.cos(crown)), *np.linspace(-12 - 112 * math.cos(2.4), 136, 12)[1:]]
        return [(bulge * 86 * a, 0.77 * b) for a, b in zip(wide, down, strict=True)]

    for side in (-1, 1):
        pen.limb(placed([(side * 11, 104), (side * 13, 138)]), 2, (70, 52, 40))
    pen.polygon(placed([(-16, 136), (16, 136), (13, 160), (-13, 160)]), (122, 82, 48))
    pen.polygon(placed([(-17, 134), (17, 134), (16, 140), (-16, 140)]), (84, 56, 34))
    rims = np.sin(np.linspace(-math.pi / 2, math.pi / 2, 11)).tolist()
    for number, (left, right) in enumerate(pairwise(rims)):
        shade = 1.04 - 0.16 * ((left + right) / 2 + 0.35) ** 2  # the sun stands at the left
        red, green, blue = (min(255, int(each * shade)) for each in _STRIPES[number % 4])
        pen.polygon(placed(outline(left) + outline(right)[::-1]), (red, green, blue))
    pen.polygon(placed([(-12, 102), (12, 102), (10, 108), (-10, 108)]), (96, 40, 34))


SCENES: Final = {
    "person": Scene("Person", _street, _walker),
    "animal": Scene("Animal", _meadow, _dog),
    "thing": Scene("Thing", _land, _balloon),
}
