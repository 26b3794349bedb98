"""What a worker works with, and how long it may take."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from foremask.errors import ServiceUnavailable
from foremask.fetch.client import Outbound
from foremask.options import Device, Limits
from foremask.service.jobs import records
from foremask.service.jobs.admission import NO_LIMIT
from foremask.service.jobs.database import Database
from foremask.service.jobs.process_totals import Fleet
from foremask.service.jobs.steps import LEASE_S, RENEW_S
from foremask.service.observability import traces
from foremask.service.sandbox.messages import Request
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import Objects

STALL_S = 360.0  # longer than the media pool waits for a frame: it also sees a stalled transfer
WALL_CLOCK_S = 4 * 3600.0  # a minute of 4K in the best quality takes two cores an hour or two


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The worker's leases, deadlines and intervals in seconds; tests use short ones."""

    lease_s: float = LEASE_S
    renew_s: float = RENEW_S
    stall_s: float = STALL_S
    wall_clock_s: float = WALL_CLOCK_S
    download_s: float = 600.0
    unavailable_retry_s: float = 5.0
    unreachable_retry_s: float = 2.0
    recover_every_s: float = 1.0
    sweep_every_s: float = 5.0


class MediaRunner(Protocol):
    """Executes requests outside of this process: a `MediaPool`, or a stand-in in tests."""

    async def run[R](
        self,
        request: Request[R],
        *,
        on_progress: OnProgress | None = None,
        wall_clock_s: float = 600.0,
        owner: str = "",
    ) -> R:
        """Execute the request and return its result; its outputs are there then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """What the steps of one worker process use.

    ``masks`` executes what needs the network, which is in the file ``model``; ``files`` executes
    the rest, so a worker that masks still ingests.
    """

    database: Database
    objects: Objects
    outbound: Outbound
    masks: MediaRunner
    files: MediaRunner
    scratch: Path
    worker: str
    result_ttl_s: float
    model: Path | None = None
    device: Device = field(default_factory=Device)
    storage_limit: int = NO_LIMIT
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    last_served: dict[str, UUID] = field(default_factory=dict)
    """For each queue the token of the newest step: a child that has served it is there."""
    fleet: Fleet = field(default_factory=Fleet)

    async def traceparent_of(self, request_id: str) -> str | None:
        """The caller's traceparent; read only while traces are on."""
        if not traces.is_on():
            return None
        try:
            return await records.traceparent_of(self.database, request_id)
        except ServiceUnavailable:
            return None  # no step fails for want of a trace
