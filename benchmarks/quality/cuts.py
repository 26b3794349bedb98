"""Counts found and missed cuts: ``python -m benchmarks.quality.cuts [--only WORD]`` (needs FOREMASK_DATA).

Shots without a cut are drawn, real, or real with effects such as flashes and fades. Shots with a cut are pairs
of real shots, some of them alike.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from tests.support import shots
from tests.support.shots import HEIGHT, WIDTH, Shot

from benchmarks.clips import DATA, Clip
from benchmarks.machine import run
from foremask.media.reader import VideoReader
from foremask.types import Luma, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.temporal.cuts import CUT_RATIO, DELAY_FRAMES, CutFinder
from foremask.vision.temporal.flow import FlowEstimator
from foremask.vision.temporal.grids import grid_of

FLOW_AREA_PX = 384 * 216  # as in `fast` and `balanced`
MOST_FRAMES = 270  # read of a file
JOINED_FRAMES = 14  # on each side of a cut
MADE_FRAMES = 40  # of a shot that is changed

FILES = """
avi androidx-media/sample.avi; bear androidx-media/bear-vp9-odd-dimensions.webm; bedroom ../clips/bedroom.mp4
bicycle intel-sample-videos/person-bicycle-car-detection.gif; bird androidx-media/bbb_642x642_768kbps_30fps_vp9.webm
bird-wide androidx-media/bbb_800x640_768kbps_30fps_vp9.mp4; bunny moviepy/big_buck_bunny_432_433.webm
car-detection ../clips/car-detection.mp4; chart androidx-media/hlg10-color-test.mp4; coffee ../clips/coffee.mp4
cradle imageio/newtonscradle.gif; cups ../clips/cups.mp4; face androidx-media/bt601.mov
fade-in mediabunny/rotate-buck-bunny.mp4; fade-in-small androidx-media/sample_vvc.mp4; fire moviepy/fire2.mp4
flower ../clips/flower.mp4; friday mdn/friday.mp4; head intel-sample-videos/head-pose-face-detection-female.gif
house androidx-media/sample_edit_list.mp4; logo androidx-media/h265_bframes.mp4
meadow androidx-media/bbb_176x144_128kbps_15fps_h263.3gp; nasa torchcodec/nasa_13013.mp4
night androidx-media/sowt-with-video.mov; pigs moviepy/pigs_in_a_polka.gif; roofs androidx-media/hdr10-av1.mp4
sister ../clips/sister.mkv; transparency mediabunny/transparency.webm; walk ../clips/walk.mkv
walking intel-sample-videos/face-demographics-walking.gif; wall androidx-media/portrait_4k60.mp4
water mdn/stream-of-water.mp4
"""  # a name, and the file below FOREMASK_DATA/media
JOINED = """
dog 10 cups 50; bedroom 40 coffee 100; parkour 20 bmx-trees 30; bmx-trees 10 horsejump-high 20
dance-twirl 60 parkour 60; drift-straight 30 car-shadow 10; blackswan 5 flower 50; comp-butterfly-grass 20 meadow 0
comp-dogcat-dune 10 comp-horse-meadow 20; comp-horse-meadow 30 comp-dancer-cut 5; sister 20 face 10; walk 40 face 10
friday 50 pigs 5; water 20 blackswan 20; roofs 100 car-detection 120; car-detection 150 bicycle 10
walking 10 head 5; head 5 sister 30; nasa 20 night 30; night 60 nasa 220; bear 10 water 40; cradle 5 chart 0
house 30 roofs 10; wall 2 house 5; fire 8 parkour 70; parkour 80 fire 2; horsejump-high 30 dog 40
car-shadow 25 drift-straight 5; bunny 4 meadow 0; avi 60 blackswan 30; transparency 250 nasa 150
cups 200 comp-runner-mountain 10; bmx-trees 50 comp-butterfly-grass 40
sister 70 walk 20; parkour 5 parkour 80; bmx-trees 5 bmx-trees 65; dance-twirl 5 dance-twirl 70
horsejump-high 2 horsejump-high 36; drift-straight 2 drift-straight 36; car-shadow 0 car-shadow 26; dog 2 dog 45
roofs 5 roofs 110; nasa 60 nasa 150
"""  # one shot and its first frame, another and its own: the last two lines go back to the same place
MIRRORED = "water 10 50; dog 10 40; cups 50 130; friday 20 100; blackswan 5 30; dance-twirl 20 60; comp-butterfly-grass 5 40"
CROPPED = "bedroom 20 100; flower 20 100; parkour 30 60; horsejump-high 5 30; comp-runner-mountain 5 40; walk 5 50; bmx-trees 20 40"
REAL = (
    "blackswan bmx-trees car-shadow dance-twirl dog drift-straight horsejump-high parkour comp-butterfly-grass comp-dancer-cut "
    "comp-dogcat-dune comp-horse-meadow comp-runner-mountain bedroom coffee cups flower sister walk friday water bear face logo "
    "avi fade-in fade-in-small night wall house roofs meadow chart cradle walking head bicycle bunny fire pigs"
)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    images: Callable[[], Shot]
    cuts: tuple[int, ...] = ()


def table(text: str) -> list[str]:
    return [each.strip() for each in text.strip().replace("\n", ";").split(";")]


@functools.lru_cache(maxsize=8)
def pictures_of(name: str) -> tuple[Rgb, ...]:
    """A clip of FOREMASK_DATA, scaled to the flow's grid."""
    if file := dict(map(str.split, table(FILES))).get(name):
        with VideoReader(DATA / "media" / file) as reader:
            frames = itertools.islice(reader, MOST_FRAMES)
            return tuple(frame.rgb(*grid_of(frame, FLOW_AREA_PX)) for frame in frames)
    folder = next(
        DATA / kind / name for kind in ("davis", "alpha") if (DATA / kind / name).is_dir()
    )
    stills = (ArrayImage(image) for image in Clip(folder).frames())
    return tuple(still.rgb(*grid_of(still, FLOW_AREA_PX)) for still in stills)


def part(
    name: str, first: int = 0, frames: int = MADE_FRAMES, step: int = 1, *place: float
) -> Shot:
    """Every ``step``-th frame of a clip from ``first`` on, cropped to 16:9 at ``place``."""
    shown = pictures_of(name)[first : first + frames * step : step]
    return [cropped(each, *place) for each in shown]


def side(name: str, first: str, *place: float) -> Callable[[], Shot]:
    return functools.partial(part, name, int(first), JOINED_FRAMES, 1, *place)


def cropped(image: Rgb, x: float = 0.5, y: float = 0.5, size: float = 1.0) -> Rgb:
    """The largest 16:9 part times ``size``, at ``x`` and ``y`` (0 to 1) of the space around it."""
    height, width = image.shape[:2]
    scale = size * min(width / WIDTH, height / HEIGHT)
    columns, rows = int(WIDTH * scale), int(HEIGHT * scale)
    left, top = int(x * (width - columns)), int(y * (height - rows))
    return ArrayImage(image[top : top + rows, left : left + columns]).rgb(WIDTH, HEIGHT)


def joined() -> Iterator[Case]:
    for line in table(JOINED):
        one, start, other, begin = line.split()
        yield _join(line, side(one, start), side(other, begin))
    for line in table(MIRRORED):
        name, start, begin = line.split()
        mirrored = functools.partial(_mirrored, side(name, begin))
        yield _join(f"{name} in the mirror", side(name, start), mirrored)
    for line in table(CROPPED):
        name, start, begin = line.split()
        details = side(name, start, 0.0, 0.0, 0.5), side(name, begin, 1.0, 1.0, 0.5)
        yield _join(f"{name}: two details", *details)
    for name in ("bedroom", "cups"):
        yield _join(f"{name}: punched in", side(name, "40"), side(name, "100", 0.5, 0.3, 0.45))
    leaves = [
        functools.partial(shots.foliage_pan, seed, speed, JOINED_FRAMES)
        for seed, speed in ((11, 3.1), (12, 4.5), (13, 8))
    ]
    yield _join("leaves > other leaves", leaves[0], leaves[1])
    yield _join("leaves > parkour", leaves[2], side("parkour", "30"))
    for name in ("bird", "bird-wide"):
        yield Case(f"{name}, as it is", functools.partial(part, name, 0, 30), (6,))
    yield Case("nasa, as it is", functools.partial(part, "nasa", 180, 45), (22,))


def _mirrored(shot: Callable[[], Shot]) -> Shot:
    return [np.ascontiguousarray(each[:, ::-1]) for each in shot()]


def _join(name: str, one: Callable[[], Shot], other: Callable[[], Shot]) -> Case:
    return Case(name, lambda: [*one(), *other()], (JOINED_FRAMES,))


def uncut() -> Iterator[Case]:
    for number, speed in enumerate((0.7, 2.3, 5.4, 9.5)):
        yield Case(f"leaves, {speed} px", functools.partial(shots.foliage_pan, number + 1, speed))
    yield Case("leaves, noisy", functools.partial(shots.foliage_pan, 7, 4.4, deviation=14))
    yield Case("no signal", shots.static)
    yield from (Case(name, images) for name, images in CHANGED.items())
    for name in REAL.split():
        yield Case(f"{name}, as it is", functools.partial(_as_it_is, name))


def _as_it_is(name: str) -> Shot:
    return list(pictures_of(name)[:60])


def _still(name: str, width: int = WIDTH, height: int = HEIGHT) -> Rgb:
    return ArrayImage(pictures_of(name)[0]).rgb(width, height)


_bedroom = functools.partial(part, "bedroom", 20)
_cups = functools.partial(part, "cups", 60)
_mountain = functools.partial(_still, "comp-runner-mountain", 1400, 260)
CHANGED: dict[str, Callable[[], Shot]] = {
    "flash, dog": lambda: shots.flash(part("dog"), [12, 27], [0.85]),
    "flash, bedroom, two frames": lambda: shots.flash(_bedroom(), [15], [0.9, 0.95]),
    "flash, parkour, white": lambda: shots.flash(part("parkour"), [10, 22], [1.0]),
    "flash, cups, decays": lambda: shots.flash(_cups(), [15], [1, 0.8, 0.5, 0.3, 0.1]),
    "lightning, blackswan": lambda: shots.flash(part("blackswan"), [8, 11, 25], [0.7, 0.3]),
    "strobe, cups": lambda: shots.strobe(_cups(), 1),
    "strobe, dog, every 2": lambda: shots.strobe(part("dog"), 2),
    "strobe, bedroom, every 3": lambda: shots.strobe(_bedroom(), 3),
    "strobe, dance-twirl, black": lambda: shots.strobe(part("dance-twirl"), 2, 0),
    "fade, dog": lambda: shots.faded(part("dog"), 4, 12, 4),
    "fade, cups, long black": lambda: shots.faded(_cups(), 8, 5, 8),
    "fade, bedroom, short": lambda: shots.faded(_bedroom(), 10, 3, 2),
    "fade, parkour": lambda: shots.faded(part("parkour", 40, 50), 5, 12, 6),
    "fade, blackswan, white": lambda: shots.faded(part("blackswan"), 8, 8, 3, to=255),
    "confetti, bedroom": lambda: shots.confetti(_bedroom(), 350, 9, 14),
    "confetti, dog, dense": lambda: shots.confetti(part("dog"), 700, 12, 25),
    "shake, blackswan": lambda: shots.shaken(_still("blackswan", 560, 340), 45),
    "zoom, dune": lambda: shots.zoomed(_still("comp-dogcat-dune", 560, 340), 1.1, 24),
    "roll, grass": lambda: shots.turned(_still("comp-butterfly-grass", 560, 340), 12),
    "whip pan, mountain": lambda: shots.whip_pan(_mountain(), 120),
    "whip pan, sharp": lambda: shots.whip_pan(_mountain(), 70, lasts=10, blurred=False),
    "rain, parkour": lambda: shots.rain(part("parkour"), 400, 30),
    "rain, blackswan": lambda: shots.rain(part("blackswan"), 250, 25),
    "noise, cups": lambda: shots.noisy(_cups(), 45),
    "a bus passes coffee": lambda: shots.passed_by(part("coffee"), _still("roofs"), 90, 300),
    "a wall passes bedroom": lambda: shots.passed_by(_bedroom(), _still("sister"), 60, 520),
    "a train passes dog": lambda: shots.passed_by(part("dog"), _still("cups"), 190, 380),
    "broken frames, cups": lambda: shots.broken(_cups(), [12, 25]),
    "broken frames, dog, two": lambda: shots.broken(part("dog"), [12, 25], lasts=2),
    "parkour, every 3rd frame": lambda: part("parkour", 0, 34, 3),
    "bmx-trees, every 3rd frame": lambda: part("bmx-trees", 0, 27, 3),
    "dance-twirl, every 3rd frame": lambda: part("dance-twirl", 0, 30, 3),
    "drift-straight, every 2nd frame": lambda: part("drift-straight", 0, 25, 2),
    "nasa, dissolve": lambda: part("nasa", 90, 100),
    "transparency, animated": lambda: part("transparency", 215, 85),
    "car-detection, exposure": lambda: part("car-detection", 20, 110),
}
"""Shots that flash, fade, shake or are passed by."""


@dataclass(frozen=True, slots=True)
class Result:
    """The score of each boundary between frames; a score under `CUT_RATIO` is a cut."""

    case: Case
    scores: tuple[float, ...]
    cpu_ms: float  # a frame, without the flow

    @property
    def of_cuts(self) -> float:
        """The highest score of a true cut; 0 without one."""
        return max((self.scores[cut] for cut in self.case.cuts), default=0.0)

    @property
    def of_others(self) -> float:
        """The lowest score of a boundary that is no cut."""
        return min(score for at, score in enumerate(self.scores) if at not in self.case.cuts)


def measure(case: Case) -> Result:
    """Find cuts as masking does, with the flow to the previous frame."""
    finder, find = CutFinder(), FlowEstimator()
    before: Luma | None = None
    scores, cpu_s = list[float](), 0.0
    images = case.images()
    for number in range(len(images) + DELAY_FRAMES):
        if number < len(images):
            grey = np.asarray(cv2.cvtColor(images[number], cv2.COLOR_RGB2GRAY), np.uint8)
            back = None if before is None else find(grey, before)
            before = grey
        began = time.process_time()
        if number < len(images):
            finder.add(images[number], back)
        if number >= DELAY_FRAMES:
            scores.append(finder.score())
            finder.decide()
        cpu_s += time.process_time() - began
    return Result(case, tuple(scores), 1000 * cpu_s / len(images))


def main(*, only: str = "") -> None:
    results = []
    for case in (*joined(), *uncut()):
        if only in case.name:
            result = measure(case)
            results.append(result)
            scores = f"cut {result.of_cuts:6.2f} other {result.of_others:6.2f}"
            print(f"{case.name:48} {scores} cpu-ms {result.cpu_ms:.2f}", flush=True)
    pairs = [each for each in results if each.case.cuts]
    missed = [each.case.name for each in pairs if each.of_cuts >= CUT_RATIO]
    false = [each.case.name for each in results if each.of_others < CUT_RATIO]
    print(f"{len(pairs)} with a cut, missed: {missed}")
    print(f"{len(results) - len(pairs)} without; a cut is invented in {false}")
    worst_cut = max((each.of_cuts for each in pairs), default=0.0)
    print(f"worst cut {worst_cut:.2f}, worst other {min(each.of_others for each in results):.2f}")
    print(f"cpu-ms a frame: {np.mean([each.cpu_ms for each in results]):.2f}")


if __name__ == "__main__":
    run(main, __doc__)
