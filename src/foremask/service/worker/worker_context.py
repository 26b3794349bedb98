"""What a worker works with, and how long it may take."""

from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from foremask.options import Limits
from foremask.service.fetch import Outbound
from foremask.service.jobs.database import Database
from foremask.service.jobs.deliveries import PER_TOKEN
from foremask.service.jobs.steps import FILES_PER_TOKEN, LEASE_S, RENEW_S
from foremask.service.storage.objects import Objects
from foremask.service.worker.media_client import Media


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Times in seconds; tests are in a hurry."""

    lease_s: float = LEASE_S
    renew_s: float = RENEW_S
    stall_s: float = (
        360.0  # longer than the media pool waits for a frame: this one sees what it does not
    )
    wall_clock_s: float = (
        4 * 3600.0
    )  # a minute of 4K in the best quality on two cores takes one or two
    download_s: float = 600.0
    unavailable_retry_s: float = 5.0
    unreachable_retry_s: float = 2.0
    recover_every_s: float = 2.0
    sweep_every_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """One worker process's means."""

    database: Database
    objects: Objects
    outbound: Outbound
    media: Media
    scratch: Path
    worker: str
    result_ttl_s: float
    free_reserve: int | None = None
    files_per_token: int = FILES_PER_TOKEN
    webhooks_per_token: int = PER_TOKEN
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    last_served: dict[str, UUID] = field(default_factory=dict)
    """For each queue the token of the newest step: a child that has served it is there."""
