"""Checks of the service: database, address, open files, sandbox, device, data directory."""

import asyncio
import tempfile
from typing import Final

from foremask.cli.checks import Check, CheckResult
from foremask.errors import SettingsInvalid
from foremask.machine.hardware import nvidia_cards
from foremask.options import Runtime
from foremask.service.jobs.database import Database
from foremask.service.run.bundled_postgres import bundled_binaries, server_version
from foremask.service.sandbox import confine
from foremask.service.sandbox.confine import check_device, check_level
from foremask.settings import Sandbox, Settings

NEWEST_MINOR = {15: 20, 16: 15, 17: 12, 18: 6}  # PostgreSQL versions of November 2026
LEAST_OPEN_FILES = 1024  # file descriptors besides one for each connection


def _database(settings: Settings) -> CheckResult:
    if settings.database_url is not None:
        number = asyncio.run(version_of(settings.database_url))
        if number is None:
            return "bad", "your own PostgreSQL does not answer: check FOREMASK_DATABASE_URL"
        major, minor = divmod(number, 10_000)
        server = f"your own PostgreSQL {major}.{minor} answers"
    else:
        binaries = settings.postgres_bin or bundled_binaries()
        major, minor = server_version(binaries)
        whose = f"of {binaries}" if settings.postgres_bin else "bundled"
        is_made = (settings.data_dir / "postgres" / "data" / "PG_VERSION").exists()
        state = "in use" if is_made else "made by the first `foremask serve`"
        server = f"PostgreSQL {major}.{minor} ({whose}), {state}"
    newest = NEWEST_MINOR.get(major, 0)
    if major < min(NEWEST_MINOR):
        return "bad", f"{server}; foremask needs {min(NEWEST_MINOR)} or newer"
    if minor >= newest:
        return "ok", server
    lacks = f"it lacks the fixes of {major}.{newest}, security fixes among them"
    newer = "FOREMASK_POSTGRES_BIN or FOREMASK_DATABASE_URL may name a newer one"
    return "note", f"{server}; {lacks}. {newer} (docs/operations.md)"


async def version_of(url: str) -> int | None:
    """Return the server's version, such as 180006 for 18.6, or None if it does not answer."""
    async with Database(url, connections=1, patience_s=0.0) as database:
        if not await database.answers(5.0):
            return None
        row = await database.one("select current_setting('server_version_num')::int as number")
        return int(row["number"]) if row else None


def _address(settings: Settings) -> CheckResult:
    everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
    links = f"links begin with {settings.base_url}"
    if everywhere and settings.public_url is None:
        return "note", f"{links}: set FOREMASK_PUBLIC_URL to the address that callers use"
    return "ok", links


def _files(settings: Settings) -> CheckResult:
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{hard} may be open at once"
    found += f", raised from {soft} by the service" if soft < hard else ""
    if hard >= LEAST_OPEN_FILES + settings.connections:
        return "ok", found
    few = f"too few for {settings.connections} connections"
    return "note", f"{found}: {few}; raise `ulimit -Hn` or LimitNOFILE"


def _sandbox(settings: Settings) -> CheckResult:
    level = confine.available()
    if settings.sandbox is Sandbox.OFF:
        return "note", f"off, though this machine has {level}"
    check_level(settings.sandbox, level)
    if level.full:
        return "ok", str(level)
    return "note", f"{level} only: docs/security.md has what that leaves open"


def _device(settings: Settings) -> CheckResult:
    check_device(settings.device, settings.sandbox)
    takes_card = settings.device.runtime is Runtime.AUTO and nvidia_cards()
    if not takes_card or settings.sandbox is Sandbox.OFF:
        return None
    hidden = "confined workers use the processor, since the sandbox hides the card"
    return "note", f"{hidden}: docs/deployment.md has how a worker gets one"


def check_data_dir(settings: Settings) -> None:
    """Raise SettingsInvalid unless files can be made in the data directory, which is made."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        raise SettingsInvalid(
            f"{settings.data_dir} cannot be written to ({error.strerror}): set FOREMASK_DATA_DIR"
            " to a directory that can be",
            param="FOREMASK_DATA_DIR",
        ) from error


SERVICE_CHECKS: Final[list[Check]] = [_database, _address, _files, _sandbox, _device]
