"""Checks single promises of a mask: returns each that is kept, raises PromiseBroken otherwise."""

from dataclasses import dataclass
from typing import Final

from foremask.errors import PromiseBroken

ROUNDING_S: Final = 1e-6
"""The error of a time in seconds that was computed in floating point, or has six decimals."""
MOVED_S: Final = 0.001
"""How much later a frame may be if the source gives two frames one time: Matroska's tick."""


@dataclass(frozen=True, slots=True)
class PromiseKept:
    """A check that passed: its name, and the value that the mask has."""

    promise: str
    found: str


def check(
    promise: str,
    kept: bool,
    found: str,
    wanted: str,
    limit: float | None = None,
    actual: float | None = None,
) -> PromiseKept:
    """Raise PromiseBroken with both values, unless ``kept`` is true."""
    if not kept:
        details = f"The {promise} of the mask is {found}; that of the source is {wanted}."
        raise PromiseBroken(details, param=promise, limit=limit, actual=actual)
    return PromiseKept(promise, found)


def check_moment(
    number: int, found_s: float, wanted_s: float, tolerance_s: float, moved_s: float
) -> float:
    """Raise PromiseBroken if frame ``number`` has another time; return the difference.

    ``moved_s`` is how much later than its timestamp the source's frame was read, because its
    timestamp is not above the previous frame's.
    """
    limit_s = tolerance_s
    if 0 < moved_s <= MOVED_S:
        limit_s = max(tolerance_s, MOVED_S)
    off_s = abs(found_s - wanted_s)
    found = f"{found_s:.6f} s in frame {number}"
    wanted = f"{wanted_s:.6f} s in frame {number}"
    check("pts", off_s <= limit_s, found, wanted, limit=limit_s, actual=off_s)
    return off_s
