"""The interface of all neural networks, and its implementation in OpenVINO."""

import mmap
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from foremask.errors import DeviceUnavailable, ModelUnavailable
from foremask.types import Alpha, Image
from foremask.vision.network.compiled_networks import CompiledNetworks, Facts
from foremask.vision.network.deformable import DEFORM_CONV
from foremask.vision.network.graph import (
    RANGES,
    REDUCED_RANGES,
    cut_before_enlargement,
    is_isnet,
    pruned,
    quantize,
    scale_by_factors,
    with_preprocessing,
)
from foremask.vision.network.network_protocol import InputSize, NetworkOutput
from foremask.vision.network.onnx_file import check_is_data
from foremask.vision.network.reduction import reduce
from foremask.vision.resample import resized
from foremask.vision.stopping import raise_if_stopped, unless_stopped
from foremask.weights.catalogue import ISNET, ModelSpec, sha256_of, spec_of

STOPS_WITHIN_MS = 50


class Precision(StrEnum):
    INT8 = "int8"  # Half the time of F32 with AVX2, a quarter or less with VNNI or AMX.
    BF16 = "bf16"  # Needs AVX512-BF16 or AMX.
    F16 = "f16"  # For GPUs and NPUs.
    F32 = "f32"


class Session:
    """A network in OpenVINO. Threads may share it; a lock lets one thread infer at a time.

    ``unit`` is OpenVINO's name of the device, for instance ``CPU``, ``GPU.1`` or ``AUTO``. The
    default precision is `best_precision`. ``kept_in`` is the directory of compiled networks for
    the CPU. The catalogue's IS-Net is made smaller (`reduction.reduce`), unless ``whole`` is set,
    which is for benchmarks: the whole network is not kept.
    Raises DeviceUnavailable, and ModelUnavailable if the file cannot be run.
    """

    def __init__(
        self,
        path: Path,
        *,
        unit: str = "CPU",
        precision: Precision | None = None,
        threads: int = 0,
        kept_in: Path | None = None,
        whole: bool = False,
    ) -> None:
        self.spec = spec_of(path)
        self._own_size = self.spec.size_px, self.spec.size_px
        self._path = path
        self._unit = unit
        self._threads = threads
        self._asked_precision = precision
        self._whole = whole
        if unit != "CPU" and unit not in units():  # units() loads all devices' plugins
            raise DeviceUnavailable(f"OpenVINO finds no {unit}")
        self._kept = None
        if kept_in is not None and unit == "CPU" and not whole:
            self._kept = CompiledNetworks(kept_in, path, precision, threads)
        self._network: ov.Model | None = None
        self._requests: dict[InputSize, Any] = {}
        self._mapped: dict[InputSize, mmap.mmap] = {}  # kept open for OpenVINO
        self._busy = threading.Lock()
        self.load(self._own_size)

    def load(self, size: InputSize) -> None:
        """Get ready for inputs of this size: import what is kept, or compile for seconds."""
        self._request(size)

    def _request(self, size: InputSize) -> Any:  # noqa: ANN401  OpenVINO ships no types
        if size not in self._requests:
            try:
                compiled = self._imported(size)
                if compiled is None:
                    compiled = unless_stopped(partial(self._compiled, size))  # takes seconds
            except (RuntimeError, KeyError) as error:
                reason = str(error).strip().splitlines()[-1][:200]
                raise ModelUnavailable(
                    f"{self._path.name} is no network that runs here: {reason}"
                ) from error
            self._ran_on = self._unit
            if self._unit == "AUTO":
                self._ran_on = "/".join(compiled.get_property("EXECUTION_DEVICES"))
            self._requests[size] = compiled.create_infer_request()
        return self._requests[size]

    def _imported(self, size: InputSize) -> Any:  # noqa: ANN401  OpenVINO ships no types
        imported = imported_from(self._kept, size, self._threads) if self._kept else None
        if imported is None:
            return None
        compiled, self._facts, self._mapped[size] = imported
        return compiled

    def _compiled(self, size: InputSize) -> Any:  # noqa: ANN401  OpenVINO ships no types
        if self._network is None:
            self._network, self._facts = self._transformed()
        network = self._network.clone()
        if size != self._own_size:
            network = ov.Model(network.outputs[:1], network.get_parameters())
        network.reshape([1, 3, size[1], size[0]])
        compiled = openvino_core().compile_model(
            with_preprocessing(network, self.spec), self._unit, self._properties(self.precision)
        )
        if self._kept:
            keep(compiled, self._kept, size, self._facts)
        return compiled

    def _transformed(self) -> tuple[ov.Model, Facts]:
        check_is_data(self._path)
        network = pruned(openvino_core().read_model(self._path), self.spec)
        of_isnet = is_isnet(network)
        precision = self._asked_precision or best_precision(self._unit, is_isnet=of_isnet)
        if of_isnet:
            scale_by_factors(network)
        is_reduced = of_isnet and not self._whole and sha256_of(self._path) == ISNET.sha256
        if is_reduced:
            reduce(network)
        if precision is Precision.INT8 and is_reduced:
            quantize(network, REDUCED_RANGES)
        elif precision is Precision.INT8:
            quantize(network, RANGES)
        is_cut = not self.spec.sigmoid and cut_before_enlargement(network)
        return network, Facts(of_isnet, is_reduced, is_cut, precision, capabilities(self._unit))

    def _properties(self, precision: Precision) -> dict[str, Any]:
        if self._unit == "CPU":
            return processor_properties(precision, self._threads)
        return {"PERFORMANCE_HINT": "LATENCY"}

    @property
    def precision(self) -> Precision:
        return Precision(self._facts.precision)

    @property
    def any_size(self) -> bool:
        return self._facts.is_isnet

    @property
    def runtime(self) -> str:
        reduced = " reduced" if self._facts.is_reduced else ""
        return f"openvino {self._ran_on} {self.precision}{reduced}"

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        if size is None or not self._facts.is_isnet:
            size = self._own_size
        pixels = image.rgb(*size)[None]
        with self._busy:
            request = self._request(size)
            outputs = [np.empty(tuple(port.shape), np.float32) for port in request.model_outputs]
            for number, each in enumerate(outputs):  # saves OpenVINO's own buffers, 27 MB
                request.set_output_tensor(number, ov.Tensor(each, shared_memory=True))
            run_request(request, [pixels])
            if size in self._mapped:
                free_pages(self._mapped[size])
        mask = outputs[0]
        check_mask(mask, size, self._path, request.model_outputs[0].get_any_name())
        is_cut = self._facts.enlargement_is_cut
        if is_cut:
            mask = resized(mask[0, 0], *size)
        alpha = as_alpha(mask, sigmoid=self.spec.sigmoid or is_cut)
        return NetworkOutput(alpha, tuple(each[0] for each in outputs[1:]))


def processor_properties(precision: Precision, threads: int = 0) -> dict[str, Any]:
    """How OpenVINO compiles and imports a network for the processor; 0 threads are all."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # pinned threads spin while other processes wait
        "INFERENCE_PRECISION_HINT": "f32" if precision is Precision.F32 else cpu_float(),
    }


def imported_from(
    networks: CompiledNetworks, size: InputSize, threads: int = 0
) -> tuple[Any, Facts, mmap.mmap] | None:
    """The kept network for the processor, or None; it reads the mapped file as long as it runs."""
    kept = networks.read(size)
    if kept is None:
        return None
    facts, mapped, start = kept
    if facts.capabilities != capabilities("CPU"):
        return None
    how = processor_properties(Precision(facts.precision), threads)
    blob = ov.Tensor(np.frombuffer(mapped, np.uint8)[start:], shared_memory=True)
    try:
        return openvino_core().import_model(blob, "CPU", how), facts, mapped
    except (RuntimeError, ValueError):  # the caller then compiles the network
        return None


def keep(compiled: Any, networks: CompiledNetworks, size: InputSize, facts: Facts) -> None:  # noqa: ANN401
    """Write a network that was compiled for the processor, if this process may."""
    if networks.can_keep():
        with suppress(RuntimeError):  # some networks cannot be exported
            networks.keep(size, facts, compiled.export_model().getbuffer())


def free_pages(mapped: mmap.mmap) -> None:
    """Free the memory of a mapped file: OpenVINO has copied most of its weights."""
    if sys.platform != "win32":
        mapped.madvise(mmap.MADV_DONTNEED)


def run_request(request: Any, inputs: Sequence[NDArray[Any]]) -> None:  # noqa: ANN401
    """Infer; end early, with StoppedError, if the thread's work is no longer wanted."""
    request.start_async(list(inputs))
    try:
        while not request.wait_for(STOPS_WITHIN_MS):
            raise_if_stopped()
    except BaseException:
        request.cancel()
        with suppress(RuntimeError):  # says that it was cancelled
            request.wait()  # until then, OpenVINO writes to the outputs
        raise


def as_input(rgb: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    """Return the image as (1, 3, H, W), normalised by ``spec``."""
    mean = np.asarray(spec.mean, np.float32)
    scale = 1 / np.asarray(spec.std, np.float32)
    scaled = (rgb.astype(np.float32) / 255 - mean) * scale
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


LARGEST_STRIDE: Final = 32
"""A network's mask may be as much smaller than its input, as U²-Net's coarsest output is."""


def check_mask(mask: NDArray[Any], size: InputSize, path: Path, output: str) -> None:
    """Raise ModelUnavailable if ``mask`` is no plane of the input's shape, or has a NaN."""
    which = f"{path.name} is no network that makes masks: its output {output}"
    columns, rows = size
    height, width = (1, 1, *mask.shape)[-2:]
    is_plane = mask.ndim > 1 and width * rows == height * columns and len(mask) == 1
    if not is_plane or width * LARGEST_STRIDE < columns:
        shape = "x".join(map(str, mask.shape))
        raise ModelUnavailable(f"{which} has the shape {shape} for a picture of {columns}x{rows}")
    if np.isnan(mask).any():
        raise ModelUnavailable(f"{which} has values that are no numbers (NaN)")


def as_alpha(output: NDArray[Any], *, sigmoid: bool) -> Alpha:
    """Return the first channel, clipped to [0, 1].

    Alpha is not stretched to the full range: this would show a subject in noise.
    """
    plane = np.array(output.reshape(-1, *output.shape[-2:])[0], np.float32)
    if sigmoid:
        plane = np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * plane)
    return np.clip(plane, 0, 1)


@cache
def openvino_core() -> ov.Core:
    # Never destroyed: OpenVINO gives the thread that makes a core a stack for signal handlers. If
    # another thread destroys the core, the first one crashes at its next signal, such as Ctrl-C.
    core = ov.Core()
    core.add_extension(DEFORM_CONV)
    return core


def units() -> list[str]:
    """Return OpenVINO's names of this machine's devices, and ``AUTO``, which chooses one."""
    found = [str(each) for each in openvino_core().available_devices]
    # OpenVINO lists a single GPU or NPU without a number, but accepts the number 0 too.
    numbered = [f"{each}.0" for each in found if each in ("GPU", "NPU")]
    kinds = dict.fromkeys(each.partition(".")[0] for each in found)
    return [*dict.fromkeys([*kinds, *found, *numbered]), "AUTO"]


def cpu_float() -> str:
    return "bf16" if "BF16" in capabilities("CPU") else "f32"


def best_precision(unit: str = "CPU", *, is_isnet: bool) -> Precision:
    """Return the fastest precision with good masks. Only IS-Net can be quantized to int8."""
    has = capabilities(unit)
    if is_isnet and "INT8" in has:
        return Precision.INT8
    if unit.startswith(("GPU", "NPU")):
        return Precision.F16
    return Precision.BF16 if "BF16" in has else Precision.F32


def capabilities(unit: str) -> tuple[str, ...]:
    return tuple(openvino_core().get_property(unit, "OPTIMIZATION_CAPABILITIES"))
