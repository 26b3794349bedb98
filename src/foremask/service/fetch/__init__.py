"""HTTP to public addresses that callers choose; the one home of httpx2 and httpcore2."""

from foremask.service.fetch.client import Outbound
from foremask.service.fetch.range_reader import MAX_READ_BYTES, RangeUnavailable

__all__ = ["MAX_READ_BYTES", "Outbound", "RangeUnavailable"]
