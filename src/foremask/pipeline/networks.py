"""Loads the networks that a run needs."""

from foremask.options import Resources
from foremask.vision.network.finder import MaskFinder, Unmoved
from foremask.vision.network.network_protocol import Network
from foremask.weights.catalogue import ISNET, model_path


def network_for(resources: Resources) -> Network:
    # Loading OpenVINO takes a fifth of the time in which a stored mask is written again.
    from foremask.vision.network.devices import network_at

    return network_at(resources.model or model_path(), resources.device)


def mask_finder_for(resources: Resources) -> MaskFinder:
    """What reads points and finds corrected masks again.

    Without IS-Net's weights beside the network's, this is `Unmoved`: corrections follow the flow.
    """
    folder = (resources.model or model_path()).parent
    if not ISNET.is_pulled(folder):
        return Unmoved()
    from foremask.vision.network.prompted import prompted_network

    return prompted_network(folder / ISNET.file_name)
