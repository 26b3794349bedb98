"""Hostile files are refused for the right reason; benchmarks/endurance/hostile.py has thousands."""

import random
import struct
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from foremask.errors import ClipRefused, ForemaskError
from foremask.options import Limits
from foremask.service.sandbox.operations import Probe
from foremask.service.sandbox.pool import MediaPool
from foremask.settings import Sandbox
from tests.support import synth

pytestmark = pytest.mark.slow


def gif(side_px: int, frames: int) -> bytes:
    """A gif of a few bytes a frame that declares a great canvas."""
    head = b"GIF89a" + struct.pack("<HHBBB", side_px, side_px, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    control = b"\x21\xf9\4\4\2\0\0\0"
    whole = b"\x2c" + struct.pack("<HHHHB", 0, 0, side_px, side_px, 0) + b"\2\2\x44\1\0"
    return head + (control + whole) * frames + b"\x3b"


FILES = {
    "a playlist": (b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n" * 50, "container_unsupported"),
    "an ffconcat": (b"ffconcat version 1.0\nfile '/etc/passwd'\n" * 50, "container_unsupported"),
    "an sdp": (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "container_unsupported",
    ),
    "an mpd": (b'<?xml version="1.0"?><MPD></MPD>' + bytes(999), "container_unsupported"),
    "nothing": (b"", "empty_file"),
    "a gif of 65535 px squared": (gif(65535, 1), "resolution_too_large"),
    "a gif of 16001 px squared": (gif(16001, 2000), "resolution_too_large"),
    "a gif of 2000 frames of 16000 px squared": (gif(16000, 2000), "resolution_too_large"),
}


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncGenerator[MediaPool]:
    async with MediaPool(
        tmp_path, sandbox=Sandbox.REQUIRE, memory_bytes=2 << 30, stall_s=60
    ) as opened:
        yield opened


async def probed(pool: MediaPool, data: bytes) -> str:
    """How the API's probe of these bytes ends: a reason, or ``taken``."""

    async def read_at(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    try:
        await pool.run(Probe(None, Limits(), size=len(data)), read_at=read_at, wall_clock_s=60)
    except ForemaskError as error:
        return error.reason
    return "taken"


@pytest.mark.parametrize("name", FILES)
async def test_a_made_up_file_is_refused_for_what_it_is(pool: MediaPool, name: str) -> None:
    """Playlists are never followed; a file that declares too much is refused before decoding."""
    data, reason = FILES[name]
    assert await probed(pool, data) == reason


async def test_mutated_clips_are_taken_or_refused(pool: MediaPool, tmp_path: Path) -> None:
    """Bytes of the header are flipped, 12 times: each probe ends as for a clip that is refused."""
    dice = random.Random(7)  # noqa: S311
    whole = synth.write(tmp_path / "clip.mp4").read_bytes()
    reasons = {kind.reason for kind in ClipRefused.__subclasses__()} | {"taken"}
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 4, 64))):
            data[dice.randrange(len(data) - 900, len(data))] = dice.randrange(256)
        assert await probed(pool, bytes(data)) in reasons
