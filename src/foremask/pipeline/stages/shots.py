"""Finds the shots of a clip, and the flow between neighbouring frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from foremask.pipeline.threads import Workers
from foremask.types import Image
from foremask.vision.temporal.cuts import IncomingFrame, incoming_frames
from foremask.vision.temporal.tier import Tier


@dataclass(frozen=True, slots=True)
class Shots:
    """Yields each image with its number, its flow, and whether a shot begins with it."""

    tier: Tier
    is_wanted: Callable[[Image], bool]
    workers: Workers
    name: str = "shots"

    def __call__(self, images: Iterator[Image], /) -> Iterator[IncomingFrame]:
        return incoming_frames(images, self.is_wanted, self.tier, self.workers)
