"""Runs the network on the frames that have hints, before the clip is masked."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from foremask.errors import FieldInvalid
from foremask.hints.kinds import Box, Hint, MarkedHint, Paint, Text, frame_beyond
from foremask.media.frames import Frame
from foremask.options import Quality
from foremask.pipeline.images import pts_of, shown
from foremask.pipeline.network_masks import mask_images
from foremask.pipeline.stages.ask import WINDOW_FRAMES
from foremask.types import Image
from foremask.vision.network.finder import MaskFinder, Unmoved
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.network_protocol import Network
from foremask.vision.temporal.frame_hints import Guidance, Mark, read_hints, read_paint
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.things import PickedAnchor, Scout
from foremask.vision.temporal.tier import CONTEXT_FRAMES, TIERS, Tier
from foremask.weights.catalogue import ISNET

REACH_FRAMES: Final = WINDOW_FRAMES + CONTEXT_FRAMES + 1
"""A hint before this frame is in the clip's first window or its context."""


class _Scouting(Observer):
    def __init__(self, scout: Scout) -> None:
        self._scout = scout

    def decide_to(self, frame: int, find: Callable[[], list[PickedAnchor]]) -> None:
        self._scout.add(find())


def guidance_of_frames(
    opened: Callable[[], AbstractContextManager[Iterable[Frame]]],
    hints: Sequence[Hint],
    size_px: tuple[int, int],
    network: Network,
    quality: Quality,
    finder: MaskFinder,
    cache: NetworkCache | None = None,
) -> Guidance:
    """Run the network on the hinted frames. Raises FieldInvalid for a hint after the last frame.

    Windows are decided in order: a window cannot use the hints of a later window. Therefore, if a
    later hint chooses or bans a thing, a first run masks the clip up to that hint, by the network
    or from a complete ``cache``. Then the thing is followed back to the start of its shot.
    """
    numbers: dict[int, int] = {}

    def hinted() -> Iterator[tuple[int, Image, list[Mark]]]:
        with opened() as frames:
            for frame, marks in _hinted_frames(frames, hints, size_px):
                numbers[frame.pts] = frame.index
                yield frame.pts, shown(frame), marks

    tier = TIERS[quality]
    guidance = read_hints(hinted(), network, tier, pts_of, cache, finder)
    late = [
        number
        for pts, number in numbers.items()
        if number >= REACH_FRAMES and guidance.frames[pts].choice is not None
    ]
    if not late:
        return guidance
    scout = Scout(REACH_FRAMES)
    with opened() as frames:
        _follow_back(frames, network, tier, guidance, cache, scout, max(late))
    return replace(guidance, brought=scout.found)


def _follow_back(
    frames: Iterable[Frame],
    network: Network,
    tier: Tier,
    guidance: Guidance,
    cache: NetworkCache | None,
    scout: Scout,
    last: int,
) -> None:
    """Mask the clip up to the frame ``last``, and follow the things of the hints back."""
    if cache is not None and not cache.is_complete:
        cache = None
    masks = mask_images(
        map(shown, frames),
        network,
        tier,
        guidance=guidance,
        cache=cache,
        observer=_Scouting(scout),
    )
    for _ in masks:
        if scout.has(last):
            break
    scout.end_shot()


def marks_of_frames(
    opened: Callable[[], AbstractContextManager[Iterable[Frame]]],
    hints: Sequence[Hint],
    size_px: tuple[int, int],
) -> dict[int, list[Mark]]:
    """The marks of each hinted frame, by its pts. Raises the errors of `guidance_of_frames`."""
    if all(isinstance(hint, Text) for hint in hints):
        return {}
    with opened() as frames:
        return {frame.pts: marks for frame, marks in _hinted_frames(frames, hints, size_px)}


def marks_of_frame(frame: Frame, hints: Sequence[Hint]) -> list[Mark]:
    """The marks of all hints, even of hints that name other frames."""
    marked = {at: hint for at, hint in enumerate(hints) if not isinstance(hint, Text)}
    return _marks(marked, (frame.width, frame.height))


def guidance_of_frame(
    frame: Frame,
    hints: Sequence[Hint],
    network: Network,
    quality: Quality,
    finder: MaskFinder,
    cache: NetworkCache,
) -> Guidance:
    """Run the network on a frame, and apply all hints to it, even hints that name other frames."""
    marks = marks_of_frame(frame, hints)
    hinted = [(frame.pts, shown(frame), marks)]
    return read_hints(hinted, network, TIERS[quality], pts_of, cache, finder)


def remarks(guidance: Guidance) -> tuple[str, ...]:
    """The warnings about what the hints cannot do."""
    found = [
        f"hints[{later}] contradicts hints[{earlier}]: the later one counts"
        for each in guidance.frames.values()
        for earlier, later in each.contradicted
    ]
    corrections = [seed for each in guidance.frames.values() for seed in each.corrections]
    corrects = any(each.has_size or not each.chooses for each in corrections)
    if corrects and isinstance(guidance.finder, Unmoved):
        found.append(
            "corrections follow the motion alone: the network that finds them again needs"
            f" {ISNET.file_name} in the folder of the network that masks"
        )
    return tuple(found)


def _hinted_frames(
    frames: Iterable[Frame], hints: Sequence[Hint], size_px: tuple[int, int]
) -> Iterator[tuple[Frame, list[Mark]]]:
    waiting = {at: hint for at, hint in enumerate(hints) if not isinstance(hint, Text)}
    for frame, next_s in _with_ends(frames):
        here = [number for number, hint in waiting.items() if _is_on(hint, frame, next_s)]
        if here:
            yield frame, _marks({number: waiting.pop(number) for number in here}, size_px)
        if not waiting:
            return
    number = min(waiting)
    raise frame_beyond(waiting[number], number, frame.index + 1)


def _is_on(hint: MarkedHint, frame: Frame, next_s: float) -> bool:
    """Whether the hint is on the frame, which ends at ``next_s``; earlier hints are used up."""
    if hint.time_s is None:
        return (hint.frame or 0) == frame.index
    return hint.time_s < next_s


def _with_ends(frames: Iterable[Frame]) -> Iterator[tuple[Frame, float]]:
    """Yield each frame, and its end in seconds from the first frame."""
    before: Frame | None = None
    first_s = 0.0
    for frame in frames:
        if before is None:
            first_s = frame.time_s
        else:
            yield before, frame.time_s - first_s
        before = frame
    if before is not None:
        length_s = float((before.duration or 1) * before.time_base)
        yield before, before.time_s - first_s + length_s + 1e-6


def _marks(hints: Mapping[int, MarkedHint], size_px: tuple[int, int]) -> list[Mark]:
    """Return one mark per point or box, and two per paint, for white and black pixels."""
    width, height = size_px
    marks = []
    for number, hint in hints.items():
        positive = not hint.negative
        if isinstance(hint, Paint):
            levels = read_paint(hint.png)
            if levels is None or levels.shape != (height, width):
                details = f"hints[{number}].png is no picture of {width}x{height}."
                raise FieldInvalid(details, param=f"hints[{number}].png")
            if hint.negative:
                levels = 255 - levels
            marks += [Mark(number, white, levels=levels) for white in (True, False)]
        elif isinstance(hint, Box):
            mark = Mark(
                number,
                positive,
                hint.x / width,
                hint.y / height,
                hint.width / width,
                hint.height / height,
            )
            marks.append(mark)
        else:
            marks.append(Mark(number, positive, (hint.x + 0.5) / width, (hint.y + 0.5) / height))
    return marks
