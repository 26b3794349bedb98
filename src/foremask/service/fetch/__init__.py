"""HTTP to addresses that callers choose, and to public ones only; the one home of httpx2 and httpcore2."""

from foremask.service.fetch.client import Outbound
from foremask.service.fetch.range_reader import MAX_READ_BYTES, RangeUnavailable

__all__ = ["MAX_READ_BYTES", "Outbound", "RangeUnavailable"]
