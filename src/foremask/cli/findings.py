"""Findings of ``foremask doctor``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from foremask.settings import Settings

GOOD, REMARK, BAD = "ok", "note", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked; ``verdict`` is ``ok``, ``note`` or ``bad``."""

    name: str
    verdict: str
    found: str


type Check = Callable[[Settings], Iterator[Finding]]
