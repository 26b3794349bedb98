"""What a network is for the pipeline: it gets a picture, and returns alpha and features."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image

type Features = tuple[NDArray[np.float32 | np.float16], ...]
"""Encoder features, each (h, w, C), the highest resolution first; may be empty."""

type InputSize = tuple[int, int]
"""Columns and rows of a network's input; IS-Net takes multiples of 64."""


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    alpha: Alpha
    features: Features


class Network(Protocol):
    @property
    def runtime(self) -> str:
        """Runtime, device and precision, and ``reduced`` for a smaller IS-Net than the file's."""
        ...

    @property
    def any_size(self) -> bool:
        """Whether `infer` takes other input sizes than the network's own."""
        ...

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """Segment one image, stretched to ``size`` or, by default, to the network's own size.

        If `any_size` is false, ``size`` is ignored. At other sizes, features may be missing.
        """
        ...
