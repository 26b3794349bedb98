import asyncio

from foremask.fetch.fairness import FairSemaphore
from tests.support.patience import PATIENCE_S


async def test_who_gives_up_waiting_takes_no_place_along() -> None:
    waits = list[str]()
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
