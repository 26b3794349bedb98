"""The flips and the transposition that make a coded picture upright."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Orientation:
    """Transposes a coded picture, then flips it in x, then in y, to make it upright."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: tuple[int, ...] | None) -> "Orientation":
        """Read FFmpeg's display matrix of nine integers; round its angle to 90 degrees."""
        if matrix is None:
            return cls()
        a, b, _, c, d = matrix[:5]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def mirrored(self) -> bool:
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    @property
    def rotation(self) -> int:
        """Degrees to turn clockwise (0, 90, 180 or 270), after mirroring in x if `mirrored`."""
        if self.transposed:
            return 90 if self.flipped_x else 270
        return 180 if self.flipped_y else 0

    def to_upright(self, coded: NDArray[Any]) -> NDArray[Any]:
        turned = coded.swapaxes(0, 1) if self.transposed else coded
        return turned[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]

    def to_coded(self, upright: NDArray[Any]) -> NDArray[Any]:
        turned = upright[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]
        return turned.swapaxes(0, 1) if self.transposed else turned
