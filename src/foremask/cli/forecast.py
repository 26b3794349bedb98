"""The time left for all clips of a batch."""

import time
from collections.abc import Sequence
from typing import Final

from foremask.cli.products import Job
from foremask.errors import ForemaskError

_PICTURE: Final = 3.0  # one of 2 megapixels


class Forecast:
    """Time left for all clips, from the frames that their headers declare.

    A frame counts as one and its megapixels: the network costs the same for each, the rest grows
    with the picture. The frames of a URL are unknown, and a broken file takes no time.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._costs = [_cost_of(job) for job in jobs]
        self._done = self._spent_s = self._began_s = 0.0
        self._now = -1

    def begin(self) -> None:
        self._now += 1
        self._began_s = time.monotonic()

    def end(self, *, masked: bool) -> None:
        if masked:
            self._done += self._costs[self._now] or 0.0
            self._spent_s += time.monotonic() - self._began_s

    def left_s(self, frames_done: int, frames: int | None) -> float | None:
        """Seconds until the last clip is masked; None where that cannot be said yet."""
        now, *later = known = [cost for cost in self._costs[self._now :] if cost is not None]
        if len(known) < len(self._costs) - self._now:
            return None
        share = min(1.0, frames_done / frames) if frames else 0.0
        done = self._done + share * now
        spent_s = self._spent_s + time.monotonic() - self._began_s
        return ((1 - share) * now + sum(later)) * spent_s / done if done else None


def _cost_of(job: Job) -> float | None:
    from foremask.media.probe import probe  # av takes its time to load

    source = job.source
    if source.is_url or source.is_piped:
        return None
    if source.is_picture or source.pictures:
        return _PICTURE * max(1, len(source.pictures))
    try:
        clip = probe(source.path)
    except (ForemaskError, OSError):
        return 0.0
    frames = clip.expected_frames
    return None if frames is None else frames * (1 + clip.pixels / 1e6)
