"""HTTP to addresses that callers choose, and to public ones only; the one home of httpx2 and httpcore2."""

from foremask.outbound.client import Outbound
from foremask.outbound.ranges import MAX_READ_BYTES, OutOfReach

__all__ = ["MAX_READ_BYTES", "OutOfReach", "Outbound"]
