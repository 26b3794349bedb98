"""``foremask models``: lists networks, and downloads, checks and compiles weights."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from foremask.cli.batch_options import AsJson, NetworkChoice
from foremask.cli.exits import Usage, answer, note, say
from foremask.cli.progress_bar import progress_bar
from foremask.cli.sources import check_there
from foremask.errors import ForemaskError
from foremask.machine import hardware
from foremask.options import Runtime
from foremask.settings import Settings, read_settings
from foremask.vision.network.compiled_networks import CompiledNetworks
from foremask.weights.catalogue import Licence, Model, NetworkName, model_named, model_path, models
from foremask.weights.pull import pull as pull_weights

app = App(name="models", help="The networks, and their weights on this machine.")


def ready(settings: Settings, chosen: NetworkChoice | None = None) -> Path:
    """Return the model that is ``chosen``, or the settings', downloaded if missing."""
    own = None
    network = None
    if chosen is not None:
        own = chosen.model
        network = chosen.network
    if own and network:
        raise Usage("--network and --model cannot both be")
    if own or (settings.model_file and network is None):
        return model_path(settings.model_dir, own or settings.model_file)
    return bring(settings, model_named(network or settings.network, settings.model_dir))


def ready_for_jobs(settings: Settings) -> None:
    """Download what is missing of the networks that a job may use."""
    ready(settings)
    for name in settings.networks:
        bring(settings, model_named(name, settings.model_dir))


def bring(settings: Settings, model: Model, brought: Path | None = None) -> Path:
    folder = settings.model_dir
    if brought is None and not model.is_pulled(folder) and model.can_be_pulled:
        note(
            f"the weights of {model.name} are not in {folder} yet: "
            f"{model.download_bytes / 1e6:.0f} MB are downloaded, once"
        )
    with progress_bar("weights", "MB") as show:
        return pull_weights(folder, show, model=model, brought=brought, mirror=settings.mirror)


@app.default
def list_(*, as_json: AsJson = False) -> None:
    """List the networks that foremask knows, and yours in FOREMASK_MODEL_DIR."""
    folder = read_settings(os.environ).model_dir
    facts = [_facts(model, folder) for model in models(folder)]
    answer(facts, [line for each in facts for line in _lines(each)], as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    name: str
    purpose: str
    code: Licence | None
    weights: Licence | None
    size_bytes: int
    download_bytes: int
    is_here: bool
    memory_bytes: int | None
    runs_here: bool | None
    """Whether this machine's memory suffices; None if nobody has measured what is needed."""


def _facts(model: Model, folder: Path) -> Listed:
    is_here = model.is_pulled(folder)
    size_bytes = model.size_bytes
    if is_here:
        size_bytes = (folder / model.file_name).stat().st_size
    return Listed(
        name=model.name,
        purpose=model.purpose,
        code=model.code,
        weights=model.weights,
        size_bytes=size_bytes,
        download_bytes=model.download_bytes,
        is_here=is_here,
        memory_bytes=model.memory_bytes,
        runs_here=_has_memory(model.memory_bytes),
    )


def _has_memory(needed_bytes: int | None) -> bool | None:
    if needed_bytes is None:
        return None
    return needed_bytes <= hardware.share_of_memory(1)


def _lines(listed: Listed) -> list[str]:
    here = "not here"
    if listed.is_here:
        here = "here"
    runs = "memory not measured"
    if listed.memory_bytes is not None:
        runs = f"needs {listed.memory_bytes / 1e9:.1f} GB of memory"
        if not listed.runs_here:
            runs += ", more than this machine gives"
    lines = [f"{listed.name:<19} {listed.size_bytes / 1e6:>4.0f} MB, {here}, {runs}"]
    if listed.purpose:
        lines.append(f"    {listed.purpose}")
    for part, licence in (("code", listed.code), ("weights", listed.weights)):
        if licence is not None:
            lines.append(f"    {part}: {licence.licence} ({licence.stated_at})")
    return lines


@app.command
def pull(
    network: NetworkName | str | None = None,
    /,
    *,
    brought: Annotated[Path | None, Parameter(name="--from")] = None,
) -> None:
    """Download and check the weights of a network; compile IS-Net for this processor.

    Args:
        network: A name that `foremask models` lists; without it, FOREMASK_NETWORK or isnet.
        brought: From another machine: weights, or the archive with them.
    """
    settings = read_settings(os.environ)
    if brought is not None:
        check_there(brought)
    model = model_named(network or settings.network, settings.model_dir)
    path = bring(settings, model, brought)
    networks = CompiledNetworks.of(path)
    on_processor = settings.device.runtime in (Runtime.AUTO, Runtime.CPU)
    if on_processor and networks is not None and networks.missing() and networks.can_keep():
        from foremask.vision.network.compile_ahead import compile_ahead  # loads OpenVINO

        note("the network is compiled for this processor, once")
        try:
            with progress_bar("compiling", "networks") as show:
                compile_ahead(path, networks.directory, show)
        except ForemaskError as error:
            note(f"warning: the weights are here and cannot be compiled: {error.details}")
    say(str(path))
