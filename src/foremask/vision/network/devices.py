"""Lists the devices of this machine, and loads the network on one of them."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from foremask.errors import DeviceUnavailable
from foremask.machine.hardware import nvidia_cards
from foremask.options import Device, Runtime
from foremask.vision.network.network_protocol import Network
from foremask.vision.network.onnx_session import OnnxSession
from foremask.vision.network.session import Session, units
from foremask.weights.catalogue import compiled_dir_of


@lru_cache(maxsize=1)
def network_at(path: Path, device: Device) -> Network:
    """Load the network; the last network is cached. Raises ModelUnavailable or DeviceUnavailable.

    The device ``auto`` is CUDA or, if CUDA cannot be used, the CPU.
    """
    try:
        match device.runtime:
            case Runtime.CPU:
                return _on_processor(path)
            case Runtime.OPENVINO:
                return Session(path, unit=device.unit)
            case Runtime.AUTO:
                return _fastest(path)
            case _:
                return OnnxSession(path, device)
    except DeviceUnavailable as error:
        here = ", ".join(map(str, devices()))
        raise DeviceUnavailable(
            f"{device} cannot run here: {error.details}. Here are: {here}", param="device"
        ) from error


def _fastest(path: Path) -> Network:
    cuda = Device(Runtime.CUDA)
    # Look for a card before `devices` imports ONNX Runtime. The import is slow, and loses signals
    # that arrive meanwhile.
    if nvidia_cards() and cuda in devices():
        with suppress(DeviceUnavailable):  # the driver may be unsuitable
            return OnnxSession(path, cuda)
    return _on_processor(path)


def _on_processor(path: Path) -> Session:
    return Session(path, kept_in=compiled_dir_of(path))


def devices() -> list[Device]:
    """List the kinds of devices of this machine, without checking that a network runs on them."""
    found = [Device(Runtime.CPU)]
    names = [each for each in units() if each != "CPU" and "." not in each]
    found += [Device(Runtime.OPENVINO, each) for each in names]
    try:
        import onnxruntime
    except ImportError:
        return found
    found.append(Device(Runtime.ONNXRUNTIME))
    if nvidia_cards() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        found.append(Device(Runtime.CUDA))
    return found
