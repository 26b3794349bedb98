"""What `mask_images` tells of its progress."""

from collections.abc import Callable

from foremask.types import Levels
from foremask.vision.temporal.things import PickedAnchor


class Observer:
    """Is told what is done; does nothing with it."""

    def add_anchor(self, mean: Levels) -> None:
        """The network has answered about an anchor; ``mean`` is the mean of its answers."""

    def ask_to(self, frame: int) -> None:
        """The network is not asked about frames before this one any more."""

    def decide_to(self, frame: int, find: Callable[[], list[PickedAnchor]]) -> None:
        """All anchors before this frame are decided; ``find`` gives the foreground of a window."""
