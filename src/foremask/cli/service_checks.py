"""What ``foremask doctor`` checks of the service: database, address, open files, sandbox."""

import asyncio
import resource
from collections.abc import Iterator
from typing import Final

from foremask.cli.findings import BAD, GOOD, REMARK, Check, Finding
from foremask.errors import ForemaskError, SettingsInvalid
from foremask.machine.nvidia import nvidia_cards
from foremask.options import Runtime
from foremask.service.jobs.database import open_database
from foremask.service.run.postgres_home import left_over
from foremask.service.run.postgres_programs import bundled_binaries, server_version
from foremask.service.sandbox import confine
from foremask.service.sandbox.levels import check_device, check_level
from foremask.settings import Sandbox, Settings

NEWEST_MINOR = {15: 20, 16: 15, 17: 12, 18: 6}
"""The newest minor version of each supported PostgreSQL, as of November 2026."""
LEAST_OPEN_FILES = 1024  # of the service itself, and what waits to be accepted


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database_url is None:
        made = (settings.data_dir / "postgres" / "data" / "PG_VERSION").exists()
        state = "in use" if made else "made by the first `foremask serve`"
        try:
            binaries = settings.postgres_bin or bundled_binaries()
            found = server_version(binaries)
        except ForemaskError as error:
            yield Finding("database", BAD, error.details)
        else:
            whose = f"of {binaries}" if settings.postgres_bin else "bundled"
            yield _of_version(f"PostgreSQL {found[0]}.{found[1]} ({whose}), {state}", found)
        for place in left_over():
            yield Finding(
                "database",
                REMARK,
                f"{place} belongs to no data directory that is here: "
                f"if you miss none, `rm -r {place}`",
            )
        return
    number = asyncio.run(_version_of(settings.database_url))
    if number is None:
        found_not = "does not answer within 5 s: check FOREMASK_DATABASE_URL"
        yield Finding("database", BAD, f"your own PostgreSQL {found_not}")
    else:
        found = divmod(number, 10_000)
        yield _of_version(f"your own PostgreSQL {found[0]}.{found[1]} answers", found)


def _of_version(server_text: str, found: tuple[int, int]) -> Finding:
    """Whether the server has the fixes released before this foremask."""
    major, minor = found
    newest = NEWEST_MINOR.get(major)
    if major < min(NEWEST_MINOR):
        return Finding(
            "database", BAD, f"{server_text}; foremask needs {min(NEWEST_MINOR)} or newer"
        )
    if newest is None or minor >= newest:
        return Finding("database", GOOD, server_text)
    return Finding(
        "database",
        REMARK,
        f"{server_text}; it lacks the fixes of {major}.{newest}, security holes "
        "among them, and of what is newer. Let FOREMASK_POSTGRES_BIN name a newer one's programs, "
        "or set FOREMASK_DATABASE_URL (docs/operations.md)",
    )


async def _version_of(url: str) -> int | None:
    """The server's version number, 180006 for 18.6; None where it does not answer."""
    async with open_database(url, connections=1, patience_s=0.0) as database:
        if not await database.answers(5.0):
            return None
        row = await database.one("select current_setting('server_version_num')::int as number")
        return int(row["number"]) if row else None


def _address(settings: Settings) -> Iterator[Finding]:
    everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104  # it is compared
    links = f"links begin with {settings.base_url}"
    if everywhere and settings.public_url is None:
        yield Finding(
            "address", REMARK, f"{links}: set FOREMASK_PUBLIC_URL to what callers reach it by"
        )
    else:
        yield Finding("address", GOOD, links)


def _files(settings: Settings) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard >= LEAST_OPEN_FILES + settings.connections
    found = f"{hard} may be open at once" + (
        f", raised from {soft} by the service" if soft < hard else ""
    )
    if not enough:
        found += (
            f": too few for {settings.connections} connections; raise `ulimit -Hn` or LimitNOFILE"
        )
    yield Finding("files", GOOD if enough else REMARK, found)


def _sandbox(settings: Settings) -> Iterator[Finding]:
    level = confine.available()
    if settings.sandbox is Sandbox.OFF:
        yield Finding("sandbox", REMARK, f"off, though this machine has {level}")
        return
    try:
        check_level(settings.sandbox, level)
    except SettingsInvalid as error:
        yield Finding("sandbox", BAD, error.details)
        return
    if level.full:
        yield Finding("sandbox", GOOD, str(level))
    else:
        yield Finding(
            "sandbox", REMARK, f"{level} only: docs/security.md has what that leaves open"
        )


def _device(settings: Settings) -> Iterator[Finding]:
    try:
        check_device(settings.device, settings.sandbox)
    except SettingsInvalid as error:
        yield Finding("device", BAD, error.details)
        return
    takes_card = settings.device.runtime is Runtime.AUTO and nvidia_cards()
    if takes_card and settings.sandbox is not Sandbox.OFF:
        yield Finding(
            "device",
            REMARK,
            "confined workers use the processor, since the sandbox hides the card: "
            "docs/deployment.md has how a worker gets one",
        )


CHECKS: Final[tuple[Check, ...]] = (_database, _address, _files, _sandbox, _device)
