"""What ``foremask doctor`` checks of the service: database, address, open files, sandbox."""

import asyncio
import resource
from typing import Final

from foremask.cli.findings import BAD, GOOD, REMARK, Checks, Found
from foremask.errors import ForemaskError, SettingsInvalid
from foremask.machine.nvidia import nvidia_cards
from foremask.options import Runtime
from foremask.service.jobs.database import Database
from foremask.service.run.bundled_postgres import bundled_binaries, server_version
from foremask.service.sandbox import confine
from foremask.service.sandbox.confine import check_device, check_level
from foremask.settings import Sandbox, Settings

NEWEST_MINOR = {15: 20, 16: 15, 17: 12, 18: 6}
"""The newest minor version of each supported PostgreSQL, as of November 2026."""
LEAST_OPEN_FILES = 1024  # the service's own files, and connections that wait to be accepted


def _database(settings: Settings) -> Found:
    if settings.database_url is not None:
        number = asyncio.run(_version_of(settings.database_url))
        if number is None:
            missing = "does not answer within 5 s: check FOREMASK_DATABASE_URL"
            yield BAD, f"your own PostgreSQL {missing}"
        else:
            found = divmod(number, 10_000)
            yield _of_version(f"your own PostgreSQL {found[0]}.{found[1]} answers", found)
        return
    made = (settings.data_dir / "postgres" / "data" / "PG_VERSION").exists()
    state = "in use" if made else "made by the first `foremask serve`"
    try:
        binaries = settings.postgres_bin or bundled_binaries()
        found = server_version(binaries)
    except ForemaskError as error:
        yield BAD, error.details
    else:
        whose = f"of {binaries}" if settings.postgres_bin else "bundled"
        yield _of_version(f"PostgreSQL {found[0]}.{found[1]} ({whose}), {state}", found)


def _of_version(server_text: str, found: tuple[int, int]) -> tuple[str, str]:
    """Whether the server has the fixes released before this foremask."""
    major, minor = found
    newest = NEWEST_MINOR.get(major)
    if major < min(NEWEST_MINOR):
        return BAD, f"{server_text}; foremask needs {min(NEWEST_MINOR)} or newer"
    if newest is None or minor >= newest:
        return GOOD, server_text
    return (
        REMARK,
        f"{server_text}; it lacks the fixes of {major}.{newest}, security holes "
        "among them, and of what is newer. Let FOREMASK_POSTGRES_BIN name a newer one's programs, "
        "or set FOREMASK_DATABASE_URL (docs/operations.md)",
    )


async def _version_of(url: str) -> int | None:
    """The server's version number, 180006 for 18.6; None where it does not answer."""
    async with Database(url, connections=1, patience_s=0.0) as database:
        if not await database.answers(5.0):
            return None
        row = await database.one("select current_setting('server_version_num')::int as number")
        return int(row["number"]) if row else None


def _address(settings: Settings) -> Found:
    everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
    links = f"links begin with {settings.base_url}"
    if everywhere and settings.public_url is None:
        yield REMARK, f"{links}: set FOREMASK_PUBLIC_URL to what callers reach it by"
    else:
        yield GOOD, links


def _files(settings: Settings) -> Found:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{hard} may be open at once"
    found += f", raised from {soft} by the service" if soft < hard else ""
    if hard >= LEAST_OPEN_FILES + settings.connections:
        yield GOOD, found
    else:
        few = f"too few for {settings.connections} connections"
        yield REMARK, f"{found}: {few}; raise `ulimit -Hn` or LimitNOFILE"


def _sandbox(settings: Settings) -> Found:
    level = confine.available()
    if settings.sandbox is Sandbox.OFF:
        yield REMARK, f"off, though this machine has {level}"
        return
    try:
        check_level(settings.sandbox, level)
    except SettingsInvalid as error:
        yield BAD, error.details
        return
    if level.full:
        yield GOOD, str(level)
    else:
        yield REMARK, f"{level} only: docs/security.md has what that leaves open"


def _device(settings: Settings) -> Found:
    try:
        check_device(settings.device, settings.sandbox)
    except SettingsInvalid as error:
        yield BAD, error.details
        return
    takes_card = settings.device.runtime is Runtime.AUTO and nvidia_cards()
    if takes_card and settings.sandbox is not Sandbox.OFF:
        hidden = "confined workers use the processor, since the sandbox hides the card"
        yield REMARK, f"{hidden}: docs/deployment.md has how a worker gets one"


SERVICE_CHECKS: Final[Checks] = {
    "database": _database,
    "address": _address,
    "files": _files,
    "sandbox": _sandbox,
    "device": _device,
}
