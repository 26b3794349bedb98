"""What is in a clip or a mask that a test has made."""

from pathlib import Path

from foremask.facts import Clip
from foremask.media.demux import open_clip
from foremask.media.probe import clip_of


def describe(path: Path) -> Clip:
    """The facts of a file, whatever they are: nothing is refused."""
    with open_clip(path) as opened:
        return clip_of(opened)
