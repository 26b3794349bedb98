"""``foremask doctor``: checks what this machine has and lacks for masking and serving."""

import os
import platform
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from foremask.cli.batch_options import AsJson
from foremask.cli.checks import Check, CheckResult
from foremask.cli.exits import Exit, answer, has_server_extra
from foremask.errors import ForemaskError
from foremask.machine import hardware
from foremask.machine.hardware import nvidia_cards
from foremask.options import Runtime
from foremask.settings import Settings, read_settings
from foremask.vision.network.compiled_networks import CompiledNetworks
from foremask.weights import catalogue

CPU_FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LEAST_FREE_BYTES = 5 << 30  # enough for a few of the largest accepted clips and masks
LEAST_MEMORY_BYTES = 4 << 30


def doctor(*, as_json: AsJson = False) -> Exit:
    settings = read_settings(os.environ)
    checks: list[Check] = [_versions, _cpu, _memory, _model, _networks, _corrections]
    checks += [_compiled, _devices, _runtime, _trackers, _data, _models]
    if has_server_extra():
        from foremask.cli.service_checks import SERVICE_CHECKS  # needs foremask[server]

        checks += SERVICE_CHECKS
    else:
        checks.append(_service)
    facts = []
    for check in checks:
        try:
            found = check(settings)
        except ForemaskError as error:
            found = "bad", error.details
        if found is not None:
            name = check.__name__.removeprefix("_")
            facts.append({"name": name, "verdict": found[0], "found": found[1]})
    answer(facts, map("{verdict:<5} {name:<10} {found}".format_map, facts), as_json=as_json)
    return Exit.INTERNAL if any(each["verdict"] == "bad" for each in facts) else Exit.OK


def _versions(_: Settings) -> CheckResult:
    ours = ", ".join(f"{name} {version(name)}" for name in ("foremask", "openvino", "av"))
    return "ok", f"{ours}, Python {platform.python_version()}"


def _cpu(_: Settings) -> CheckResult:
    lines: list[str] = []
    with suppress(FileNotFoundError):  # only Linux has the file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    parts = (line.partition(":") for line in lines)
    facts = {name.strip(): value.strip() for name, _, value in parts}
    has = [feature for feature in CPU_FEATURES if feature in facts.get("flags", "").split()]
    name = facts.get("model name", platform.machine())
    return "ok", f"{hardware.cores()} cores of {name}; {', '.join(has) or 'no wide vectors'}"


def _memory(_: Settings) -> CheckResult:
    memory = hardware.total_memory()
    found = f"{memory / 2**30:.1f} GiB"
    if memory < LEAST_MEMORY_BYTES:
        return "note", found
    return "ok", found


def _model(settings: Settings) -> CheckResult:
    if settings.model_file is None:
        model = catalogue.model_named(settings.network, settings.model_dir)
        if model.can_be_pulled and not model.is_pulled(settings.model_dir):
            size = f"{model.download_bytes / 1e6:.0f} MB, once"
            return "note", (
                f"{model.name} is not in {settings.model_dir} yet: the first command that needs it"
                f" downloads it ({size}), or `foremask models pull {model.name}` does so now"
            )
    path = catalogue.model_path(settings.model_dir, settings.model_file, settings.network)
    spec = catalogue.spec_of(path)
    if settings.model_file is not None:
        return "ok", f"your own, {path}, {spec.size_px} px"
    model = catalogue.model_named(settings.network, settings.model_dir)
    if model.sha256 is None:
        return "ok", f"{model.name}, your own, {path}, {spec.size_px} px"
    if catalogue.sha256_of(path) == model.sha256:
        return "ok", f"{model.name}, checksum right, {path}"
    return "bad", f"{path} is damaged: remove it, then `foremask models pull {model.name}`"


def _networks(settings: Settings) -> CheckResult:
    """The networks that a job may choose."""
    for name in settings.networks:
        catalogue.model_path(settings.model_dir, network=name)
    if settings.networks:
        return "ok", f"for jobs: {', '.join(settings.networks)}"
    return None


def _is_isnet(settings: Settings) -> bool:
    return settings.model_file is None and settings.network == catalogue.ISNET.name


def _corrections(settings: Settings) -> CheckResult:
    """Whether the network that finds corrected masks again is there; it needs IS-Net's weights."""
    folder = settings.model_file.parent if settings.model_file else settings.model_dir
    if _is_isnet(settings) or catalogue.ISNET.is_pulled(folder):
        return None
    return "note", (
        f"{catalogue.ISNET.file_name} is not in {folder}: hints that correct a mask follow"
        " the motion alone"
    )


def _compiled(settings: Settings) -> CheckResult:
    networks = CompiledNetworks.of(settings.model_dir / catalogue.ISNET.file_name)
    on_processor = settings.device.runtime in (Runtime.AUTO, Runtime.CPU)
    if not _is_isnet(settings) or networks is None or not on_processor:
        return None
    kept = f"{networks.kept_bytes() / 1e6:.0f} MB in {networks.directory}"
    missing = ", ".join(networks.missing())
    if not missing:
        return "ok", f"the network is kept compiled, {kept}"
    slow = f"not kept for this processor: {missing}, so each process compiles it"
    return "note", f"{slow}; `foremask models pull` keeps it ({kept})"


def _devices(_: Settings) -> CheckResult:
    from foremask.vision.network.devices import devices  # importing OpenVINO takes a second

    return "ok", ", ".join(map(str, devices()))


def _runtime(settings: Settings) -> CheckResult:
    from foremask.vision.network.devices import network_at
    from foremask.vision.network.session import best_precision

    runtime = settings.device.runtime
    if runtime is Runtime.CPU or (runtime is Runtime.AUTO and not nvidia_cards()):
        is_isnet = _is_isnet(settings)
        reduced = " reduced" if is_isnet else ""
        return "ok", f"openvino CPU {best_precision(is_isnet=is_isnet)}{reduced}"
    model = catalogue.model_path(settings.model_dir, settings.model_file, settings.network)
    return "ok", network_at(model, settings.device).runtime  # this loads the network


def _trackers(settings: Settings) -> CheckResult:
    if not settings.trackers:
        return None
    from foremask.pipeline.trackers import tracker_folders  # brings the networks' libraries

    folders = tracker_folders(settings.trackers, settings.model_dir)
    return "ok", ", ".join(folder.name for folder in folders)


def _disk(folder: Path) -> CheckResult:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(there, os.W_OK):
        return "bad", f"{folder} cannot be written to"
    free = shutil.disk_usage(there).free
    found = f"{free / 1e9:.1f} GB free at {folder}"
    if free < LEAST_FREE_BYTES:
        return "note", found
    return "ok", found


def _service(_: Settings) -> CheckResult:
    return "note", "not installed: pip install 'foremask[server]' adds it"


def _data(settings: Settings) -> CheckResult:
    return _disk(settings.data_dir)


def _models(settings: Settings) -> CheckResult:
    return _disk(settings.model_dir)
