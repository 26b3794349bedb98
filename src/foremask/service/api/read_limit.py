"""A limit on reads, kept by each API process for itself."""

import time
from collections.abc import Callable

from foremask.errors import RateLimited

FORGET_ABOVE = 10_000


class Throttle:
    """GCRA: ``per_second`` on average, ``burst`` at once, for each key of its own."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.burst = burst
        self._step_s = 1 / per_second
        self._clock = clock
        self._due_at: dict[bytes, float] = {}

    def take(self, key: bytes) -> None:
        """Count one read. Raises RateLimited, with the wait, when there were too many."""
        now = self._clock()
        early_s = max(self._due_at.get(key, now) - now, 0.0)
        wait_s = early_s - self._step_s * (self.burst - 1)
        if wait_s > 1e-9:
            error = RateLimited(
                f"Over {1 / self._step_s:.0f} reads a second; one for each job is enough.",
                limit=self.burst,
            )
            error.retry_after_s, error.reset_s = wait_s, early_s
            raise error
        if len(self._due_at) > FORGET_ABOVE:
            self._due_at = {each: due for each, due in self._due_at.items() if due > now}
        self._due_at[key] = now + early_s + self._step_s
