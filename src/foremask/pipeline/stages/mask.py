"""Makes masks by something else than the network: a tracker, a stored mask, a user's function."""

from collections import deque
from collections.abc import Iterator

from foremask.facts import Span
from foremask.pipeline.images import pts_of
from foremask.pipeline.values import ImageMasker, RoughMask
from foremask.types import Image


class Mask:
    """Yields what ``masker`` answers to each image of the span."""

    name = "mask"

    def __init__(self, masker: ImageMasker, span: Span | None = None) -> None:
        self._masker = masker
        self._span = span

    def __call__(self, images: Iterator[Image], /) -> Iterator[RoughMask]:
        span = self._span
        if span is None:
            yield from self._masker(images)
            return
        wanted = deque[bool]()

        def noted() -> Iterator[Image]:
            for image in images:
                wanted.append(span.holds(pts_of(image)))
                yield image

        for mask in self._masker(noted()):
            if wanted.popleft():
                yield mask
