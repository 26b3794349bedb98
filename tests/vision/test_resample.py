import numpy as np

from foremask.vision.resample import in_half, in_single


def test_half_floats_are_those_of_numpy() -> None:
    """Ties to even, numbers too small for a normal half, and too large for any."""
    rng = np.random.default_rng(1)
    scales = 10 ** rng.uniform(-9, 6, (40, 30, 7))
    planes = (rng.normal(size=(40, 30, 7)) * scales).astype(np.float32)
    planes[0, 0] = [0, 1 + 2**-11, 1 + 3 * 2**-11, 2**-24, 65519, 65520, -np.inf]
    with np.errstate(over="ignore"):
        expected = planes.astype(np.float16)
    np.testing.assert_array_equal(in_half(planes), expected)
    np.testing.assert_array_equal(in_single(expected), expected.astype(np.float32))
