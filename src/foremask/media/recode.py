"""Encodes a finished mask in another preset, with the same levels, frames, times and sound."""

from collections.abc import Callable
from pathlib import Path

from foremask.facts import Written
from foremask.media.presets import check_preset
from foremask.media.reader import VideoReader
from foremask.media.writer import MaskWriter
from foremask.options import Preset
from foremask.types import Levels


def recode(
    mask: Path,
    target: Path,
    preset: Preset,
    on_frame: Callable[[int, int | None], None],
    memory_bytes: int | None = None,
    change: Callable[[Levels], Levels] | None = None,
) -> Written:
    """Write ``mask`` to ``target`` in ``preset``.

    ``on_frame`` gets the frames done and their total.

    ``change`` works on each mask.

    What the first encoding lost stays lost: a gif's times are hundredths of a second, and it has no
    sound. Raises PresetUnsuitable before anything is written, and CorruptVideo.
    """
    with VideoReader(mask) as reader:
        check_preset(reader.clip, preset, memory_bytes)
        with MaskWriter(target, preset, reader.clip, mask) as writer:
            for frame in reader:
                levels = frame.luma()
                writer.write(levels if change is None else change(levels), frame)
                on_frame(frame.index + 1, reader.clip.expected_frames)
            return writer.finish(reader.end_pts, reader.time_base)
