"""Tensors of other libraries as arrays and back, by DLPack; none of them is imported."""

import sys
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foremask.errors import FieldInvalid
from foremask.types import Alpha


class Tensor(Protocol):
    """What exports its memory by DLPack: a tensor of PyTorch, CuPy, JAX, TensorFlow."""

    def __dlpack__(self, *, stream: Any = None) -> Any:  # noqa: ANN401  # as the protocol has it
        ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...


def as_array(picture: object, index: int) -> NDArray[Any]:
    """The pixels of frame ``index``: a view where that can be.

    Tensors that are no array of NumPy's may have their channels first, as PyTorch's have them.
    Raises FieldInvalid for a tensor that is in a GPU's memory.
    """
    if isinstance(picture, np.ndarray) or not hasattr(picture, "__dlpack__"):
        return np.asarray(picture)
    try:
        pixels = np.from_dlpack(picture)
    except (BufferError, RuntimeError, TypeError) as error:
        raise FieldInvalid(
            f"frame {index} cannot be read ({error}): bring tensors to the processor's memory"
            " first, by .cpu() and .detach() in PyTorch",
            param="frames",
        ) from error
    if pixels.ndim == 3 and pixels.shape[0] == 3 and pixels.shape[2] != 3:
        return pixels.transpose(1, 2, 0)
    return pixels


def library_of(picture: object) -> ModuleType | None:
    """The library that ``picture`` is a tensor of, where alphas can be given as its tensors."""
    if isinstance(picture, np.ndarray) or not hasattr(picture, "__dlpack__"):
        return None
    library = sys.modules.get(type(picture).__module__.partition(".")[0])
    return library if hasattr(library, "from_dlpack") else None


def as_tensor(alpha: Alpha, library: ModuleType | None) -> Any:  # noqa: ANN401  # the library's own
    """The alpha as a tensor of ``library``, which shares its memory; None is NumPy."""
    return alpha if library is None else library.from_dlpack(alpha)
