"""Hostile files are refused for the right reason; benchmarks/endurance/hostile.py has thousands."""

import random
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from foremask.errors import ClipRefused, ForemaskError
from foremask.options import Limits
from foremask.service.sandbox.messages import Probe
from foremask.service.sandbox.pool import MediaPool
from foremask.settings import Sandbox
from tests.support import synth

pytestmark = pytest.mark.slow


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncGenerator[MediaPool]:
    async with MediaPool(
        tmp_path, sandbox=Sandbox.REQUIRE, memory_bytes=2 << 30, stall_s=60
    ) as opened:
        yield opened


async def probed(pool: MediaPool, data: bytes) -> str:

    async def read_at(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    try:
        await pool.run(Probe(None, Limits(), size=len(data)), read_at=read_at, wall_clock_s=60)
    except ForemaskError as error:
        return error.reason
    return "taken"


async def test_mutated_clips_are_taken_or_refused(pool: MediaPool, tmp_path: Path) -> None:
    dice = random.Random(7)  # noqa: S311
    whole = synth.write(tmp_path / "clip.mp4").read_bytes()
    reasons = {kind.reason for kind in ClipRefused.__subclasses__()} | {"taken"}
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 4, 64))):
            data[dice.randrange(len(data) - 900, len(data))] = dice.randrange(256)
        assert await probed(pool, bytes(data)) in reasons
