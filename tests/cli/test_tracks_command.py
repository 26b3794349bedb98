import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import foremask
from foremask.types import Rgb
from tests.support import synth
from tests.support.programs import Run

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FRAMES = 192, 96, 24
SPEC = synth.Spec(WIDTH, HEIGHT, pts=tuple(range(0, 1000 * FRAMES, 1000)))


def places(moment: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The centres of the large disc, which moves right, and of the small one, which moves left."""
    return (40 + moment, 40), (150 - moment, 54)


def picture(moment: int) -> Rgb:
    large, small = places(moment)
    return synth.discs(WIDTH, HEIGHT, (*large, 18), (*small, 14))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tracks") / "clip.mp4"
    return synth.write(path, SPEC, (picture(moment) for moment in range(FRAMES)))


def test_two_discs_are_two_things_with_a_mask_each(
    clip: Path, model: Path, tmp_path: Path, run: Run
) -> None:
    shown, folder = tmp_path / "tracks.png", tmp_path / "things"
    words = [clip, "--json", "-o", shown, "--masks", folder, "--model", model]
    listed = json.loads(run("tracks", *words).out)
    things = listed["things"]
    assert [thing["number"] for thing in things] == [1, 2]
    for thing, disc in zip(things, (0, 1), strict=True):
        assert (thing["first_frame"], thing["last_frame"]) == (0, FRAMES - 1)
        assert thing["in_mask"]
        first = thing["boxes"][0]
        middle = first["x"] + first["width"] / 2, first["y"] + first["height"] / 2
        assert np.hypot(*(np.array(middle) - places(0)[disc])) < 6
    drawn = cv2.imread(str(shown))
    assert drawn is not None
    assert drawn.shape[1] == 640
    for disc, path in enumerate(listed["masks"]):
        for moment, (_, alpha) in enumerate(foremask.read_masks(Path(path))):
            inside = [alpha[y - 9 : y + 10, x - 9 : x + 10].mean() for x, y in places(moment)]
            assert inside[disc] > 0.9, (disc, moment, inside)
            assert inside[1 - disc] < 0.1, (disc, moment, inside)
    assert [thing.hint.x for thing in foremask.find_things(clip, model=model)] == [
        thing["hint"]["x"] for thing in things
    ]
