"""Compiles all networks that are made of IS-Net's weights, before a process needs them."""

from collections.abc import Callable
from pathlib import Path

from foremask.vision.network.compiled_networks import COMPILED, CompiledForm, CompiledNetworks
from foremask.vision.network.prompted import PromptedNetwork
from foremask.vision.network.session import Session


def compile_ahead(
    path: Path, kept_in: Path, on_network: Callable[[int, int], object] = lambda done, total: None
) -> None:
    """Compile and keep the networks; ``on_network`` gets how many are done, and of how many."""
    networks = CompiledNetworks(kept_in, path)
    if not networks.can_keep():
        return
    with networks.alone():
        if not networks.missing():
            return
        for done, (form, size_px) in enumerate(COMPILED):
            on_network(done, len(COMPILED))
            if form is CompiledForm.PROMPTED:
                PromptedNetwork(path, kept_in=kept_in).load()
            else:
                session = Session(path, kept_in=kept_in)
                session.load((size_px, size_px))
        on_network(len(COMPILED), len(COMPILED))
