"""Sets threads, memory and cores of foremask's own processes, not of programs that import it."""

import ctypes
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from functools import cache
from typing import Final

from foremask.errors import FieldInvalid

ONE_THREAD: Final = {
    # OpenBLAS's threads use the processor while they wait: on busy cores, one matrix product took
    # minutes. NumPy's matrices are small here, so one thread is enough.
    "OPENBLAS_NUM_THREADS": "1",
    # The pipeline's stages already use all cores, so OpenCV needs no threads (docs/adr/0050).
    "OPENCV_FOR_THREADS_NUM": "1",
}
NUMERICS: Final = (
    # A sum's last digit depends on the instruction set and on how threads divide the work.
    *("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
    *("OPENCV_CPU_DISABLE", "OPENCV_IPP", "OPENCV_FOR_THREADS_NUM"),
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS"),
    "GLIBC_TUNABLES",  # which versions of exp and sin the C library uses
)
"""Variables that can change a mask slightly; sandboxed children get them (docs/adr/0041)."""
# Options from <malloc.h>. The process keeps freed memory for the next frames: otherwise, the kernel
# takes a tenth of all processor time to clear it (docs/adr/0057).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_KEPT_BYTES: Final = 1 << 30
_LARGEST_KEPT_BYTES: Final = 32 << 20  # the largest value that every glibc accepts
_SMALLEST_MAPPED_BYTES: Final = 64 << 10  # a block of a body or a file, or more


def prepare() -> None:
    """Give OpenBLAS and OpenCV one thread, and keep freed memory. Call it before NumPy loads."""
    # OpenVINO must not import its model converter, which is unused and slow to import.
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    _set_memory(largest_kept_bytes=_LARGEST_KEPT_BYTES, kept_bytes=_KEPT_BYTES)


def give_memory_back() -> None:
    """Undo what `prepare` keeps, in a process that holds no frames but thousands of clients."""
    _set_memory(largest_kept_bytes=_SMALLEST_MAPPED_BYTES, kept_bytes=_SMALLEST_MAPPED_BYTES)


def trim_memory() -> None:
    """Return free pages to the kernel, those below memory in use too, which ``free`` keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # only glibc has it
        trim(0)


def _set_memory(*, largest_kept_bytes: int, kept_bytes: int) -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, largest_kept_bytes)
        mallopt(_TRIM_THRESHOLD, kept_bytes)
        mallopt(_ARENA_MAX, 1)


def limit_cores(most: int) -> None:
    """Restrict this process to ``most`` cores. Call it before NumPy, OpenCV or OpenVINO loads."""
    if sys.platform != "linux":
        raise FieldInvalid("this system lets no program choose its cores", param="threads")
    allowed = sorted(os.sched_getaffinity(0))
    first = os.getpid() * most % len(allowed)
    os.sched_setaffinity(0, (allowed[first:] + allowed[:first])[:most])


def numerics(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in NUMERICS if name in environ}


@cache
def name() -> str:
    """A unique name for this process; containers may share host names and process ids."""
    return f"{socket.gethostname()}/{os.getpid()}-{secrets.token_hex(3)}"


def raise_open_files() -> int:
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20
