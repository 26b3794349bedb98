"""Starts, restarts and stops the database, API and workers of a service on one machine."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from foremask.errors import ServiceUnavailable
from foremask.machine.hardware import share_of_memory
from foremask.service.jobs import process_totals
from foremask.service.jobs.database import Database
from foremask.service.jobs.schema import migrate
from foremask.service.jobs.tokens import any_token, create_token
from foremask.service.run.bundled_postgres import EmbeddedPostgres, end_with_us
from foremask.service.sandbox.confine import check_device, level_of
from foremask.settings import Settings, variable

WORKERS_S = 40.0  # for their start; the service is greeted without them after it
STOP_S = 20.0  # the API and the workers stop within 10 s
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
LIVED_S = 30.0  # a run of this length resets the pause before a restart

type Say = Callable[[str], None]

log = structlog.get_logger(__name__)


def serve(settings: Settings, say: Say) -> None:
    """Run the database, API and workers until SIGTERM or SIGINT, in the main thread.

    If this process is killed, its child processes end, too.
    """
    level_of(settings.sandbox)  # an error here is raised once, not by each child
    check_device(settings.device, settings.sandbox)
    if settings.database_url is not None:
        asyncio.run(_serve(settings, None, say))
        return
    postgres = EmbeddedPostgres(settings.data_dir, settings.postgres_bin)
    postgres.start()
    try:
        settings = msgspec.structs.replace(settings, database_url=postgres.url)
        asyncio.run(_serve(settings, postgres, say))
    finally:
        postgres.stop()


async def prepare(settings: Settings, say: Say) -> str:
    """Migrate the database and ensure that a token exists. Returns the playground's address."""
    if settings.database_url is None:
        raise ServiceUnavailable("there is no database to prepare")
    await migrate(settings.database_url)
    async with Database(settings.database_url, connections=1) as database:
        if settings.bootstrap_token is not None:
            await create_token(database, "bootstrap", secret=settings.bootstrap_token)
        elif not await any_token(database):
            secret, _ = await create_token(database, "bootstrap")
            say(f"Your API token, shown this once: {secret}")
            # Browsers do not send the fragment, so the token gets into no log.
            return f"{settings.base_url}/#token={secret}"
    return f"{settings.base_url} (your token, or another by `foremask token create`)"


async def _serve(settings: Settings, postgres: EmbeddedPostgres | None, say: Say) -> None:
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_requested.set)
    page = await prepare(settings, say)
    environ = environment(settings, os.environ)
    command = (sys.executable, "-m", "foremask")
    work = [Member("api", (*command, "api"), environ).run(), _greet(settings, page, say)]
    for index in range(1, settings.workers + 1):
        own = environ | share_of_one(settings)
        work.append(Member(f"worker-{index}", (*command, "worker"), own).run())
    if postgres is not None:
        work.append(postgres.watch())
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each) for each in work]
        await stop_requested.wait()
        say("Stopping; jobs that are not done go on at the next start")
        for task in running:
            task.cancel()


async def _greet(settings: Settings, page: str, say: Say) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    writer = None
    while writer is None:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, settings.port)
        await asyncio.sleep(0.05)
    writer.close()
    # Workers print lines when they start. The link comes after these, as the last line.
    await _wait_for_workers(settings)
    say(f"Clips are decoded in a sandbox: {level_of(settings.sandbox)}")
    say(f"foremask listens on {settings.base_url}; stop it with Ctrl-C")
    say(f"Try it in a browser: {page}")


async def _wait_for_workers(settings: Settings) -> None:
    with suppress(TimeoutError, ServiceUnavailable):
        async with (
            asyncio.timeout(WORKERS_S),
            Database(settings.database_url or "", connections=1) as database,
        ):
            slots = 0.0
            while slots < settings.workers:
                found = await process_totals.now(database)
                slots = found["foremask_mask_slots", ()]
                await asyncio.sleep(0.2)


def environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    variables = dict(environ)
    for each in msgspec.structs.fields(settings):
        value = getattr(settings, each.name)
        if isinstance(value, tuple):
            value = ",".join(str(part) for part in value) or None
        if value is not None:
            variables[variable(each.name)] = str(value)
    variables.pop(variable("bootstrap_token"), None)  # other processes can read the environment
    return variables


def share_of_one(settings: Settings) -> dict[str, str]:
    """Return variables for a worker that masks one clip at a time in its share of the memory."""
    job_memory = settings.job_memory or share_of_memory(settings.workers)
    return {variable("workers"): "1", variable("job_memory"): str(job_memory)}


@dataclass(slots=True)
class Member:
    name: str
    command: tuple[str, ...]
    environ: dict[str, str]
    process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                began = time.monotonic()
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=self.environ,
                    stdin=asyncio.subprocess.DEVNULL,
                    process_group=0,  # keeps Ctrl-C from the child, which `_stop` ends
                    preexec_fn=end_with_us(signal.SIGKILL),
                )
                status = await self.process.wait()
                if time.monotonic() - began > LIVED_S:
                    pause_s = FIRST_PAUSE_S
                log.warning("member.ended", name=self.name, status=status, pause_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_S)
        except TimeoutError:
            log.warning("member.killed", name=self.name)
            self.process.kill()
            await self.process.wait()
