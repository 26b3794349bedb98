"""Cuts between drawn shots are found where they are, and nothing else is taken for one."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from foremask.types import Rgb
from foremask.vision.temporal.cuts import DELAY_FRAMES, starts_of_shots
from tests.support import shots


def starts(images: Sequence[Rgb]) -> list[int]:
    items = [(frame, image, None) for frame, image in enumerate(images)]
    return [frame for frame, is_start in starts_of_shots(items) if is_start]


UNCUT: dict[str, Callable[[], shots.Shot]] = {
    "an ordinary shot": lambda: shots.walk(1),
    "foliage, slowly": lambda: shots.foliage_pan(1, 0.7, 20),
    "foliage": lambda: shots.foliage_pan(2, 2.3, 20),
    "foliage, fast": lambda: shots.foliage_pan(3, 9.5, 20),
    "foliage, noisy": lambda: shots.foliage_pan(7, 4.4, 20, deviation=14),
    "flash": lambda: shots.flash(shots.walk(2), [12, 21], [1.0]),
    "lightning": lambda: shots.flash(shots.walk(3), [8, 11, 20], [0.7, 0.3]),
    "strobe": lambda: shots.strobe(shots.walk(4), 1),
    "slow strobe": lambda: shots.strobe(shots.walk(5), 2),
    "fade to black and back": lambda: shots.faded(shots.walk(6), 6, 8, 5),
    "fade to white and back": lambda: shots.faded(shots.walk(7), 8, 5, 3, to=255),
    "confetti": lambda: shots.confetti(shots.walk(8), 350, 9, 14),
    "rain": lambda: shots.rain(shots.walk(9), 250, 25),
    "noise": lambda: shots.noisy(shots.walk(10), 45),
    "shake": lambda: shots.shaken(shots.place(11), 25),
    "zoom": lambda: shots.zoomed(shots.place(12), 1.05),
    "roll": lambda: shots.turned(shots.place(13), 8),
    "whip pan": lambda: shots.whip_pan(shots.place(14, 1200, 260), 70),
    "something rushes through": lambda: shots.passed_by(shots.walk(15), shots.place(16), 90, 300),
    "broken frames": lambda: shots.broken(shots.walk(17), [10, 20], lasts=2),
    "no signal": lambda: shots.static(),
    "a dissolve": lambda: shots.dissolved(shots.walk(90, 24), shots.walk(95, 24), 12),
    "one picture": lambda: shots.walk(98, 1),
    "black": lambda: [np.zeros((shots.HEIGHT, shots.WIDTH, 3), np.uint8)] * 12,
}


@pytest.mark.parametrize("name", UNCUT)
def test_what_does_not_stay_is_no_cut(name: str) -> None:
    assert starts(UNCUT[name]()) == [0]


CUT: dict[str, Callable[[], tuple[shots.Shot, ...]]] = {
    "three shots, one short": lambda: (shots.walk(40, 12), shots.walk(50, 5), shots.walk(60, 12)),
    "another place": lambda: (shots.walk(20, 14), shots.walk(30, 14)),
    "the place in the mirror": lambda: (
        shots.walk(21, 14),
        [np.ascontiguousarray(image[:, ::-1]) for image in shots.walk(21, 28)[14:]],
    ),
    "leaves elsewhere": lambda: (shots.foliage_pan(22, 3.1, 14), shots.foliage_pan(24, 4.5, 14)),
    "out of a whip pan": lambda: (
        shots.whip_pan(shots.place(25, 1200, 260), 70)[:18],
        shots.walk(26, 14),
    ),
    "still pictures": lambda: ([shots.walk(27, 1)[0]] * 13, [shots.walk(28, 1)[0]] * 13),
    "a shot of four frames before the next": lambda: (shots.walk(29, 14), shots.walk(35, 4)),
    "another size of the same place": lambda: (
        [shots.view(shots.place(31), 20 + frame, 20) for frame in range(14)],
        [shots.view(shots.place(31), 120 + frame, 90, 2.4) for frame in range(14)],
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_is_found_at_its_frame(name: str) -> None:
    parts = CUT[name]()
    ends = itertools.accumulate(len(each) for each in parts)
    assert starts([image for each in parts for image in each]) == [0, *ends][:-1]


def test_another_scene_after_a_fade_through_black_is_another_shot() -> None:
    out, into = shots.faded(shots.walk(70, 24), 8, 8, 8), shots.faded(shots.walk(80, 24), 0, 8, 0)
    black = np.zeros_like(out[0])
    found = starts([*out[:16], *[black] * 8, *into[8:]])
    assert len(found) == 2
    assert 22 <= found[1] <= 26


def test_boundaries_are_decided_two_pictures_late() -> None:
    """A live source is not held up for longer, and no picture waits for the end."""
    drawn = 0

    def images() -> Iterator[tuple[int, Rgb, None]]:
        nonlocal drawn
        for frame, image in enumerate(shots.walk(97, 20)):
            drawn = frame + 1
            yield frame, image, None

    decided = []
    for frame, _ in starts_of_shots(images()):
        assert drawn <= frame + 1 + DELAY_FRAMES
        decided.append(frame)
    assert decided == list(range(20))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 16), (30, 24), (40, 1000), (1920, 8)])
def test_any_size_is_taken(size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for _ in range(5)]
    assert 0 in starts(images)
