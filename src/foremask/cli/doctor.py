"""``foremask doctor``: what this machine has for masking and serving, and what it lacks."""

import asyncio
import os
import platform
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from foremask.cli.exits import Exit, print_json, say
from foremask.errors import ForemaskError, SettingsInvalid
from foremask.options import Device, Runtime
from foremask.service.jobs.database import open_database
from foremask.service.run.postgres_home import left_over
from foremask.service.run.postgres_programs import bundled_binaries, server_version
from foremask.service.sandbox import confine
from foremask.service.sandbox.levels import check_level
from foremask.service.settings import Sandbox, Settings, read_settings
from foremask.weights import catalogue

CPU_FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LEAST_FREE_BYTES = 5 << 30  # a few clips of the largest size that is taken, and their masks
NEWEST_MINOR = {15: 20, 16: 15, 17: 12, 18: 6}
"""The newest minor version of each supported PostgreSQL, as of November 2026."""
LEAST_MEMORY_BYTES = 4 << 30
LEAST_OPEN_FILES = 1024  # of the service itself, and what waits to be accepted

GOOD, REMARK, BAD = "ok", "note", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``verdict`` is ``ok``, ``note`` or ``bad``."""

    name: str
    verdict: str
    found: str


def doctor(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> Exit:
    """Say what is here: processor, model, database, disk, sandbox; exit with 1 if something is bad.

    Args:
        as_json: Answer with JSON.
    """
    settings = read_settings(os.environ)
    findings = [finding for check in CHECKS for finding in check(settings)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            say(f"{finding.verdict:<5} {finding.name:<10} {finding.found}")
    return Exit.INTERNAL if any(each.verdict == BAD for each in findings) else Exit.OK


def _versions(_: Settings) -> Iterator[Finding]:
    ours = ", ".join(f"{name} {version(name)}" for name in ("foremask", "openvino", "av"))
    yield Finding("versions", GOOD, f"{ours}, Python {platform.python_version()}")


def _machine(_: Settings) -> Iterator[Finding]:
    facts = _cpu_facts()
    has = [feature for feature in CPU_FEATURES if feature in facts.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0))
    name = facts.get("model name", platform.machine())
    yield Finding("cpu", GOOD, f"{cores} cores of {name}; {', '.join(has) or 'no wide vectors'}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    verdict = GOOD if memory >= LEAST_MEMORY_BYTES else REMARK
    yield Finding("memory", verdict, f"{memory / 2**30:.1f} GiB")


def _cpu_facts() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }


def _model(settings: Settings) -> Iterator[Finding]:
    try:
        path = catalogue.model_path(settings.model_dir, settings.model_file)
        spec = catalogue.spec_of(path)
    except ForemaskError as error:
        yield Finding("model", BAD, error.details)
        return
    if settings.model_file is not None:
        yield Finding("model", GOOD, f"your own, {path}, {spec.size_px} px")
    elif catalogue.sha256_of(path) == catalogue.ISNET.sha256:
        yield Finding("model", GOOD, f"{catalogue.ISNET.name}, checksum right, {path}")
    else:
        yield Finding("model", BAD, f"{path} is damaged: remove it, then `foremask models pull`")


def _runtime(settings: Settings) -> Iterator[Finding]:
    from foremask.vision.network.devices import devices  # OpenVINO takes a second to load
    from foremask.vision.network.session import best_precision

    found = devices()
    precision = best_precision(is_isnet=settings.model_file is None)
    auto = "onnxruntime cuda f16, else " if Device(Runtime.CUDA) in found else ""
    yield Finding("runtime", GOOD, f"{auto}openvino CPU {precision}")
    yield Finding("devices", GOOD, ", ".join(map(str, found)))


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
    """Whether a server has the fixes that were out when this foremask was."""
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
    """The number that the server gives itself, 180006 for 18.6; None where it does not answer."""
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


def _disk(settings: Settings) -> Iterator[Finding]:
    for name, folder in (("data", settings.data_dir), ("models", settings.model_dir)):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield Finding(name, BAD, f"{folder} cannot be written to")
        else:
            verdict = GOOD if free >= LEAST_FREE_BYTES else REMARK
            yield Finding(name, verdict, f"{free / 1e9:.1f} GB free at {folder}")


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


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _versions,
    _machine,
    _model,
    _runtime,
    _database,
    _address,
    _files,
    _disk,
    _sandbox,
)
