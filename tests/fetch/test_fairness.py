"""A semaphore of which nobody can hold all, and whose places are given in turns."""

import asyncio

from foremask.fetch.fairness import FairSemaphore
from tests.support.patience import PATIENCE_S


async def _holding(fair: FairSemaphore, owner: str, order: list[str], hold_s: float = 0.0) -> None:
    await fair.acquire(owner)
    try:
        order.append(owner)
        await asyncio.sleep(hold_s)
    finally:
        fair.release(owner)


async def test_one_owner_leaves_places_for_others() -> None:
    fair, order = FairSemaphore(4, 2), list[str]()
    stuck = [asyncio.create_task(_holding(fair, "a", order, 2 * PATIENCE_S)) for _ in range(10)]
    await asyncio.sleep(0.01)
    assert order == ["a", "a"]
    await asyncio.wait_for(_holding(fair, "b", order), PATIENCE_S)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_S):  # every place is free again
        for owner in "abcd":
            await fair.acquire(owner)


async def test_owners_take_turns() -> None:
    fair, order = FairSemaphore(1, 1), list[str]()
    await fair.acquire("x")
    waiting = [asyncio.create_task(_holding(fair, "a", order)) for _ in range(100)]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(_holding(fair, "b", order)) for _ in range(2)]
    await asyncio.sleep(0.01)
    fair.release("x")
    await asyncio.gather(*waiting)
    assert order[:4] == ["a", "b", "a", "b"]
    assert len(order) == 102


async def test_who_gives_up_waiting_takes_no_place_along() -> None:
    fair, waits = FairSemaphore(1, 1), list[str]()
    fair = FairSemaphore(1, 1, lambda: waits.append("waited"))
    for give_first in (False, True):
        await fair.acquire("x")
        gone = asyncio.create_task(fair.acquire("a"))
        await asyncio.sleep(0)
        if give_first:
            fair.release("x")
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        if not give_first:
            fair.release("x")
        await asyncio.wait_for(fair.acquire("b"), PATIENCE_S)
        fair.release("b")
    assert waits == ["waited", "waited"]
