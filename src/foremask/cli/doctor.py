"""``foremask doctor``: what this machine has for masking and serving, and what it lacks."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from foremask.cli.exits import Exit, print_json, say
from foremask.cli.findings import BAD, GOOD, REMARK, Check, Finding
from foremask.cli.model_commands import compiled_networks
from foremask.cli.server_extra import missing_package
from foremask.errors import ForemaskError
from foremask.machine.nvidia import nvidia_cards
from foremask.options import Runtime
from foremask.settings import Settings, read_settings
from foremask.weights import catalogue

CPU_FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LEAST_FREE_BYTES = 5 << 30  # a few clips of the largest size that is taken, and their masks
LEAST_MEMORY_BYTES = 4 << 30


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


def _compiled(settings: Settings) -> Iterator[Finding]:
    """Whether a process imports the network, or compiles it in several seconds."""
    networks = compiled_networks(settings.model_dir / catalogue.ISNET.file_name)
    on_processor = settings.device.runtime in (Runtime.AUTO, Runtime.CPU)
    if settings.model_file is not None or networks is None or not on_processor:
        return
    kept = f"{networks.kept_bytes() / 1e6:.0f} MB in {networks.directory}"
    missing = " and ".join(f"{size} px" for size in networks.missing())
    if not missing:
        yield Finding("compiled", GOOD, f"the network is kept compiled, {kept}")
    else:
        yield Finding(
            "compiled",
            REMARK,
            f"not kept for this processor: {missing}, so each process compiles it; "
            f"`foremask models pull` keeps it ({kept})",
        )


def _runtime(settings: Settings) -> Iterator[Finding]:
    """What runs: a card is tried, since only that tells whether its driver fits."""
    from foremask.vision.network.devices import devices, network_at  # OpenVINO takes a second
    from foremask.vision.network.session import best_precision

    yield Finding("devices", GOOD, ", ".join(map(str, devices())))
    runtime = settings.device.runtime
    if runtime is Runtime.CPU or (runtime is Runtime.AUTO and not nvidia_cards()):
        precision = best_precision(is_isnet=settings.model_file is None)
        yield Finding("runtime", GOOD, f"openvino CPU {precision}")
        return
    try:
        model = catalogue.model_path(settings.model_dir, settings.model_file)
        yield Finding("runtime", GOOD, network_at(model, settings.device).runtime)
    except ForemaskError as error:
        yield Finding("runtime", BAD, error.details)


def _disk(settings: Settings) -> Iterator[Finding]:
    for name, folder in (("data", settings.data_dir), ("models", settings.model_dir)):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield Finding(name, BAD, f"{folder} cannot be written to")
        else:
            verdict = GOOD if free >= LEAST_FREE_BYTES else REMARK
            yield Finding(name, verdict, f"{free / 1e9:.1f} GB free at {folder}")


def _service(settings: Settings) -> Iterator[Finding]:
    package = missing_package()
    if package is not None:
        yield Finding(
            "service",
            REMARK,
            f"not installed, for {package} is not here: pip install 'foremask[server]' adds it",
        )
        return
    from foremask.cli import service_checks  # loads the packages of the extra

    for check in service_checks.CHECKS:
        yield from check(settings)


CHECKS: Final[tuple[Check, ...]] = (
    _versions,
    _machine,
    _model,
    _compiled,
    _runtime,
    _disk,
    _service,
)
