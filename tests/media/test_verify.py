import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.bitstream import BitStreamFilterContext

from foremask.errors import PromiseBroken
from foremask.media.verify import verify
from tests.support import synth
from tests.support.synth import Spec, Tone

WHOLE = Spec(sound=(Tone(language="eng"),), turn=(90, False), aspect=Fraction(4, 3))
BROKEN = {
    "size": replace(WHOLE, width=66),
    "rotation": replace(WHOLE, turn=(0, False)),
    "aspect": replace(WHOLE, aspect=Fraction(1)),
    "levels": replace(WHOLE, full_range=True),
    "frames": replace(WHOLE, pts=WHOLE.pts[:-1]),
    "pts": replace(WHOLE, pts=(*WHOLE.pts[:4], WHOLE.pts[4] + 1, *WHOLE.pts[5:])),
    "last duration": replace(WHOLE, last_duration=1500),
    "audio tracks": replace(WHOLE, sound=()),
    "audio language": replace(WHOLE, sound=(Tone(language="deu"),)),
    "audio start": replace(WHOLE, sound=(Tone(language="eng", start_s=0.2),)),
    "audio end": replace(WHOLE, sound=(Tone(language="eng", seconds=0.7),)),
}


def test_a_copy_keeps_every_promise(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "source.mp4", WHOLE, synth.greys(WHOLE))
    mask = tmp_path / "mask.mp4"
    shutil.copyfile(source, mask)
    promises = [check.promise for check in verify(source, mask)]
    assert promises == [
        "container", "size", "rotation", "aspect", "frames", "levels", "pts", "last duration",
        "audio tracks", "audio language", "audio start", "audio end",
    ]  # fmt: skip


def test_an_avi_is_no_mask(tmp_path: Path) -> None:
    spec = Spec(time_base=Fraction(1, 30), pts=tuple(range(9)), last_duration=1)
    source = synth.write(tmp_path / "source.avi", spec)
    with pytest.raises(PromiseBroken, match="avi"):
        verify(source, source)


def test_a_mask_with_a_colour_is_none(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "source.mp4")
    with pytest.raises(PromiseBroken, match="Frame 0 has a colour"):
        verify(source, source)
    gif = synth.write(tmp_path / "mask.gif", Spec(codec="gif", pixel_format="rgb8"))
    with pytest.raises(PromiseBroken, match="has a colour"):
        verify(source, gif)


def test_levels_beyond_black_and_white_are_named(tmp_path: Path) -> None:
    """Full-range levels that are tagged limited would come back crushed: luma 0 and 255."""
    source = synth.write(tmp_path / "source.mp4", WHOLE)
    mask = synth.write(tmp_path / "mask.mp4", replace(WHOLE, full_range=True), synth.greys(WHOLE))
    retagged = limited(mask, tmp_path / "retagged.mp4")
    with pytest.raises(PromiseBroken, match="luma from 0 to 255; black is 16 and white 235"):
        verify(source, retagged)


def limited(mask: Path, target: Path) -> Path:
    """The same pictures with the tag of limited range in their headers."""
    with av.open(str(mask)) as opened, av.open(str(target), "w") as out:
        track: Any = opened.streams.video[0]
        copy: Any = out.add_stream_from_template(track)
        copy.set_display_matrix(synth.matrix(*WHOLE.turn))
        tag = BitStreamFilterContext("h264_metadata=video_full_range_flag=0", track, copy)
        packets = [packet for packet in opened.demux(track) if packet.size]
        for packet in [*packets, None]:
            for tagged in tag.filter(packet):
                tagged.stream = copy
                out.mux(tagged)
    return target
