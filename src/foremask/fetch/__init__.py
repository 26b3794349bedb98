"""HTTP to public addresses that callers choose; the one home of httpcore2."""

from foremask.fetch.client import Outbound
from foremask.fetch.range_reader import MAX_READ_BYTES, RangeUnavailable

__all__ = ["MAX_READ_BYTES", "Outbound", "RangeUnavailable"]
