"""Loads the networks that a run needs."""

import os
from typing import Final

from foremask.errors import DeviceUnavailable
from foremask.options import Resources
from foremask.vision.network.finder import MaskFinder, Unmoved
from foremask.vision.network.network_protocol import Network
from foremask.weights.catalogue import ISNET, model_path

_LOADED_IN: Final = set[int]()
"""The process that has loaded a network; a fork of it has a copy, and another id."""


def network_for(resources: Resources) -> Network:
    """Load the network. Raises ModelUnavailable or DeviceUnavailable."""
    if _LOADED_IN and os.getpid() not in _LOADED_IN:
        raise DeviceUnavailable(
            "this process is a fork of one that had loaded a network, and lacks its threads: start"
            " processes with multiprocessing's method spawn"
        )
    # Loading OpenVINO takes a fifth of the time in which a stored mask is written again.
    from foremask.vision.network.devices import network_at

    network = network_at(resources.model or model_path(), resources.device)
    _LOADED_IN.add(os.getpid())
    return network


def mask_finder_for(resources: Resources) -> MaskFinder:
    """What reads points and finds corrected masks again.

    Without IS-Net's weights beside the network's, this is `Unmoved`: corrections follow the flow.
    """
    folder = (resources.model or model_path()).parent
    if not ISNET.is_pulled(folder):
        return Unmoved()
    from foremask.vision.network.prompted import prompted_network

    return prompted_network(folder / ISNET.file_name)
