import numpy as np

from foremask.types import Rgb
from foremask.vision.image import ArrayImage, ShrunkImage


def test_a_shrunk_image_is_the_picture_that_was_shrunk() -> None:
    """Also if it is asked for in yet another size: the detail between both is gone."""
    noise: Rgb = np.random.default_rng(1).integers(0, 256, (48, 80, 3)).astype(np.uint8)
    small = ArrayImage(ArrayImage(noise).rgb(50, 30))
    shrunk = ShrunkImage(ArrayImage(noise), 50, 30)
    assert (shrunk.width, shrunk.height) == (50, 30)
    for size in ((50, 30), (20, 10), (100, 60)):
        np.testing.assert_array_equal(shrunk.rgb(*size), small.rgb(*size))
