"""Deletes uploads whose request ended while the database did not respond."""

import asyncio

import structlog

from foremask.errors import ServiceUnavailable
from foremask.service.api.context import Service
from foremask.service.jobs import admission

SETTLE_EVERY_S = 5.0

log = structlog.get_logger(__name__)


async def keep_settling(service: Service) -> None:
    """Run until cancelled. A worker deletes what a killed process leaves (maintenance.py)."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SETTLE_EVERY_S)
        due = [key for key, due_s in service.unsettled.items() if due_s <= loop.time()]
        for key in due:
            try:
                await settle(service, key)
            except ServiceUnavailable:
                continue  # the next round asks again
            service.unsettled.pop(key, None)


async def settle(service: Service, key: str) -> None:
    """Keep the upload if its request has made a job. Otherwise, delete it."""
    if not await admission.keep_if_needed(service.database, key):
        await service.objects.delete_under(key.rpartition("/")[0])
        await admission.give_back(service.database, key)
        log.info("upload.given_back", key=key)
