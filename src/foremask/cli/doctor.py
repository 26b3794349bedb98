"""``foremask doctor``: what this machine has for masking and serving, and what it lacks."""

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Final

from foremask.cli.exits import Exit, answer, missing_package
from foremask.cli.findings import BAD, GOOD, REMARK, Checks, Found
from foremask.cli.flags import AsJson
from foremask.cli.model_commands import compiled_networks
from foremask.errors import ForemaskError
from foremask.machine.nvidia import nvidia_cards
from foremask.options import Runtime
from foremask.settings import Settings, read_settings
from foremask.weights import catalogue

CPU_FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LEAST_FREE_BYTES = 5 << 30  # a few clips of the largest size that is accepted, and their masks
LEAST_MEMORY_BYTES = 4 << 30


def doctor(*, as_json: AsJson = False) -> Exit:
    """Check processor, model, database, disk and sandbox; exit with 1 if any is bad."""
    settings = read_settings(os.environ)
    checked = [(name, *each) for name, check in _checks().items() for each in check(settings)]
    facts = [dict(zip(("name", "verdict", "found"), row, strict=True)) for row in checked]
    answer(facts, map("{verdict:<5} {name:<10} {found}".format_map, facts), as_json=as_json)
    return Exit.INTERNAL if any(verdict == BAD for _, verdict, _ in checked) else Exit.OK


def _versions(_: Settings) -> Found:
    ours = ", ".join(f"{name} {version(name)}" for name in ("foremask", "openvino", "av"))
    yield GOOD, f"{ours}, Python {platform.python_version()}"


def _cpu(_: Settings) -> Found:
    facts = _cpu_facts()
    has = [feature for feature in CPU_FEATURES if feature in facts.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0))
    name = facts.get("model name", platform.machine())
    yield GOOD, f"{cores} cores of {name}; {', '.join(has) or 'no wide vectors'}"


def _memory(_: Settings) -> Found:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield GOOD if memory >= LEAST_MEMORY_BYTES else REMARK, f"{memory / 2**30:.1f} GiB"


def _cpu_facts() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }


def _model(settings: Settings) -> Found:
    try:
        path = catalogue.model_path(settings.model_dir, settings.model_file)
        spec = catalogue.spec_of(path)
    except ForemaskError as error:
        yield BAD, error.details
        return
    if settings.model_file is not None:
        yield GOOD, f"your own, {path}, {spec.size_px} px"
    elif catalogue.sha256_of(path) == catalogue.ISNET.sha256:
        yield GOOD, f"{catalogue.ISNET.name}, checksum right, {path}"
    else:
        yield BAD, f"{path} is damaged: remove it, then `foremask models pull`"


def _compiled(settings: Settings) -> Found:
    """Whether the compiled network is on disk; else each process takes seconds to compile it."""
    networks = compiled_networks(settings.model_dir / catalogue.ISNET.file_name)
    on_processor = settings.device.runtime in (Runtime.AUTO, Runtime.CPU)
    if settings.model_file is not None or networks is None or not on_processor:
        return
    kept = f"{networks.kept_bytes() / 1e6:.0f} MB in {networks.directory}"
    missing = " and ".join(f"{size} px" for size in networks.missing())
    if not missing:
        yield GOOD, f"the network is kept compiled, {kept}"
    else:
        yield (
            REMARK,
            f"not kept for this processor: {missing}, so each process compiles it; "
            f"`foremask models pull` keeps it ({kept})",
        )


def _devices(_: Settings) -> Found:
    from foremask.vision.network.devices import devices  # importing OpenVINO takes a second

    yield GOOD, ", ".join(map(str, devices()))


def _runtime(settings: Settings) -> Found:
    """The network's device: a GPU is tried, since only that shows whether its driver fits."""
    from foremask.vision.network.devices import network_at
    from foremask.vision.network.session import best_precision

    runtime = settings.device.runtime
    if runtime is Runtime.CPU or (runtime is Runtime.AUTO and not nvidia_cards()):
        yield GOOD, f"openvino CPU {best_precision(is_isnet=settings.model_file is None)}"
        return
    try:
        model = catalogue.model_path(settings.model_dir, settings.model_file)
        yield GOOD, network_at(model, settings.device).runtime
    except ForemaskError as error:
        yield BAD, error.details


def _disk(folder: Path) -> Found:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        yield BAD, f"{folder} cannot be written to"
    else:
        verdict = GOOD if free >= LEAST_FREE_BYTES else REMARK
        yield verdict, f"{free / 1e9:.1f} GB free at {folder}"


def _service_is_missing(_: Settings) -> Found:
    missing = f"not installed, for {missing_package()} is not here"
    yield REMARK, f"{missing}: pip install 'foremask[server]' adds it"


CHECKS: Final[Checks] = {
    "versions": _versions,
    "cpu": _cpu,
    "memory": _memory,
    "model": _model,
    "compiled": _compiled,
    "devices": _devices,
    "runtime": _runtime,
    "data": lambda settings: _disk(settings.data_dir),
    "models": lambda settings: _disk(settings.model_dir),
}


def _checks() -> Checks:
    if missing_package() is not None:
        return CHECKS | {"service": _service_is_missing}
    from foremask.cli.service_checks import SERVICE_CHECKS  # imports foremask[server]'s packages

    return CHECKS | SERVICE_CHECKS
