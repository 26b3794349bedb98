"""Moves beside the work: a few at once, all done at the end, and one error for all."""

import asyncio
from pathlib import Path

import pytest

from foremask.errors import ServiceUnavailable
from foremask.service.worker.job_stages import TRANSFERS_AT_ONCE, transfers

pytestmark = pytest.mark.slow


async def test_no_more_than_a_few_move_at_once_and_all_arrive() -> None:
    under_way, most, arrived = 0, 0, list[str]()

    async def move(key: str, _: Path) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        arrived.append(key)

    keys = [str(number) for number in range(3 * TRANSFERS_AT_ONCE)]
    async with transfers() as begin:
        for key in keys:
            await begin(move, key, Path())
    assert (most, sorted(arrived)) == (TRANSFERS_AT_ONCE, keys)


@pytest.mark.parametrize("where", ["move", "block"])
async def test_the_first_error_is_the_blocks_own(where: str) -> None:
    """The others end, also those that have not begun, and no task is left behind."""

    async def fail(*_: object) -> None:
        raise ServiceUnavailable("the store is full")

    async def move(*_: object) -> None:
        await asyncio.sleep(60)

    async def block() -> None:
        async with transfers() as begin:
            if where == "move":
                await begin(fail, "", Path())
            await begin(move, "", Path())
            if where == "block":
                await fail()

    with pytest.raises(ServiceUnavailable, match="the store is full"):
        await block()
