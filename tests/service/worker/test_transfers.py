"""Moves beside the work: a few at once, all done at the end, and one error for all."""

import asyncio

import pytest

from foremask.errors import ServiceUnavailable
from foremask.service.worker.transfers import AT_ONCE, background_transfers

pytestmark = pytest.mark.slow


async def test_no_more_than_a_few_move_at_once_and_all_arrive() -> None:
    transfers, most, arrived = 0, 0, list[int]()

    async def move(number: int) -> None:
        nonlocal transfers, most
        transfers += 1
        most = max(most, transfers)
        await asyncio.sleep(0.01)
        transfers -= 1
        arrived.append(number)

    async with background_transfers() as moves:
        for number in range(3 * AT_ONCE):
            await moves.begin(move, number)
    assert (most, sorted(arrived)) == (AT_ONCE, list(range(3 * AT_ONCE)))


@pytest.mark.parametrize("where", ["move", "block"])
async def test_the_first_error_is_the_blocks_own(where: str) -> None:
    """The others end, those too that have not begun, and nothing is left that nobody waits for."""

    async def fail() -> None:
        raise ServiceUnavailable("the store is full")

    async def move() -> None:
        await asyncio.sleep(60)

    async def block() -> None:
        async with background_transfers() as moves:
            if where == "move":
                await moves.begin(fail)
            await moves.begin(move)
            if where == "block":
                await fail()

    with pytest.raises(ServiceUnavailable, match="the store is full"):
        await block()
